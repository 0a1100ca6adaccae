/** The errors of the library, for who needs nothing else of it. */
export { type ErrorCode, EXIT_CODES, VmsnapError } from '../native/errors.js';
