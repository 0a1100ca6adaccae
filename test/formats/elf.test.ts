/** ELF cores that the test makes: every shape that real ones have, and every hazard. */
import { readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { extract, inspect, inspectMemoryFile, load, save } from '../../lib/index.js';
import { failsWith, sameBytes } from '../lib/support/expect.js';
import { mixedMemory, PAGE, randomMemory } from '../lib/support/memory.js';
import { workspace } from '../lib/support/workspace.js';
import { elfNotes, makeElf } from './support/dumps.js';
import { readMemory, saveAndLoad, withMemoryFile } from './support/foreignFiles.js';

const LOW = mixedMemory(40 * PAGE, 3);
const HIGH = randomMemory(300 * PAGE, 5);
const HIGH_AT = 0x100000;

for (const bits of [64, 32] as const) {
  test(`a core of ${bits} bits comes back byte for byte, its memory at odd offsets of the file`, async (t) => {
    const core = makeElf(
      [
        { physical: HIGH_AT, bytes: HIGH.subarray(0, 128 * PAGE) },
        { physical: 0, bytes: LOW },
        { physical: HIGH_AT + 128 * PAGE, bytes: HIGH.subarray(128 * PAGE) },
      ],
      { bits, shift: 7 },
    );
    const files = workspace(t);
    sameBytes(t, await saveAndLoad(t, files, core), Buffer.concat([LOW, HIGH]));
    const report = await inspectMemoryFile(files.path('file'));
    t.is(report?.format, 'elf-core');
    t.deepEqual(
      report?.memory.regions.map(({ name, gpa, sizeBytes }) => [name, gpa, sizeBytes]),
      [
        ['ram-0x0', 0, LOW.length],
        ['ram-0x100000', HIGH_AT, HIGH.length],
      ],
    );
  });
}

test('what a core has fewer bytes of in the file is absent, but for what another segment has', async (t) => {
  const files = workspace(t);
  // As makedumpfile -E leaves out pages; and as QEMU with paging=on cuts a mapping off at the end of a RAM block.
  const core = makeElf([
    { physical: 0, virtual: 0x1000000, bytes: LOW.subarray(0, 2 * PAGE), memoryBytes: 20 * PAGE },
    { physical: 5 * PAGE, virtual: 0x7000, bytes: HIGH.subarray(0, 3 * PAGE) },
    { physical: 9 * PAGE, virtual: 0x97000, bytes: Buffer.alloc(0), memoryBytes: 2 * PAGE },
    { physical: 18 * PAGE, virtual: 0x3000, bytes: HIGH.subarray(0, PAGE), memoryBytes: 6 * PAGE },
    { physical: 40 * PAGE, bytes: Buffer.alloc(0), memoryBytes: 3 * PAGE },
  ]);
  // QEMU writes -1 where a segment has no bytes in the file.
  core.writeBigUInt64LE(2n ** 64n - 1n, 64 + 64 + 56 * 5 + 8);
  writeFileSync(files.path('core'), core);
  const expected = Buffer.alloc(24 * PAGE);
  expected.set(LOW.subarray(0, 2 * PAGE));
  expected.set(HIGH.subarray(0, 3 * PAGE), 5 * PAGE);
  expected.set(HIGH.subarray(0, PAGE), 18 * PAGE);
  const absent = [2, 3, 4, ...Array.from({ length: 10 }, (_, i) => 8 + i), ...[19, 20, 21, 22, 23]];
  const regions = withMemoryFile(files.path('core'), (file) => {
    t.deepEqual(file.countPages?.(), { stored: 6, zero: undefined, absent: absent.length + 3 });
    t.true(file.pages.mayHaveAbsent);
    return readMemory(file);
  });
  sameBytes(t, regions[0]!.bytes, expected);
  t.deepEqual(
    regions.map((region) => region.absent),
    [absent, [0, 1, 2]],
  );
  await save(files.path('core'), files.path('image'), { segmentSize: 2 ** 20 });
  t.is((await inspect(files.path('image'))).memory.pages?.absent, absent.length + 3);
  const { warnings } = await load(files.path('image'), files.path('target'));
  t.deepEqual(
    warnings.map(({ code }) => code),
    ['absent-pages'],
  );
  sameBytes(t, readFileSync(files.path('target')), Buffer.concat([expected, Buffer.alloc(3 * PAGE)]));
});

test('segments that begin and end within pages: filled with zeros, and a page of which there is a byte is not absent', (t) => {
  const files = workspace(t);
  const core = makeElf([
    { physical: 0x800, bytes: LOW.subarray(0, 0x900), memoryBytes: 3 * PAGE },
    { physical: 0x4400, bytes: LOW.subarray(0, PAGE) },
    { physical: 0x3800, bytes: Buffer.alloc(0), memoryBytes: 0xc00 },
  ]);
  const expected = Buffer.alloc(6 * PAGE);
  expected.set(LOW.subarray(0, 0x900), 0x800);
  expected.set(LOW.subarray(0, PAGE), 0x4400);
  writeFileSync(files.path('core'), core);
  const [region] = withMemoryFile(files.path('core'), (file) => {
    t.deepEqual(file.countPages?.(), { stored: 4, zero: undefined, absent: 2 });
    return readMemory(file);
  });
  sameBytes(t, region!.bytes, expected);
  t.deepEqual(region!.absent, [2, 3]);
});

test('many program headers: their number stands in the first section header', async (t) => {
  sameBytes(
    t,
    await saveAndLoad(t, workspace(t), makeElf([{ physical: 0, bytes: LOW }], { emptyHeaders: 70_000 })),
    LOW,
  );
});

test('memory that is mapped twice is taken once', (t) => {
  const files = workspace(t);
  // As QEMU does with paging=on: the same place of the file. As /proc/vmcore: the kernel's text again, with bytes of its own.
  const core = makeElf([
    { physical: 0, virtual: 0x1000000, bytes: HIGH },
    { physical: 5 * PAGE, virtual: 0x7000, bytes: HIGH.subarray(5 * PAGE, 9 * PAGE), sharesWith: 0 },
    { physical: 20 * PAGE, virtual: 0x81000000, bytes: HIGH.subarray(20 * PAGE, 24 * PAGE) },
  ]);
  writeFileSync(files.path('core'), core);
  const [region] = withMemoryFile(files.path('core'), (file) => readMemory(file));
  sameBytes(t, region!.bytes, HIGH);
});

test('notes and VMCOREINFO become attachments', async (t) => {
  const files = workspace(t);
  const vmcoreinfo = Buffer.from('OSRELEASE=6.1.0-test\nPAGESIZE=4096\n');
  const notes = elfNotes([
    { name: 'CORE', type: 1, contents: Buffer.alloc(33, 1) },
    { name: 'QEMU', type: 0, contents: Buffer.alloc(8, 2) },
    { name: 'VMCOREINFO', type: 0, contents: vmcoreinfo },
  ]);
  const core = makeElf([{ physical: 0, bytes: LOW }], { notes });
  await saveAndLoad(t, files, core);
  for (const [name, expected] of Object.entries({ 'elf-notes': notes, vmcoreinfo })) {
    await extract(files.path('image'), name, files.path(name));
    sameBytes(t, readFileSync(files.path(name)), expected, name);
  }
  const report = await inspectMemoryFile(files.path('file'));
  const facts = Object.fromEntries(report!.facts.map(({ key, value }) => [key, value]));
  t.like(facts, { bits: 64, architecture: 'x86-64', cpus: 1, vmcoreinfo: true });
});

const HEADERS_AT = 64 + 64;
const LOAD_AT = HEADERS_AT + 56;
const HOSTILE: readonly [string, 'CORRUPT' | 'UNSUPPORTED', RegExp, () => Buffer][] = [
  [
    'big endian',
    'UNSUPPORTED',
    /big endian/,
    () => edited((core) => core.writeUInt16BE(4, core.writeUInt8(2, 5) + 10)),
  ],
  ['of no known class', 'CORRUPT', /class is 7/, () => edited((core) => core.writeUInt8(7, 4))],
  [
    'with program headers of another size',
    'CORRUPT',
    /56 were expected/,
    () => edited((core) => core.writeUInt16LE(32, 54)),
  ],
  [
    'with a table beyond its end',
    'CORRUPT',
    /do not fit/,
    () => edited((core) => core.writeBigUInt64LE(2n ** 63n, 32)),
  ],
  [
    'with bytes beyond its end',
    'CORRUPT',
    /has only/,
    () => edited((core) => core.writeBigUInt64LE(2n ** 40n, LOAD_AT + 32)),
  ],
  [
    'with more bytes than memory',
    'CORRUPT',
    /only 5 in memory/,
    () => edited((core) => core.writeBigUInt64LE(5n, LOAD_AT + 40)),
  ],
  [
    'with memory beyond 2^53',
    'CORRUPT',
    /beyond 2\^53/,
    () => edited((core) => core.writeBigUInt64LE(2n ** 63n, LOAD_AT + 24)),
  ],
  [
    'with 2^32 program headers',
    'UNSUPPORTED',
    /at most 1048576/,
    () =>
      edited((core) => {
        core.writeUInt16LE(0xffff, 56);
        core.writeUInt32LE(0xffffffff, 64 + 44);
      }),
  ],
  [
    'with 0xffff program headers and no section',
    'CORRUPT',
    /has none/,
    () =>
      edited((core) => {
        core.writeUInt16LE(0xffff, 56);
        core.writeBigUInt64LE(0n, 40);
      }),
  ],
  [
    'with a note that is too long',
    'CORRUPT',
    /a note of/,
    () =>
      makeElf([{ physical: 0, bytes: LOW }], { notes: Buffer.from('05000000ffffffff01000000434f524500000000', 'hex') }),
  ],
  [
    'with overlapping segments',
    'CORRUPT',
    /overlaps/,
    () =>
      makeElf([
        { physical: 0, bytes: LOW },
        { physical: 3 * PAGE, bytes: LOW },
      ]),
  ],
  [
    'with a segment within another',
    'CORRUPT',
    /overlaps/,
    () =>
      makeElf([
        { physical: 0, bytes: HIGH },
        { physical: 3 * PAGE, virtual: 3 * PAGE, bytes: LOW },
      ]),
  ],
  [
    'of a process',
    'UNSUPPORTED',
    /core of a process/,
    () =>
      makeElf([
        { physical: 0, virtual: 0x400000, bytes: LOW },
        { physical: 0, virtual: 0x600000, bytes: LOW },
      ]),
  ],
  [
    'of a process with one segment',
    'UNSUPPORTED',
    /core of a process/,
    () =>
      makeElf([{ physical: 0, virtual: 0x400000, bytes: LOW }], {
        notes: elfNotes([{ name: 'CORE', type: 6, contents: Buffer.alloc(16) }]),
      }),
  ],
  ['without memory', 'CORRUPT', /lists no memory/, () => makeElf([])],
  ['that ends within its header', 'CORRUPT', /within its header/, () => edited(() => {}).subarray(0, 60)],
];

for (const [what, code, message, make] of HOSTILE) {
  test(`a core ${what} is refused`, async (t) => await isRefused(t, make(), code, message));
}

test('notes that have no bytes may be said to lie anywhere, beyond 2^53 too', async (t) => {
  const files = workspace(t);
  const core = edited((bytes) => bytes.writeBigUInt64LE(0x564d4c0000000128n, HEADERS_AT + 8));
  writeFileSync(files.path('core'), core);
  await save(files.path('core'), files.path('image'), { frozen: true });
  t.is((await inspect(files.path('image'))).source.kind, 'elf-core');
});

test('an ELF file that is no core is raw memory, and refused as a core', async (t) => {
  const files = workspace(t);
  const program = Buffer.concat([edited((core) => core.writeUInt16LE(2, 16)), Buffer.alloc(PAGE)]);
  writeFileSync(files.path('core'), program.subarray(0, PAGE));
  await failsWith(t, 'USAGE', save(files.path('core'), files.path('image'), { format: 'elf-core' }), /not elf-core/);
  await save(files.path('core'), files.path('image'), { frozen: true });
  t.is((await inspect(files.path('image'))).source.kind, 'raw');
});

test('more regions than an image can have are refused', async (t) => {
  const page = Buffer.alloc(1, 1);
  const loads = Array.from({ length: 65_536 }, (_, i) => ({ physical: i * 2 * PAGE, bytes: page }));
  await isRefused(t, makeElf(loads), 'UNSUPPORTED', /more than 65535 separate ranges/);
});

function edited(change: (core: Buffer) => void): Buffer {
  const core = makeElf([{ physical: 0, bytes: LOW }]);
  change(core);
  return core;
}

async function isRefused(t: ExecutionContext, core: Buffer, code: 'CORRUPT' | 'UNSUPPORTED', message: RegExp) {
  const files = workspace(t);
  writeFileSync(files.path('core'), core);
  const error = await failsWith(t, code, save(files.path('core'), files.path('image')), message);
  t.regex(error.message, /ELF core/);
  t.regex(error.message, /offset \d+/);
  t.deepEqual(files.leftovers(), []);
}
