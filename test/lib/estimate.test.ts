/** What an estimate says, held against what the save then takes. */

import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import { type EstimateOptions, estimate, type SaveOptions, save } from '../../lib/index.js';
import { failsWith } from './support/expect.js';
import { KIB, MIB, mixedMemory, PAGE, randomMemory, writeSparse } from './support/memory.js';
import { loopDevice, onLoopDevice } from './support/privileged.js';
import { type Workspace, workspace } from './support/workspace.js';

type Same = EstimateOptions & SaveOptions;

const SETTINGS: readonly Same[] = [
  {},
  { codec: 'none' },
  { codec: 'zlib', level: 6, chunkSize: 64 * KIB },
  { segmentSize: MIB, chunkSize: 4 * KIB, threads: 1, level: 3 },
  { pageSize: 64 * KIB, chunkSize: 4 * MIB, segmentSize: 8 * MIB },
  { pageSize: 2 * MIB, segmentSize: 2 * MIB, chunkSize: 2 * MIB, codec: 'none' },
];

test('in full it is the size of the image, to the byte', async (t) => {
  const folder = workspace(t);
  const [memory, sparse, image] = [folder.path('memory'), folder.path('sparse'), folder.path('image')];
  const bytes = mixedMemory(22 * MIB);
  writeFileSync(memory, bytes);
  bytes.fill(0, 3 * MIB, 15 * MIB);
  writeSparse(sparse, bytes);
  for (const source of [memory, sparse]) {
    for (const settings of SETTINGS) {
      const expected = await estimate(source, { ...settings, full: true });
      const saved = await save(source, image, { ...settings, force: true });
      const { low, likely, high } = expected.imageBytes;
      t.deepEqual([low, likely, high], Array(3).fill(statSync(image).size), JSON.stringify(settings));
      t.deepEqual(expected.pages, saved.pages);
      t.is(expected.memoryBytes, 22 * MIB);
      t.is(expected.confidence, 1);
      t.true(expected.sample.full);
      t.is(expected.run.readBytes, saved.run.readBytes);
      t.true(expected.seconds > 0);
    }
  }
});

test('machines in several files and regions, names and layouts', async (t) => {
  const folder = workspace(t);
  const [low, high, image] = [folder.path('low'), folder.path('high'), folder.path('image')];
  writeFileSync(low, mixedMemory(5 * MIB));
  writeFileSync(high, Buffer.concat([Buffer.alloc(777), mixedMemory(3 * MIB, 5)]));
  const regions = [
    { name: 'low', sizeBytes: 4 * MIB, gpa: 0, file: low, fileOffset: MIB },
    { name: 'high', sizeBytes: 3 * MIB, gpa: 2 ** 32, file: high, fileOffset: 777 },
  ];
  const options = { regions, name: 'web1', labels: { rack: '7' }, full: true };
  const { imageBytes } = await estimate(undefined, options);
  await save(undefined, image, options);
  t.is(imageBytes.likely, statSync(image).size);
});

test('a source that is small is looked at in full without being asked', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(3 * MIB));
  const { sample, confidence } = await estimate(folder.path('memory'));
  t.deepEqual(sample, { full: true, pieces: 1, bytes: 3 * MIB, ofBytes: 3 * MIB });
  t.is(confidence, 1);
});

/** Blocks of 1 MiB that memory is put together from, as guests have them. */
function makeBlocks(): Buffer[] {
  const program = readFileSync(process.execPath);
  const blocks = [Buffer.alloc(MIB), Buffer.alloc(MIB), randomMemory(MIB), mixedMemory(MIB), Buffer.alloc(MIB, 0x5a)];
  for (let i = 0; i < 12; i++) blocks.push(program.subarray(i * 4 * MIB, i * 4 * MIB + MIB));
  for (const source of [2, 5, 7, 9, 11]) blocks.push(thinned(blocks[source]!, source));
  return blocks;
}

/** Every few pages one that stays, the others zero. */
function thinned(block: Buffer, every: number): Buffer {
  const thin = Buffer.alloc(MIB);
  for (let page = 0; page < MIB / PAGE; page += every) block.copy(thin, page * PAGE, page * PAGE, (page + 1) * PAGE);
  return thin;
}

/** Runs of blocks of one kind, some of them holes. */
function writeMachine(path: string, blocks: readonly Buffer[], seed: number, sizeMiB: number): void {
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let i = 0; i < 5; i++) random(2);
  const longest = 1 + random(12);
  const fd = openSync(path, 'w');
  try {
    ftruncateSync(fd, sizeMiB * MIB);
    for (let at = 0; at < sizeMiB; ) {
      const kind = random(blocks.length + 2);
      const end = Math.min(sizeMiB, at + 1 + random(longest));
      for (; at < end; at++) if (kind < blocks.length) writeSync(fd, blocks[kind]!, 0, MIB, at * MIB);
    }
  } finally {
    closeSync(fd);
  }
}

const FAST_SETTINGS: readonly Same[] = [{}, { codec: 'none' }, { level: -5 }, { chunkSize: 64 * KIB }];

/** How many machines are made up; a long campaign sets more. */
const MACHINES = Number(process.env.VMSNAP_ESTIMATE_MACHINES ?? 20);
// What it is in full is what a save takes, as the first test shows.
test('from a sample: the real size lies between the bounds in 95 of 100 machines', async (t) => {
  const memory = workspace(t).path('memory');
  const blocks = makeBlocks();
  let held = 0;
  const missed: string[] = [];
  for (let seed = 1; seed <= MACHINES; seed++) {
    writeMachine(memory, blocks, seed, 40 + (seed % 5) * 8);
    const settings = FAST_SETTINGS[seed % FAST_SETTINGS.length]!;
    const { imageBytes } = await estimate(memory, { ...settings, sampleBytes: 16 * MIB });
    const real = (await estimate(memory, { ...settings, full: true, references: false })).imageBytes.likely;
    if (imageBytes.low <= real && real <= imageBytes.high) held++;
    else missed.push(`seed ${seed}: ${real} is not from ${imageBytes.low} to ${imageBytes.high}`);
  }
  t.log(`${held} of ${MACHINES}`);
  t.true(held >= 0.95 * MACHINES, missed.join('\n'));
});

test('the same source gives the same estimate, whatever the threads', async (t) => {
  const folder = workspace(t);
  writeMachine(folder.path('memory'), makeBlocks(), 7, 48);
  const of = async (threads: number) => {
    const { imageBytes, pages } = await estimate(folder.path('memory'), { threads, sampleBytes: 16 * MIB });
    return { imageBytes, pages };
  };
  t.deepEqual(await of(1), await of(3));
});

test('holes are passed over, whatever the size', async (t) => {
  const folder = workspace(t);
  const path = folder.path('memory');
  writeFileSync(path, randomMemory(2 * MIB));
  truncateSync(path, 2 ** 42);
  const { imageBytes, sample, pages } = await estimate(path);
  t.is(sample.ofBytes, 4 * MIB);
  t.is(pages.data, 512);
  t.true(imageBytes.likely > 2 * MIB && imageBytes.likely < 7 * MIB);
  writeFileSync(path, '');
  truncateSync(path, MIB);
  const nothing = await estimate(path);
  t.is(nothing.imageBytes.likely, (await save(path, folder.path('image'))).imageBytes);
});

test('a target: whether the image fits', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(MIB));
  const { target } = await estimate(folder.path('memory'), { target: folder.folder });
  t.is(target?.fits, 'yes');
  t.true(target!.freeBytes! > MIB);
  await failsWith(t, 'NOT_FOUND', estimate(folder.path('memory'), { target: folder.path('missing') }));
});

test('what no estimate can be made of', async (t) => {
  const folder: Workspace = workspace(t);
  const memory = folder.path('memory');
  writeFileSync(memory, mixedMemory(MIB));
  writeFileSync(folder.path('gzip'), gzipSync(mixedMemory(MIB)));
  await failsWith(t, 'USAGE', estimate('-'), /standard input can be read only once/);
  await failsWith(t, 'USAGE', estimate('/dev/zero'), /only once/);
  const error = await failsWith(t, 'USAGE', estimate(folder.path('gzip'), { full: true }), /only once/);
  t.regex(error.hint!, /gunzip -c/);
  await failsWith(t, 'NOT_FOUND', estimate(folder.path('missing')));
  await failsWith(t, 'USAGE', estimate(memory, { sampleBytes: 15 * MIB }), /takes 16777216 or more/);
  await failsWith(t, 'USAGE', estimate(memory, { full: true, sampleBytes: 16 * MIB }), /takes no sample/);
  await failsWith(t, 'USAGE', estimate(memory, { level: 99 }), /level 99/);
});

test('an abort ends it with its reason', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(24 * MIB));
  const controller = new AbortController();
  const reason = new Error('enough');
  const running = estimate(folder.path('memory'), { level: 15, signal: controller.signal });
  setTimeout(() => controller.abort(reason), 20);
  await t.throwsAsync(running, { is: reason });
});

onLoopDevice()('a block device', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('disk'), mixedMemory(4 * MIB));
  const device = loopDevice(t, folder.path('disk'));
  const { imageBytes } = await estimate(device, { full: true });
  t.is(imageBytes.likely, (await save(device, folder.path('image'))).imageBytes);
});
