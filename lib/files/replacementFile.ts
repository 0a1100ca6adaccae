/**
 * A file that appears under its name whole or not at all.
 *
 * It is written as `.NAME.vmsnap-tmp` in the same folder, mode 0600 from the first byte, and held with flock for as long as
 * its writer lives. So the lock of a name and the leftover of a killed writer are one and the same file: a second writer
 * to the name finds it locked, and a later one that gets the lock removes what was left. `publish` syncs, renames, and syncs
 * the folder.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError, withSystemErrors, wrapSystemError } from '../../native/errors.js';
import { isBusy, isStill, removeIfStill } from './fileLock.js';
import { sweepFolder, temporaryName } from './sweep.js';

const syncFd = promisify(fsync);

export interface ReplacementOptions {
  /** What the file is called in messages: "image" or "target". */
  readonly what: string;
  readonly force: boolean;
  readonly mode?: number | undefined;
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

export class ReplacementFile {
  readonly fd: number;
  /** The name as the user gave it. */
  readonly path: string;
  /** Leftovers of killed runs that were removed from the folder. */
  readonly sweptFiles: number;
  readonly #finalPath: string;
  readonly #temporaryPath: string;
  readonly #options: ReplacementOptions;
  #open = true;

  private constructor(
    fd: number,
    path: string,
    finalPath: string,
    temporaryPath: string,
    sweptFiles: number,
    options: ReplacementOptions,
  ) {
    this.fd = fd;
    this.path = path;
    this.sweptFiles = sweptFiles;
    this.#finalPath = finalPath;
    this.#temporaryPath = temporaryPath;
    this.#options = options;
  }

  /** @throws EXISTS, LOCKED, USAGE (a folder), or the system's refusal. */
  static open(path: string, options: ReplacementOptions): ReplacementFile {
    const finalPath = resolveTarget(path, options);
    const folder = dirname(finalPath);
    const sweptFiles = sweepFolder(folder);
    const temporaryPath = join(folder, temporaryName(basename(finalPath)));
    const fd = createLocked(temporaryPath, path);
    return new ReplacementFile(fd, path, finalPath, temporaryPath, sweptFiles, options);
  }

  /** Makes all that was written durable under the final name. `check` runs between the sync and the rename. */
  async publish(check?: () => void): Promise<void> {
    try {
      if (this.#options.owner !== undefined) fchownSync(this.fd, this.#options.owner.uid, this.#options.owner.gid);
      if (this.#options.mode !== undefined) fchmodSync(this.fd, this.#options.mode);
      await syncFd(this.fd);
    } catch (error) {
      throw wrapSystemError(error, 'write to', this.path);
    }
    check?.();
    await changeNames(dirname(this.#finalPath), () => {
      this.#rename();
      this.#open = false;
      closeSync(this.fd);
    });
  }

  #rename(): void {
    if (this.#options.force) {
      withSystemErrors('rename the finished file to', this.path, () =>
        renameSync(this.#temporaryPath, this.#finalPath),
      );
      return;
    }
    const result = native.renameNoReplace(this.#temporaryPath, this.#finalPath);
    if (result === 0) return;
    const error = errnoError(result, 'rename the finished file to', this.path);
    throw error.code === 'EXISTS' ? existsError(this.path, this.#options.what) : error;
  }

  /** Leaves nothing behind. Does nothing after a publish. */
  discard(): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      unlinkSync(this.#temporaryPath);
    } catch {
      // It is swept by the next run.
    }
    closeSync(this.fd);
  }
}

function existsError(path: string, what: string): VmsnapError {
  return new VmsnapError('EXISTS', `the ${what} ${path} exists already`, {
    path,
    hint: 'use --force to replace it, or choose another name',
  });
}

/** The path that will be renamed to: behind a symbolic link, the file that it points to. */
function resolveTarget(path: string, options: ReplacementOptions): string {
  const found = statOf(path);
  if (found === undefined && isLink(path)) {
    throw new VmsnapError('USAGE', `the ${options.what} ${path} is a symbolic link to nothing`, {
      path,
      hint: 'remove the link, or give the name of the file itself',
    });
  }
  if (found === undefined) return path;
  if (found.isDirectory()) {
    throw new VmsnapError('USAGE', `the ${options.what} ${path} is a folder`, {
      path,
      hint: 'give the name of a file in it',
    });
  }
  if (!found.isFile()) {
    throw new VmsnapError('USAGE', `the ${options.what} ${path} is no regular file`, {
      path,
      hint: 'a load writes to devices with --in-place; use "-" for a pipe',
    });
  }
  if (!options.force) throw existsError(path, options.what);
  return realpathSync(path);
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw wrapSystemError(error, 'look at', path);
    return undefined;
  }
}

function isLink(path: string): boolean {
  const stats = withSystemErrors('look at', path, () => lstatSync(path, { throwIfNoEntry: false }));
  return stats?.isSymbolicLink() ?? false;
}

/** Creates the temporary file and takes its lock, removing one that a killed writer left. */
function createLocked(temporaryPath: string, path: string): number {
  for (;;) {
    const fd = createNew(temporaryPath, path);
    if (fd === undefined) {
      removeStale(temporaryPath, path);
      continue;
    }
    try {
      const locked = native.tryLock(fd);
      if (locked !== 0 && !isBusy(locked)) throw errnoError(locked, 'lock', temporaryPath);
      // Between creation and lock a sweeper may have taken it for a leftover: then the name is gone, and we begin again.
      if (locked === 0 && isStill(temporaryPath, fd)) return fd;
    } catch (error) {
      removeIfStill(temporaryPath, fd);
      closeSync(fd);
      throw error;
    }
    closeSync(fd);
  }
}

function createNew(temporaryPath: string, path: string): number | undefined {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    return openSync(temporaryPath, flags, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined;
    throw wrapSystemError(error, 'create', path);
  }
}

function removeStale(temporaryPath: string, path: string): void {
  let fd: number;
  try {
    fd = openSync(temporaryPath, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw wrapSystemError(error, 'open the temporary file', temporaryPath);
  }
  try {
    const locked = native.tryLock(fd);
    if (isBusy(locked)) {
      throw new VmsnapError('LOCKED', `another vmsnap is writing ${path}`, {
        path,
        hint: 'wait until it is done, or choose another name',
      });
    }
    if (locked !== 0) throw errnoError(locked, 'lock', temporaryPath);
    if (isStill(temporaryPath, fd))
      withSystemErrors('remove the temporary file', temporaryPath, () => unlinkSync(temporaryPath));
  } finally {
    closeSync(fd);
  }
}

export function syncFolder(folder: string): Promise<void> {
  return changeNames(folder, () => {});
}

/** Changes names in a folder, and syncs it. A folder that cannot be opened is found out before anything is changed. */
export async function changeNames(folder: string, change: () => void): Promise<void> {
  const fd = withSystemErrors('open the folder', folder, () =>
    openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY),
  );
  try {
    change();
    await syncFd(fd);
  } catch (error) {
    // Some network file systems cannot sync a folder; the rename stands all the same.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw wrapSystemError(error, 'sync the folder', folder);
  } finally {
    closeSync(fd);
  }
}

/** Syncs an open file. */
export async function syncFile(fd: number, path: string): Promise<void> {
  try {
    await syncFd(fd);
  } catch (error) {
    throw wrapSystemError(error, 'sync', path);
  }
}
