/**
 * The typed seam to the C++ addon: the one file through which TypeScript reaches native code.
 *
 * Every function is synchronous and may be called from any worker thread. None throws for a failed system call: a
 * result is 0 (or a count) on success and a negative errno on failure, so that the caller can say which file and
 * offset failed. A wrong argument (type, length, range) throws a TypeError or RangeError: that is a bug in the caller.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VmsnapError } from './errors.js';

/** A way to tell zero and uniform pages from data pages. */
export interface DetectorStatus {
  readonly name: 'avx2' | 'neon' | 'scalar';
  readonly available: boolean;
  /** Why it can or cannot be used here, in words for a user. */
  readonly reason: string;
}

/** Page states as SPEC.md section "Page states" numbers them. */
export const PAGE_ZERO = 0;
export const PAGE_DATA = 1;
export const PAGE_UNIFORM = 2;

/** Returned by {@link SegmentScanner.scanExtents} when a file ended before the extent did. */
export const SCAN_TRUNCATED = 1;

/** What {@link SegmentScanner} writes into its report array: index of each figure. */
export const REPORT_DATA_PAGES = 0;
export const REPORT_UNIFORM_PAGES = 1;
export const REPORT_ZERO_PAGES = 2;
/** Bytes that were holes of the file and so were never read. */
export const REPORT_HOLE_BYTES = 3;
export const REPORT_READ_BYTES = 4;
/** After a failure: the index of the extent and the offset in its file at which reading failed. */
export const REPORT_FAILED_EXTENT = 5;
export const REPORT_FAILED_OFFSET = 6;
export const REPORT_LENGTH = 8;

/** Where one scan puts its answers. All arrays belong to the caller and are reused from segment to segment. */
export interface ScanOutput {
  /** Data pages, compacted in page order. At least the segment's length. */
  readonly data: Uint8Array;
  /** One state per page. At least the segment's page count. */
  readonly states: Uint8Array;
  /** The repeated word of each uniform page, in page order, little endian. At least the segment's page count. */
  readonly words: BigUint64Array;
  /** 16 bytes per 1 MiB leaf (SPEC.md, "Memory digest"). At least 16 * ceil(length / 1 MiB). */
  readonly leaves: Uint8Array;
  /** REPORT_LENGTH figures. */
  readonly report: Float64Array;
}

/**
 * Classifies the pages of one segment: zero, uniform or data; compacts the data pages and takes the leaf digests, in
 * one call. Holds no state between calls but its kernel and scratch space; use one per thread.
 */
export interface SegmentScanner {
  /** The detector in use, never 'auto'. */
  readonly detector: DetectorStatus['name'];
  /**
   * Scans bytes that lie in files. `extents` holds `extentCount` triples (fd, file offset, length); fd -1 is a hole.
   * Their lengths add up to the segment's length, a multiple of the page size. Holes of a file (SEEK_DATA) are not read.
   * @returns 0, SCAN_TRUNCATED, or a negative errno.
   */
  scanExtents(extents: Float64Array, extentCount: number, output: ScanOutput): number;
  /** Scans `length` bytes of `input` from `offset`. @returns 0. */
  scanMemory(input: Uint8Array, offset: number, length: number, output: ScanOutput): number;
}

/** What {@link NativeBinding.writeSegment} does with zero pages. */
export const ZERO_SKIP = 0;
export const ZERO_WRITE = 1;
/** Punches a hole, and writes zeros where the file system cannot. */
export const ZERO_PUNCH = 2;

export interface NativeBinding {
  /** Every detector this build knows, best first. */
  detectors(): DetectorStatus[];
  /** The CRC-32C implementation in use: 'sse4.2', 'armv8' or 'table'. */
  crc32cImplementation(): string;
  SegmentScanner: new (options: {
    detector: 'auto' | DetectorStatus['name'];
    pageSize: number;
    segmentSize: number;
  }) => SegmentScanner;

  /** CRC-32C (Castagnoli, RFC 3720 B.4) of bytes [offset, offset + length), continuing from `seed` (0 to start). */
  crc32c(bytes: Uint8Array, offset: number, length: number, seed: number): number;
  /** XXH3-128 (seed 0) of the bytes in canonical (big endian) form into `out[outOffset..+16]`. */
  xxh3(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
  /** Leaf digests of a segment from its states, compacted data pages and uniform words. `pageCount` pages. */
  digestSegment(
    states: Uint8Array,
    pageCount: number,
    pageSize: number,
    data: Uint8Array,
    words: BigUint64Array,
    leaves: Uint8Array,
  ): void;
  /**
   * Adds the contributions of `leafCount` leaves, the first being leaf `firstLeaf` of `region`, to the 128-bit sum in
   * `sum` (two words: low, high). Zero leaves contribute nothing.
   */
  addLeaves(region: number, firstLeaf: number, leaves: Uint8Array, leafCount: number, sum: BigUint64Array): void;

  /**
   * Writes the pages of a segment to `fd` from byte `position` on: runs of data pages straight from `data`, uniform
   * pages expanded, zero pages as `zeroMode` says. @returns 0 or a negative errno; `failedAt[0]` is the file offset.
   */
  writeSegment(
    fd: number,
    position: number,
    states: Uint8Array,
    pageCount: number,
    pageSize: number,
    data: Uint8Array,
    words: BigUint64Array,
    zeroMode: number,
    failedAt: Float64Array,
  ): number;
  /** Expands a segment into `out` (pageCount * pageSize bytes). */
  expandSegment(
    states: Uint8Array,
    pageCount: number,
    pageSize: number,
    data: Uint8Array,
    words: BigUint64Array,
    out: Uint8Array,
  ): void;
  /** Writes bytes [offset, offset + length) at `position` of a file or device; on hugetlbfs, which has no write(), by a mapping. */
  writeBytes(fd: number, position: number, bytes: Uint8Array, offset: number, length: number): number;
  /** Zeroes [position, position + length) of a file: by a hole if `punch` and possible, else by writing. */
  zeroRange(fd: number, position: number, length: number, punch: boolean): number;

  /**
   * The offset of the next byte at or after `offset` and before `end` that is not in a hole, or `end`. A file system
   * that knows no holes answers `offset`. @returns an offset or a negative errno.
   */
  seekData(fd: number, offset: number, end: number): number;
  /** Allocates blocks or huge pages for the range (fallocate mode 0; grows the file). */
  allocate(fd: number, position: number, length: number): number;
  /** Share (0 to 1) of the range's pages that are in the page cache; 1 where it cannot be told. */
  residentShare(fd: number, position: number, length: number): number;
  /** POSIX_FADV_DONTNEED. */
  dropCache(fd: number, position: number, length: number): number;
  /** Starts write-back of the range without waiting (sync_file_range). */
  startWriteback(fd: number, position: number, length: number): number;

  /**
   * Reads up to `length` bytes of a stream into `bytes[offset..]`, waiting until all are there or the stream ends.
   * `abort[abortIndex]` is looked at every 100 ms: non-zero ends the wait with -ECANCELED.
   * @returns the bytes read (fewer only at the end of the stream), or a negative errno.
   */
  readStream(
    fd: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    abort: Int32Array,
    abortIndex: number,
  ): number;
  /** Writes all bytes to a stream or file at its current position, stoppable like {@link readStream}. @returns 0 or -errno. */
  writeStream(
    fd: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    abort: Int32Array,
    abortIndex: number,
  ): number;
  /** A pipe of `capacityBytes` if the system allows it. @returns [read end, write end] or a negative errno. */
  pipe(capacityBytes: number): [number, number] | number;

  /** flock(LOCK_EX | LOCK_NB). @returns 0, -EWOULDBLOCK if another holds it, or a negative errno. */
  tryLock(fd: number): number;
  /** Takes a read lease (F_SETLEASE F_RDLCK): -EAGAIN if someone has the file open for writing. Breaks raise SIGURG, which is ignored. */
  takeReadLease(fd: number): number;
  /** 1 while the read lease is whole, 0 once someone waits to write (or it is gone), or a negative errno. */
  readLeaseHeld(fd: number): number;
  releaseLease(fd: number): number;
  /** renameat2(RENAME_NOREPLACE); where the file system cannot, link and unlink. @returns 0, -EEXIST, or a negative errno. */
  renameNoReplace(from: string, to: string): number;
  /** Size in bytes of a block device (BLKGETSIZE64), or a negative errno. */
  blockDeviceSize(fd: number): number;
  /** f_type of the file's file system (statfs), or a negative errno. */
  fileSystemType(fd: number): number;
}

/** File system types from linux/magic.h, as {@link NativeBinding.fileSystemType} gives them. */
export const HUGETLBFS_MAGIC = 0x958458f6;

function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'binding.gyp'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('vmsnap: binding.gyp not found above the installed files');
    folder = parent;
  }
  return folder;
}

function loadBinding(): NativeBinding {
  const path = join(packageRoot(), 'build', 'Release', 'vmsnap.node');
  try {
    return createRequire(import.meta.url)(path) as NativeBinding;
  } catch (cause) {
    throw new VmsnapError('FAILED', `the native addon ${path} cannot be loaded: ${(cause as Error).message}`, {
      path,
      hint: 'build it with "npm rebuild vmsnap"; that needs python3, make and g++',
      cause,
    });
  }
}

export const native: NativeBinding = loadBinding();
