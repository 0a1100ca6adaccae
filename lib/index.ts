/**
 * vmsnap as a library: save, load, verify, inspect, extract, and random reads from an image.
 *
 * Everything thrown is a {@link VmsnapError} with a stable `code`, or the reason of the caller's AbortSignal.
 */
export { type DetectorStatus } from '../native/binding.js';
export { EXIT_CODES, type ErrorCode, VmsnapError } from '../native/errors.js';
export { load } from './load.js';
export { save } from './save.js';
export { defaultThreads } from './threads.js';
export type * from './types.js';
export { version } from './version.js';
