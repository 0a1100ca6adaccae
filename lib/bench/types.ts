/** Options and result of {@link bench}. Rates are bytes a second, times seconds, medians of rounds in which all variants took turns. */
import type { CodecName, CommonOptions } from '../types.js';

export type BenchTable = 'scan' | 'codecs' | 'zeros' | 'share' | 'compare';
export const BENCH_TABLES: readonly BenchTable[] = ['scan', 'codecs', 'zeros', 'share', 'compare'];

export interface BenchOptions extends Pick<CommonOptions, 'threads' | 'signal'> {
  /** Memory file to measure with, whole pages; only read. Default: memory that is made up and written to `folder`. */
  readonly source?: string | undefined;
  /** Where memory and images are written, in a folder of their own that is removed; default: /dev/shm, else the temporary folder. */
  readonly folder?: string | undefined;
  /** Of what is made up; a multiple of 4 MiB, 16 MiB or more; default 512 MiB. */
  readonly sizeBytes?: number | undefined;
  /** After one to warm up; default 3. */
  readonly rounds?: number | undefined;
  readonly tables?: readonly BenchTable[] | undefined;
  /** Sizes of the table `share`, multiples of the memory's; default: 1, 4 and 16 times it. */
  readonly shareSizesBytes?: readonly number[] | undefined;
  /** Told before each measurement. */
  readonly onStep?: ((step: BenchStep) => void) | undefined;
}

export interface BenchStep {
  readonly table: BenchTable;
  readonly what: string;
  /** 0 warms up. */
  readonly round: number;
  readonly rounds: number;
}

export interface BenchReport {
  readonly machine: {
    readonly processor: string;
    /** That this process may use. */
    readonly threads: number;
    readonly memoryBytes: number;
    readonly kernel: string;
    readonly node: string;
    readonly vmsnap: string;
  };
  readonly setup: {
    readonly source: string | undefined;
    readonly memoryBytes: number;
    readonly folder: string;
    readonly rounds: number;
    readonly threads: number;
  };
  readonly scan: ScanReport | undefined;
  readonly codecs: readonly CodecRow[] | undefined;
  readonly zeros: readonly ZerosRow[] | undefined;
  readonly share: readonly ShareRow[] | undefined;
  readonly compare: readonly CompareRow[] | undefined;
}

/** One thread looks at zero memory. */
export interface ScanReport {
  /** What one thread reads at most, told by comparing two buffers (memcmp). */
  readonly bandwidthBytesPerSecond: number;
  readonly detectors: readonly ScanRow[];
}

export interface ScanRow {
  readonly detector: string;
  /** Bytes of memory at hand; undefined for a device, which looks at files. */
  readonly memoryBytesPerSecond: number | undefined;
  /** CPU time for 10^9 bytes at hand; undefined for a device. */
  readonly memoryCpuSecondsPerGigabyte: number | undefined;
  /** Of `memoryBytesPerSecond` in the bandwidth. */
  readonly bandwidthShare: number | undefined;
  /** Bytes of a file in the page cache or on tmpfs, read and checked. */
  readonly fileBytesPerSecond: number;
  /** CPU time of this process for 10^9 bytes of that file; without the emulator's own. */
  readonly fileCpuSecondsPerGigabyte: number;
  readonly emulated: boolean;
}

/** Whole saves to an image, and loads of it to a new file. */
export interface CodecRow {
  readonly codec: CodecName;
  readonly level: number | undefined;
  readonly saveSeconds: number;
  readonly saveBytesPerSecond: number;
  readonly saveCpuSeconds: number;
  readonly imageBytes: number;
  readonly loadSeconds: number;
  readonly loadBytesPerSecond: number;
  readonly loadCpuSeconds: number;
}

/** Whole saves of memory that is half zero and all zero. */
export interface ZerosRow {
  readonly memory: 'half zero' | 'all zero';
  readonly detector: string;
  readonly seconds: number;
  readonly bytesPerSecond: number;
  /** Of all threads; without the emulator's own. */
  readonly cpuSeconds: number;
  readonly cpuSecondsPerThread: number;
  readonly writtenBytes: number;
  readonly emulated: boolean;
}

/** What of a whole save at level 1 goes into finding the zero pages. Without references: what comes again would else be compressed once. */
export interface ShareRow {
  readonly memoryBytes: number;
  readonly seconds: number;
  readonly bytesPerSecond: number;
  readonly cpuSeconds: number;
  readonly imageBytes: number;
  /** CPU time of the check alone, as the best detector of the CPU takes for as many bytes at hand, in the save's. */
  readonly checkShare: number;
  /** The same with reading them. */
  readonly readAndCheckShare: number;
}

/** Zero memory in a file compared by the CPU and by a device, one thread. */
export interface CompareRow {
  readonly detector: string;
  readonly bytes: number;
  readonly seconds: number;
  /** Of this process; without the emulator's own. */
  readonly cpuSeconds: number;
  /** Pages that the device answered for. */
  readonly devicePages: number;
  readonly emulated: boolean;
}
