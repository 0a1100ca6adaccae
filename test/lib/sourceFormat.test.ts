/** What a source is taken for: by its content, or as the caller says; in files and through pipes. */
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import {
  compare,
  estimate,
  inspectMemoryFile,
  load,
  type SaveOptions,
  type SaveResult,
  save,
} from '../../lib/index.js';
import { STATE_SHAPES, writeSnapshot } from '../support/snapshots/cloudHypervisor.js';
import { failsWith, sameBytes } from './support/expect.js';
import { MIB, mixedMemory, randomMemory } from './support/memory.js';
import { cat, makeFifo, Pipe } from './support/pipes.js';
import { startWork, succeed } from './support/work.js';
import { workspace } from './support/workspace.js';

const OPTIONS: SaveOptions = { frozen: true, force: true, segmentSize: MIB, threads: 2 };
/** Raw memory that begins as a file of another tool does. */
const LOOKALIKE = mixedMemory(2 * MIB);
LOOKALIKE.write('PAGEDU64', 0);

test('raw memory that looks like something else: refused with the way out, and taken with it', async (t) => {
  const folder = workspace(t);
  const [memory, image, back] = [folder.path('memory'), folder.path('image'), folder.path('back')];
  writeFileSync(memory, LOOKALIKE);
  for (const refused of [save(memory, image, OPTIONS), estimate(memory), compare(memory, memory)]) {
    const failed = await failsWith(t, 'UNSUPPORTED', refused, /a Windows crash dump/);
    t.regex(failed.hint!, /--format raw/);
    t.is(failed.path, memory);
  }
  const saved = await save(memory, image, { ...OPTIONS, format: 'raw' });
  t.is(saved.source.kind, 'raw');
  await load(image, back);
  sameBytes(t, readFileSync(back), LOOKALIKE);
  t.true((await compare(memory, image, { format: 'raw' })).equal);
  t.is((await estimate(memory, { format: 'raw' })).memoryBytes, LOOKALIKE.length);
});

/** What users may take for a memory file: how it begins (magic, and where it stands), and what is said. */
const NO_MEMORY: readonly (readonly [Buffer, number, RegExp])[] = [
  [Buffer.from('PAGEDUMP'), 0, /Windows crash dump .32 bit/],
  [Buffer.from('HIBR'), 0, /hibernation file of Windows/],
  [Buffer.from('d2bed2be08000000', 'hex'), 0, /suspended VMware machine/],
  [Buffer.from('\x7fVirtualBox SavedState V2.0\n', 'latin1'), 0, /saved state of a VirtualBox machine/],
  [Buffer.from('LibxlFmt'), 0, /save image of Xen/],
  [Buffer.from('514649fb00000003', 'hex'), 0, /qcow2 disk/],
  [Buffer.from('KDMV'), 0, /VMDK disk/],
  [Buffer.from('7f10dabe', 'hex'), 64, /VDI disk/],
  [Buffer.from('vhdxfile'), 0, /VHDX disk/],
  [Buffer.from('conectix'), 0, /VHD disk/],
  [Buffer.from('S1SUSPEND\0'), 4086, /hibernated Linux/],
  [Buffer.from('SWAPSPACE2'), 4086, /swap space/],
  [Buffer.from('504b0304', 'hex'), 0, /zip archive/],
  [Buffer.from('377abcaf271c', 'hex'), 0, /7z archive/],
  [Buffer.from('ustar'), 257, /tar archive/],
];

test('files that hold no memory which could be read are refused by name, with what to do', async (t) => {
  const folder = workspace(t);
  const [source, image] = [folder.path('source'), folder.path('image')];
  for (const [magic, at, what] of NO_MEMORY) {
    // Whole pages: nothing else speaks against its being raw memory.
    const bytes = Buffer.alloc(2 * 4096, 0x5a);
    bytes.set(magic, at);
    writeFileSync(source, bytes);
    for (const refused of [save(source, image, OPTIONS), inspectMemoryFile(source)]) {
      const { hint, offset } = await failsWith(t, 'UNSUPPORTED', refused, what);
      t.is(offset, at);
      t.regex(hint!, /.; if it is raw memory all the same, say so with --format raw$/);
    }
    t.deepEqual(folder.leftovers(), []);
    await save(source, image, { ...OPTIONS, format: 'raw' });
  }
  // An image of vmsnap, cut to whole pages as a copy may be.
  writeFileSync(source, Buffer.concat([readFileSync(image), Buffer.alloc(4096)]).subarray(0, 4096));
  await failsWith(t, 'UNSUPPORTED', save(source, folder.path('again'), OPTIONS), /an image of vmsnap already/);
});

test('compressed bytes from a pipe are not saved as memory', async (t) => {
  const folder = workspace(t);
  const fifo = makeFifo(folder.path('fifo'));
  const memory = Buffer.concat([gzipSync(randomMemory(MIB)), Buffer.alloc(4096)]);
  writeFileSync(folder.path('packed'), memory.subarray(0, MIB));
  let feed = cat(folder.path('packed'), fifo);
  const { hint } = await failsWith(t, 'UNSUPPORTED', save(fifo, folder.path('image'), OPTIONS), /compressed with gzip/);
  t.regex(hint!, /"gzip -dc" before vmsnap in the pipe/);
  await feed;
  feed = cat(folder.path('packed'), fifo);
  await save(fifo, folder.path('image'), { ...OPTIONS, format: 'raw' });
  await feed;
  await load(folder.path('image'), folder.path('back'));
  sameBytes(t, readFileSync(folder.path('back')), memory.subarray(0, MIB));
});

test('the same through a named pipe', async (t) => {
  const folder = workspace(t);
  const [memory, image, back] = [folder.path('memory'), folder.path('image'), folder.path('back')];
  const fifo = makeFifo(folder.path('fifo'));
  writeFileSync(memory, LOOKALIKE);
  let feed = cat(memory, fifo);
  await failsWith(t, 'UNSUPPORTED', save(fifo, image, OPTIONS), /a Windows crash dump/);
  await feed;
  feed = cat(memory, fifo);
  await save(fifo, image, { ...OPTIONS, format: 'raw' });
  await feed;
  await load(image, back);
  sameBytes(t, readFileSync(back), LOOKALIKE);
});

for (const [what, memory] of [
  ['nothing known', mixedMemory(3 * MIB)],
  ['almost something known', Buffer.concat([Buffer.from('PAGEDU6x'), mixedMemory(3 * MIB).subarray(8)])],
] as const) {
  test(`${what} from a pipe that gives a few bytes at a time: none is lost`, async (t) => {
    const folder = workspace(t);
    const pipe = new Pipe();
    const work = startWork(
      { operation: 'save', source: '-', image: folder.path('image'), options: { segmentSize: MIB, threads: 2 } },
      { stdin: pipe.readFd },
    );
    pipe.closeRead();
    await work.started;
    for (const [from, to] of [
      [0, 1],
      [1, 5],
      [5, 4095],
    ] as const) {
      pipe.feed(memory.subarray(from, to), false);
      await delay(150);
    }
    pipe.feed(memory.subarray(4095), true);
    const { result } = succeed<SaveResult>(await work.outcome);
    t.is(result.source.kind, 'stream');
    await load(folder.path('image'), folder.path('back'));
    sameBytes(t, readFileSync(folder.path('back')), memory);
  });
}

test('stopped while a pipe says nothing', async (t) => {
  const folder = workspace(t);
  const pipe = new Pipe();
  const controller = new AbortController();
  const fifo = makeFifo(folder.path('fifo'));
  const saving = save(fifo, folder.path('image'), { signal: controller.signal });
  setTimeout(() => controller.abort(new Error('enough')), 100);
  await t.throwsAsync(saving, { message: 'enough' });
  t.deepEqual(folder.leftovers(), []);
  pipe.close();
});

test('a file of another tool within gzip is not saved as raw memory', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory.gz'), gzipSync(LOOKALIKE));
  await failsWith(
    t,
    'UNSUPPORTED',
    save(folder.path('memory.gz'), folder.path('image'), OPTIONS),
    /Windows crash dump/,
  );
});

test('a format that it is not, and options that are for raw memory', async (t) => {
  const folder = workspace(t);
  const [memory, image] = [folder.path('memory'), folder.path('image')];
  writeFileSync(memory, mixedMemory(MIB));
  const snapshot = writeSnapshot(
    folder.path('snapshot'),
    STATE_SHAPES['a bare list']!([{ gpa: 0, length: MIB }]),
    mixedMemory(MIB),
  );
  await failsWith(t, 'USAGE', save(memory, image, { ...OPTIONS, format: 'kdump' }), /and not kdump/);
  await failsWith(t, 'USAGE', save(memory, image, { ...OPTIONS, format: 'cloud-hypervisor' }), /is no folder/);
  await failsWith(t, 'USAGE', save(snapshot, image, { ...OPTIONS, format: 'raw' }), /is a folder/);
  await failsWith(t, 'USAGE', inspectMemoryFile(memory, { format: 'raw' }), /says nothing of itself/);
  await failsWith(t, 'USAGE', inspectMemoryFile(memory, { format: 'lime' }), /and not lime/);
  t.is(await inspectMemoryFile(memory), undefined);
  t.is(await inspectMemoryFile(folder.folder), undefined);
  const regions = [{ name: 'ram', gpa: 0, sizeBytes: MIB }];
  for (const own of [{ regions }, { layout: 'flat' as const }]) {
    const failed = await failsWith(
      t,
      'USAGE',
      save(snapshot, image, { ...OPTIONS, ...own }),
      /tells its regions itself/,
    );
    t.regex(failed.hint!, /leave out --/);
  }
});

test('told before the memory is read', async (t) => {
  const folder = workspace(t);
  const snapshot = writeSnapshot(
    folder.path('snapshot'),
    STATE_SHAPES['a bare list']!([{ gpa: 0, length: MIB }]),
    mixedMemory(MIB),
  );
  const told: string[] = [];
  const onRecognised: SaveOptions['onRecognised'] = ({ format, title, path }) =>
    told.push(`${path}: ${title}, ${format}`);
  await save(snapshot, folder.path('image'), { ...OPTIONS, onRecognised });
  await compare(snapshot, folder.path('image'), { onRecognised });
  const line = `${snapshot}: a Cloud Hypervisor snapshot, cloud-hypervisor`;
  t.deepEqual(told, [line, line]);
});
