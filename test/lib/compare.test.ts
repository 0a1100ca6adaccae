/** Comparisons of images, chains and raw memory, held against a plain loop over the bytes. */
import { closeSync, copyFileSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { type CompareResult, compare, type Difference, type SaveOptions, save } from '../../lib/index.js';
import { failsWith } from './support/expect.js';
import { KIB, MIB, makeMemory, mixedMemory, PAGE, PAGE_KINDS, randomMemory } from './support/memory.js';
import { loopDevice, onLoopDevice } from './support/privileged.js';
import { type Workspace, workspace } from './support/workspace.js';

type Change = Difference['change'];

/** What a plain loop finds: the change of each page, undefined where both are the same. */
function changesOf(a: Buffer, b: Buffer, pageSize: number): (Change | undefined)[] {
  const zero = Buffer.alloc(pageSize);
  const changes: (Change | undefined)[] = [];
  for (let at = 0; at < a.length; at += pageSize) {
    const [pageA, pageB] = [a.subarray(at, at + pageSize), b.subarray(at, at + pageSize)];
    if (pageA.equals(pageB)) changes.push(undefined);
    else changes.push(pageA.equals(zero) ? 'was-zero' : pageB.equals(zero) ? 'became-zero' : 'changed');
  }
  return changes;
}

function zeroPages(a: Buffer, b: Buffer, pageSize: number): number {
  const zero = Buffer.alloc(pageSize);
  let count = 0;
  for (let at = 0; at < a.length; at += pageSize) {
    if (a.subarray(at, at + pageSize).equals(zero) && b.subarray(at, at + pageSize).equals(zero)) count++;
  }
  return count;
}

function rangesOf(changes: readonly (Change | undefined)[], pageSize: number, region = 'ram'): Difference[] {
  const ranges: { region: string; offset: number; length: number; change: Change }[] = [];
  for (const [page, change] of changes.entries()) {
    if (change === undefined) continue;
    const last = ranges.at(-1);
    if (last?.change === change && last.offset + last.length === page * pageSize) last.length += pageSize;
    else ranges.push({ region, offset: page * pageSize, length: pageSize, change });
  }
  return ranges;
}

const count = (changes: readonly (Change | undefined)[], change: Change | undefined) =>
  changes.filter((own) => own === change).length;

/** Changes some pages: other bytes, zeros, one repeated byte, a single byte. */
function workedOn(memory: Buffer, works: readonly { page: number; pages: number; kind: number }[]): Buffer {
  const later = Buffer.from(memory);
  const total = memory.length / PAGE;
  for (const { page, pages, kind } of works) {
    const from = (page % total) * PAGE;
    const part = later.subarray(from, from + pages * PAGE);
    if (kind === 0) part.fill(0);
    else if (kind === 1) part.fill(0x33);
    else if (kind === 2) randomMemory(part.length, page + 1).copy(part);
    else for (let at = page % PAGE; at < part.length; at += PAGE) part[at]! ^= 1;
  }
  return later;
}

type SideKind = { readonly kind: 'raw' } | { readonly kind: 'image' | 'chain'; readonly options: SaveOptions };

const sides: fc.Arbitrary<SideKind> = fc.oneof(
  fc.record({ kind: fc.constant<'raw'>('raw') }),
  fc.record({
    kind: fc.constantFrom<'image' | 'chain'>('image', 'chain'),
    options: fc.record({
      pageSize: fc.constantFrom(4 * KIB, 4 * KIB, 16 * KIB, 64 * KIB),
      segmentSize: fc.constantFrom(MIB, 2 * MIB, 4 * MIB),
      chunkSize: fc.constantFrom(64 * KIB, 256 * KIB),
      codec: fc.constantFrom<'zstd' | 'zlib' | 'none'>('zstd', 'zstd', 'zlib', 'none'),
    }),
  }),
);

/** A chain: first an image of something else, then the difference to it. */
async function makeSide(
  folder: Workspace,
  name: string,
  memory: Buffer,
  before: Buffer,
  side: SideKind,
): Promise<string> {
  const raw = folder.path(`${name}.mem`);
  writeFileSync(raw, memory);
  if (side.kind === 'raw') return raw;
  const image = folder.path(`${name}.vmsnap`);
  if (side.kind === 'image') {
    await save(raw, image, { ...side.options, force: true });
    return image;
  }
  const base = folder.path(`${name}.base`);
  writeFileSync(folder.path('before'), before);
  await save(folder.path('before'), base, { ...side.options, force: true });
  await save(raw, image, { codec: side.options.codec, base, force: true });
  return image;
}

function pageSizeOf(side: SideKind): number {
  return side.kind === 'raw' ? PAGE : side.options.pageSize!;
}

test('any two of memory, images and chains, as a plain loop sees them', async (t) => {
  const folder = workspace(t);
  const works = fc.array(fc.record({ page: fc.nat(2000), pages: fc.integer({ min: 1, max: 40 }), kind: fc.nat(3) }), {
    maxLength: 12,
  });
  const runs = fc.array(fc.record({ kind: fc.constantFrom(...PAGE_KINDS), pages: fc.integer({ min: 1, max: 300 }) }), {
    maxLength: 20,
  });
  const property = fc.asyncProperty(
    sides,
    sides,
    runs,
    works,
    works,
    fc.integer({ min: 1, max: 90 }),
    fc.integer({ min: 1, max: 3 }),
    async (sideA, sideB, pieces, worksA, worksB, units, threads) => {
      const before = makeMemory(units * 64 * KIB, pieces);
      const a = workedOn(before, worksA);
      const b = workedOn(a, worksB);
      const pathA = await makeSide(folder, 'a', a, before, sideA);
      const pathB = await makeSide(folder, 'b', b, before, sideB);
      const result = await compare(pathA, pathB, { threads, heatCells: 10 });
      const pageSize = Math.min(pageSizeOf(sideA), pageSizeOf(sideB));
      const changes = changesOf(a, b, pageSize);
      t.is(result.pageSize, pageSize);
      t.deepEqual(result.pages, {
        same: count(changes, undefined),
        bothZero: zeroPages(a, b, pageSize),
        changed: count(changes, 'changed'),
        becameZero: count(changes, 'became-zero'),
        wasZero: count(changes, 'was-zero'),
      });
      t.deepEqual(result.ranges, rangesOf(changes, pageSize));
      t.is(result.equal, a.equals(b));
      t.is(result.comparedBytes, a.length);
      const different = changes.length - count(changes, undefined);
      const heat = result.heat.reduce((sum, cell) => sum + cell.differentPages, 0);
      t.true(Math.abs(heat - different) < 1e-6, `${heat} pages in the heat bar, ${different} differ`);
    },
  );
  await fc.assert(property, { numRuns: 60, seed: 8 });
});

test('images made alike: what they store in the same bytes, and what they do not', async (t) => {
  const folder = workspace(t);
  for (const options of [
    {},
    { codec: 'none' },
    { codec: 'zlib', chunkSize: 16 * KIB },
    { segmentSize: MIB },
  ] as SaveOptions[]) {
    for (let seed = 1; seed <= 6; seed++) {
      const a = mixedMemory(9 * MIB, seed);
      const works = Array.from({ length: seed }, (_, i) => ({
        page: (seed * 37 + i * 501) % 2300,
        pages: i + 1,
        kind: i % 4,
      }));
      const b = workedOn(a, works);
      const image: SideKind = { kind: 'image', options };
      const paths = [await makeSide(folder, 'a', a, a, image), await makeSide(folder, 'b', b, a, image)] as const;
      const result = await compare(...paths, { threads: 2 });
      const changes = changesOf(a, b, PAGE);
      t.deepEqual(result.ranges, rangesOf(changes, PAGE));
      t.is(result.pages.same, count(changes, undefined));
      t.is(result.pages.bothZero, zeroPages(a, b, PAGE));
    }
  }
});

test('images with duplicates: references are compared by what they name, beside chunks that are the same', async (t) => {
  const folder = workspace(t);
  const image: SideKind = { kind: 'image', options: { frozen: true, chunkSize: 64 * KIB } };
  for (let seed = 1; seed <= 8; seed++) {
    const a = randomMemory(9 * MIB, seed);
    // Runs of pages that stand elsewhere too, in the same segment and in an earlier one.
    for (let i = 0; i < 12; i++) {
      const from = ((seed * 53 + i * 97) % 900) * PAGE;
      a.copy(a, ((seed * 31 + i * 181 + 1000) % 2200) * PAGE, from, from + (i + 1) * PAGE);
    }
    const b = Buffer.from(a);
    // First places and duplicates change, alone and together.
    for (let i = 0; i < 12; i++) {
      if ((seed + i) % 3 === 0)
        b.fill(i + 1, ((seed * 53 + i * 97) % 900) * PAGE, ((seed * 53 + i * 97) % 900) * PAGE + 100);
      if ((seed + i) % 4 === 0) b[((seed * 31 + i * 181 + 1000) % 2200) * PAGE + 7]! ^= 1;
    }
    const paths = [await makeSide(folder, 'a', a, a, image), await makeSide(folder, 'b', b, a, image)] as const;
    const result = await compare(...paths, { threads: 2 });
    const changes = changesOf(a, b, PAGE);
    t.deepEqual(result.ranges, rangesOf(changes, PAGE), `seed ${seed}`);
    t.is(result.pages.same, count(changes, undefined));
    const { pages } = await compare(paths[0], paths[0]);
    t.is(pages.same, a.length / PAGE);
  }
});

test('an image and its copy, its base and itself: nothing is decompressed', async (t) => {
  const folder = workspace(t);
  const [memory, image, copy, child] = ['memory', 'image', 'copy', 'child'].map((name) => folder.path(name)) as [
    string,
    string,
    string,
    string,
  ];
  const bytes = mixedMemory(10 * MIB);
  writeFileSync(memory, bytes);
  await save(memory, image, { segmentSize: MIB, codec: 'none' });
  copyFileSync(image, copy);
  bytes[5 * MIB + 3]! ^= 1;
  writeFileSync(memory, bytes);
  await save(memory, child, { base: image });
  // A payload that cannot be read any more: who reads it fails.
  const fd = openSync(copy, 'r+');
  writeSync(fd, Buffer.alloc(100, 0x55), 0, 100, 2 * MIB);
  closeSync(fd);
  t.true((await compare(image, image)).equal);
  const withCopy = await compare(image, copy);
  t.true(withCopy.equal);
  t.is(withCopy.pages.same, 2560);
  const withChild = await compare(image, child);
  t.deepEqual(
    withChild.ranges.map(({ offset, length }) => [offset, length]),
    [[5 * MIB, PAGE]],
  );
  t.deepEqual(withChild.b.bases, [image]);
  await failsWith(t, 'CORRUPT', compare(copy, memory), /chunk/);
});

test('a damaged chunk is told, and not taken for a difference', async (t) => {
  const folder = workspace(t);
  const bytes = mixedMemory(6 * MIB);
  writeFileSync(folder.path('memory'), bytes);
  await save(folder.path('memory'), folder.path('a'));
  bytes[MIB] = 7;
  writeFileSync(folder.path('memory'), bytes);
  await save(folder.path('memory'), folder.path('b'));
  t.false((await compare(folder.path('a'), folder.path('b'))).equal);
  const fd = openSync(folder.path('b'), 'r+');
  writeSync(fd, Buffer.from('damage'), 0, 6, readFileSync(folder.path('b')).length >> 1);
  closeSync(fd);
  const error = await failsWith(t, 'CORRUPT', compare(folder.path('a'), folder.path('b')));
  t.is(error.path, folder.path('b'));
});

/** Saves `memory` with regions of these names and sizes, at addresses of their own. */
async function saveRegions(
  folder: Workspace,
  name: string,
  memory: Buffer,
  sizes: Record<string, number>,
): Promise<string> {
  writeFileSync(folder.path(`${name}.mem`), memory);
  const regions = Object.entries(sizes).map(([region, sizeBytes]) => ({
    name: region,
    sizeBytes,
    gpa: (region.charCodeAt(0) - 'a'.charCodeAt(0)) * 2 ** 32,
  }));
  await save(folder.path(`${name}.mem`), folder.path(name), { regions });
  return folder.path(name);
}

test('regions are matched by name and address; what one side has alone is a difference', async (t) => {
  const folder = workspace(t);
  const memory = randomMemory(8 * MIB);
  const a = await saveRegions(folder, 'one', memory, { a: 2 * MIB, b: 2 * MIB, c: 4 * MIB });
  const b = await saveRegions(folder, 'two', memory, { a: 2 * MIB, b: MIB, d: 5 * MIB });
  const result = await compare(a, b);
  t.false(result.equal);
  t.deepEqual(
    result.regions.map(({ name, sizeBytesA, sizeBytesB, pages, onlyInABytes, onlyInBBytes }) => [
      name,
      sizeBytesA,
      sizeBytesB,
      pages.same,
      onlyInABytes,
      onlyInBBytes,
    ]),
    [
      ['a', 2 * MIB, 2 * MIB, 512, 0, 0],
      ['b', 2 * MIB, MIB, 256, MIB, 0],
      ['c', 4 * MIB, undefined, 0, 4 * MIB, 0],
      ['d', undefined, 5 * MIB, 0, 0, 5 * MIB],
    ],
  );
  t.deepEqual(result.ranges, [
    { region: 'b', offset: MIB, length: MIB, change: 'only-in-a' },
    { region: 'c', offset: 0, length: 4 * MIB, change: 'only-in-a' },
    { region: 'd', offset: 0, length: 5 * MIB, change: 'only-in-b' },
  ]);
  t.deepEqual([result.comparedBytes, result.onlyInABytes, result.onlyInBBytes], [3 * MIB, 5 * MIB, 5 * MIB]);
  t.true(result.heat.every(({ pages, differentPages }) => differentPages <= pages));
  t.true((await compare(a, b, { region: 'a' })).equal);
  t.false((await compare(a, b, { region: 'd' })).equal);
  const error = await failsWith(t, 'NOT_FOUND', compare(a, b, { region: 'x' }), /region "x"/);
  t.is(error.hint, 'there is a, b, c, d');
});

test('raw memory takes the regions of an image of its size, whichever side it is on', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(7 * MIB);
  const image = await saveRegions(folder, 'image', memory, { a: 3 * MIB, b: 4 * MIB });
  const raw = folder.path('image.mem');
  t.true((await compare(image, raw)).equal);
  memory[3 * MIB] = 9;
  writeFileSync(raw, memory);
  for (const result of [await compare(image, raw), await compare(raw, image)]) {
    t.deepEqual(
      result.ranges.map(({ region, offset, length }) => [region, offset, length]),
      [['b', 0, PAGE]],
    );
  }
  truncateSync(raw, 5 * MIB);
  const other = await compare(image, raw);
  t.deepEqual([other.onlyInABytes, other.onlyInBBytes, other.comparedBytes], [7 * MIB, 5 * MIB, 0]);
});

test('a range counts the memory of A, whole pages of it', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(8 * MIB);
  const a = await saveRegions(folder, 'a', memory, { a: 3 * MIB, b: 5 * MIB });
  for (let at = 0; at < memory.length; at += MIB) memory[at]! ^= 1;
  const b = await saveRegions(folder, 'b', memory, { a: 3 * MIB, b: 5 * MIB });
  const found = async (options: Parameters<typeof compare>[2]) =>
    (await compare(a, b, options)).ranges.map(({ region, offset }) => `${region}:${offset / MIB}`);
  t.is((await found({})).length, 8);
  t.deepEqual(await found({ range: { offset: 2 * MIB + 1, length: MIB } }), ['a:2', 'b:0']);
  t.deepEqual(await found({ range: { offset: 3 * MIB, length: MIB } }), ['b:0']);
  t.deepEqual(await found({ region: 'b', range: { offset: MIB, length: MIB + 1 } }), ['b:1', 'b:2']);
  t.is((await compare(a, b, { range: { offset: 5, length: 1 } })).comparedBytes, PAGE);
  await failsWith(t, 'USAGE', compare(a, b, { range: { offset: 8 * MIB, length: 1 } }), /beyond the 8388608 bytes/);
  await failsWith(t, 'USAGE', compare(a, b, { range: { offset: 0, length: 0 } }), /is none/);
});

test('holes cost nothing, and a list of too many ranges says that it was cut', async (t) => {
  const folder = workspace(t);
  const ranges = 65_536;
  const [empty, full] = [folder.path('empty'), folder.path('full')];
  for (const path of [empty, full]) {
    writeFileSync(path, '');
    truncateSync(path, 2 ** 40);
  }
  const fd = openSync(full, 'r+');
  for (let i = 0; i < ranges; i++) writeSync(fd, Buffer.from([1]), 0, 1, 2 * i * PAGE);
  const whole = await compare(empty, full);
  t.is(whole.ranges.length, ranges);
  t.false(whole.rangesCut);
  t.is(whole.pages.wasZero, ranges);
  t.is(whole.pages.bothZero, 2 ** 28 - ranges);
  writeSync(fd, Buffer.from([1]), 0, 1, 2 ** 39);
  closeSync(fd);
  const cut = await compare(empty, full, { threads: 3 });
  t.true(cut.rangesCut);
  t.true(cut.ranges.length > 0 && cut.ranges.length <= ranges);
  t.deepEqual(cut.ranges, whole.ranges.slice(0, cut.ranges.length));
  t.is(cut.pages.wasZero, ranges + 1);
});

test('what cannot be compared', async (t) => {
  const folder = workspace(t);
  const memory = folder.path('memory');
  writeFileSync(memory, mixedMemory(MIB));
  await failsWith(t, 'USAGE', compare('-', memory), /standard input cannot be compared/);
  await failsWith(t, 'USAGE', compare(memory, '/dev/zero'), /only once/);
  await failsWith(t, 'USAGE', compare(memory, folder.folder), /is a folder/);
  await failsWith(t, 'NOT_FOUND', compare(memory, folder.path('missing')));
  await failsWith(t, 'USAGE', compare(memory, memory, { heatCells: 0 }));
  writeFileSync(folder.path('odd'), Buffer.alloc(5000));
  await failsWith(t, 'USAGE', compare(memory, folder.path('odd')), /no multiple of the page size/);
  await save(memory, folder.path('image'));
  truncateSync(folder.path('image'), 5000);
  await failsWith(t, 'CORRUPT', compare(memory, folder.path('image')));
});

test('an abort ends it with its reason', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(16 * MIB));
  const controller = new AbortController();
  const reason = new Error('enough');
  const path = folder.path('memory');
  const running = compare(path, path, { signal: controller.signal });
  setImmediate(() => controller.abort(reason));
  const outcome: CompareResult | unknown = await running.catch((error: unknown) => error);
  t.is(outcome, reason);
  await t.throwsAsync(compare(path, path, { signal: controller.signal }), { is: reason });
});

onLoopDevice()('a block device', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(4 * MIB);
  writeFileSync(folder.path('disk'), memory);
  writeFileSync(folder.path('memory'), memory);
  const device = loopDevice(t, folder.path('disk'));
  t.true((await compare(device, folder.path('memory'))).equal);
});
