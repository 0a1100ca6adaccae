/** One read of a file, as far as it goes. */
import { readSync } from 'node:fs';
import { wrapSystemError } from '../native/errors.js';

/**
 * Reads from `offset` on until `into` is full or the file ends, which every file does before an offset that a double does not hold exactly.
 * @returns the bytes read.
 */
export function readUpTo(
  file: { readonly fd: number; readonly path: string },
  offset: number,
  into: Uint8Array,
): number {
  if (offset + into.length > Number.MAX_SAFE_INTEGER) return 0;
  let done = 0;
  try {
    while (done < into.length) {
      const got = readSync(file.fd, into, done, into.length - done, offset + done);
      if (got === 0) break;
      done += got;
    }
  } catch (error) {
    throw wrapSystemError(error, 'read', file.path, offset + done);
  }
  return done;
}
