/** The look at the free space before a save: what cannot fit is refused, what may not is warned of, the rest is not looked at. */
import { readdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { load, type SaveOptions, save, type Warning } from '../../lib/index.js';
import { failsWith, sameBytes } from './support/expect.js';
import { MIB, mixedMemory, randomMemory } from './support/memory.js';
import { mount, onMount } from './support/privileged.js';
import { type Workspace, workspace } from './support/workspace.js';

const withSmallDisk = onMount();

interface SmallDisk {
  readonly folder: Workspace;
  readonly disk: string;
  readonly image: string;
}

function smallDisk(t: ExecutionContext, sizeBytes: number): SmallDisk {
  const folder = workspace(t);
  const disk = mount(t, folder, 'tmpfs', `size=${sizeBytes}`);
  return { folder, disk, image: join(disk, 'image') };
}

function freeBytes(disk: string): number {
  const { bavail, bsize } = statfsSync(disk);
  return bavail * bsize;
}

withSmallDisk('what cannot fit is refused before anything is written, with the figures', async (t) => {
  const { folder, disk, image } = smallDisk(t, 8 * MIB);
  writeFileSync(folder.path('memory'), randomMemory(24 * MIB));
  const free = freeBytes(disk);
  let progress = 0;
  const onProgress = () => progress++;
  const error = await failsWith(t, 'NO_SPACE', save(folder.path('memory'), image, { onProgress }));
  const [, needed, left] = /would take at least (\d+) bytes, and its file system has (\d+) left/.exec(error.message)!;
  t.true(Number(needed) > 24 * MIB && Number(needed) < 25 * MIB);
  t.is(Number(left), free);
  t.regex(error.hint!, /vmsnap estimate/);
  t.is(error.path, image);
  t.is(progress, 0, 'the save had not begun');
  t.deepEqual(readdirSync(disk), []);
  t.is(freeBytes(disk), free);
});

withSmallDisk('an image that is replaced takes its space until the new one is whole', async (t) => {
  const { folder, disk, image } = smallDisk(t, 16 * MIB);
  writeFileSync(folder.path('memory'), randomMemory(10 * MIB));
  await save(folder.path('memory'), image);
  const before = readFileSync(image);
  await failsWith(t, 'NO_SPACE', save(folder.path('memory'), image, { force: true }), /at least/);
  sameBytes(t, readFileSync(image), before, 'the old image');
  t.deepEqual(readdirSync(disk), ['image']);
});

withSmallDisk('what fits once it is compressed is saved without a word', async (t) => {
  const { folder, image } = smallDisk(t, 8 * MIB);
  const memory = mixedMemory(20 * MIB);
  writeFileSync(folder.path('memory'), memory);
  const { warnings } = await save(folder.path('memory'), image);
  t.deepEqual(warnings, []);
  await load(image, folder.path('back'));
  sameBytes(t, readFileSync(folder.path('back')), memory);
});

/** One MiB in eight does not shrink, so a sample of some of them has wide bounds. */
function patchyMemory(sizeMiB: number): Buffer {
  const memory = Buffer.alloc(sizeMiB * MIB);
  for (let at = 0; at < sizeMiB; at++) {
    if ((at * 7) % 8 === 0) randomMemory(MIB, at + 1).copy(memory, at * MIB);
    else memory[at * MIB] = 1;
  }
  return memory;
}

withSmallDisk('what will likely not fit is warned of, and tried', async (t) => {
  const { folder, disk, image } = smallDisk(t, 23 * MIB);
  const memory = folder.path('memory');
  writeFileSync(memory, patchyMemory(192));
  const warnings: Warning[] = [];
  const error = await failsWith(t, 'NO_SPACE', save(memory, image, { onWarning: (warning) => warnings.push(warning) }));
  t.regex(error.message, /no space left on device/);
  t.deepEqual(
    warnings.map(({ code }) => code),
    ['target-may-be-too-small'],
  );
  t.regex(warnings[0]!.message, /will likely not fit: it takes about \d+ bytes, and its file system has \d+ left/);
  t.deepEqual(readdirSync(disk), []);
});

withSmallDisk('the files that are attached count', async (t) => {
  const { folder, disk, image } = smallDisk(t, 8 * MIB);
  writeFileSync(folder.path('memory'), mixedMemory(4 * MIB));
  writeFileSync(folder.path('big'), randomMemory(12 * MIB));
  const attachments = [{ name: 'big', file: folder.path('big') }];
  await failsWith(t, 'NO_SPACE', save(folder.path('memory'), image, { attachments }), /on device/);
  t.deepEqual(readdirSync(disk), []);
});

withSmallDisk('a differential image is not refused for what a whole one would take', async (t) => {
  const { folder, disk } = smallDisk(t, 8 * MIB);
  const memory = randomMemory(16 * MIB);
  writeFileSync(folder.path('memory'), memory);
  await save(folder.path('memory'), folder.path('base'));
  memory[5] = 5;
  writeFileSync(folder.path('memory'), memory);
  const options: SaveOptions = { base: folder.path('base') };
  const { warnings } = await save(folder.path('memory'), join(disk, 'image'), options);
  t.deepEqual(warnings, []);
});
