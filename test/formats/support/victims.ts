/** Images to be damaged: one for each codec and each feature of the format, small, with everything known about them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { type CodecName, type SaveOptions, save } from '../../../lib/index.js';
import { KIB, MIB, mixedMemory, PAGE } from '../../lib/support/memory.js';
import type { Workspace } from '../../lib/support/workspace.js';
import { RecordImage } from './recordImage.js';

export interface Victim {
  readonly name: string;
  readonly image: Buffer;
  readonly memory: Buffer;
  /** File name and bytes of the base, if it has one. */
  readonly base: { readonly name: string; readonly image: Buffer } | undefined;
  /** Its segments may have several records: without a sound index it is refused. */
  readonly overriding: boolean;
}

export const VICTIM_REGIONS = [
  { name: 'low', gpa: 0, sizeBytes: 3 * MIB },
  { name: 'high', gpa: 2 ** 32, sizeBytes: 2 * MIB + 64 * KIB },
];
const MEMORY_BYTES = 5 * MIB + 64 * KIB;
const GEOMETRY: SaveOptions = { segmentSize: MIB, chunkSize: 16 * KIB, threads: 1, frozen: true, force: true };

process.env.SOURCE_DATE_EPOCH = '1700000000';

/** Data in segments 0, 1, 3 and the short last one; segment 2 and 4 have no record. */
export function victimMemory(seed = 1): Buffer {
  const memory = Buffer.alloc(MEMORY_BYTES);
  for (const [at, bytes] of [
    [0, 200 * KIB],
    [MIB + 300 * KIB, 120 * KIB],
    [3 * MIB + 900 * KIB, 124 * KIB],
    [5 * MIB + 8 * KIB, 40 * KIB],
  ] as const)
    mixedMemory(bytes, seed + at / KIB).copy(memory, at);
  return memory;
}

export async function codecVictim(folder: Workspace, codec: CodecName, seed = 1): Promise<Victim> {
  const memory = victimMemory(seed);
  const [source, attached, image] = ['memory', 'attached', `${codec}-${seed}.vms`].map((name) => folder.path(name));
  writeFileSync(source!, memory);
  writeFileSync(attached!, 'what the machine was made of\n'.repeat(300));
  const attachments = [{ name: 'machine', file: attached! }];
  await save(source, image!, { ...GEOMETRY, codec, regions: VICTIM_REGIONS, attachments });
  return { name: `codec ${codec}`, image: readFileSync(image!), memory, base: undefined, overriding: false };
}

export async function differentialVictim(folder: Workspace): Promise<Victim> {
  const base = await codecVictim(folder, 'zstd', 1);
  const memory = Buffer.from(base.memory);
  for (let at = 0; at < 200 * KIB; at += 3 * PAGE) memory.writeUInt32LE(at + 1, at + 100);
  mixedMemory(60 * KIB, 99).copy(memory, 4 * MIB + 4 * KIB);
  memory.fill(0, MIB + 300 * KIB, MIB + 340 * KIB);
  const [source, basePath, image] = ['changed', 'base.vms', 'diff.vms'].map((name) => folder.path(name));
  writeFileSync(source!, memory);
  writeFileSync(basePath!, base.image);
  const { threads, frozen, force, chunkSize } = GEOMETRY;
  await save(source, image!, {
    threads,
    frozen,
    force,
    chunkSize,
    codec: 'zlib',
    base: basePath!,
    regions: VICTIM_REGIONS,
  });
  const bytes = readFileSync(image!);
  return { name: 'base', image: bytes, memory, base: { name: 'base.vms', image: base.image }, overriding: false };
}

/** Duplicates within their segment, in another one, and in another region. */
export async function referencesVictim(folder: Workspace): Promise<Victim> {
  const memory = victimMemory(3);
  memory.copy(memory, 3 * MIB + 100 * KIB, 0, 64 * KIB);
  memory.copy(memory, MIB + 600 * KIB, MIB + 300 * KIB, MIB + 340 * KIB);
  memory.copy(memory, 5 * MIB + 8 * KIB, 20 * KIB, 32 * KIB);
  const [source, image] = ['duplicates', 'references.vms'].map((name) => folder.path(name));
  writeFileSync(source!, memory);
  const { pages } = await save(source, image!, { ...GEOMETRY, regions: VICTIM_REGIONS });
  if (pages.reference === 0) throw new Error('an image without references');
  return { name: 'references', image: readFileSync(image!), memory, base: undefined, overriding: false };
}

export function absentVictim(folder: Workspace): Victim {
  const memory = victimMemory(5);
  const absent = [0, 1, 9, 30];
  for (const page of absent) memory.fill(0, page * PAGE, (page + 1) * PAGE);
  const path = folder.path('absent.vms');
  const image = new RecordImage(path, { regions: VICTIM_REGIONS, mayHaveAbsent: true });
  image.put(0, memory.subarray(0, MIB), absent);
  image.put(1, memory.subarray(MIB, 2 * MIB));
  image.put(3, memory.subarray(3 * MIB, 4 * MIB));
  image.put(5, memory.subarray(5 * MIB));
  image.finish();
  return { name: 'absent', image: readFileSync(path), memory, base: undefined, overriding: false };
}

export function overridingVictim(folder: Workspace): Victim {
  const memory = victimMemory(6);
  const path = folder.path('overriding.vms');
  const image = new RecordImage(path, { regions: VICTIM_REGIONS, overriding: true, codec: { name: 'zstd', level: 1 } });
  image.put(3, mixedMemory(MIB, 8));
  image.put(0, victimMemory(7).subarray(0, MIB));
  image.put(5, memory.subarray(5 * MIB));
  image.put(0, memory.subarray(0, MIB));
  image.put(3, memory.subarray(3 * MIB, 4 * MIB));
  image.put(1, memory.subarray(MIB, 2 * MIB));
  image.finish();
  return { name: 'overriding', image: readFileSync(path), memory, base: undefined, overriding: true };
}

export async function allVictims(folder: Workspace): Promise<Victim[]> {
  return [
    await codecVictim(folder, 'zstd'),
    await codecVictim(folder, 'zlib'),
    await codecVictim(folder, 'none'),
    await differentialVictim(folder),
    await referencesVictim(folder),
    absentVictim(folder),
    overridingVictim(folder),
  ];
}

export interface LostRange {
  readonly region: string;
  readonly offset: number;
  readonly length: number;
}

/**
 * What is wrong with salvaged memory: a byte that is neither as it was saved nor told to be lost, or told to be lost and no
 * zero; undefined if nothing is.
 */
export function salvageFault(found: Buffer, memory: Buffer, lost: readonly LostRange[]): string | undefined {
  if (found.length !== memory.length) return `${found.length} bytes, not ${memory.length}`;
  const expected = Buffer.from(memory);
  const starts = new Map([
    [VICTIM_REGIONS[0]!.name, 0],
    [VICTIM_REGIONS[1]!.name, VICTIM_REGIONS[0]!.sizeBytes],
  ]);
  for (const { region, offset, length } of lost)
    expected.fill(0, starts.get(region)! + offset, starts.get(region)! + offset + length);
  if (found.equals(expected)) return undefined;
  const at = found.findIndex((byte, i) => byte !== expected[i]);
  return `wrong byte at ${at}`;
}
