/**
 * `bench`: what vmsnap does on this machine, in tables. Everything is written into a folder of its own, which is removed
 * whatever happens.
 */
import { accessSync, constants, mkdtempSync, statSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { VmsnapError, wrapSystemError } from '../../native/errors.js';
import { removeTree } from '../files/remove.js';
import { checkThreads } from '../options.js';
import { defaultThreads } from '../threads.js';
import { version } from '../version.js';
import { type MemoryKind, writeMemory } from './memory.js';
import type { RoundSettings } from './rounds.js';
import { benchCodecs, benchShare, benchZeros, type SaveBenchSettings, type ScanCost } from './saves.js';
import { type BenchDevice, benchCompare, benchScan, cpuDetectors, openBenchDevice } from './scan.js';
import { BENCH_TABLES, type BenchOptions, type BenchReport, type BenchTable, type ScanReport } from './types.js';

const MIB = 1024 * 1024;
const STEP_BYTES = 4 * MIB;
const LEAST_BYTES = 16 * MIB;
const DEFAULT_BYTES = 512 * MIB;
const DEFAULT_ROUNDS = 3;
const ROUNDS_MAX = 100;
const SHARE_FACTORS = [1, 4, 16];
const REGIONS_MAX = 65_535;

/**
 * Measures this machine: scan speed of every detector, saves and loads with every codec, saves of half zero and all zero memory,
 * the share of the zero check in a whole save, the CPU against DSA. Takes about a minute, five times the size in room.
 * @throws VmsnapError (USAGE, NO_SPACE, NOT_FOUND ...), or the signal's reason.
 */
export async function bench(options: BenchOptions = {}): Promise<BenchReport> {
  const plan = checkBenchOptions(options);
  const folder = makeFolder(plan.folder);
  const device = openBenchDevice();
  try {
    return await new Bench(plan, folder, device).run();
  } finally {
    device?.device.close();
    removeTree(folder);
  }
}

interface BenchPlan {
  readonly source: string | undefined;
  /** Of SOURCE, or of what is made up. */
  readonly memoryBytes: number;
  /** Of the zero memory. */
  readonly sizeBytes: number;
  readonly folder: string;
  readonly rounds: number;
  readonly threads: number;
  readonly tables: readonly BenchTable[];
  readonly shareSizesBytes: readonly number[];
  readonly signal: AbortSignal | undefined;
  readonly onStep: NonNullable<BenchOptions['onStep']>;
}

function usage(message: string, hint?: string): VmsnapError {
  return new VmsnapError('USAGE', message, { hint });
}

function checkBenchOptions(options: BenchOptions): BenchPlan {
  const { source, sizeBytes = DEFAULT_BYTES, rounds = DEFAULT_ROUNDS, tables = BENCH_TABLES } = options;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < LEAST_BYTES || sizeBytes % STEP_BYTES !== 0) {
    throw usage(`a size of ${sizeBytes} bytes is not possible`, 'a multiple of 4 MiB, 16 MiB or more');
  }
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX) {
    throw usage(`${rounds} rounds are not possible; choose 1 to ${ROUNDS_MAX}`);
  }
  const unknown = tables.find((table) => !BENCH_TABLES.includes(table));
  if (unknown !== undefined) throw usage(`there is no table "${unknown}"`, `choose of ${BENCH_TABLES.join(', ')}`);
  const memoryBytes = source === undefined ? sizeBytes : sourceBytes(source);
  return {
    source,
    memoryBytes,
    sizeBytes,
    folder: options.folder ?? defaultFolder(),
    rounds,
    threads: checkThreads(options.threads),
    tables,
    shareSizesBytes: checkShareSizes(options.shareSizesBytes, memoryBytes),
    signal: options.signal,
    onStep: options.onStep ?? (() => undefined),
  };
}

function sourceBytes(source: string): number {
  try {
    const stats = statSync(source);
    if (stats.isFile() && stats.size > 0) return stats.size;
  } catch (error) {
    throw wrapSystemError(error, 'look at', source);
  }
  throw usage(`${source} is no file with memory in it`, 'name a raw memory file');
}

function checkShareSizes(sizes: readonly number[] | undefined, memoryBytes: number): readonly number[] {
  if (sizes === undefined) return SHARE_FACTORS.map((factor) => factor * memoryBytes);
  const wrong = sizes.find(
    (size) => size < memoryBytes || size % memoryBytes !== 0 || size / memoryBytes > REGIONS_MAX,
  );
  if (wrong === undefined && sizes.length > 0) return sizes;
  throw usage(
    `a size of ${wrong ?? 'nothing'} is not possible for the table "share"`,
    `a multiple of the memory, ${memoryBytes} bytes, at most ${REGIONS_MAX} times`,
  );
}

function defaultFolder(): string {
  try {
    accessSync('/dev/shm', constants.W_OK);
    return '/dev/shm';
  } catch {
    return tmpdir();
  }
}

function makeFolder(parent: string): string {
  try {
    return mkdtempSync(join(parent, 'vmsnap-bench-'));
  } catch (error) {
    throw wrapSystemError(error, 'make a folder in', parent);
  }
}

class Bench {
  readonly #plan: BenchPlan;
  readonly #folder: string;
  readonly #device: BenchDevice | undefined;
  readonly #files = new Map<MemoryKind, string>();

  constructor(plan: BenchPlan, folder: string, device: BenchDevice | undefined) {
    this.#plan = plan;
    this.#folder = folder;
    this.#device = device;
  }

  async run(): Promise<BenchReport> {
    const { source, memoryBytes, folder, rounds, threads } = this.#plan;
    const scan = this.#wants('scan') || this.#wants('share') ? await this.#scan() : undefined;
    return {
      machine: {
        processor: cpus()[0]?.model.trim() ?? 'unknown',
        threads: defaultThreads(),
        memoryBytes: totalmem(),
        kernel: release(),
        node: process.version,
        vmsnap: version,
      },
      setup: { source, memoryBytes, folder, rounds, threads },
      scan: this.#wants('scan') ? scan : undefined,
      codecs: this.#wants('codecs')
        ? await benchCodecs(this.#memory(), memoryBytes, this.#settings('codecs'))
        : undefined,
      zeros: this.#wants('zeros') ? await this.#zeros() : undefined,
      share: this.#wants('share') ? await this.#share(scan!) : undefined,
      compare: this.#wants('compare')
        ? await benchCompare(this.#file('all zero'), this.#device, this.#rounds('compare'))
        : undefined,
    };
  }

  #wants(table: BenchTable): boolean {
    return this.#plan.tables.includes(table);
  }

  #rounds(table: BenchTable): RoundSettings {
    const { rounds, signal, onStep } = this.#plan;
    return { rounds, signal, onStep: (what, round) => onStep({ table, what, round, rounds }) };
  }

  #settings(table: BenchTable): SaveBenchSettings {
    return { ...this.#rounds(table), threads: this.#plan.threads, folder: this.#folder };
  }

  /** Made when it is first wanted. */
  #file(kind: MemoryKind): string {
    const known = this.#files.get(kind);
    if (known !== undefined) return known;
    const path = join(this.#folder, kind.replace(' ', '-'));
    writeMemory(path, kind, this.#plan.sizeBytes, this.#plan.signal);
    this.#files.set(kind, path);
    return path;
  }

  #memory(): string {
    return this.#plan.source ?? this.#file('mixed');
  }

  #scan(): Promise<ScanReport> {
    return benchScan(this.#file('all zero'), this.#device, this.#rounds('scan'));
  }

  #zeros() {
    const kinds = ['half zero', 'all zero'] as const;
    const files = new Map(kinds.map((kind) => [kind, this.#file(kind)]));
    const detectors = [...cpuDetectors(), ...(this.#device === undefined ? [] : [this.#device.name])];
    return benchZeros(files, this.#plan.sizeBytes, detectors, this.#settings('zeros'));
  }

  #share(scan: ScanReport) {
    const { memoryBytes, shareSizesBytes } = this.#plan;
    const best = scan.detectors[0]!;
    const cost: ScanCost = {
      checkSecondsPerByte: best.memoryCpuSecondsPerGigabyte! / 1e9,
      readAndCheckSecondsPerByte: best.fileCpuSecondsPerGigabyte / 1e9,
    };
    return benchShare(this.#memory(), memoryBytes, shareSizesBytes, cost, this.#settings('share'));
  }
}
