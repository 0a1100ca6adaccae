/** LiME and AVML files that the test makes: what makes a region, what is zero, and every hazard. */
import { writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { save } from '../../lib/index.js';
import { failsWith, sameBytes } from '../lib/support/expect.js';
import { mixedMemory, PAGE, randomMemory } from '../lib/support/memory.js';
import { workspace } from '../lib/support/workspace.js';
import { makeAvml, makeLime, type Range } from './support/dumps.js';
import { readMemory, saveAndLoad, withMemoryFile } from './support/foreignFiles.js';

const BLOCK = 2 ** 24;
const LOW = mixedMemory(40 * PAGE, 3);
const HIGH = mixedMemory(1300 * PAGE, 5);
const HIGH_AT = 0x100000;

const FORMATS: readonly [string, (ranges: readonly Range[]) => Buffer][] = [
  ['LiME', makeLime],
  ['AVML', makeAvml],
];

for (const [format, make] of FORMATS) {
  test(`${format}: ranges out of order come back in the order of their addresses, those that touch as one region`, async (t) => {
    const file = make([
      { start: HIGH_AT + 700 * PAGE, bytes: HIGH.subarray(700 * PAGE) },
      { start: 0, bytes: LOW },
      { start: HIGH_AT, bytes: HIGH.subarray(0, 700 * PAGE) },
    ]);
    const files = workspace(t);
    sameBytes(t, await saveAndLoad(t, files, file), Buffer.concat([LOW, HIGH]));
    const regions = withMemoryFile(files.path('file'), ({ regions }) => regions.map(({ name, gpa }) => [name, gpa]));
    t.deepEqual(regions, [
      ['ram-0x0', 0],
      ['ram-0x100000', HIGH_AT],
    ]);
  });

  test(`${format}: a range that begins or ends within a page is filled with zeros`, async (t) => {
    const file = make([
      { start: 0x1800, bytes: LOW.subarray(0, 0x2c00) },
      { start: 0x4600, bytes: LOW.subarray(0, 0x100) },
    ]);
    const expected = Buffer.alloc(4 * PAGE);
    expected.set(LOW.subarray(0, 0x2c00), 0x800);
    expected.set(LOW.subarray(0, 0x100), 0x3600);
    sameBytes(t, await saveAndLoad(t, workspace(t), file), expected);
  });

  test(`${format}: blocks of 16 MiB that are left out are zero memory; another gap is none`, (t) => {
    const files = workspace(t);
    const block = Buffer.alloc(BLOCK);
    block.set(LOW, 5 * PAGE);
    const file = make([
      { start: PAGE, bytes: block },
      { start: PAGE + 2 * BLOCK, bytes: LOW },
      { start: PAGE + 3 * BLOCK, bytes: LOW },
    ]);
    writeFileSync(files.path('file'), file);
    const regions = withMemoryFile(files.path('file'), (memory) => {
      const stored = BLOCK / PAGE + (2 * LOW.length) / PAGE;
      t.deepEqual(memory.countPages?.(), { stored, zero: BLOCK / PAGE, absent: 0 });
      return readMemory(memory, 3 * 2 ** 20);
    });
    t.deepEqual(
      regions.map(({ gpa, bytes }) => [gpa, bytes.length]),
      [
        [PAGE, 2 * BLOCK + LOW.length],
        [PAGE + 3 * BLOCK, LOW.length],
      ],
    );
    sameBytes(t, regions[0]!.bytes, Buffer.concat([block, Buffer.alloc(BLOCK), LOW]));
    sameBytes(t, regions[1]!.bytes, LOW);
  });
}

type Hostile = readonly [string, 'CORRUPT' | 'UNSUPPORTED', RegExp, (file: Buffer) => Buffer | undefined];

/** Of both formats; the file has ranges at 0 and at HIGH_AT. */
const HOSTILE: readonly Hostile[] = [
  [
    'a range that ends before it begins',
    'CORRUPT',
    /ends before that/,
    (file) => void file.writeBigUInt64LE(2n ** 40n, 8),
  ],
  ['reserved bytes', 'CORRUPT', /reserved bytes/, (file) => void file.writeUInt8(1, 30)],
  ['another version', 'UNSUPPORTED', /version 3/, (file) => void file.writeUInt32LE(3, 4)],
];

for (const [format, make] of FORMATS) {
  for (const hostile of HOSTILE) hostileTest(format, hostile, () => make([{ start: 0, bytes: LOW }]));
  hostileTest(format, ['overlapping ranges', 'CORRUPT', /overlaps/, () => undefined], () =>
    make([
      { start: HIGH_AT, bytes: LOW },
      { start: HIGH_AT + PAGE, bytes: LOW },
    ]),
  );
  hostileTest(format, ['a range beyond 2^53', 'CORRUPT', /2\^53/, () => undefined], () =>
    make([{ start: 2n ** 53n, bytes: LOW }]),
  );
}

const two = (make: (ranges: readonly Range[]) => Buffer) => () =>
  make([
    { start: 0, bytes: LOW },
    { start: HIGH_AT, bytes: HIGH },
  ]);
for (const hostile of [
  ['a last range that is cut off', 'CORRUPT', /ends after 5324795 of them/, (file) => file.subarray(0, -5)],
  ['a header that is cut off', 'CORRUPT', /after 20 bytes/, (file) => file.subarray(0, 32 + LOW.length + 20)],
  ['no magic', 'CORRUPT', /the magic of a range/, (file) => void file.writeUInt8(0, 32 + LOW.length)],
] satisfies Hostile[]) {
  hostileTest('LiME', hostile, two(makeLime));
}
// Offsets of a chunk of the first block: header 32, stream identifier 10, a chunk to be passed over 7.
const CHUNK = 49;
for (const hostile of [
  ['an end that is cut off', 'CORRUPT', /compressed length/, (file) => file.subarray(0, -5)],
  [
    'a compressed length that leads nowhere',
    'CORRUPT',
    /compressed length/,
    (file) => void file.writeUInt8(file.at(-8)! ^ 4, file.length - 8),
  ],
  [
    'a compressed length beyond the file',
    'CORRUPT',
    /does not fit/,
    (file) => void file.writeUInt8(0x70, file.length - 1),
  ],
  ['no stream identifier', 'CORRUPT', /stream identifier/, (file) => void file.writeUInt8(0xfe, 32)],
  ['another stream identifier', 'CORRUPT', /sNaPpY/, (file) => void file.writeUInt8(0x20, 38)],
  ['an unknown chunk', 'CORRUPT', /unknown type 0x2/, (file) => void file.writeUInt8(2, CHUNK)],
  ['a chunk with too long a body', 'CORRUPT', /left/, (file) => void file.writeUInt8(0xff, CHUNK + 3)],
  ['a wrong checksum', 'CORRUPT', /checksum/, (file) => void file.writeUInt8(file[CHUNK + 4]! ^ 1, CHUNK + 4)],
  [
    'a chunk that says it holds 4 GiB',
    'CORRUPT',
    /were expected/,
    (file) => void file.write('ffffffff0f', CHUNK + 8, 'hex'),
  ],
  [
    'damaged contents',
    'CORRUPT',
    /checksum|no valid Snappy/,
    (file) => void file.fill(0xee, CHUNK + 2000, CHUNK + 2040),
  ],
  [
    'a block that says it is longer',
    'CORRUPT',
    /ends after/,
    (file) => void file.writeBigUInt64LE(BigInt(LOW.length + PAGE - 1), 16),
  ],
  [
    'a block that says it is shorter',
    'CORRUPT',
    /holds more/,
    (file) => void file.writeBigUInt64LE(BigInt(LOW.length - PAGE - 1), 16),
  ],
] satisfies Hostile[]) {
  hostileTest('AVML', hostile, two(makeAvml));
}

test('AVML: what does not shrink is stored as it is', async (t) => {
  const bytes = randomMemory(50 * PAGE);
  sameBytes(t, await saveAndLoad(t, workspace(t), makeAvml([{ start: 0, bytes }])), bytes);
});

function hostileTest(format: string, [what, code, message, change]: Hostile, make: () => Buffer): void {
  test(`${format}: ${what}`, async (t) => {
    const file = make();
    await isRefused(t, change(file) ?? file, code, message, format);
  });
}

async function isRefused(
  t: ExecutionContext,
  file: Buffer,
  code: 'CORRUPT' | 'UNSUPPORTED',
  message: RegExp,
  format: string,
) {
  const files = workspace(t);
  writeFileSync(files.path('file'), file);
  const error = await failsWith(t, code, save(files.path('file'), files.path('image')), message);
  t.true(error.message.includes(format));
  t.regex(error.message, /offset \d+/);
  t.deepEqual(files.leftovers(), []);
}
