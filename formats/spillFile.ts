/** A file for what grows with the size of a memory and would not fit into bounded memory. */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withSystemErrors, wrapSystemError } from '../native/errors.js';

export interface SpillFile {
  readonly fd: number;
  /** Where it was made, for messages: it has no name. */
  readonly path: string;
}

/** open(2) O_TMPFILE, which Node does not name. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** For its owner only, and without a name: it is gone with the process, whatever happens. @param folder default: that of TMPDIR. */
export function createSpillFile(folder = tmpdir()): SpillFile {
  try {
    const fd = openSync(folder, O_TMPFILE | constants.O_RDWR | constants.O_EXCL, 0o600);
    return { fd, path: folder };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // The file system cannot do that (EISDIR: nor can the kernel).
    if (code === 'EOPNOTSUPP' || code === 'EISDIR') return createUnnamed(folder);
    throw wrapSystemError(error, 'make a temporary file in', folder);
  }
}

/** A file whose name is taken away at once. */
function createUnnamed(folder: string): SpillFile {
  const path = join(folder, `.vmsnap-${process.pid}-${randomBytes(6).toString('hex')}`);
  const fd = withSystemErrors('make a temporary file', path, () => openSync(path, 'wx+', 0o600));
  try {
    unlinkSync(path);
    return { fd, path };
  } catch (error) {
    closeSync(fd);
    throw wrapSystemError(error, 'take away the name of the temporary file', path);
  }
}
