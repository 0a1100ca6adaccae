/** Small questions about files that are held with flock. */
import { fstatSync, lstatSync } from 'node:fs';

const EWOULDBLOCK = 11;

/** Whether a result of native.tryLock says that another holds the lock. */
export function isBusy(result: number): boolean {
  return result === -EWOULDBLOCK;
}

/** Whether the path still names the open file: it may have been renamed or removed before the lock was had. */
export function isStill(path: string, fd: number): boolean {
  try {
    const named = lstatSync(path);
    const opened = fstatSync(fd);
    return named.ino === opened.ino && named.dev === opened.dev;
  } catch {
    return false;
  }
}
