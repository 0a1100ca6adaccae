/** Whole saves and loads: what codecs and levels give, what zero memory costs, and what of a save goes into finding it. */
import { join } from 'node:path';
import { removeFile } from '../files/remove.js';
import { load } from '../load.js';
import { save } from '../save.js';
import type { CodecName, DetectorName, RegionOption, SaveOptions, SaveResult } from '../types.js';
import type { MemoryKind } from './memory.js';
import { median, type RoundSettings, runRounds, type Taken, take, type Variant } from './rounds.js';
import type { CodecRow, ShareRow, ZerosRow } from './types.js';

const CODECS: readonly (readonly [CodecName, number | undefined])[] = [
  ['none', undefined],
  ['zstd', -1],
  ['zstd', 1],
  ['zstd', 3],
  ['zstd', 9],
  ['zlib', 1],
  ['zlib', 6],
];

export interface SaveBenchSettings extends RoundSettings {
  readonly threads: number;
  /** For images and targets, removed again after each run. */
  readonly folder: string;
}

interface SaveTaken extends Taken {
  readonly result: SaveResult;
}

export async function benchCodecs(
  source: string,
  memoryBytes: number,
  settings: SaveBenchSettings,
): Promise<CodecRow[]> {
  const variants = CODECS.map(([codec, level]) => codecVariant(source, codec, level, settings));
  const results = await runRounds(variants, settings);
  return CODECS.map(([codec, level], i) => {
    const runs = results[i]!;
    const saveSeconds = median(runs.map((run) => run.saved.seconds));
    const loadSeconds = median(runs.map((run) => run.loaded.seconds));
    return {
      codec,
      level,
      saveSeconds,
      saveBytesPerSecond: memoryBytes / saveSeconds,
      saveCpuSeconds: median(runs.map((run) => run.saved.cpuSeconds)),
      imageBytes: runs[0]!.saved.result.imageBytes,
      loadSeconds,
      loadBytesPerSecond: memoryBytes / loadSeconds,
      loadCpuSeconds: median(runs.map((run) => run.loaded.cpuSeconds)),
    };
  });
}

interface SavedAndLoaded {
  readonly saved: SaveTaken;
  readonly loaded: Taken;
}

function codecVariant(
  source: string,
  codec: CodecName,
  level: number | undefined,
  settings: SaveBenchSettings,
): Variant<SavedAndLoaded> {
  const { folder, threads, signal } = settings;
  return {
    what: level === undefined ? codec : `${codec} ${level}`,
    run: async () => {
      const image = join(folder, 'image');
      const target = join(folder, 'target');
      try {
        const saved = await timedSave(source, image, { codec, level, threads, signal });
        const loaded = await take(() => load(image, target, { threads, signal }));
        return { saved, loaded };
      } finally {
        for (const path of [image, target]) removeFile(path);
      }
    },
  };
}

/** `files`: memory of each kind. `device`: 'dsa' or 'dsa-emulated', where one of them can be used. */
export async function benchZeros(
  files: ReadonlyMap<ZerosRow['memory'] & MemoryKind, string>,
  memoryBytes: number,
  detectors: readonly string[],
  settings: SaveBenchSettings,
): Promise<ZerosRow[]> {
  const cases = [...files].flatMap(([memory, path]) => detectors.map((detector) => ({ memory, path, detector })));
  const variants = cases.map(
    ({ memory, path, detector }): Variant<SaveTaken> => ({
      what: `${memory}, ${detector}`,
      run: () => saveOnly(path, settings, { detector: detector as DetectorName }),
    }),
  );
  const results = await runRounds(variants, settings);
  return cases.map(({ memory, detector }, i) => {
    const runs = results[i]!;
    const seconds = median(runs.map((run) => run.seconds));
    const cpuSeconds = median(runs.map((run) => run.cpuSeconds));
    const { run, imageBytes } = runs[0]!.result;
    return {
      memory,
      detector,
      seconds,
      bytesPerSecond: memoryBytes / seconds,
      cpuSeconds,
      cpuSecondsPerThread: cpuSeconds / run.threads,
      writtenBytes: imageBytes,
      emulated: run.dsa?.emulated ?? false,
    };
  });
}

/** CPU time of one thread for a byte, of the best detector of the CPU: at hand, and in a file. */
export interface ScanCost {
  readonly checkSecondsPerByte: number;
  readonly readAndCheckSecondsPerByte: number;
}

/** Each size is a machine whose regions are the one file again and again: all but the first would be duplicates, so none are looked for. */
export async function benchShare(
  source: string,
  memoryBytes: number,
  sizesBytes: readonly number[],
  cost: ScanCost,
  settings: SaveBenchSettings,
): Promise<ShareRow[]> {
  const variants = sizesBytes.map(
    (sizeBytes): Variant<SaveTaken> => ({
      what: `${sizeBytes} bytes`,
      run: () =>
        saveOnly(undefined, settings, { regions: repeated(source, memoryBytes, sizeBytes), references: false }),
    }),
  );
  const results = await runRounds(variants, settings);
  return sizesBytes.map((sizeBytes, i) => {
    const runs = results[i]!;
    const seconds = median(runs.map((run) => run.seconds));
    const cpuSeconds = median(runs.map((run) => run.cpuSeconds));
    return {
      memoryBytes: sizeBytes,
      seconds,
      bytesPerSecond: sizeBytes / seconds,
      cpuSeconds,
      imageBytes: runs[0]!.result.imageBytes,
      checkShare: (sizeBytes * cost.checkSecondsPerByte) / cpuSeconds,
      readAndCheckShare: (sizeBytes * cost.readAndCheckSecondsPerByte) / cpuSeconds,
    };
  });
}

function repeated(file: string, fileBytes: number, sizeBytes: number): RegionOption[] {
  return Array.from({ length: sizeBytes / fileBytes }, (_, i) => ({
    name: `ram${i}`,
    sizeBytes: fileBytes,
    gpa: i * fileBytes,
    file,
    fileOffset: 0,
  }));
}

async function saveOnly(
  source: string | undefined,
  { folder, threads, signal }: SaveBenchSettings,
  options: SaveOptions,
): Promise<SaveTaken> {
  const image = join(folder, 'image');
  try {
    return await timedSave(source, image, { threads, signal, ...options });
  } finally {
    removeFile(image);
  }
}

/** What the emulator computes, a real device would: it is taken off the CPU time. */
async function timedSave(source: string | undefined, image: string, options: SaveOptions): Promise<SaveTaken> {
  const taken = await take(() => save(source, image, { ...options, frozen: true }));
  const emulator = taken.result.run.dsa?.times.emulatorCpuSeconds ?? 0;
  return { ...taken, cpuSeconds: taken.cpuSeconds - emulator };
}
