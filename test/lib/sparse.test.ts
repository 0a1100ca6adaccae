/** Time and disk in proportion to the data, memory independent of the source's size: a machine of 1 TiB that is nearly all hole. */
import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { inspect, load, openImage, save } from '../../lib/index.js';
import { sameBytes } from './support/expect.js';
import { GIB, KIB, MIB, mixedMemory, randomMemory } from './support/memory.js';
import { loadInChild, saveInChild } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

const TIB = 1024 * GIB;
const PIECE = mixedMemory(MIB);
const PIECES = 1024;
/** Node itself takes 60 MiB, each thread of a save 4 segments and what belongs to them. */
const PEAK_MAX_BYTES = 220 * MIB;
const GROWTH_MAX_BYTES = 64 * MIB;
/** Far above what it takes; what it must never do is read a hole: 1 TiB takes minutes. */
const EMPTY_SECONDS = 10;
const SCATTERED_SECONDS = 60;
const STAT_BLOCK_BYTES = 512;

/** The place of each piece: spread over the whole, none on a border of anything. */
const placeOf = (piece: number): number => Math.floor(((piece + 0.37) * TIB) / PIECES / 4096) * 4096;

function writeScattered(folder: Workspace): string {
  const path = folder.path('memory');
  const fd = openSync(path, 'w');
  try {
    ftruncateSync(fd, TIB);
    for (let piece = 0; piece < PIECES; piece++) writeSync(fd, PIECE, 0, PIECE.length, placeOf(piece));
  } finally {
    closeSync(fd);
  }
  return path;
}

function allocatedBytes(path: string): number {
  return statSync(path).blocks * STAT_BLOCK_BYTES;
}

function seconds(result: { run: { durationSeconds: number } }): number {
  return result.run.durationSeconds;
}

test.serial('1 TiB that holds 1 GiB, scattered', async (t) => {
  const folder = workspace(t);
  const source = writeScattered(folder);
  const [image, target] = [folder.path('image'), folder.path('target')];
  const saved = await saveInChild({ operation: 'save', source, image, options: { threads: 2 } });
  const loaded = await loadInChild({ operation: 'load', image, target, options: { threads: 2 } });
  for (const [what, { result, peakBytes }] of Object.entries({ save: saved, load: loaded })) {
    t.log(`${what}: ${seconds(result).toFixed(2)} s, peak memory ${Math.round(peakBytes / MIB)} MiB`);
    t.true(peakBytes < PEAK_MAX_BYTES, `peak memory of the ${what}: ${peakBytes}`);
    t.true(seconds(result) < SCATTERED_SECONDS, `time of the ${what}`);
  }
  t.is(saved.result.memoryBytes, TIB);
  t.true(saved.result.run.readBytes <= 2 * PIECES * PIECE.length);
  t.true(saved.result.imageBytes < PIECES * PIECE.length);
  t.is(loaded.result.digest, saved.result.digest);
  requireScattered(t, target);
  t.true(allocatedBytes(target) < 1.5 * PIECES * PIECE.length, `${allocatedBytes(target)} bytes on disk`);
  await requireRandomReads(t, image);
});

/** Every piece stands where it did, and beside it there is nothing. */
function requireScattered(t: ExecutionContext, path: string): void {
  t.is(statSync(path).size, TIB);
  const around = Buffer.alloc(PIECE.length + 2 * 4096);
  const expected = Buffer.concat([Buffer.alloc(4096), PIECE, Buffer.alloc(4096)]);
  const fd = openSync(path, 'r');
  try {
    for (let piece = 0; piece < PIECES; piece++) {
      readSync(fd, around, 0, around.length, placeOf(piece) - 4096);
      if (!around.equals(expected)) t.fail(`piece ${piece} differs`);
    }
  } finally {
    closeSync(fd);
  }
}

async function requireRandomReads(t: ExecutionContext, path: string): Promise<void> {
  const image = await openImage(path);
  for (const piece of [0, 1, 511, 1023]) sameBytes(t, await image.read('ram', placeOf(piece), PIECE.length), PIECE);
  sameBytes(t, await image.read('ram', TIB - 4096, 4096), Buffer.alloc(4096));
  await image.close();
  const started = performance.now();
  const report = await inspect(path);
  t.log(`inspect: ${Math.round(performance.now() - started)} ms`);
  t.is(report.memory.sizeBytes, TIB);
  t.is(report.heat!.length, 64);
}

test.serial('1 TiB that holds nothing', async (t) => {
  const folder = workspace(t);
  const [source, image, target] = [folder.path('memory'), folder.path('image'), folder.path('target')];
  writeFileSync(source, '');
  truncateSync(source, TIB);
  const saved = await save(source, image);
  t.log(`save: ${seconds(saved).toFixed(3)} s, an image of ${saved.imageBytes} bytes`);
  t.true(seconds(saved) < EMPTY_SECONDS);
  t.is(saved.pages.zero, TIB / 4096);
  t.is(saved.run.readBytes, 0);
  t.true(saved.imageBytes < 8 * KIB);
  const loaded = await load(image, target);
  t.log(`load: ${seconds(loaded).toFixed(3)} s`);
  t.true(seconds(loaded) < EMPTY_SECONDS);
  t.is(statSync(target).size, TIB);
  t.is(allocatedBytes(target), 0);
  writeFileSync(target, randomMemory(MIB));
  const placed = await load(image, target, { inPlace: true });
  t.log(`load in place: ${seconds(placed).toFixed(3)} s`);
  t.is(statSync(target).size, TIB);
  t.true(allocatedBytes(target) <= MIB);
  t.true(readFileSync(image).length === saved.imageBytes);
});

test.serial('peak memory of 8 MiB and of 2 GiB', async (t) => {
  const folder = workspace(t);
  const block = mixedMemory(8 * MIB);
  const peaks = { small: await peaksOf(folder, block, 1), large: await peaksOf(folder, block, 256) };
  for (const [what, { save: saving, load: loading }] of Object.entries(peaks)) {
    t.log(`${what}: save ${Math.round(saving / MIB)} MiB, load ${Math.round(loading / MIB)} MiB`);
  }
  t.true(peaks.large.save - peaks.small.save < GROWTH_MAX_BYTES);
  t.true(peaks.large.load - peaks.small.load < GROWTH_MAX_BYTES);
  t.true(Math.max(peaks.large.save, peaks.large.load) < PEAK_MAX_BYTES);
});

/** Peak memory of a save and of a load to nowhere. */
async function peaksOf(folder: Workspace, block: Buffer, count: number): Promise<{ save: number; load: number }> {
  const [source, image] = [folder.path('memory'), folder.path(`image-${count}`)];
  const fd = openSync(source, 'w');
  for (let i = 0; i < count; i++) writeSync(fd, block);
  closeSync(fd);
  const saved = await saveInChild({ operation: 'save', source, image, options: { threads: 2 } });
  truncateSync(source, 0);
  const loaded = await loadInChild({ operation: 'load', image, target: '/dev/null', options: { threads: 2 } });
  return { save: saved.peakBytes, load: loaded.peakBytes };
}
