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

/** What the CPU offers (CPUID leaf 7 for the last three), whether or not this build or the kernel makes use of it. */
export interface CpuFeatures {
  readonly architecture: 'x86-64' | 'aarch64' | 'other';
  readonly avx2: boolean;
  readonly avx512: boolean;
  readonly neon: boolean;
  readonly waitpkg: boolean;
  readonly movdir64b: boolean;
  readonly enqcmd: boolean;
}

/** A work queue as sysfs shows it (native/dsa/discovery.h). Words are '' and limits 0 where they are unknown. */
export interface DsaQueue {
  readonly name: string;
  readonly node: string;
  readonly mode: 'shared' | 'dedicated' | '';
  readonly state: string;
  readonly type: string;
  readonly label: string;
  readonly driverName: string;
  /** -1: in none. */
  readonly group: number;
  readonly size: number;
  readonly threshold: number;
  readonly priority: number;
  readonly blockOnFault: boolean;
  readonly atsDisabled: boolean;
  readonly prsDisabled: boolean;
  readonly maxTransferBytes: number;
  readonly maxBatch: number;
  /** Opcodes that it accepts, ascending. */
  readonly operations: readonly number[];
}

export interface DsaDevice {
  readonly name: string;
  readonly state: string;
  /** 0x100 is DSA 1.0; 0: unknown. */
  readonly version: number;
  readonly numaNode: number;
  /** 1, 0, or -1: unknown. */
  readonly pasidEnabled: number;
  readonly configurable: number;
  readonly maxGroups: number;
  readonly maxQueues: number;
  readonly maxQueueEntries: number;
  readonly maxEngines: number;
  readonly maxBatch: number;
  readonly maxTransferBytes: number;
  /** Hexadecimal with 0x. */
  readonly generalCapability: string;
  readonly operations: readonly number[];
  /** Hexadecimal with 0x. */
  readonly commandStatus: string;
  readonly clients: number;
  readonly errors: string;
  /** Group of each engine, -1: in none. */
  readonly engineGroups: readonly number[];
  readonly queues: readonly DsaQueue[];
}

export interface DsaDiscovery {
  /** 0, or the negative errno with which the folder could not be read. */
  readonly error: number;
  readonly devices: readonly DsaDevice[];
}

/** One step of opening a queue (native/dsa/offload.h, ProbeStep). */
export interface DsaProbeStep {
  readonly what: string;
  /** 0 or a negative errno; -ETIMEDOUT where a completion record was not written. */
  readonly error: number;
  /** Status of the completion record, 0 where there is none, and the same in words. */
  readonly status: number;
  readonly statusText: string;
}

/** Zero checks on pages whose contents are known. Passed: `right` is `pages`. */
export interface DsaSelfTest {
  readonly name: string;
  readonly pages: number;
  readonly right: number;
  readonly wrong: number;
  /** Left to the CPU. */
  readonly unknown: number;
}

/** What came of opening one queue, trying its ways to submit, and testing it. */
export interface DsaProbe {
  readonly node: string;
  readonly usable: boolean;
  readonly way: 'none' | 'enqcmd' | 'movdir64b' | 'write-batch' | 'write-single';
  readonly batches: boolean;
  readonly depth: number;
  readonly batchPages: number;
  readonly maxUnitBytes: number;
  readonly steps: readonly DsaProbeStep[];
  /** Why it cannot be used and what to do about it; '' if it can. */
  readonly reason: string;
  readonly hint: string;
  readonly selfTest: readonly DsaSelfTest[];
}

/** Page states as SPEC.md section "Page states" numbers them. */
export const PAGE_ZERO = 0;
export const PAGE_DATA = 1;
export const PAGE_UNIFORM = 2;

/** What {@link NativeBinding.compareSegments} finds of a page, from segment A to segment B. */
export const CHANGE_BOTH_ZERO = 0;
export const CHANGE_SAME = 1;
export const CHANGE_CHANGED = 2;
export const CHANGE_BECAME_ZERO = 3;
export const CHANGE_WAS_ZERO = 4;
export const CHANGE_COUNT = 5;

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
/** Bytes of pages that were not read because a device had called them zero. */
export const REPORT_ANSWERED_BYTES = 7;
/** Pages that were read without an answer of the device that was asked for the segment. */
export const REPORT_UNANSWERED_PAGES = 8;
/** With `selfCheck`: answers that were compared with what the CPU found, and those of them that were wrong. */
export const REPORT_CHECKED_ANSWERS = 9;
export const REPORT_WRONG_ANSWERS = 10;
/** Pages that the device called zero, read or not. */
export const REPORT_DEVICE_ZERO_PAGES = 11;
export const REPORT_LENGTH = 12;

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
  /** Takes a hash of each data page at the page's number, for the search for duplicates; left out: there is none. */
  readonly hashes?: BigUint64Array | undefined;
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
   * `firstPage` is the number of the segment's first page in its region (default 0; `normalPagePercent` goes by it). With
   * `slot`, it waits for the answers to what was submitted there, which must be these extents, and frees the slot: pages
   * that the device called zero are not read.
   * @returns 0, SCAN_TRUNCATED, or a negative errno.
   */
  scanExtents(
    extents: Float64Array,
    extentCount: number,
    output: ScanOutput,
    firstPage?: number,
    slot?: number | undefined,
  ): number;
  /** Scans `length` bytes of `input` from `offset`. @returns 0. */
  scanMemory(input: Uint8Array, offset: number, length: number, output: ScanOutput, firstPage?: number): number;
  /**
   * Hands the pages of a segment to the device, as far as they are in memory, and returns at once. The slot must be free;
   * the files stay open until the scanner is closed.
   */
  submitAhead(slot: number, extents: Float64Array, extentCount: number): void;
  /** Waits for all that is under way and leaves the device, which could not be closed before. */
  close(): void;
}

/** Options of {@link SegmentScanner}; the last two are for scanners on a device. */
export interface ScannerOptions {
  readonly detector: 'auto' | DetectorStatus['name'];
  readonly pageSize: number;
  readonly segmentSize: number;
  /** Reads every page that the device has answered for and compares (REPORT_CHECKED_ANSWERS). */
  readonly selfCheck?: boolean | undefined;
  /** 0 to 100: this share of the zero pages is stored as data, spread evenly by page number. */
  readonly normalPagePercent?: number | undefined;
  /** Handle of an open device, and how many segments may be submitted at a time (1 to 64). */
  readonly device?: number | undefined;
  readonly slots?: number | undefined;
}

export type DsaWay = 'enqcmd' | 'movdir64b' | 'write-batch' | 'write-single';

/** Limits of the driver; see native/dsa/offload.h (OffloadLimits) for their defaults. */
export interface DsaLimits {
  readonly batchPages?: number | undefined;
  readonly depth?: number | undefined;
  readonly maxUnitBytes?: number | undefined;
  readonly submitRetries?: number | undefined;
  readonly recordMilliseconds?: number | undefined;
  readonly probeMilliseconds?: number | undefined;
  readonly faultRetries?: number | undefined;
  readonly sickRetestMilliseconds?: number | undefined;
  readonly sickTests?: number | undefined;
}

/** What an emulated device is to do wrong (native/dsa/emulator/emulator.h, Fault). */
export interface DsaFault {
  readonly kind: DsaFaultKind;
  readonly device?: number;
  readonly queue?: number;
  readonly first?: number;
  readonly count?: number;
  readonly value?: number;
  readonly of?: 'compares' | 'descriptors';
}

export type DsaFaultKind =
  | 'page-fault'
  | 'write-fault'
  | 'status'
  | 'never-written'
  | 'late'
  | 'wrong-answer'
  | 'batch-list-fault'
  | 'queue-full'
  | 'device-lost'
  | 'device-halted'
  | 'device-back'
  | 'short-write'
  | 'write-error';

/** Emulated devices (native/dsa/emulator/emulator.h, EmulatorConfig); what is left out has the defaults from there. */
export interface EmulatedMachine {
  readonly devices?: readonly EmulatedDsaDevice[];
  readonly faults?: readonly DsaFault[];
  readonly randomSeed?: number;
  /** Share of operations, in 1/1000, that have a random fault of `randomKinds`. */
  readonly randomPermille?: number;
  readonly randomKinds?: readonly DsaFaultKind[];
}

export interface EmulatedDsaDevice {
  readonly number?: number;
  readonly numaNode?: number;
  readonly version?: number;
  readonly pasidEnabled?: boolean;
  readonly engines?: number;
  readonly latencyMicroseconds?: number;
  readonly bytesPerSecond?: number;
  readonly queues?: readonly EmulatedDsaQueue[];
}

export interface EmulatedDsaQueue {
  readonly mode?: 'shared' | 'dedicated';
  readonly size?: number;
  readonly threshold?: number;
  readonly maxBatch?: number;
  readonly maxTransferBytes?: number;
  readonly blockOnFault?: boolean;
  readonly state?: string;
  readonly type?: string;
  /** Positive errnos. */
  readonly openError?: number;
  readonly mapError?: number;
  readonly writeRefusesBatches?: boolean;
}

export interface DsaOpenOptions {
  readonly sysfsRoot?: string | undefined;
  readonly deviceRoot?: string | undefined;
  /** Queues to use; all that can be used if empty. */
  readonly nodes?: readonly string[] | undefined;
  /** Only these ways to submit; all if empty. */
  readonly ways?: readonly DsaWay[] | undefined;
  readonly limits?: DsaLimits | undefined;
  /** Makes a device in software instead of looking for real ones. */
  readonly emulated?: EmulatedMachine | undefined;
  /** Keeps page tables of 4 KiB pages too, once they are filled. */
  readonly keepMapped?: boolean | undefined;
}

/** Since the device was opened; see native/dsa/offload.h (QueueCounters). */
export interface DsaCounters {
  readonly descriptors: number;
  readonly batches: number;
  readonly bytes: number;
  readonly pagesZero: number;
  readonly pagesNotZero: number;
  readonly pagesUnknown: number;
  readonly pageFaults: number;
  readonly batchFaults: number;
  readonly retries: number;
  readonly shortWrites: number;
  readonly errors: number;
  readonly lost: number;
  readonly timesSick: number;
}

/** One queue of an open device, or one that could not be opened (`reason` says why). */
export interface DsaQueueReport {
  readonly node: string;
  readonly name: string;
  readonly numaNode: number;
  readonly way: 'none' | DsaWay;
  readonly batches: boolean;
  readonly depth: number;
  readonly batchPages: number;
  readonly maxUnitBytes: number;
  readonly reason: string;
  readonly hint: string;
  readonly sick: boolean;
  readonly steps: readonly DsaProbeStep[];
  readonly counters: DsaCounters;
}

export interface DsaOpened {
  /** 0: no queue can be used; `reason` says why, and `hint` what to do about it. */
  readonly handle: number;
  readonly reason: string;
  readonly hint: string;
  readonly queues: readonly DsaQueueReport[];
}

export interface DsaReports {
  readonly emulated: boolean;
  /** False once no queue will ever take work again. */
  readonly usable: boolean;
  readonly submissionCpuSeconds: number;
  readonly completionCpuSeconds: number;
  readonly reachableCpuSeconds: number;
  readonly waitingSeconds: number;
  /** CPU time of the emulated device, which real hardware would not take. */
  readonly emulatorCpuSeconds?: number;
  readonly queues: readonly DsaQueueReport[];
}

/** What {@link NativeBinding.writeSegment} does with zero pages. */
export const ZERO_SKIP = 0;
export const ZERO_WRITE = 1;
/** Punches a hole, and writes zeros where the file system cannot. */
export const ZERO_PUNCH = 2;

/** What {@link NativeBinding.diffSegment} writes into its counts: index of each figure, pages. */
export const DIFF_DATA_PAGES = 0;
export const DIFF_UNIFORM_PAGES = 1;
export const DIFF_ZERO_PAGES = 2;
export const DIFF_SAME_AS_BASE_PAGES = 3;
export const DIFF_ABSENT_PAGES = 4;
export const DIFF_LENGTH = 5;

/** What {@link DuplicateCheck.takeOut} writes into its report: index of each figure. */
export const TAKEN_DATA_PAGES = 0;
export const TAKEN_REFERENCES = 1;
/** After a failure: the number of the page that could not be read again. */
export const TAKEN_FAILED_PAGE = 2;
export const TAKEN_LENGTH = 3;

/** Reads pages of a source again and holds them against those that may be their duplicates. One a thread. */
export interface DuplicateCheck {
  /**
   * Takes out of a scanned segment what earlier pages are the same as, byte for byte. In place: such a page gets the state 3
   * (reference), and what is left of `data` moves together. `targets` as {@link NativeBinding.proposeDuplicates} left them;
   * afterwards those of the references stand at its start, in page order.
   * @returns 0, SCAN_TRUNCATED, or a negative errno.
   */
  takeOut(
    states: Uint8Array,
    pageCount: number,
    data: Uint8Array,
    firstPage: number,
    targets: BigUint64Array,
    report: Float64Array,
  ): number;
}
/** Bytes of the random key of {@link NativeBinding.hashSegment}, and of the hash of each 4096-byte block. */
export const HASH_KEY_BYTES = 4128;
export const BLOCK_HASH_BYTES = 16;
export const HASHED_BLOCK_BYTES = 4096;

/** What {@link NativeBinding.findChanges} writes into its report: index of each figure. */
export const CHANGES_PAGES = 0;
export const CHANGES_READ_BYTES = 1;
/** After a failure: the offset in the file at which reading failed. */
export const CHANGES_FAILED_OFFSET = 2;
export const CHANGES_LENGTH = 3;

/** What is wrong with a QEMU migration stream (native/qemu/fault.h). */
export interface QemuFault {
  readonly kind: 'corrupt' | 'unsupported' | 'system';
  readonly offset: number;
  /** What was found and what was expected; of a system fault, what was being read. */
  readonly what: string;
  readonly hint: string;
  /** Of a system fault: a negative errno, and whether it is about the page table. */
  readonly error: number;
  readonly ofTable: boolean;
}

/** A RAM block as a stream lists it (native/qemu/stream_parser.h). Offsets are 0 but for mapped-ram. */
export interface QemuBlock {
  readonly id: Uint8Array;
  readonly usedBytes: number;
  readonly listedAt: number;
  readonly bitmapOffset: number;
  readonly pagesOffset: number;
}

/** What a stream says before its first page. */
export interface QemuHead {
  /** Empty where the stream does not say. */
  readonly machine: Uint8Array;
  /** 16 bytes or none. */
  readonly uuid: Uint8Array;
  readonly ignoreShared: boolean;
  readonly mappedRam: boolean;
  /** The stream up to the end of the RAM section's first part; of mapped-ram, what an ordinary stream would have there. */
  readonly bytes: Uint8Array;
  readonly blocks: readonly QemuBlock[];
}

/** Results of {@link QemuIndex.step} and {@link NativeBinding.qemuFill}. */
export const QEMU_MORE = 0;
export const QEMU_RAM_ENDED = 1;
export const QEMU_FAULT = 2;

/** Entries of the page table that are no file offsets. */
export const QEMU_NEVER_SENT = 0;
export const QEMU_SENT_ZERO = 1;

/**
 * The one pass over a migration stream in a file. It writes a table of 8 bytes a page (little endian; blocks end to end in
 * their order): the file offset of the page, QEMU_SENT_ZERO, or QEMU_NEVER_SENT. `abort` as in {@link NativeBinding.readStream}.
 */
export interface QemuIndex {
  /** @returns undefined after a fault. */
  readHead(abort: Int32Array, abortIndex: number): QemuHead | undefined;
  /** Goes on for about so many bytes. @returns QEMU_MORE, QEMU_RAM_ENDED or QEMU_FAULT. */
  step(mostBytes: number, abort: Int32Array, abortIndex: number): number;
  fault(): QemuFault;
  /** After QEMU_RAM_ENDED. `end`: where the state of devices begins; `pages`: of each block; `repeated`: sent once more. */
  result(): {
    readonly end: number;
    readonly repeated: number;
    readonly pages: readonly { readonly data: number; readonly zero: number }[];
  };
  /** Gives its buffers back; nothing else may be called afterwards. */
  close(): void;
}

/** What {@link NativeBinding.qemuFill} writes into its report: index of each figure. */
export const QEMU_FILLED_REGION = 0;
export const QEMU_FILLED_OFFSET = 1;
export const QEMU_FILLED_BYTES = 2;
export const QEMU_FILLED_GOT_PAGES = 3;
export const QEMU_FILLED_ZERO_PAGES = 4;
/** Of a segment of which pages have come before: the number of the last call that took them, counted from 0; else -1. */
export const QEMU_FILLED_EARLIER = 5;
export const QEMU_FILLED_LENGTH = 6;

/** What it says of a page in its map. */
export const QEMU_PAGE_NOT_SENT = 0;
export const QEMU_PAGE_GOT = 1;
export const QEMU_PAGE_ZERO = 2;

export interface NativeBinding {
  /** Every detector this build knows, best first. */
  detectors(): DetectorStatus[];
  /** The CRC-32C implementation in use: 'sse4.2', 'armv8' or 'table'. */
  crc32cImplementation(): string;
  SegmentScanner: new (options: ScannerOptions) => SegmentScanner;

  /**
   * Finds, opens and tries DSA queues. The device belongs to this process: worker threads name it by its handle. It is
   * closed with {@link dsaClose}, or when the thread that opened it ends.
   */
  dsaOpen(options: DsaOpenOptions): DsaOpened;
  /** Counters and times of an open device. */
  dsaReports(device: number): DsaReports;
  /** @returns 0, -EBADF if there is no such device, or -EBUSY while a scanner uses it. */
  dsaClose(device: number): number;
  /** Makes an emulated device misbehave. @returns 0, or -EBADF if there is no such device or it is a real one. */
  dsaAddFault(device: number, fault: DsaFault): number;
  /** Size of the pages in which a file lies in memory, 4 KiB or 2 MiB and more, or a negative errno: it cannot be mapped. */
  dsaBacking(fd: number): number;
  /** Whether an open device has the pages of this file mapped from an earlier save, whatever their size. */
  dsaKeeps(device: number, fd: number): boolean;

  /** What this CPU offers. */
  cpuFeatures(): CpuFeatures;
  /** What sysfs tells of DSA devices; nothing is opened. */
  dsaDiscover(sysfsRoot: string, deviceRoot: string): DsaDiscovery;
  /** Opens each of these queues, tests it and closes it again. Blocks, for a second or two a queue at worst. */
  dsaProbe(sysfsRoot: string, deviceRoot: string, nodes: readonly string[]): DsaProbe[];
  /** Makes an emulated device with a queue for each way to submit, and does the same with it. `error` is '' if that worked. */
  dsaProbeEmulated(): {
    readonly error: string;
    readonly discovery?: DsaDiscovery;
    readonly probes?: readonly DsaProbe[];
  };

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
  /**
   * Holds two segments of as many pages, of one size, against each other, byte by byte. Writes the CHANGE_* of each page to
   * `changes`, and how many there are of each to `counts` (CHANGE_COUNT figures).
   */
  compareSegments(
    statesA: Uint8Array,
    pageCountA: number,
    pageSizeA: number,
    dataA: Uint8Array,
    wordsA: BigUint64Array,
    statesB: Uint8Array,
    pageCountB: number,
    pageSizeB: number,
    dataB: Uint8Array,
    wordsB: BigUint64Array,
    changes: Uint8Array,
    counts: Float64Array,
  ): void;
  /**
   * Takes out of a scanned segment what its base has too. In place: a page that is the same gets the state 4 (same as base),
   * and what is left of data and words moves together. `same`: for each data page of the segment, not 0 if the base has the
   * same bytes there (see {@link matchPages}). `counts` takes DIFF_LENGTH figures.
   */
  diffSegment(
    states: Uint8Array,
    pageCount: number,
    pageSize: number,
    data: Uint8Array,
    words: BigUint64Array,
    same: Uint8Array,
    baseStates: Uint8Array,
    baseWords: BigUint64Array,
    counts: Float64Array,
  ): void;
  /**
   * Compares the `pageCount` pages of a chunk with data pages of a segment, byte for byte: page i with the one whose number is
   * `targets[firstTarget + i]`, with none if that is negative. Sets `same` to 1 at the number of each that is the same.
   */
  matchPages(
    pages: Uint8Array,
    pageSize: number,
    targets: Int32Array,
    firstTarget: number,
    pageCount: number,
    data: Uint8Array,
    same: Uint8Array,
  ): void;
  /** Copies the pages of a chunk to their places among the data pages of a segment; the same arguments. */
  scatterPages(
    pages: Uint8Array,
    pageSize: number,
    targets: Int32Array,
    firstTarget: number,
    pageCount: number,
    data: Uint8Array,
  ): void;
  /**
   * Asks a table of the pages that are stored already (native/duplicates/duplicate_table.h) for each data page of a segment, and
   * puts those in that it does not know. `table`: zeros at first, shared by all threads of a save, which call this one at a
   * time and in the order of the segments; a power of two long. `hashes` is that of a scan, `firstPage` the global number of
   * the segment's first page. `targets` takes for each page the number of one that may have the same bytes, or 2^64 - 1.
   * @returns how many such pages there are.
   */
  proposeDuplicates(
    table: BigUint64Array,
    states: Uint8Array,
    pageCount: number,
    hashes: BigUint64Array,
    firstPage: number,
    targets: BigUint64Array,
  ): number;
  /** `regions`: four figures each, rising: number of the first page, pages, file descriptor, offset in the file. */
  DuplicateCheck: new (
    regions: Float64Array,
    pageSize: number,
  ) => DuplicateCheck;
  /** Expands a segment into `out` (pageCount * pageSize bytes). */
  expandSegment(
    states: Uint8Array,
    pageCount: number,
    pageSize: number,
    data: Uint8Array,
    words: BigUint64Array,
    out: Uint8Array,
  ): void;
  /**
   * Keyed hashes of all 4096-byte blocks of a scanned segment (native/hash/block_hash.h: two different blocks have the same
   * with a probability of at most 2^-64 over the key): BLOCK_HASH_BYTES each into `hashes`, zeros for a block of zeros.
   */
  hashSegment(
    key: Uint8Array,
    states: Uint8Array,
    pageCount: number,
    pageSize: number,
    data: Uint8Array,
    words: BigUint64Array,
    hashes: Uint8Array,
  ): void;
  /**
   * Reads a part of a file, whole pages, and compares it with what {@link hashSegment} gave for it. Sets `changed` to 1 for each
   * page that differs, else to 0, and puts those pages one after the other into `pages`, which has room for all. `report` takes
   * CHANGES_LENGTH figures. @returns 0, SCAN_TRUNCATED, or a negative errno.
   */
  findChanges(
    key: Uint8Array,
    fd: number,
    offset: number,
    sizeBytes: number,
    pageSize: number,
    hashes: Uint8Array,
    pages: Uint8Array,
    changed: Uint8Array,
    report: Float64Array,
  ): number;
  /** Writes bytes [offset, offset + length) at `position` of a file or device; on hugetlbfs, which has no write(), by a mapping. */
  writeBytes(fd: number, position: number, bytes: Uint8Array, offset: number, length: number): number;
  /** Zeroes [position, position + length) of a file: by a hole if `punch` and possible, else by writing. */
  zeroRange(fd: number, position: number, length: number, punch: boolean): number;

  /**
   * The offset of the next byte at or after `offset` and before `end` that is not in a hole, or `end`. A file system
   * that knows no holes answers `offset`. @returns an offset or a negative errno.
   */
  seekData(fd: number, offset: number, end: number): number;
  /**
   * The offset of the next byte at or after `offset` and before `end` that is in a hole, or `end`. Slow on tmpfs, where it
   * walks page by page: ask once a stretch of data. @returns an offset or a negative errno.
   */
  seekHole(fd: number, offset: number, end: number): number;
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
  /** `tableFd`: an empty file, open for reading and writing. The stream lies at [offset, end) of the file. */
  QemuIndex: new (
    fd: number,
    offset: number,
    end: number,
    tableFd: number,
  ) => QemuIndex;
  /**
   * Begins to read a migration stream from a pipe or socket. `start`: what has been read of it already. The reader belongs
   * to the process: other threads name it by its number. It is used by one thread at a time.
   */
  qemuOpen(
    fd: number,
    start: Uint8Array,
    abort: Int32Array,
    abortIndex: number,
  ): { readonly reader: number; readonly head: QemuHead; readonly fault?: undefined } | { readonly fault: QemuFault };
  /**
   * Says how the blocks are cut: `regions` are triples (block, offset in it, length) that cover all blocks, those of a
   * block side by side. @returns false if they do not, or if there would be too many segments.
   */
  qemuPlan(reader: number, regions: Float64Array, segmentSize: number): boolean;
  /**
   * Takes the next pages of one segment (`into`; zeros where none came) and what became of each page (`map`, QEMU_PAGE_*).
   * @returns QEMU_MORE (the report is filled), QEMU_RAM_ENDED or QEMU_FAULT.
   */
  qemuFill(
    reader: number,
    into: Uint8Array,
    map: Uint8Array,
    report: Float64Array,
    abort: Int32Array,
    abortIndex: number,
  ): number;
  qemuFault(reader: number): QemuFault;
  /** After the end of RAM: the next segment from `segment` on of which no page came; the number of segments if there is none. */
  qemuNextUnseen(reader: number, segment: number): number;
  /** After the end of RAM: what there is of the rest of the stream. @returns bytes read, 0 at its end, or a negative errno. */
  qemuReadRest(reader: number, into: Uint8Array, abort: Int32Array, abortIndex: number): number;
  qemuClose(reader: number): void;

  /** A pipe of `capacityBytes` if the system allows it. @returns [read end, write end] or a negative errno. */
  pipe(capacityBytes: number): [number, number] | number;
  /** Lets a pipe hold up to `capacityBytes` if the system allows it, never less than it does. Of other files nothing changes. */
  widenPipe(fd: number, capacityBytes: number): void;

  /** Makes a unix socket (0600) at a path and listens for one connection. @returns its descriptor or a negative errno. */
  listenUnix(path: string): number;
  /** Waits for a connection, stoppable like {@link readStream}. @returns its descriptor or a negative errno. */
  acceptUnix(fd: number, abort: Int32Array, abortIndex: number): number;
  /** The process id at the other end of a unix socket, or a negative errno. */
  peerProcess(fd: number): number;
  /** Connects to a unix socket. @returns a descriptor, closed on exec, or a negative errno. */
  connectUnix(path: string): number;

  /** flock(LOCK_EX | LOCK_NB). @returns 0, -EWOULDBLOCK if another holds it, or a negative errno. */
  tryLock(fd: number): number;
  /** The same with LOCK_SH: with others who share it. */
  tryLockShared(fd: number): number;
  /** An exclusive lock on a range of a file that is open for writing (F_OFD_SETLK), beside those of flock; answers alike. */
  tryLockRange(fd: number, position: number, length: number): number;
  /** Takes a read lease (F_SETLEASE F_RDLCK): -EAGAIN if someone has the file open for writing. Breaks raise SIGURG, which is ignored. */
  takeReadLease(fd: number): number;
  /** 1 while the read lease is whole, 0 once someone waits to write (or it is gone), or a negative errno. */
  readLeaseHeld(fd: number): number;
  releaseLease(fd: number): number;
  /** renameat2(RENAME_NOREPLACE); where the file system cannot, link and unlink. @returns 0, -EEXIST, or a negative errno. */
  renameNoReplace(from: string, to: string): number;
  /** renameat2(RENAME_EXCHANGE). @returns 0, -EINVAL where the file system cannot, or another negative errno. */
  renameExchange(one: string, other: string): number;
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
