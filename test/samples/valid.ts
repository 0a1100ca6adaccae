/** The valid samples: which memory, saved how. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Encrypter, identityToRecipient } from 'age-encryption';
import { deriveSealKeys, FILE_KEY_BYTES } from '../../formats/vmsnap/seal.js';
import type { NewSeal } from '../../lib/encryption/createSeal.js';
import { type SaveOptions, save } from '../../lib/index.js';
import { RecordImage, type RecordImageOptions } from '../formats/support/recordImage.js';
import { smallImage, smallMemory } from '../formats/support/smallImages.js';
import { KIB, MIB, makeMemory, PAGE } from '../lib/support/memory.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { Workspace } from '../lib/support/workspace.js';
import { sampleKeys, samplePath } from './list.js';

export interface ValidSample {
  readonly name: string;
  readonly memory: () => Buffer;
  readonly options: SaveOptions;
  /** The memory comes through a pipe, so its size is told only at the end. */
  readonly isStream?: boolean;
  /** Written record by record, which no save of raw memory does; `options` are those of the image. */
  readonly records?: { readonly options: Partial<RecordImageOptions>; readonly put: (image: RecordImage) => void };
  /** The committed sample that this one is a difference to. */
  readonly against?: string;
  /** Encrypted for the recipient or with the passphrase of the samples; so not the same bytes each time. */
  readonly encryptedFor?: 'recipient' | 'passphrase';
  /** Several, one of them long. */
  readonly hasAttachments?: boolean;
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
  {
    name: 'references',
    memory: repeatedMemory,
    options: {
      references: true,
      attachments: [],
      regions: [
        { name: 'low', gpa: 0, sizeBytes: MIB + 16 * PAGE },
        { name: 'high', gpa: 2 ** 32, sizeBytes: MIB },
      ],
    },
  },
  { name: 'difference-of-references', memory: laterRepeated, options: { references: true }, against: 'references' },
  { name: 'attachments', memory: () => Buffer.alloc(MIB), options: {}, hasAttachments: true },
  { name: 'difference', memory: () => laterMemory(1), options: {}, against: 'zstd' },
  { name: 'difference-of-difference', memory: () => laterMemory(2), options: { codec: 'zlib' }, against: 'difference' },
  {
    name: 'absent',
    memory: smallMemory,
    options: {},
    records: {
      options: { mayHaveAbsent: true },
      put: putAbsent,
    },
  },
  {
    name: 'overriding',
    memory: smallMemory,
    options: {},
    records: {
      options: { overriding: true },
      put: (image) => {
        image.put(2, smallMemory().subarray(0, MIB));
        image.put(3, makeMemory(64 * KIB, [{ kind: 'text', pages: 2 }]));
        image.put(0, smallMemory().subarray(0, MIB));
        image.put(2, smallMemory().subarray(2 * MIB, 3 * MIB));
        image.put(3, Buffer.alloc(64 * KIB));
      },
    },
  },
  { name: 'encrypted', memory: smallMemory, options: {}, encryptedFor: 'recipient' },
  // As like the one before as two images can be, under another file key.
  { name: 'encrypted-twin', memory: smallMemory, options: {}, encryptedFor: 'recipient' },
  {
    name: 'encrypted-difference',
    memory: () => laterMemory(1),
    options: {},
    against: 'encrypted',
    encryptedFor: 'recipient',
  },
  {
    name: 'encrypted-difference-of-plain',
    memory: () => laterMemory(1),
    options: { codec: 'zlib' },
    against: 'zstd',
    encryptedFor: 'recipient',
  },
  {
    name: 'encrypted-references',
    memory: repeatedMemory,
    options: { references: true },
    hasAttachments: true,
    encryptedFor: 'recipient',
  },
  {
    name: 'encrypted-none',
    memory: () => makeMemory(2 * MIB, [{ kind: 'text', pages: 1 }]),
    options: { codec: 'none', attachments: [] },
    encryptedFor: 'recipient',
  },
  {
    name: 'encrypted-passphrase',
    memory: smallMemory,
    options: {},
    encryptedFor: 'passphrase',
    records: { options: { mayHaveAbsent: true }, put: putAbsent },
  },
];

function putAbsent(image: RecordImage): void {
  image.put(0, smallMemory().subarray(0, MIB), [0, 1]);
  image.put(1, Buffer.alloc(MIB), Array.from({ length: MIB / PAGE }, (_, page) => page));
  image.put(2, smallMemory().subarray(2 * MIB, 3 * MIB));
  image.put(3, Buffer.alloc(64 * KIB), [15]);
}

/** The memory of `zstd` some time later: pages that changed, became zero, became uniform, and a whole segment that did. */
function laterMemory(times: number): Buffer {
  const memory = smallMemory();
  for (let time = 1; time <= times; time++) {
    memory.fill(`written at the time ${time}; `, 4 * PAGE, (4 + time) * PAGE);
    memory.fill(0, 8 * PAGE, (8 + time) * PAGE);
    memory.fill(0x11 * time, 2 * MIB + time * PAGE, 2 * MIB + (time + 1) * PAGE);
  }
  return memory;
}

/**
 * Segment 0: 6 different pages and a uniform one. Segment 1, the last and short one of its region: pages 0 to 2 of segment 0 again,
 * then 2 of its own, then page 4. Segment 2, in another region: page 4 of segment 0, a page of segment 1, a page of its own, and that again.
 */
function repeatedMemory(): Buffer {
  const memory = Buffer.alloc(2 * MIB + 16 * PAGE);
  const text = makeMemory(10 * PAGE, [{ kind: 'text', pages: 10 }], PAGE, 40);
  const put = (segment: number, page: number, what: number) =>
    text.copy(memory, (segment === 2 ? MIB + 16 * PAGE : segment * MIB) + page * PAGE, what * PAGE, (what + 1) * PAGE);
  for (let page = 0; page < 6; page++) put(0, page, page);
  memory.fill(0x77, 8 * PAGE, 9 * PAGE);
  for (const [page, what] of [0, 1, 2, 6, 7, 4].entries()) put(1, page, what);
  for (const [page, what] of [4, 7, 8, 8].entries()) put(2, page, what);
  return memory;
}

/** Some time later: a new page twice, and an old one, which only the base has, in another place. */
function laterRepeated(): Buffer {
  const memory = repeatedMemory();
  for (const page of [1, 12]) memory.fill('written some time later; ', page * PAGE, (page + 1) * PAGE);
  memory.copy(memory, 14 * PAGE, 5 * PAGE, 6 * PAGE);
  return memory;
}

/** Makes a sample anew. */
export async function makeValid(
  sample: ValidSample,
): Promise<{ bytes: Buffer; memory: Buffer; identity: string; digest: string }> {
  const folder = new Workspace(mkdtempSync(join(tmpdir(), 'vmsnap-sample-')));
  try {
    const memory = sample.memory();
    if (sample.records !== undefined) return { memory, ...(await writeRecords(folder, memory, sample)) };
    if (sample.isStream === true) return { memory, ...(await saveFromPipe(folder, memory, sample.options)) };
    const options = { ...sample.options, ...attachmentsOf(sample, folder), ...baseOf(sample), ...(await encryptionOf(sample)) };
    return await smallImage(folder, options, memory);
  } finally {
    rmSync(folder.folder, { recursive: true });
  }
}

async function writeRecords(folder: Workspace, memory: Buffer, { records, encryptedFor }: ValidSample) {
  const { options, put } = records!;
  const seal = encryptedFor === undefined ? undefined : await passphraseSeal();
  const path = folder.path('image.vms');
  const regions = [{ name: 'ram', gpa: 0, sizeBytes: memory.length }];
  const image = new RecordImage(path, { regions, codec: { name: 'zstd', level: 1 }, seal, ...options });
  put(image);
  const { identity, digest } = image.finish();
  return { bytes: readFileSync(path), identity, digest };
}

/** As a save makes it, but with little work for scrypt: a save's passphrase takes a reader a second. */
async function passphraseSeal(): Promise<NewSeal> {
  const encrypter = new Encrypter();
  encrypter.setPassphrase(sampleKeys().passphrase!);
  encrypter.setScryptWorkFactor(10);
  const fileKey = randomBytes(FILE_KEY_BYTES);
  return { keys: deriveSealKeys(fileKey), wrappedKey: Buffer.from(await encrypter.encrypt(fileKey)) };
}

async function encryptionOf({ encryptedFor }: ValidSample): Promise<SaveOptions> {
  if (encryptedFor === undefined) return {};
  const recipients = await Promise.all(sampleKeys().identities!.map(identityToRecipient));
  return { encryption: { recipients }, keys: sampleKeys() };
}

function baseOf({ against }: ValidSample): SaveOptions {
  return against === undefined ? {} : { base: samplePath('valid', against) };
}

function attachmentsOf(sample: ValidSample, folder: Workspace): SaveOptions {
  if (sample.hasAttachments !== true) return {};
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
