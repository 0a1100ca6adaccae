/**
 * Ceilings that a caller sets: on the memory of the process, and on what is written a second. Neither changes a byte of what is
 * written.
 *
 * Memory is reckoned beforehand, from what a save or a load will have at most: what Node and the main thread take (measured), a
 * fixed sum for each thread (measured), and its buffers, whose sizes are known. Threads are taken off, and before them output
 * buffers, until it fits. Sizes that decide the bytes of an image (segments, chunks, the table of duplicates) stay as they are.
 * test/lib/limits.test.ts holds the reckoning against the peak that the kernel tells. Memory that is the source's own, mapped for
 * a device, is not counted.
 */
import { readFileSync } from 'node:fs';
import { MIB } from '../formats/vmsnap/layout.js';
import { VmsnapError } from '../native/errors.js';
import type { CodecSettings } from './codecs.js';
import { createPacerShared, type PacerShared } from './pipeline/pacer.js';
import type { LimitOptions, RunLimits } from './types.js';

/** Node, the library and the main thread. The same save peaks at 101 MiB with Node 20 and at 117 with Node 24 (limits.test.ts). */
const PROCESS_BYTES = (Number.parseInt(process.versions.node, 10) >= 22 ? 88 : 72) * MIB;
/** A worker thread with its JavaScript heap and code, and native buffers that do not depend on any size. */
const THREAD_BYTES = 17 * MIB;
export const WRITE_RATE_MIN = 64 * 1024;
/** zlib's state, and its buffers until they are freed (formats/garbage.ts): 5 MiB are measured, with Node 20 and 24, at real-time priority too. */
const ZLIB_BYTES = 16 * MIB;
/** The same of Node's ciphers, in an encrypted image. */
export const CIPHER_BYTES = 40 * MIB;
const ZSTD_BYTES = 2 * MIB;
const ZSTD_PLAIN_LEVEL_MAX = 4;
/** Tables of the higher levels are at most so many times as large as what is compressed at once. */
const ZSTD_TABLES_SHARE = 17;

/** @throws USAGE */
export function checkLimits({ memoryLimitBytes, writeBytesPerSecond }: LimitOptions): RunLimits {
  const isCount = (value: number) => Number.isSafeInteger(value) && value > 0;
  if (memoryLimitBytes !== undefined && !isCount(memoryLimitBytes))
    throw new VmsnapError('USAGE', `a ceiling of ${memoryLimitBytes} bytes on memory is not possible`);
  if (writeBytesPerSecond !== undefined && !(isCount(writeBytesPerSecond) && writeBytesPerSecond >= WRITE_RATE_MIN))
    throw new VmsnapError('USAGE', `a write rate of ${writeBytesPerSecond} bytes a second is not possible`, {
      hint: `at least ${WRITE_RATE_MIN}, 64K`,
    });
  return { memoryBytes: memoryLimitBytes, writeBytesPerSecond };
}

export function pacerFor({ writeBytesPerSecond }: RunLimits): PacerShared | undefined {
  return writeBytesPerSecond === undefined ? undefined : createPacerShared(writeBytesPerSecond);
}

/** What work takes: in all, for each thread, and for each of the buffers of which a thread should have several. */
export interface MemoryNeed {
  readonly fixedBytes: number;
  readonly threadBytes: number;
  readonly bufferBytes: number;
}

export interface MemoryPlan {
  readonly threads: number;
  /** Buffers of each thread. */
  readonly buffers: number;
}

/**
 * As many threads as fit, at most `wanted`, and then as many buffers for each.
 * @param hint what else could be done where not even one thread fits. @throws USAGE, with the least that would do.
 */
export function planMemory(need: MemoryNeed, wanted: MemoryPlan, limits: RunLimits, hint: string): MemoryPlan {
  const limit = limits.memoryBytes ?? Number.POSITIVE_INFINITY;
  for (let threads = wanted.threads; threads >= 1; threads--) {
    for (let buffers = wanted.buffers; buffers >= 1; buffers--) {
      if (neededBytes(need, { threads, buffers }) <= limit) return { threads, buffers };
    }
  }
  const least = Math.ceil(neededBytes(need, { threads: 1, buffers: 1 }) / MIB);
  throw new VmsnapError('USAGE', `a ceiling of ${limit} bytes on memory is too low: this takes ${least} MiB at least`, {
    hint: `--memory ${least}M${hint === '' ? '' : `, or ${hint}`}`,
  });
}

function neededBytes({ fixedBytes, threadBytes, bufferBytes }: MemoryNeed, { threads, buffers }: MemoryPlan): number {
  return PROCESS_BYTES + fixedBytes + threads * (THREAD_BYTES + threadBytes + buffers * bufferBytes);
}

/** What compressing chunks takes in each thread. */
export function compressorBytes({ name, level }: CodecSettings, chunkSize: number): number {
  if (name === 'none') return 0;
  if (name === 'zlib') return ZLIB_BYTES;
  return ZSTD_BYTES + ((level ?? 1) <= ZSTD_PLAIN_LEVEL_MAX ? 0 : ZSTD_TABLES_SHARE * chunkSize);
}

/** The most memory that this process has had so far. Not from getrusage, whose figure survives exec. */
export function peakMemoryBytes(): number {
  const kib = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  return Number(kib ?? 0) * 1024;
}
