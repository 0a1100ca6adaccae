/** A file for what grows with the size of a memory and would not fit into bounded memory. */
import { randomBytes } from 'node:crypto';
import { openSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { wrapSystemError } from '../native/errors.js';

export interface SpillFile {
  readonly fd: number;
  /** Where it was made, for messages: it has no name any more. */
  readonly path: string;
}

/** For its owner only, and without a name from the start. @param folder default: that of TMPDIR. */
export function createSpillFile(folder = tmpdir()): SpillFile {
  const path = join(folder, `.vmsnap-${process.pid}-${randomBytes(6).toString('hex')}`);
  try {
    const fd = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    return { fd, path };
  } catch (error) {
    throw wrapSystemError(error, 'make a temporary file', path);
  }
}
