/** kdump files that the test makes, as they are and flattened: every codec, what is absent, and every hazard. */
import { readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { FrameRuns } from '../../formats/kdump/frameRuns.js';
import { extract, inspect, save } from '../../lib/index.js';
import { failsWith, sameBytes } from '../lib/support/expect.js';
import { mixedMemory, PAGE } from '../lib/support/memory.js';
import { hasPythonModule, libkdumpfile } from '../lib/support/memoryReaders.js';
import { onProbe } from '../lib/support/privileged.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { FLAT_END, flatRecords, type KdumpOptions, makeFlattened, makeKdump } from './support/dumps.js';
import { readMemory, saveAndLoad, withMemoryFile } from './support/foreignFiles.js';

const MEMORY = mixedMemory(600 * PAGE, 9);

function pagesOf(memory: Buffer, pageBytes = PAGE): Buffer[] {
  return Array.from({ length: memory.length / pageBytes }, (_, i) =>
    memory.subarray(i * pageBytes, (i + 1) * pageBytes),
  );
}

const whole = (options: KdumpOptions = {}) => makeKdump(pagesOf(MEMORY, options.blockBytes), options);

const SHAPES: readonly KdumpOptions[] = [
  { codec: 'zlib' },
  { codec: 'zstd' },
  { codec: 'snappy' },
  { codec: 'none', dirtyPadding: true },
  { codec: 'zlib', bits: 32 },
  { codec: 'zlib', bits: 32, version: 5 },
  { codec: 'zstd', version: 5 },
  { codec: 'zlib', blockBytes: 16_384 },
];

for (const shape of SHAPES) {
  test(`comes back byte for byte: ${JSON.stringify(shape)}`, async (t) => {
    sameBytes(t, await saveAndLoad(t, workspace(t), whole(shape)), MEMORY);
  });
}

// No program of Debian writes snappy and zstd: that the files made here are what the format says, another reader of it must find.
for (const codec of ['zlib', 'zstd', 'snappy', 'none'] as const) {
  onProbe(() => hasPythonModule('kdumpfile'))(`libkdumpfile reads what is made here in ${codec}`, (t) => {
    const path = workspace(t).path('dump');
    writeFileSync(path, makeKdump(pagesOf(MEMORY), { codec }));
    const [at, length] = [7 * PAGE, 40 * PAGE];
    sameBytes(t, libkdumpfile(path, at, length), MEMORY.subarray(at, at + length));
  });
}

test('a 32-bit dump whose page frames are as many as a block has bytes', async (t) => {
  const memory = mixedMemory(4096 * PAGE, 2);
  const dump = makeKdump(pagesOf(memory), { bits: 32, codec: 'none' });
  sameBytes(t, await saveAndLoad(t, workspace(t), dump), memory);
});

test('excluded pages are absent, and what is no memory parts the regions', async (t) => {
  const files = workspace(t);
  const isExcluded = (page: number) => page % 7 === 3;
  // 100 pages from page frame 600 on, 500 from 32,600 on: beyond 32 Ki frames the rank table has a second entry.
  const pages: (Buffer | 'excluded' | undefined)[] = Array(33_100).fill(undefined);
  for (const [i, page] of pagesOf(MEMORY).entries()) {
    pages[i < 100 ? 600 + i : 32_500 + i] = isExcluded(i) ? 'excluded' : page;
  }
  writeFileSync(files.path('dump'), makeKdump(pages, { dumpLevel: 31 }));
  const excluded = [...Array(600).keys()].filter(isExcluded);
  const expected = Buffer.from(MEMORY);
  for (const page of excluded) expected.fill(0, page * PAGE, (page + 1) * PAGE);
  const regions = withMemoryFile(files.path('dump'), (file) => {
    t.deepEqual(file.countPages?.(), { stored: 600 - excluded.length, zero: undefined, absent: excluded.length });
    return readMemory(file, 2 ** 20);
  });
  t.deepEqual(
    regions.map(({ gpa, bytes }) => [gpa! / PAGE, bytes.length / PAGE]),
    [
      [600, 100],
      [32_600, 500],
    ],
  );
  sameBytes(t, Buffer.concat(regions.map(({ bytes }) => bytes)), expected);
  const absent = [...regions[0]!.absent, ...regions[1]!.absent.map((page) => page + 100)];
  t.deepEqual(absent, excluded);
  await save(files.path('dump'), files.path('image'));
  t.is((await inspect(files.path('image'))).memory.pages?.absent, excluded.length);
});

test('more runs of memory than an image can have regions: those with the smallest gaps are joined', (t) => {
  const runs = new FrameRuns(3);
  for (const [first, end] of [
    [0, 1],
    [2, 3],
    [10, 11],
    [100, 101],
    [102, 110],
  ])
    runs.add(first!, end!);
  t.deepEqual(runs.runs, [
    { first: 0, end: 3 },
    { first: 10, end: 11 },
    { first: 100, end: 110 },
  ]);
});

test('notes and VMCOREINFO become attachments, of a flattened dump too', async (t) => {
  const notes = Buffer.alloc(9000, 7);
  const vmcoreinfo = Buffer.from('OSRELEASE=6.1.0-test\n');
  const dump = whole({ notes, vmcoreinfo });
  for (const contents of [dump, makeFlattened([...flatRecords(dump, [4096, 5000]), FLAT_END])]) {
    const files = workspace(t);
    await saveAndLoad(t, files, contents);
    for (const [name, expected] of Object.entries({ 'elf-notes': notes, vmcoreinfo })) {
      await extract(files.path('image'), name, files.path(name));
      sameBytes(t, readFileSync(files.path(name)), expected, name);
    }
  }
});

test('flattened: records in any order, and the last one wins', async (t) => {
  const dump = whole();
  const right = flatRecords(dump, [1, 4096, 77, 16_384]);
  const wrong = right
    .filter((_, i) => i % 3 === 0)
    .map(({ offset, bytes }) => ({ offset, bytes: Buffer.alloc(bytes.length, 0xbb) }));
  const shuffled = [...right].sort((a, b) => ((Number(a.offset) * 7919) % 1013) - ((Number(b.offset) * 7919) % 1013));
  const flat = makeFlattened([...wrong, ...shuffled, FLAT_END]);
  sameBytes(t, await saveAndLoad(t, workspace(t), flat), MEMORY);
});

test('flattened: a part that is written over within a record', async (t) => {
  const dump = whole();
  const patched = Buffer.from(dump);
  patched.fill(0xcc, 5000, 5100);
  const flat = makeFlattened([
    { offset: 0, bytes: patched },
    { offset: 4990, bytes: dump.subarray(4990, 5060) },
    { offset: 5040, bytes: dump.subarray(5040, 5200) },
    FLAT_END,
  ]);
  sameBytes(t, await saveAndLoad(t, workspace(t), flat), MEMORY);
});

test('flattened: what no record covers is zero', async (t) => {
  const memory = Buffer.concat([MEMORY.subarray(0, 20 * PAGE), Buffer.alloc(4 * PAGE), MEMORY.subarray(0, PAGE)]);
  // The pages of a dump that is not compressed are cut out where they are zero.
  const dump = makeKdump(pagesOf(memory), { codec: 'none' });
  const records = flatRecords(dump, [64]).filter(({ bytes }) => bytes.some((byte) => byte !== 0));
  sameBytes(t, await saveAndLoad(t, workspace(t), makeFlattened([...records, FLAT_END])), memory);
});

// Offsets in a dump of 600 pages: header 0, sub header 4096, bitmaps 8192 and 12288, descriptors 16384.
const SUB = 4096;
const BITMAP_1 = 8192;
const DESCRIPTORS = 16_384;
const STATUS = 424;
type Hostile = readonly [string, 'CORRUPT' | 'UNSUPPORTED', RegExp, (dump: Buffer) => Buffer | undefined];

const HOSTILE: readonly Hostile[] = [
  ['another version', 'UNSUPPORTED', /version is 4/, (dump) => void dump.writeUInt32LE(4, 8)],
  ['big endian', 'UNSUPPORTED', /big endian/, (dump) => void dump.writeUInt32BE(6, 8)],
  ['a block size of 5000', 'CORRUPT', /block size is 5000/, (dump) => void dump.writeUInt32LE(5000, STATUS + 4)],
  ['no sub header', 'CORRUPT', /sub header of 0/, (dump) => void dump.writeUInt32LE(0, STATUS + 8)],
  ['a sub header beyond the end', 'CORRUPT', /bitmaps end/, (dump) => void dump.writeUInt32LE(0xffffffff, STATUS + 8)],
  ['half a bitmap', 'CORRUPT', /do not fit/, (dump) => void dump.writeUInt32LE(1, STATUS + 12)],
  ['bitmaps beyond the end', 'CORRUPT', /bitmaps end/, (dump) => void dump.writeUInt32LE(0xfffffffe, STATUS + 12)],
  ['more page frames than bits', 'CORRUPT', /do not fit/, (dump) => void dump.writeBigUInt64LE(2n ** 60n, SUB + 96)],
  ['no page frames', 'CORRUPT', /do not fit/, (dump) => void dump.writeBigUInt64LE(0n, SUB + 96)],
  ['an incomplete dump', 'CORRUPT', /incomplete/, (dump) => void dump.writeUInt32LE(1 | 8, STATUS)],
  ['a part of a split dump', 'UNSUPPORTED', /split/, (dump) => void dump.writeUInt32LE(1, SUB + 12)],
  [
    'notes beyond the end',
    'CORRUPT',
    /the notes of/,
    (dump) => {
      dump.writeBigUInt64LE(4096n, SUB + 48);
      dump.writeBigUInt64LE(2n ** 62n, SUB + 56);
      return undefined;
    },
  ],
  ['no memory', 'CORRUPT', /lists no memory/, (dump) => void dump.fill(0, BITMAP_1, DESCRIPTORS)],
  ['a stored page that is no memory', 'CORRUPT', /page frame 11 /, (dump) => void dump.writeUInt8(0xf7, BITMAP_1 + 1)],
  [
    'a table of descriptors that is cut off',
    'CORRUPT',
    /600 page descriptors/,
    (dump) => dump.subarray(0, DESCRIPTORS + 900),
  ],
  ['a page of 0 bytes', 'CORRUPT', /page of 0 bytes/, (dump) => void dump.writeUInt32LE(0, DESCRIPTORS + 8)],
  ['a page of 4097 bytes', 'CORRUPT', /page of 4097 bytes/, (dump) => void dump.writeUInt32LE(4097, DESCRIPTORS + 8)],
  [
    'a short page that is not compressed',
    'CORRUPT',
    /and 4096 were expected/,
    (dump) => void dump.writeUInt32LE(0, DESCRIPTORS + 12),
  ],
  ['a page with two codecs', 'CORRUPT', /flags 0x5/, (dump) => void dump.writeUInt32LE(5, DESCRIPTORS + 12)],
  ['a page in LZO', 'UNSUPPORTED', /LZO/, (dump) => void dump.writeUInt32LE(2, DESCRIPTORS + 12)],
  [
    'a page with another codec than its own',
    'CORRUPT',
    /cannot be decompressed: zstd/,
    (dump) => void dump.writeUInt32LE(0x20, DESCRIPTORS + 12),
  ],
  [
    'a page that is no snappy',
    'CORRUPT',
    /cannot be decompressed: snappy/,
    (dump) => void dump.writeUInt32LE(4, DESCRIPTORS + 12),
  ],
  [
    'a page beyond the end',
    'CORRUPT',
    /pages lie from/,
    (dump) => void dump.writeBigUInt64LE(BigInt(dump.length - 5), DESCRIPTORS),
  ],
  ['a page in the header', 'CORRUPT', /pages lie from/, (dump) => void dump.writeBigUInt64LE(8n, DESCRIPTORS)],
  [
    'a page at 2^64 - 1',
    'CORRUPT',
    /pages lie from/,
    (dump) => void dump.writeBigUInt64LE(2n ** 64n - 1n, DESCRIPTORS),
  ],
  ['a header that is cut off', 'CORRUPT', /within the header/, (dump) => dump.subarray(0, 300)],
];

for (const [what, code, message, change] of HOSTILE) {
  test(`refused: ${what}`, async (t) => {
    const dump = whole();
    await isRefused(t, change(dump) ?? dump, code, message);
  });
}

test('refused: a dump in LZO', async (t) =>
  await isRefused(t, whole({ codec: 'lzo' }), 'UNSUPPORTED', /compressed with LZO/));

test('refused: pages that decompress to more than a page', async (t) => {
  for (const codec of ['zlib', 'zstd', 'snappy'] as const) {
    const bomb = Buffer.alloc(3 * PAGE, 5);
    const dump = makeKdump([bomb], { codec });
    await isRefused(t, dump, 'CORRUPT', /cannot be decompressed/);
  }
});

const FLAT_HOSTILE: readonly [string, 'CORRUPT' | 'UNSUPPORTED', RegExp, (dump: Buffer) => Buffer][] = [
  ['without an end mark', 'CORRUPT', /end mark/, (dump) => makeFlattened(flatRecords(dump, [9000]))],
  [
    'with a record that is cut off',
    'CORRUPT',
    /has only/,
    (dump) => makeFlattened(flatRecords(dump, [9000])).subarray(0, -1),
  ],
  [
    'with a record of 0 bytes',
    'CORRUPT',
    /record of 0 bytes/,
    (dump) => makeFlattened([...flatRecords(dump, [9000]), { offset: 5, bytes: Buffer.alloc(0) }, FLAT_END]),
  ],
  [
    'with half an end mark',
    'CORRUPT',
    /for offset -1/,
    (dump) => makeFlattened([...flatRecords(dump, [9000]), { offset: -1n, bytes: Buffer.alloc(7) }]),
  ],
  [
    'with a record of 2^62 bytes',
    'CORRUPT',
    /which no dump has/,
    () => makeFlattened([{ offset: 0, bytes: Buffer.alloc(5), size: 2n ** 62n }]),
  ],
  [
    'of another type',
    'UNSUPPORTED',
    /type 2/,
    (dump) => {
      const flat = makeFlattened([...flatRecords(dump, [9000]), FLAT_END]);
      flat.writeBigInt64BE(2n, 16);
      return flat;
    },
  ],
  [
    'with something else in it',
    'UNSUPPORTED',
    /something else/,
    () => makeFlattened([{ offset: 0, bytes: Buffer.alloc(9000, 'ELF') }, FLAT_END]),
  ],
  ['with an empty dump in it', 'CORRUPT', /within the header/, () => makeFlattened([FLAT_END])],
  [
    'that ends within its header',
    'CORRUPT',
    /within its header/,
    (dump) => makeFlattened(flatRecords(dump, [9000])).subarray(0, 100),
  ],
];
for (const [what, code, message, make] of FLAT_HOSTILE) {
  test(`refused: a flattened dump ${what}`, async (t) => await isRefused(t, make(whole()), code, message));
}

test('refused: a flattened dump whose records overlap again and again', async (t) => {
  const records = Array.from({ length: 1100 }, (_, i) => ({ offset: 4096 * (i % 2), bytes: Buffer.alloc(8192, i) }));
  await isRefused(t, makeFlattened([...records, FLAT_END]), 'UNSUPPORTED', /overlap more often/);
});

test('refused by name: the old diskdump format', async (t) => {
  const dump = whole();
  dump.write('DISKDUMP', 'latin1');
  await isRefused(t, dump, 'UNSUPPORTED', /diskdump/);
});

async function isRefused(t: ExecutionContext, dump: Buffer, code: 'CORRUPT' | 'UNSUPPORTED', message: RegExp) {
  const files: Workspace = workspace(t);
  writeFileSync(files.path('dump'), dump);
  const error = await failsWith(t, code, save(files.path('dump'), files.path('image')), message);
  t.is(typeof error.offset, 'number');
  t.deepEqual(files.leftovers(), []);
}
