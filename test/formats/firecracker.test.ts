/** Firecracker snapshots, full and diff: saved, looked into, and brought back; and what is wrong with one is told. */
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { crc64 } from '../../formats/firecracker/crc64.js';
import {
  compare,
  estimate,
  extract,
  inspect,
  inspectMemoryFile,
  load,
  type SaveOptions,
  save,
} from '../../lib/index.js';
import { emulatedDevice } from '../lib/support/dsa.js';
import { failsWith, sameBytes } from '../lib/support/expect.js';
import { GIB, MIB, mixedMemory, PAGE, randomMemory, usedPages, writeSparse } from '../lib/support/memory.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { writePages, writeVmstate } from '../support/snapshots/firecracker.js';

process.env.SOURCE_DATE_EPOCH = '1700000000';

const OPTIONS: SaveOptions = { frozen: true, force: true, segmentSize: MIB, threads: 2 };

test('the checksum is the one that Redis has', (t) => {
  t.is(crc64(Buffer.from('123456789')), 0xe9c6d914c4b8d9can);
});

test('a full snapshot with its state file', async (t) => {
  const folder = workspace(t);
  const [memory, image, back] = [folder.path('mem'), folder.path('image'), folder.path('back')];
  const bytes = Buffer.concat([mixedMemory(3 * MIB), Buffer.alloc(5 * MIB), mixedMemory(MIB + PAGE, 7)]);
  writeSparse(memory, bytes);
  const state = writeVmstate(folder.path('state'), 70_001);
  const saved = await save(memory, image, { ...OPTIONS, vmstate: folder.path('state') });
  t.deepEqual(saved.source, { kind: 'firecracker', name: 'mem' });
  t.is(saved.attachments, 1);
  await load(image, back);
  sameBytes(t, readFileSync(back), bytes);
  await extract(image, 'vmstate', folder.path('state-back'));
  sameBytes(t, readFileSync(folder.path('state-back')), state, 'the state file');
  t.deepEqual((await inspect(image)).attachments, [{ name: 'vmstate', sizeBytes: 70_001 }]);
  const report = (await inspectMemoryFile(memory, { vmstate: folder.path('state') }))!;
  t.is(report.format, 'firecracker');
  t.deepEqual(report.memory.regions, [{ name: 'ram', gpa: 0, sizeBytes: bytes.length }]);
  const stored = usedPages(bytes);
  t.deepEqual(report.memory.pages, { stored, zero: bytes.length / PAGE - stored, absent: 0 });
  t.is(report.fileBytes, bytes.length + 70_001);
  t.deepEqual(report.attachments, [{ name: 'vmstate', sizeBytes: 70_001 }]);
});

test('regions as the machine has them, with holes that cost nothing', async (t) => {
  const folder = workspace(t);
  const memory = folder.path('mem');
  const last = 3 * GIB + 4 * MIB;
  writePages(
    memory,
    last,
    new Map([
      [0, randomMemory(PAGE, 1)],
      [last / PAGE - 1, randomMemory(PAGE, 2)],
    ]),
  );
  const saved = await save(memory, folder.path('image'), { ...OPTIONS, format: 'firecracker' });
  t.deepEqual(saved.regions, [
    { name: 'ram', gpa: 0, sizeBytes: 3 * GIB },
    { name: 'ram-above-4g', gpa: 4 * GIB, sizeBytes: 4 * MIB },
  ]);
  t.true(saved.run.readBytes <= 2 * MIB);
  const same = await save(memory, folder.path('raw'), { ...OPTIONS, layout: 'firecracker-x86' });
  t.is(same.digest, saved.digest);
});

/** Which pages each of the two files stores: undefined, or what they are filled with (0: zeros). */
interface Plan {
  readonly pages: number;
  readonly base: readonly (readonly [number, number])[];
  readonly diff: readonly (readonly [number, number])[];
}

const stored = (pages: number) =>
  fc.array(fc.tuple(fc.nat({ max: pages - 1 }), fc.integer({ min: 0, max: 255 }), fc.integer({ min: 1, max: 40 })), {
    minLength: 1,
    maxLength: 30,
  });

const plans: fc.Arbitrary<Plan> = fc.integer({ min: 3, max: 900 }).chain((pages) =>
  fc.tuple(stored(pages), stored(pages), fc.nat({ max: pages - 1 })).map(([base, diff, hole]) => ({
    pages,
    base: runs(base, pages),
    // At least one page is as in the base.
    diff: runs(diff, pages).filter(([page]) => page !== hole),
  })),
);

function runs(list: readonly (readonly [number, number, number])[], pages: number): [number, number][] {
  return list.flatMap(([first, fill, count]) =>
    Array.from({ length: Math.min(count, pages - first) }, (_, i): [number, number] => [first + i, fill]),
  );
}

function filled(list: readonly (readonly [number, number])[]): Map<number, Buffer> {
  return new Map(
    list.map(([page, fill]) => [page, fill % 3 === 0 ? Buffer.alloc(PAGE, fill) : randomMemory(PAGE, fill)]),
  );
}

function writePlan(folder: Workspace, plan: Plan): { memory: string; base: string; merged: Buffer } {
  const size = plan.pages * PAGE;
  const [own, below] = [filled(plan.diff), filled(plan.base)];
  const merged = Buffer.alloc(size);
  for (const [page, bytes] of [...below, ...own]) bytes.copy(merged, page * PAGE);
  return {
    memory: writePages(folder.path('diff'), size, own),
    base: writePages(folder.path('base'), size, below),
    merged,
  };
}

test('a diff is what it stores, and elsewhere its base', async (t) => {
  const folder = workspace(t);
  const [image, back] = [folder.path('image'), folder.path('back')];
  await fc.assert(
    fc.asyncProperty(plans, fc.integer({ min: 1, max: 3 }), async (plan, threads) => {
      const { memory, base, merged } = writePlan(folder, plan);
      await save(memory, image, { ...OPTIONS, threads, diffBase: base });
      await load(image, back, { force: true });
      sameBytes(t, readFileSync(back), merged);
      writeFileSync(folder.path('merged'), merged);
      const flat = await save(folder.path('merged'), folder.path('whole'), OPTIONS);
      t.is((await inspect(image)).memory.digest, flat.digest);
    }),
    { numRuns: 25 },
  );
});

/** 12 MiB: the diff has long runs, single pages, zeros over data, and a segment of its own. */
function example(t: ExecutionContext): { folder: Workspace; memory: string; base: string; merged: Buffer } {
  const folder = workspace(t);
  const pages = (12 * MIB) / PAGE;
  const base = runs(
    [
      [0, 7, 700],
      [1024, 10, 512],
      [2600, 11, 40],
    ],
    pages,
  );
  const diff = runs(
    [
      [300, 8, 3],
      [400, 0, 20],
      [513, 13, 1],
      [515, 13, 1],
      [1100, 14, 300],
      [2900, 15, 100],
    ],
    pages,
  );
  for (let page = 700; page < 760; page += 2) diff.push([page, page % 256]);
  return { folder, ...writePlan(folder, { pages, base, diff }) };
}

test('a diff on a device, in a chain, in an estimate and in a comparison', async (t) => {
  const { folder, memory, base, merged } = example(t);
  const image = folder.path('image');
  const saved = await save(memory, image, { ...OPTIONS, diffBase: base });
  const expected = readFileSync(image);
  const device = emulatedDevice(t);
  const byDevice = await save(memory, image, { ...OPTIONS, diffBase: base, detector: 'dsa-emulated', dsa: { device } });
  sameBytes(t, readFileSync(image), expected, 'the image made with a device');
  t.true(byDevice.run.dsa!.pagesZero > 0);
  const estimated = await estimate(memory, { segmentSize: MIB, diffBase: base, full: true });
  t.is(estimated.imageBytes.likely, statSync(image).size);
  t.deepEqual(estimated.pages, saved.pages);
  const sampled = await estimate(memory, { segmentSize: MIB, diffBase: base, sampleBytes: 16 * MIB });
  t.true(sampled.imageBytes.low <= saved.imageBytes && saved.imageBytes <= sampled.imageBytes.high);

  const described = (await inspectMemoryFile(memory, { diffBase: base }))!.memory.pages;
  // 700, 512 and 40 pages of the base; of the diff what lies elsewhere.
  t.deepEqual(described, { stored: 1252 + 30 + 100, zero: merged.length / PAGE - 1382, absent: 0 });

  const full = await save(base, folder.path('monday'), { ...OPTIONS, format: 'firecracker' });
  t.is(full.pages.data > 0, true);
  const child = await save(memory, folder.path('tuesday'), { ...OPTIONS, diffBase: base, base: folder.path('monday') });
  t.is(child.digest, saved.digest);
  t.true(child.pages.sameAsBase > child.pages.data);
  await load(folder.path('tuesday'), folder.path('back'));
  sameBytes(t, readFileSync(folder.path('back')), merged);
  t.true((await compare(folder.path('monday'), base, { format: 'firecracker' })).equal);
  t.false((await compare(image, base)).equal);
});

test('a base or a diff that is cut off while it is read is no memory', async (t) => {
  const { folder, memory, base } = example(t);
  const onRecognised = () => truncateSync(base, MIB);
  const failed = await failsWith(
    t,
    'SOURCE_CHANGED',
    save(memory, folder.path('image'), { ...OPTIONS, diffBase: base, onRecognised }),
  );
  t.is(failed.path, base);
});

test('what is wrong with a snapshot is told', async (t) => {
  const folder = workspace(t);
  const image = folder.path('image');
  const memory = folder.path('mem');
  writeFileSync(memory, mixedMemory(MIB));
  const state = writeVmstate(folder.path('state'), 1000);
  const bad = Buffer.from(state);
  bad[500]! ^= 1;
  writeFileSync(folder.path('bad'), bad);
  writeFileSync(folder.path('short'), state.subarray(0, 999));
  writeFileSync(folder.path('empty'), '');
  truncateSync(folder.path('empty'), 0);
  writeFileSync(folder.path('huge'), '');
  truncateSync(folder.path('huge'), 10_000_001);
  for (const name of ['bad', 'short', 'empty', 'huge']) {
    const error = await failsWith(
      t,
      'CORRUPT',
      save(memory, image, { ...OPTIONS, vmstate: folder.path(name) }),
      /no sound state file of Firecracker: it/,
    );
    t.is(error.path, folder.path(name));
  }
  await failsWith(t, 'NOT_FOUND', save(memory, image, { ...OPTIONS, vmstate: folder.path('none') }), /state file/);
  await failsWith(t, 'USAGE', save(memory, image, { ...OPTIONS, vmstate: folder.folder }), /no regular file/);
  writeFileSync(folder.path('odd'), Buffer.alloc(PAGE + 1));
  await failsWith(t, 'CORRUPT', save(folder.path('odd'), image, { ...OPTIONS, format: 'firecracker' }), /4097 bytes/);
  writePages(folder.path('larger'), 2 * MIB, new Map());
  writePages(folder.path('same'), MIB, new Map());
  await failsWith(t, 'BASE_MISMATCH', save(memory, image, { ...OPTIONS, diffBase: folder.path('larger') }), /1048576/);
  await failsWith(t, 'USAGE', save(memory, image, { ...OPTIONS, diffBase: memory }), /the same file/);
  await failsWith(t, 'USAGE', save(memory, image, { ...OPTIONS, diffBase: folder.path('same') }), /no holes/);
  const vmstate = folder.path('state');
  const attachments = [{ name: 'vmstate', file: vmstate }];
  await failsWith(t, 'USAGE', save(memory, image, { ...OPTIONS, vmstate, attachments }), /"vmstate" itself/);
  await failsWith(t, 'USAGE', save(memory, image, { ...OPTIONS, vmstate, layout: 'pc-q35' }), /--layout/);
  await failsWith(t, 'USAGE', save(memory, image, { ...OPTIONS, vmstate, format: 'raw' }), /--vmstate/);
  await failsWith(t, 'USAGE', save('-', image, { ...OPTIONS, vmstate }), /through a pipe/);
  t.deepEqual(folder.leftovers(), []);
  t.is(statSync(image, { throwIfNoEntry: false }), undefined);
});
