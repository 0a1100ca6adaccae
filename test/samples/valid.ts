/** The valid samples: which memory, saved how. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type SaveOptions, save } from '../../lib/index.js';
import { smallImage, smallMemory } from '../formats/support/smallImages.js';
import { KIB, MIB, makeMemory, PAGE } from '../lib/support/memory.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { Workspace } from '../lib/support/workspace.js';

export interface ValidSample {
  readonly name: string;
  readonly memory: () => Buffer;
  readonly options: SaveOptions;
  /** The memory comes through a pipe, so its size is told only at the end. */
  readonly isStream?: boolean;
}

const ATTACHED = Buffer.from('an attachment that goes on over several parts, and shrinks to nothing. '.repeat(130_000));

export const VALID: readonly ValidSample[] = [
  { name: 'zstd', memory: smallMemory, options: {} },
  { name: 'zlib', memory: smallMemory, options: { codec: 'zlib', level: 6 } },
  {
    name: 'stored-chunk',
    memory: () =>
      makeMemory(MIB, [
        { kind: 'zero', pages: 9 },
        { kind: 'random', pages: 1 },
        { kind: 'text', pages: 3 },
      ]),
    options: { chunkSize: 4 * KIB, attachments: [] },
  },
  {
    name: 'none',
    memory: () => makeMemory(2 * MIB, [{ kind: 'text', pages: 1 }]),
    options: { codec: 'none', attachments: [] },
  },
  {
    name: 'uniform',
    memory: () =>
      makeMemory(MIB + 32 * KIB, [
        { kind: 'uniform', pages: 3 },
        { kind: 'zero', pages: 9 },
        { kind: 'uniform', pages: 252 },
      ]),
    options: { attachments: [] },
  },
  { name: 'zero', memory: () => Buffer.alloc(5 * MIB), options: { attachments: [] } },
  {
    name: 'regions',
    memory: smallMemory,
    options: {
      attachments: [],
      name: 'sample',
      uuid: '6f1c1e0e-6a38-4f5e-9a55-0d0a7a7c0001',
      labels: { purpose: 'sample', ключ: 'значение' },
      regions: [
        { name: 'low', gpa: 0, sizeBytes: 640 * KIB },
        { name: 'ram', gpa: MIB, sizeBytes: 2 * MIB },
        { name: 'high', gpa: 2 ** 32, sizeBytes: 448 * KIB },
      ],
    },
  },
  {
    name: 'pages-64k',
    memory: () =>
      makeMemory(
        3 * MIB,
        [
          { kind: 'text', pages: 2 },
          { kind: 'zero', pages: 20 },
          { kind: 'uniform', pages: 5 },
        ],
        64 * KIB,
      ),
    options: { pageSize: 64 * KIB, chunkSize: 64 * KIB, attachments: [] },
  },
  {
    name: 'stream',
    memory: () =>
      makeMemory(2 * MIB + 5 * PAGE, [
        { kind: 'text', pages: 6 },
        { kind: 'zero', pages: 250 },
        { kind: 'text', pages: 2 },
      ]),
    options: { attachments: [] },
    isStream: true,
  },
  { name: 'attachments', memory: () => Buffer.alloc(MIB), options: {} },
];

/** Makes a sample anew. */
export async function makeValid(
  sample: ValidSample,
): Promise<{ bytes: Buffer; memory: Buffer; identity: string; digest: string }> {
  const folder = new Workspace(mkdtempSync(join(tmpdir(), 'vmsnap-sample-')));
  try {
    const memory = sample.memory();
    if (sample.isStream === true) return { memory, ...(await saveFromPipe(folder, memory, sample.options)) };
    return await smallImage(folder, { ...sample.options, ...attachmentsOf(sample, folder) }, memory);
  } finally {
    rmSync(folder.folder, { recursive: true });
  }
}

function attachmentsOf(sample: ValidSample, folder: Workspace): SaveOptions {
  if (sample.name !== 'attachments') return {};
  const files = [
    ['long.txt', ATTACHED],
    ['empty', Buffer.alloc(0)],
    ['short-ü.txt', Buffer.from('short')],
  ] as const;
  for (const [name, bytes] of files) writeFileSync(folder.path(name), bytes);
  return { attachments: files.map(([name]) => ({ name, file: folder.path(name) })) };
}

async function saveFromPipe(folder: Workspace, memory: Buffer, options: SaveOptions) {
  const [source, pipe, image] = ['memory.raw', 'pipe', 'image.vms'].map((name) => folder.path(name));
  writeFileSync(source!, memory);
  makeFifo(pipe!);
  const [{ identity, digest }] = await Promise.all([
    save(pipe, image!, { segmentSize: MIB, chunkSize: 16 * KIB, threads: 1, ...options }),
    cat(source!, pipe!),
  ]);
  return { bytes: readFileSync(image!), identity, digest };
}
