/** Small images, the same bytes every time, with something of everything in them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { type SaveOptions, save } from '../../../lib/index.js';
import { KIB, MIB, makeMemory, PAGE, type Run } from '../../lib/support/memory.js';
import type { Workspace } from '../../lib/support/workspace.js';

// The time that stands in every image made here. Each test file is a process of its own.
process.env.SOURCE_DATE_EPOCH = '1700000000';

export interface SmallImage {
  readonly bytes: Buffer;
  readonly memory: Buffer;
  readonly identity: string;
  readonly digest: string;
}

/** Two segments of 1 MiB with records, a zero one between, and a short zero one behind. */
export const SMALL_MEMORY_BYTES = 3 * MIB + 64 * KIB;

const SMALL_RUNS: readonly Run[] = [
  { kind: 'zero', pages: 3 },
  { kind: 'text', pages: 3 },
  { kind: 'uniform', pages: 4 },
  { kind: 'zero', pages: 246 + 256 },
  { kind: 'same', pages: 2 },
  { kind: 'uniform', pages: 3 },
];

export function smallMemory(): Buffer {
  return makeMemory(SMALL_MEMORY_BYTES, SMALL_RUNS, PAGE, 7);
}

/** Memory whose image is as small as it gets with every structure in it: pages that shrink to nothing, or hold one byte. */
export function tinyMemory(): Buffer {
  const runs: Run[] = [
    { kind: 'zero', pages: 1 },
    { kind: 'almost', pages: 1 },
    { kind: 'uniform', pages: 2 },
    { kind: 'zero', pages: 252 + 256 },
    { kind: 'zero', pages: 1 },
    { kind: 'almost', pages: 1 },
  ];
  return makeMemory(2 * MIB + 64 * KIB, runs, PAGE, 6);
}

export const ATTACHMENT_TEXT = 'what the machine was made of: one processor, one disk\n'.repeat(20);

/** Saves `memory` as an image of small geometry with one attachment, under fixed names and time, without references. */
export async function smallImage(
  folder: Workspace,
  options: SaveOptions = {},
  memory: Buffer = smallMemory(),
): Promise<SmallImage> {
  const [source, attachment, image] = ['memory.raw', 'machine.txt', 'small.vms'].map((name) => folder.path(name));
  writeFileSync(source!, memory);
  writeFileSync(attachment!, ATTACHMENT_TEXT);
  const { identity, digest } = await save(source, image!, {
    segmentSize: MIB,
    chunkSize: 16 * KIB,
    threads: 1,
    frozen: true,
    force: true,
    references: false,
    attachments: [{ name: 'machine.txt', file: attachment! }],
    ...options,
  });
  return { bytes: readFileSync(image!), memory, identity, digest };
}
