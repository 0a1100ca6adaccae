/**
 * vmsnap as a library: save, load, verify, inspect, extract, and random reads from an image.
 *
 * Everything thrown is a {@link VmsnapError} with a stable `code`, or the reason of the caller's AbortSignal.
 */
import { type DetectorStatus, native } from '../native/binding.js';

export type { DetectorStatus } from '../native/binding.js';
export { type ErrorCode, EXIT_CODES, VmsnapError } from '../native/errors.js';
export { extract } from './extract.js';
export { Image, openImage } from './image.js';
export { inspect } from './inspect.js';
export { load } from './load.js';
export { save } from './save.js';
export { defaultThreads } from './threads.js';
export type * from './types.js';
export { verify } from './verify.js';
export { version } from './version.js';

/** The ways to tell zero pages from data pages that this build knows, best first, and whether each works here. */
export function listDetectors(): DetectorStatus[] {
  return native.detectors();
}
