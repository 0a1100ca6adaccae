/** Saves on an emulated DSA device: the image is that of the CPU, byte by byte, whatever the queue and the geometry. */
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { load, type SaveOptions, type SaveResult, save } from '../../lib/index.js';
import { emulatedDevice, QUEUE_BY_WAY } from './support/dsa.js';
import { failsWith, sameBytes } from './support/expect.js';
import { countPages, KIB, MIB, mixedMemory, PAGE, randomMemory, writeSparse } from './support/memory.js';
import { mount, onHugePages, onMount, reserveHugePages } from './support/privileged.js';
import { diskWorkspace, type Workspace, workspace } from './support/workspace.js';

process.env.SOURCE_DATE_EPOCH = '1700000000';

const MEMORY = Buffer.concat([mixedMemory(5 * MIB), Buffer.alloc(6 * MIB), randomMemory(MIB), mixedMemory(3 * MIB, 9)]);

function source(t: ExecutionContext, memory = MEMORY, make = workspace): { folder: Workspace; path: string } {
  const folder = make(t);
  writeFileSync(folder.path('memory'), memory);
  return { folder, path: folder.path('memory') };
}

async function imageOf(
  folder: Workspace,
  path: string | undefined,
  options: SaveOptions,
): Promise<{ bytes: Buffer; saved: SaveResult }> {
  const image = folder.path('image');
  const saved = await save(path, image, {
    segmentSize: MIB,
    chunkSize: 64 * KIB,
    frozen: true,
    force: true,
    ...options,
  });
  return { bytes: readFileSync(image), saved };
}

for (const [way, queue] of Object.entries(QUEUE_BY_WAY)) {
  test(`${way}: the same image as the CPU's, with any number of threads and pages in a batch`, async (t) => {
    const { folder, path } = source(t);
    const expected = await imageOf(folder, path, { detector: 'scalar' });
    for (const batchPages of [1, 2, 7, 128, 1024]) {
      const device = emulatedDevice(t, { queues: [queue, queue], options: { batchPages } });
      for (const threads of [1, 2, 5]) {
        const actual = await imageOf(folder, path, { detector: 'dsa-emulated', dsa: { device }, threads });
        sameBytes(t, actual.bytes, expected.bytes, `the image with ${threads} threads, batches of ${batchPages}`);
        const { run } = actual.saved;
        t.is(run.detector, 'dsa-emulated');
        t.true(run.dsa!.emulated);
        t.deepEqual(
          run.dsa!.queues.map((used) => used.way),
          [way, way],
        );
        t.is(run.dsa!.pagesZero, countPages(MEMORY).zero);
        t.is(run.dsa!.pagesCheckedByCpu, 0);
        t.is(run.readBytes, MEMORY.length - run.dsa!.pagesZero * PAGE);
        t.deepEqual(actual.saved.warnings, []);
      }
    }
  });
}

test('pages and segments of any size', async (t) => {
  const { folder, path } = source(t, Buffer.concat([MEMORY, Buffer.alloc(MIB)]));
  const device = emulatedDevice(t);
  for (const pageSize of [PAGE, 16 * KIB, 128 * KIB, 2 * MIB]) {
    for (const segmentSize of [MIB, 4 * MIB, 16 * MIB]) {
      if (segmentSize < pageSize) continue;
      const geometry = { pageSize, segmentSize, chunkSize: Math.max(pageSize, 64 * KIB) };
      const expected = await imageOf(folder, path, { ...geometry, detector: 'scalar' });
      const actual = await imageOf(folder, path, { ...geometry, detector: 'dsa-emulated', dsa: { device } });
      sameBytes(t, actual.bytes, expected.bytes, `the image with pages of ${pageSize}, segments of ${segmentSize}`);
      t.true(actual.saved.run.dsa!.pagesZero > 0);
    }
  }
});

test('several regions, of files and in them at any offset', async (t) => {
  const { folder, path } = source(t);
  writeFileSync(folder.path('other'), Buffer.concat([randomMemory(777), MEMORY]));
  const regions = [
    { name: 'low', sizeBytes: 3 * MIB + 5 * PAGE, gpa: 0, file: path },
    { name: 'odd', sizeBytes: 8 * MIB, gpa: 4 * 2 ** 30, file: folder.path('other'), fileOffset: 777 },
    { name: 'high', sizeBytes: 2 * MIB, gpa: 8 * 2 ** 30, file: path, fileOffset: 11 * MIB },
  ];
  const device = emulatedDevice(t);
  for (const threads of [1, 3]) {
    const expected = await imageOf(folder, undefined, { regions, detector: 'scalar' });
    const actual = await imageOf(folder, undefined, { regions, threads, detector: 'dsa-emulated', dsa: { device } });
    sameBytes(t, actual.bytes, expected.bytes, 'the image');
    t.true(actual.saved.run.dsa!.pagesZero > 0);
  }
});

test('a sparse file stays as sparse as it is, and only what is there goes to the device', async (t) => {
  const folder = workspace(t);
  writeSparse(folder.path('memory'), MEMORY);
  const before = statSync(folder.path('memory')).blocks;
  const expected = await imageOf(folder, folder.path('memory'), { detector: 'scalar' });
  const device = emulatedDevice(t);
  const actual = await imageOf(folder, folder.path('memory'), { detector: 'dsa-emulated', dsa: { device } });
  sameBytes(t, actual.bytes, expected.bytes, 'the image');
  t.is(statSync(folder.path('memory')).blocks, before);
  t.is(actual.saved.run.dsa!.pagesZero, 0);
  t.true(actual.saved.run.dsa!.queues[0]!.counters.bytes > 0);
});

test('a file on disk, of which a part is not in the page cache', async (t) => {
  const { folder, path } = source(t, MEMORY, diskWorkspace);
  const expected = await imageOf(folder, path, { detector: 'scalar' });
  const device = emulatedDevice(t);
  const actual = await imageOf(folder, path, { detector: 'dsa-emulated', dsa: { device } });
  sameBytes(t, actual.bytes, expected.bytes, 'the image');
});

test('a device of its own for one save', async (t) => {
  const { folder, path } = source(t);
  const expected = await imageOf(folder, path, { detector: 'scalar' });
  const actual = await imageOf(folder, path, {
    detector: 'dsa-emulated',
    dsa: { batchPages: 32, depth: 4, selfCheck: true },
  });
  sameBytes(t, actual.bytes, expected.bytes, 'the image');
  const { dsa } = actual.saved.run;
  t.is(dsa!.queues[0]!.batchPages, 32);
  t.is(dsa!.queues[0]!.depth, 4);
  t.deepEqual(dsa!.selfCheck, { pages: MEMORY.length / PAGE, wrong: 0 });
  t.is(actual.saved.run.readBytes, MEMORY.length);
  t.is(actual.saved.run.dsaPresent, undefined, 'nobody looked for a real one');
});

test('a device that stays open over saves, of files that change in between', async (t) => {
  const { folder, path } = source(t);
  const device = emulatedDevice(t, { options: { keepMapped: true } });
  let before = 0;
  for (const memory of [MEMORY, MEMORY, Buffer.concat([MEMORY, MEMORY]), MEMORY.subarray(3 * MIB)]) {
    truncateSync(path, 0);
    writeFileSync(path, memory);
    const expected = await imageOf(folder, path, { detector: 'scalar' });
    const actual = await imageOf(folder, path, { detector: 'dsa-emulated', dsa: { device } });
    sameBytes(t, actual.bytes, expected.bytes, 'the image');
    const { pagesZero, queues } = actual.saved.run.dsa!;
    t.is(pagesZero, countPages(memory).zero);
    // Counters of a run are of that run; those of the device go on.
    t.is(queues[0]!.counters.pagesZero, pagesZero);
    before += pagesZero;
    t.is(device.reports().queues[0]!.counters.pagesZero, before);
  }
});

test('two saves at once on one device', async (t) => {
  const { folder, path } = source(t);
  const expected = await imageOf(folder, path, { detector: 'scalar' });
  const device = emulatedDevice(t);
  const images = ['one', 'two'].map((name) => folder.path(name));
  const saves = images.map((image) =>
    save(path, image, {
      segmentSize: MIB,
      chunkSize: 64 * KIB,
      frozen: true,
      detector: 'dsa-emulated',
      dsa: { device },
    }),
  );
  t.throws(() => device.close(), { message: /in use/ });
  await Promise.all(saves);
  for (const image of images) sameBytes(t, readFileSync(image), expected.bytes, image);
  device.close();
  device.close();
  await failsWith(t, 'USAGE', imageOf(folder, path, { detector: 'dsa-emulated', dsa: { device } }), /closed/);
});

test('a share of the zero pages stored as data: the same image whoever finds them, and the same memory', async (t) => {
  const { folder, path } = source(t);
  const device = emulatedDevice(t);
  // Of pages that are stored to see how fast that is, duplicates are too.
  const plain = await imageOf(folder, path, { detector: 'scalar', references: false });
  let stored = plain.saved.pages.data;
  for (const normalPageRatio of [1, 30, 100]) {
    const expected = await imageOf(folder, path, { detector: 'scalar', normalPageRatio, threads: 1 });
    const actual = await imageOf(folder, path, { detector: 'dsa-emulated', dsa: { device }, normalPageRatio });
    sameBytes(t, actual.bytes, expected.bytes, `the image with ${normalPageRatio} percent`);
    t.is(actual.saved.digest, plain.saved.digest);
    t.true(actual.saved.pages.data > stored);
    stored = actual.saved.pages.data;
    const back = folder.path('back');
    await load(folder.path('image'), back, { force: true });
    sameBytes(t, readFileSync(back), MEMORY);
  }
  t.is(stored, plain.saved.pages.data + plain.saved.pages.zero);
});

onHugePages(12)('a file of huge pages', async (t) => {
  reserveHugePages(t, 12);
  const folder = workspace(t);
  const path = `${mount(t, folder, 'hugetlbfs', 'pagesize=2M')}/memory`;
  const memory = Buffer.concat([MEMORY, Buffer.alloc(MIB)]);
  writeFileSync(folder.path('memory'), memory);
  const made = await save(folder.path('memory'), folder.path('made'), { frozen: true });
  truncateSync(folder.path('memory'), 0);
  writeFileSync(path, '');
  truncateSync(path, memory.length);
  await load(folder.path('made'), path, { inPlace: true });
  const device = emulatedDevice(t);
  const expected = await imageOf(folder, path, { detector: 'scalar' });
  for (const detector of ['dsa-emulated', 'auto'] as const) {
    const actual = await imageOf(folder, path, { detector, dsa: { device } });
    sameBytes(t, actual.bytes, expected.bytes, 'the image');
    t.is(actual.saved.digest, made.digest);
    t.is(actual.saved.run.detector, 'dsa-emulated');
    t.true(actual.saved.run.dsa!.pagesZero > 0);
  }
});

onMount()('a tmpfs of huge pages: auto takes the device for it', async (t) => {
  const folder = workspace(t);
  const path = `${mount(t, folder, 'tmpfs', 'size=40m,huge=always')}/memory`;
  writeFileSync(path, MEMORY);
  const device = emulatedDevice(t);
  const expected = await imageOf(folder, path, { detector: 'scalar' });
  const actual = await imageOf(folder, path, { detector: 'auto', dsa: { device } });
  sameBytes(t, actual.bytes, expected.bytes, 'the image');
  t.is(actual.saved.run.detector, 'dsa-emulated');
  t.is(actual.saved.run.detectorReason, 'the memory lies in 2 MiB pages');
  t.is(actual.saved.run.dsa!.pagesZero, countPages(MEMORY).zero);
});
