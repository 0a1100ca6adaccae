/**
 * Removes what is there; what is not, or goes meanwhile, is no fault.
 *
 * Not rmSync: Node 24's forgets which system call failed and why, so that its error is no system error any more.
 */
import { readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { withSystemErrors } from '../../native/errors.js';

/** @throws VmsnapError (IO, PERMISSION ...) */
export function removeFile(path: string): void {
  withoutMissing('remove', path, () => unlinkSync(path));
}

/**
 * A folder with all that is in it. It must be one of ours, in which no other user may write: the way down is by names.
 * @throws VmsnapError (IO, PERMISSION ...) with the name that could not be removed.
 */
export function removeTree(path: string): void {
  const entries = withoutMissing('look into the folder', path, () => readdirSync(path, { withFileTypes: true }));
  for (const entry of entries ?? []) {
    const inside = join(path, entry.name);
    if (entry.isDirectory()) removeTree(inside);
    else removeFile(inside);
  }
  withoutMissing('remove', path, () => rmdirSync(path));
}

function withoutMissing<T>(doing: string, path: string, action: () => T): T | undefined {
  return withSystemErrors(doing, path, () => {
    try {
      return action();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  });
}
