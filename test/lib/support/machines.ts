/** Random machines for property tests: memory, how it lies in files, and how it is to be saved. */
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import fc from 'fast-check';
import type { CodecName, RegionOption, SaveOptions } from '../../../lib/index.js';
import { KIB, MIB, makeMemory, PAGE_KINDS, type Run, writeSparse } from './memory.js';
import type { Workspace } from './workspace.js';

export interface Machine {
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly chunkSize: number;
  readonly codec: CodecName;
  readonly level: number | undefined;
  readonly threads: number;
  readonly loadThreads: number;
  readonly seed: number;
  readonly sparse: boolean;
  /** Sizes in pages; one region a size. */
  readonly regionPages: readonly number[];
  /** Of each region: the number of its file, and the bytes of something else before it. */
  readonly places: readonly { readonly file: number; readonly gapBytes: number }[];
  readonly runs: readonly Run[];
}

const POWERS = (from: number, to: number) => {
  const values: number[] = [];
  for (let value = from; value <= to; value *= 2) values.push(value);
  return values;
};

const geometries = fc
  .record({
    pageSize: fc.oneof(
      { weight: 6, arbitrary: fc.constant(4 * KIB) },
      { weight: 2, arbitrary: fc.constantFrom(...POWERS(8 * KIB, MIB)) },
      { weight: 1, arbitrary: fc.constant(2 * MIB) },
    ),
    segment: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(MIB, 2 * MIB, 4 * MIB) },
      { weight: 1, arbitrary: fc.constantFrom(8 * MIB, 64 * MIB) },
    ),
    chunk: fc.constantFrom(...POWERS(4 * KIB, 4 * MIB)),
  })
  .map(({ pageSize, segment, chunk }) => {
    const segmentSize = Math.max(segment, pageSize);
    return { pageSize, segmentSize, chunkSize: Math.min(Math.max(chunk, pageSize), segmentSize) };
  });

const codecs = fc.oneof(
  fc.record({ codec: fc.constant<CodecName>('zstd'), level: fc.constantFrom(undefined, -50, -1, 1, 3, 6) }),
  fc.record({ codec: fc.constant<CodecName>('zlib'), level: fc.constantFrom(undefined, 1, 3, 9) }),
  fc.record({ codec: fc.constant<CodecName>('none'), level: fc.constant(undefined) }),
);

/** Page counts around the borders of segments and leaves, up to 6 MiB in all. */
function regionSizes(pageSize: number, segmentSize: number): fc.Arbitrary<number[]> {
  const most = Math.max(1, Math.floor((6 * MIB) / pageSize));
  const perSegment = segmentSize / pageSize;
  const borders = [perSegment - 1, perSegment, perSegment + 1, MIB / pageSize + 1, 1].filter(
    (pages) => Number.isInteger(pages) && pages >= 1 && pages <= most,
  );
  const pages = fc.oneof(fc.integer({ min: 1, max: Math.ceil(most / 2) }), fc.constantFrom(...borders, 1));
  return fc.array(pages, { minLength: 1, maxLength: 4 });
}

const gaps = fc.oneof(fc.constant(0), fc.constantFrom(512, 4096, 777, 1_048_577));

export const machines: fc.Arbitrary<Machine> = fc.tuple(geometries, codecs).chain(([geometry, codec]) =>
  fc.record({
    pageSize: fc.constant(geometry.pageSize),
    segmentSize: fc.constant(geometry.segmentSize),
    chunkSize: fc.constant(geometry.chunkSize),
    codec: fc.constant(codec.codec),
    level: fc.constant(codec.level),
    threads: fc.integer({ min: 1, max: 4 }),
    loadThreads: fc.integer({ min: 1, max: 4 }),
    seed: fc.integer({ min: 1, max: 1_000_000 }),
    sparse: fc.boolean(),
    regionPages: regionSizes(geometry.pageSize, geometry.segmentSize),
    places: fc.array(fc.record({ file: fc.integer({ min: 0, max: 2 }), gapBytes: gaps }), {
      minLength: 4,
      maxLength: 4,
    }),
    runs: fc.array(
      fc.record({
        kind: fc.constantFrom(...PAGE_KINDS),
        pages: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 200, max: 600 })),
      }),
      { maxLength: 40 },
    ),
  }),
);

/** A machine whose files have been written. */
export interface WrittenMachine {
  readonly memory: Buffer;
  readonly regions: readonly (RegionOption & { readonly memory: Buffer })[];
  readonly saveOptions: SaveOptions;
}

export function writeMachine(machine: Machine, folder: Workspace): WrittenMachine {
  const { pageSize, seed } = machine;
  const sizes = machine.regionPages.map((pages) => pages * pageSize);
  const memory = makeMemory(
    sizes.reduce((sum, size) => sum + size, 0),
    machine.runs,
    pageSize,
    seed,
  );
  const ends = new Map<string, number>();
  let start = 0;
  const regions = sizes.map((sizeBytes, i) => {
    const { file: number, gapBytes } = machine.places[i]!;
    const file = folder.path(`memory-${number}`);
    const fileOffset = (ends.get(file) ?? 0) + gapBytes;
    const bytes = memory.subarray(start, start + sizeBytes);
    if (!ends.has(file)) writeFileSync(file, '');
    writeRegion(file, bytes, fileOffset, machine.sparse);
    ends.set(file, fileOffset + sizeBytes);
    start += sizeBytes;
    return { name: `region-${i}`, sizeBytes, gpa: (i + 1) * 2 ** 33, file, fileOffset, memory: bytes };
  });
  return { memory, regions, saveOptions: saveOptionsOf(machine) };
}

function saveOptionsOf(machine: Machine): SaveOptions {
  const { pageSize, segmentSize, chunkSize, codec, level, threads } = machine;
  return { pageSize, segmentSize, chunkSize, codec, level, threads };
}

/** What stands before the region in its file must not get into the image. */
function writeRegion(file: string, bytes: Buffer, offset: number, sparse: boolean): void {
  const before = readFileSync(file).length;
  if (sparse) writeSparse(file, bytes, offset, 'r+');
  const fd = openSync(file, 'r+');
  try {
    writeSync(fd, Buffer.alloc(offset - before, 0xaa), 0, offset - before, before);
    if (!sparse) writeSync(fd, bytes, 0, bytes.length, offset);
  } finally {
    closeSync(fd);
  }
}
