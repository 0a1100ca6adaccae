/**
 * A target that is written where it stands: a device, a hugetlbfs file, or a file that a machine has mapped.
 *
 * There is no going back here, so an empty file `.NAME.partial` stands beside it from before the first write until the
 * load is synced: whoever finds it knows that the target is neither the old nor the new memory.
 */
import { closeSync, constants, ftruncateSync, openSync, type Stats, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { HUGETLBFS_MAGIC, native } from '../../native/binding.js';
import { errnoError, VmsnapError, withSystemErrors, wrapSystemError } from '../../native/errors.js';
import { openFileStats } from '../../native/fileStats.js';
import { isBusy } from './fileLock.js';
import { changeNames, syncFile, syncFolder } from './replacementFile.js';

export class InPlaceTarget {
  readonly fd: number;
  readonly path: string;
  /** False: it was created here, so its holes are zero. */
  readonly hadContents: boolean;
  readonly isHugetlbfs: boolean;
  readonly #markerPath: string;
  /** Whether the target was in pieces before this run. */
  readonly #wasPartial: boolean;
  readonly #isFile: boolean;
  #open = true;
  #touched = false;

  private constructor(
    fd: number,
    path: string,
    hadContents: boolean,
    stats: Stats,
    markerPath: string,
    wasPartial: boolean,
  ) {
    this.fd = fd;
    this.path = path;
    this.hadContents = hadContents;
    this.#isFile = stats.isFile();
    this.isHugetlbfs = native.fileSystemType(fd) === HUGETLBFS_MAGIC;
    this.#markerPath = markerPath;
    this.#wasPartial = wasPartial;
  }

  /** Opens or creates the target, locks it and sets the marker. */
  static async open(path: string, mode: number): Promise<InPlaceTarget> {
    const { fd, created } = openOrCreate(path, mode);
    const markerPath = join(dirname(path), `.${basename(path)}.partial`);
    let isMarked = false;
    try {
      const stats = openFileStats({ fd, path });
      requireWritableKind(stats, path);
      const locked = native.tryLock(fd);
      if (isBusy(locked))
        throw new VmsnapError('LOCKED', `another vmsnap is writing ${path}`, { path, hint: 'wait until it is done' });
      if (locked !== 0) throw errnoError(locked, 'lock', path);
      isMarked = createMarker(markerPath);
      await syncFolder(dirname(path));
      return new InPlaceTarget(fd, path, !created, stats, markerPath, !isMarked);
    } catch (error) {
      if (isMarked) removeQuietly(markerPath);
      closeSync(fd);
      if (created) removeQuietly(path);
      throw error;
    }
  }

  /**
   * Gives a file exactly `sizeBytes` (on hugetlbfs, whole huge pages of which the rest is zero); a device must have room for
   * them. Huge pages are taken now, while that can fail.
   */
  resize(sizeBytes: number): void {
    if (!this.#isFile) {
      this.#requireRoom(sizeBytes);
      this.#touched = true;
      return;
    }
    this.#touched = true;
    if (this.isHugetlbfs) this.#resizeHuge(sizeBytes);
    else withSystemErrors('resize', this.path, () => ftruncateSync(this.fd, sizeBytes));
  }

  #requireRoom(sizeBytes: number): void {
    const size = native.blockDeviceSize(this.fd);
    if (size < 0) throw errnoError(size, 'find out the size of', this.path);
    if (size >= sizeBytes) return;
    throw new VmsnapError('NO_SPACE', `${this.path} has ${size} bytes, the memory ${sizeBytes}`, { path: this.path });
  }

  #resizeHuge(sizeBytes: number): void {
    const hugePageBytes = openFileStats(this).blksize;
    const wholeBytes = Math.ceil(sizeBytes / hugePageBytes) * hugePageBytes;
    withSystemErrors('resize', this.path, () => ftruncateSync(this.fd, wholeBytes));
    const result =
      native.allocate(this.fd, 0, wholeBytes) || native.zeroRange(this.fd, sizeBytes, wholeBytes - sizeBytes, false);
    if (result === 0) return;
    const error = errnoError(result, 'allocate huge pages for', this.path);
    throw new VmsnapError(error.code, error.message, {
      path: this.path,
      hint: 'raise /proc/sys/vm/nr_hugepages, or the pool of this page size',
    });
  }

  /** The load is whole: syncs, and takes the marker away. */
  async finish(): Promise<void> {
    await syncFile(this.fd, this.path);
    await changeNames(dirname(this.path), () => {
      withSystemErrors('remove the marker', this.#markerPath, () => unlinkSync(this.#markerPath));
      this.#open = false;
      closeSync(this.fd);
    });
  }

  /** After a failure: a target that was made here goes, one that was written to keeps its marker. */
  discard(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
    if (!this.hadContents) removeQuietly(this.path);
    const isAsBefore = !this.hadContents || !this.#touched;
    if (isAsBefore && !(this.hadContents && this.#wasPartial)) removeQuietly(this.#markerPath);
  }
}

/** @returns false: one is there already, of a run that did not come to its end. */
function createMarker(path: string): boolean {
  return withSystemErrors('create the marker', path, () => {
    try {
      closeSync(openSync(path, 'wx', 0o600));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    }
  });
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // What led here is the error to report.
  }
}

function openOrCreate(path: string, mode: number): { fd: number; created: boolean } {
  try {
    return { fd: openSync(path, constants.O_RDWR), created: false };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw wrapSystemError(error, 'open the target', path);
  }
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  return { fd: withSystemErrors('create the target', path, () => openSync(path, flags, mode)), created: true };
}

function requireWritableKind(stats: Stats, path: string): void {
  if (stats.isFile() || stats.isBlockDevice()) return;
  throw new VmsnapError('USAGE', `${path} is neither a file nor a block device`, { path });
}
