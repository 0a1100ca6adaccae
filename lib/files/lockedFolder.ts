/**
 * A folder for as long as somebody works in it: mode 0700, held with flock by whoever has it open. The lock is the open folder's, so a
 * child that inherits the descriptor holds it too. What nobody holds is a leftover of a killed run.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, mkdirSync, openSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError, withSystemErrors, wrapSystemError } from '../../native/errors.js';
import { openFileStats } from '../../native/fileStats.js';
import { isBusy, isStill } from './fileLock.js';
import { removeTree } from './remove.js';

export class LockedFolder {
  readonly path: string;
  readonly fd: number;
  #open = true;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
  }

  /** Creates one of that name; a leftover is removed first. @throws LOCKED where somebody works in it. */
  static create(path: string): LockedFolder {
    for (;;) {
      try {
        mkdirSync(path, { mode: 0o700 });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw wrapSystemError(error, 'make the folder', path);
        if (!removeLeftover(path))
          throw new VmsnapError('LOCKED', `another vmsnap works in ${path}`, { path, hint: 'wait until it is done' });
        continue;
      }
      const folder = LockedFolder.#lockNew(path);
      if (folder !== undefined) return folder;
    }
  }

  static #lockNew(path: string): LockedFolder | undefined {
    try {
      return LockedFolder.#lock(path);
    } catch (error) {
      removeEmpty(path);
      throw error;
    }
  }

  /** Creates one with a new name that begins with `prefix`, and removes the leftovers of others with that prefix. */
  static createUnder(parent: string, prefix: string): LockedFolder {
    sweep(parent, prefix);
    return LockedFolder.create(join(parent, prefix + randomBytes(4).toString('hex')));
  }

  /** Undefined if a sweeper was faster. */
  static #lock(path: string): LockedFolder | undefined {
    const fd = withSystemErrors('open the folder', path, () => openFolder(path));
    let isOurs = false;
    try {
      const locked = native.tryLock(fd);
      if (locked !== 0 && !isBusy(locked)) throw errnoError(locked, 'lock', path);
      isOurs = locked === 0 && isStill(path, fd);
      return isOurs ? new LockedFolder(path, fd) : undefined;
    } finally {
      if (!isOurs) closeSync(fd);
    }
  }

  /** Lets go of the folder, which stays. */
  release(): void {
    if (this.#open) closeSync(this.fd);
    this.#open = false;
  }

  /** Removes it with all that is in it. Does nothing after a release. @returns what kept it from going: the next run removes it then. */
  remove(): VmsnapError | undefined {
    if (!this.#open) return undefined;
    try {
      removeTree(this.path);
      return undefined;
    } catch (error) {
      if (error instanceof VmsnapError) return error;
      throw error;
    } finally {
      this.release();
    }
  }
}

/** On the way out of a failure, which is the one to tell. */
function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // The next run removes it.
  }
}

function openFolder(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
}

function sweep(parent: string, prefix: string): void {
  const names = withSystemErrors('look into the folder', parent, () => readdirSync(parent));
  for (const name of names) {
    if (!name.startsWith(prefix)) continue;
    try {
      removeLeftover(join(parent, name));
    } catch {
      // Somebody else's, who removes it.
    }
  }
}

/** Removes a folder that nobody works in. @returns false where somebody holds it. @throws what is no folder of ours, or cannot be removed. */
export function removeLeftover(path: string): boolean {
  const fd = withSystemErrors('open the folder', path, () => openFolder(path));
  try {
    // In a folder that all may write, such as /dev/shm, another user could lead a removal astray.
    if (openFileStats({ fd, path }).uid !== process.geteuid!())
      throw new VmsnapError('PERMISSION', `the folder ${path} is another user's`, {
        path,
        hint: 'choose another name',
      });
    const locked = native.tryLock(fd);
    if (isBusy(locked)) return false;
    if (locked !== 0) throw errnoError(locked, 'lock', path);
    if (isStill(path, fd)) removeTree(path);
    return true;
  } finally {
    closeSync(fd);
  }
}
