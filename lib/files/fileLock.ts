/** Small questions about files that are held with flock. */
import { lstatSync, unlinkSync } from 'node:fs';
import { withSystemErrors } from '../../native/errors.js';
import { openFileStats } from '../../native/fileStats.js';

const EWOULDBLOCK = 11;

/** Whether a result of native.tryLock says that another holds the lock. */
export function isBusy(result: number): boolean {
  return result === -EWOULDBLOCK;
}

/** Whether the path still names the open file: it may have been renamed or removed before the lock was had. */
export function isStill(path: string, fd: number): boolean {
  // A refusal is no answer: who took it for "no" would try again for ever.
  const named = withSystemErrors('look at', path, () => lstatSync(path, { throwIfNoEntry: false }));
  if (named === undefined) return false;
  const opened = openFileStats({ fd, path });
  return named.ino === opened.ino && named.dev === opened.dev;
}

/** On the way out of a failure, which is the one to tell. What stays is swept by the next run. */
export function removeIfStill(path: string, fd: number): void {
  try {
    if (isStill(path, fd)) unlinkSync(path);
  } catch {
    // The failure before it is told.
  }
}
