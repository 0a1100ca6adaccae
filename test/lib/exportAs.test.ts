/** `load --as`: ELF cores and LiME files, as other programs read them. */
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { decodeNotes, encodeNote } from '../../formats/elf/notes.js';
import { coreStartBytes, encodeCoreStart } from '../../formats/elf/writeCore.js';
import { coreLayout, type ExportPlan, limeLayout } from '../../lib/exportAs.js';
import {
  type LoadOptions,
  type LoadResult,
  load,
  type RegionOption,
  type SaveOptions,
  save,
  type TargetFormat,
  VmsnapError,
} from '../../lib/index.js';
import { failsWith, sameBytes } from './support/expect.js';
import { GIB, MIB, mixedMemory, PAGE } from './support/memory.js';
import { drgn, gdb, hasPythonModule, libkdumpfile, readelfSegments, readelfText } from './support/memoryReaders.js';
import { cat, makeFifo, Pipe, withFd } from './support/pipes.js';
import { onProbe, onProgram } from './support/privileged.js';
import { runWork, saveInChild, startWork, succeed } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

const MEMORY = mixedMemory(9 * MIB);
MEMORY.fill(0, 2 * MIB, 4 * MIB);
/** Not by rising address, and with sizes that are no whole segments. */
const REGIONS: readonly RegionOption[] = [
  { name: 'low', gpa: 0, sizeBytes: 5 * MIB },
  { name: 'high', gpa: 4 * GIB, sizeBytes: 3 * MIB + 5 * PAGE },
  { name: 'rom', gpa: 4 * GIB - MIB, sizeBytes: MIB - 5 * PAGE },
];

interface Fixture {
  readonly folder: Workspace;
  readonly image: string;
}

async function fixture(t: ExecutionContext, options: SaveOptions = {}): Promise<Fixture> {
  const folder = workspace(t);
  const [source, image] = [folder.path('memory'), folder.path('image')];
  writeFileSync(source, MEMORY);
  await save(source, image, { segmentSize: MIB, regions: REGIONS, frozen: true, ...options });
  return { folder, image };
}

/** The bytes of a region, as it was saved. */
function regionBytes(number: number): Buffer {
  const start = REGIONS.slice(0, number).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return MEMORY.subarray(start, start + REGIONS[number]!.sizeBytes);
}

const byAddress = [0, 2, 1];

test('an ELF core has a segment for each region, sparse and private', async (t) => {
  const { folder, image } = await fixture(t);
  const target = folder.path('core');
  const { format, proven, memoryBytes, warnings } = await load(image, target, { as: 'elf', threads: 3 });
  t.deepEqual([format, proven, memoryBytes, warnings], ['elf', 'memory', MEMORY.length, []]);
  const bytes = readFileSync(target);
  const segments = readelfSegments(target);
  t.deepEqual(
    segments.map(({ physicalAddress }) => physicalAddress),
    byAddress.map((i) => REGIONS[i]!.gpa),
  );
  for (const [i, segment] of segments.entries()) {
    const expected = regionBytes(byAddress[i]!);
    t.is(segment.virtualAddress, segment.physicalAddress);
    t.is(segment.memoryBytes, expected.length);
    t.is(segment.offset % PAGE, 0);
    sameBytes(
      t,
      bytes.subarray(segment.offset, segment.offset + segment.fileBytes),
      expected,
      REGIONS[byAddress[i]!]!.name,
    );
  }
  const header = readelfText(target, '-hW');
  for (const line of [/Type: +CORE/, /Class: +ELF64/, /Machine: +Advanced Micro Devices X86-64/]) t.regex(header, line);
  t.regex(readelfText(target, '-nW'), /vmsnap/);
  t.true(statSync(target).blocks * 512 < MEMORY.length - MIB);
  t.is(statSync(target).mode & 0o7777, 0o600);
  t.deepEqual(folder.leftovers(), []);
});

test('a LiME file has a header for each region, by rising address', async (t) => {
  const { folder, image } = await fixture(t);
  const target = folder.path('lime');
  const { format, proven } = await load(image, target, { as: 'lime', threads: 3 });
  t.deepEqual([format, proven], ['lime', 'memory']);
  sameBytes(t, readFileSync(target), limeFile(byAddress));
  t.true(statSync(target).blocks * 512 < MEMORY.length - MIB);
});

function limeFile(regions: readonly number[]): Buffer {
  return Buffer.concat(
    regions.flatMap((i) => {
      const header = Buffer.alloc(32);
      header.write('EMiL\x01', 'latin1');
      header.writeBigUInt64LE(BigInt(REGIONS[i]!.gpa), 8);
      header.writeBigUInt64LE(BigInt(REGIONS[i]!.gpa + REGIONS[i]!.sizeBytes - 1), 16);
      return [header, regionBytes(i)];
    }),
  );
}

test('a pipe gets the same bytes as a file', async (t) => {
  const { folder, image } = await fixture(t);
  const rising = await fixture(t, { regions: [REGIONS[0]!, { name: 'b', gpa: 4 * GIB, sizeBytes: 4 * MIB }] });
  for (const [as, from] of [
    ['elf', image],
    ['lime', rising.image],
  ] as const) {
    await load(from, folder.path(as), { as });
    const pipe = new Pipe();
    const work = startWork(
      { operation: 'load', image: from, target: '-', options: { as, threads: 3 } },
      { stdout: pipe.writeFd },
    );
    pipe.closeWrite();
    const [bytes] = await Promise.all([pipe.collect(), work.outcome.then(succeed)]);
    sameBytes(t, bytes, readFileSync(folder.path(as)), as);
    const fifo = makeFifo(folder.path(`${as}-pipe`));
    await Promise.all([load(from, fifo, { as }), cat(fifo, folder.path('copy'))]);
    sameBytes(t, readFileSync(folder.path('copy')), readFileSync(folder.path(as)), `${as}, named pipe`);
  }
});

test('an image from a pipe: the size of its last region is told at its end', async (t) => {
  const { folder } = await fixture(t);
  const image = folder.path('open');
  await withFd(folder.path('memory'), 'r', (stdin) =>
    saveInChild({ operation: 'save', source: '-', image, options: { segmentSize: MIB } }, { stdin }),
  );
  const target = folder.path('target');
  const loadFrom = (as: TargetFormat, to: string) =>
    withFd(image, 'r', (stdin) =>
      runWork({ operation: 'load', image: '-', target: to, options: { as, force: true } }, { stdin }),
    );
  succeed(await loadFrom('elf', target));
  const [segment] = readelfSegments(target);
  t.deepEqual([segment!.physicalAddress, segment!.fileBytes], [0, MEMORY.length]);
  sameBytes(t, readFileSync(target).subarray(segment!.offset), MEMORY, 'elf');
  succeed(await loadFrom('lime', target));
  sameBytes(t, readFileSync(target).subarray(32), MEMORY, 'lime');
  t.is(readFileSync(target).readBigUInt64LE(16), BigInt(MEMORY.length - 1));
  for (const as of ['elf', 'lime'] as const) {
    const outcome = await loadFrom(as, '-');
    t.true(
      !outcome.ok && outcome.code === 'USAGE' && /known only at its end/.test(outcome.message),
      JSON.stringify(outcome),
    );
  }
});

test('one region, and a range', async (t) => {
  const { folder, image } = await fixture(t);
  const parts: [LoadOptions, number, Buffer][] = [
    [{ region: 'high' }, 4 * GIB, regionBytes(1)],
    [
      { region: 'high', range: { offset: 4097, length: 1_500_000 } },
      4 * GIB + 4097,
      regionBytes(1).subarray(4097, 1_504_097),
    ],
  ];
  for (const [options, address, expected] of parts) {
    await load(image, folder.path('core'), { ...options, as: 'elf', force: true });
    const segments = readelfSegments(folder.path('core'));
    t.deepEqual(
      segments.map(({ physicalAddress }) => physicalAddress),
      [address],
    );
    const { offset, fileBytes } = segments[0]!;
    sameBytes(t, readFileSync(folder.path('core')).subarray(offset, offset + fileBytes), expected);
    await load(image, folder.path('lime'), { ...options, as: 'lime', force: true });
    const lime = readFileSync(folder.path('lime'));
    t.is(lime.readBigUInt64LE(8), BigInt(address));
    sameBytes(t, lime.subarray(32), expected);
  }
  // A range over the border of two regions.
  await load(image, folder.path('core'), { range: { offset: 4 * MIB, length: 2 * MIB }, as: 'elf', force: true });
  const bytes = readFileSync(folder.path('core'));
  const segments = readelfSegments(folder.path('core'));
  t.deepEqual(
    segments.map(({ physicalAddress }) => physicalAddress),
    [4 * MIB, 4 * GIB],
  );
  const both = segments.map(({ offset, fileBytes }) => bytes.subarray(offset, offset + fileBytes));
  sameBytes(t, Buffer.concat(both), MEMORY.subarray(4 * MIB, 6 * MIB));
});

test('what it does not go with, and what is no format', async (t) => {
  const { folder, image } = await fixture(t);
  const target = folder.path('target');
  for (const as of ['elf', 'lime'] as const) {
    await failsWith(t, 'USAGE', load(image, target, { as, inPlace: true }), /makes a new file/);
    t.false(existsSync(target));
    writeFileSync(target, 'old');
    await failsWith(t, 'EXISTS', load(image, target, { as }), /exists already/);
    await failsWith(t, 'USAGE', load(image, target, { as, inPlace: true }), /makes a new file/);
    t.is(readFileSync(target, 'utf8'), 'old');
    await load(image, target, { as, force: true });
    t.true(statSync(target).size > MEMORY.length);
    await load(image, target, { force: true });
    const damaged = readFileSync(image);
    damaged[Math.floor(damaged.length / 2)]! ^= 1;
    writeFileSync(folder.path('damaged'), damaged);
    await failsWith(t, 'CORRUPT', load(folder.path('damaged'), folder.path('new'), { as }));
    t.false(existsSync(folder.path('new')));
    rmSync(target);
  }
  await failsWith(t, 'USAGE', load(image, target, { as: 'vmdk' as 'raw' }), /no format "vmdk"/);
  const fifo = makeFifo(folder.path('pipe'));
  await failsWith(t, 'USAGE', load(image, fifo, { as: 'lime' }), /do not stand by rising address/);
  t.deepEqual(folder.leftovers(), []);
});

test('the notes of the core that the memory came from', async (t) => {
  const { folder } = await fixture(t);
  const notes = Buffer.concat([
    encodeNote({ name: 'CORE', type: 1, descriptor: Buffer.alloc(392, 7) }),
    encodeNote({ name: 'VMCOREINFO', type: 0, descriptor: Buffer.from('OSRELEASE=6.1.0\n') }),
  ]);
  const convert = async (attached: Buffer, options: SaveOptions = {}) => {
    writeFileSync(folder.path('notes'), attached);
    const attachments = [{ name: 'elf-notes', file: folder.path('notes') }];
    const [source, image, target] = [folder.path('memory'), folder.path('noted'), folder.path('core')];
    await save(source, image, { frozen: true, attachments, force: true, ...options });
    return { image, target, loaded: await load(image, target, { as: 'elf', force: true }) };
  };
  const { image, target, loaded } = await convert(notes);
  t.deepEqual(loaded.warnings, []);
  const text = readelfText(target, '-nhW');
  for (const line of [/OSRELEASE|VMCOREINFO/, /NT_PRSTATUS/, /Machine: +AArch64/]) t.regex(text, line);
  await convert(notes, { labels: { architecture: 'x86-64' } });
  t.regex(readelfText(target, '-hW'), /Machine: +Advanced Micro Devices X86-64/);
  for (const broken of [
    notes.subarray(0, 300),
    Buffer.from('no notes, but longer than a header'),
    Buffer.alloc(16, 0xff),
  ]) {
    const { loaded } = await convert(broken);
    t.deepEqual(
      loaded.warnings.map(({ code }) => code),
      ['notes-left-out'],
    );
    t.regex(readelfText(target, '-nhW'), /vmsnap/);
  }
  await convert(notes);
  const outcome = await withFd(image, 'r', (stdin) =>
    runWork({ operation: 'load', image: '-', target, options: { as: 'elf', force: true } }, { stdin }),
  );
  t.deepEqual(
    (succeed(outcome).result as LoadResult).warnings.map(({ code }) => code),
    ['notes-left-out'],
  );
});

test('notes are taken apart as they were put together', (t) => {
  const notes = [
    { name: 'CORE', type: 1, descriptor: Buffer.from('odd') },
    { name: 'VMCOREINFO', type: 0, descriptor: Buffer.alloc(0) },
    { name: 'QEMU', type: 0, descriptor: Buffer.alloc(432, 1) },
  ];
  const bytes = Buffer.concat(notes.map(encodeNote));
  t.deepEqual(decodeNotes(bytes), notes);
  t.deepEqual(decodeNotes(Buffer.alloc(0)), []);
  for (const cut of [1, 11, 13, bytes.length - 1]) t.is(decodeNotes(bytes.subarray(0, cut)), undefined);
});

test('regions of unknown address', (t) => {
  const regions = [
    { name: 'a', gpa: undefined },
    { name: 'b', gpa: 0 },
    { name: 'c', gpa: undefined },
  ];
  const selection = regions.map((_, i) => ({ from: 0, to: MIB, targetOffset: i * MIB }));
  const plan: ExportPlan = { path: 'img', regions, selection, openEnded: false, toStream: false };
  for (const layout of [limeLayout(plan), coreLayout(plan, { machine: 'x86-64', notes: Buffer.alloc(0) })]) {
    t.deepEqual(layout.leftOut, ['a', 'c']);
    t.deepEqual(
      layout.selection.map((part) => part !== undefined),
      [false, true, false],
    );
    t.is(layout.selection[1]!.targetOffset, layout.headerBytes);
  }
  const unknown = { ...plan, regions: regions.map(({ name }) => ({ name, gpa: undefined })) };
  const error = t.throws(() => limeLayout(unknown), { instanceOf: VmsnapError });
  t.is(error.code, 'UNSUPPORTED');
  t.regex(error.message, /not known/);
});

test('more segments than a program header count can say', (t) => {
  const folder = workspace(t);
  for (const count of [65_533, 65_534, 65_535]) {
    const start = coreStartBytes(count, 0);
    const ranges = Array.from({ length: count }, (_, i) => ({
      gpa: i * 8192,
      sizeBytes: PAGE,
      fileOffset: start + i * PAGE,
    }));
    const path = folder.path('core');
    writeFileSync(path, encodeCoreStart(ranges, Buffer.alloc(0), 'x86-64'));
    truncateSync(path, start + count * PAGE);
    const segments = readelfSegments(path);
    t.is(segments.length, count);
    t.is(segments.at(-1)!.physicalAddress, (count - 1) * 8192);
    t.is(segments.at(-1)!.offset, start + (count - 1) * PAGE);
  }
});

const READERS = [
  ['gdb', gdb, onProgram('gdb')],
  ['libkdumpfile', libkdumpfile, onProbe(() => hasPythonModule('kdumpfile'))],
  ['drgn', drgn, onProbe(() => hasPythonModule('drgn'))],
] as const;

for (const [name, read, needing] of READERS) {
  needing(`${name} reads the memory out of our ELF core`, async (t) => {
    const { folder, image } = await fixture(t);
    await load(image, folder.path('core'), { as: 'elf' });
    for (const [i, { gpa, sizeBytes }] of REGIONS.entries()) {
      for (const offset of [0, 7 * PAGE - 64, sizeBytes - 128]) {
        const expected = regionBytes(i).subarray(offset, offset + 128);
        sameBytes(t, read(folder.path('core'), gpa + offset, 128), expected, `${name}, ${gpa + offset}`);
      }
    }
  });
}
