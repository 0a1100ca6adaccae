/** A disk that fills up half way: NO_SPACE, nothing left behind, what was there untouched. */
import { readdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { load, save, verify } from '../../lib/index.js';
import { failsWith, sameBytes } from './support/expect.js';
import { MIB, mixedMemory, randomMemory } from './support/memory.js';
import { mount, onMount } from './support/privileged.js';
import { runWork } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

const DISK_BYTES = 8 * MIB;
const MEMORY = randomMemory(24 * MIB);
const GZIPPED = gzipSync(MEMORY, { level: 1 });
const OLD = mixedMemory(MIB);

interface SmallDisk {
  readonly folder: Workspace;
  readonly disk: string;
  readonly source: string;
  /** The same as a stream, of which nobody can tell beforehand that it will not fit (freeSpace.test.ts has what can). */
  readonly stream: string;
  readonly image: string;
}

async function smallDisk(t: ExecutionContext): Promise<SmallDisk> {
  const folder = workspace(t);
  const disk = mount(t, folder, 'tmpfs', `size=${DISK_BYTES}`);
  const [source, stream, image] = [folder.path('memory'), folder.path('memory.gz'), folder.path('image')];
  writeFileSync(source, MEMORY);
  writeFileSync(stream, GZIPPED);
  await save(source, image);
  return { folder, disk, source, stream, image };
}

const withSmallDisk = onMount();

function freeBytes(disk: string): number {
  const { bavail, bsize } = statfsSync(disk);
  return bavail * bsize;
}

withSmallDisk('a save', async (t) => {
  const small = await smallDisk(t);
  const free = freeBytes(small.disk);
  for (const threads of [1, 3]) {
    const image = join(small.disk, 'image');
    const error = await failsWith(t, 'NO_SPACE', save(small.stream, image, { threads }), /no space left on device/);
    t.regex(error.hint!, /free some space/);
    t.deepEqual(readdirSync(small.disk), []);
    t.is(freeBytes(small.disk), free);
  }
});

withSmallDisk('a save over an old image', async (t) => {
  const small = await smallDisk(t);
  const image = join(small.disk, 'image');
  writeFileSync(small.folder.path('little'), OLD);
  await save(small.folder.path('little'), image);
  const before = readFileSync(image);
  await failsWith(t, 'NO_SPACE', save(small.stream, image, { force: true }), /no space left on device/);
  sameBytes(t, readFileSync(image), before, 'the old image');
  t.true((await verify(image)).intact);
  t.deepEqual(readdirSync(small.disk), ['image']);
});

withSmallDisk('a disk that is full before the first byte', async (t) => {
  const small = await smallDisk(t);
  const filler = join(small.disk, 'filler');
  writeFileSync(filler, Buffer.alloc(freeBytes(small.disk)));
  await failsWith(t, 'NO_SPACE', save(small.source, join(small.disk, 'image')));
  t.deepEqual(readdirSync(small.disk), ['filler']);
});

withSmallDisk('a load', async (t) => {
  const small = await smallDisk(t);
  const free = freeBytes(small.disk);
  for (const threads of [1, 3]) {
    const target = join(small.disk, 'target');
    await failsWith(t, 'NO_SPACE', load(small.image, target, { threads }), /no space left/);
    t.deepEqual(readdirSync(small.disk), []);
    t.is(freeBytes(small.disk), free);
  }
});

withSmallDisk('a load over an old target', async (t) => {
  const small = await smallDisk(t);
  const target = join(small.disk, 'target');
  writeFileSync(target, OLD);
  await failsWith(t, 'NO_SPACE', load(small.image, target, { force: true }));
  sameBytes(t, readFileSync(target), OLD, 'the old target');
  t.deepEqual(readdirSync(small.disk), ['target']);
});

withSmallDisk('a load in place', async (t) => {
  const small = await smallDisk(t);
  const target = join(small.disk, 'target');
  await failsWith(t, 'NO_SPACE', load(small.image, target, { inPlace: true }));
  t.deepEqual(readdirSync(small.disk), [], 'what it has made is taken away');
  writeFileSync(target, OLD);
  await failsWith(t, 'NO_SPACE', load(small.image, target, { inPlace: true }));
  t.deepEqual(readdirSync(small.disk).sort(), ['.target.partial', 'target'], 'what it has overwritten is marked');
});

withSmallDisk('an image that just fits', async (t) => {
  const small = await smallDisk(t);
  const memory = mixedMemory(12 * MIB);
  writeFileSync(small.folder.path('fits'), memory);
  await save(small.folder.path('fits'), join(small.disk, 'image'));
  await load(join(small.disk, 'image'), small.folder.path('back'));
  sameBytes(t, readFileSync(small.folder.path('back')), memory);
});

test('a limit of the file size (ulimit -f)', async (t) => {
  const folder = workspace(t);
  const [source, image] = [folder.path('memory'), folder.path('image')];
  writeFileSync(source, MEMORY);
  await save(source, image);
  const wrapper = ['prlimit', `--fsize=${4 * MIB}`];
  const outcomes = [
    await runWork({ operation: 'save', source, image: folder.path('new') }, { wrapper }),
    await runWork({ operation: 'save', source, image, options: { force: true } }, { wrapper }),
    await runWork({ operation: 'load', image, target: folder.path('new') }, { wrapper }),
  ];
  for (const outcome of outcomes) {
    t.false(outcome.ok);
    if (outcome.ok) continue;
    t.is(outcome.code, 'IO', outcome.message);
    t.regex(outcome.message, /file too large/);
    t.regex(outcome.hint!, /ulimit -f/);
  }
  t.deepEqual(readdirSync(folder.folder).sort(), ['image', 'memory']);
  t.true((await verify(image)).intact);
});
