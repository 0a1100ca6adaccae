/** Differential images: every image of every chain comes back bit for bit, and none without the bases that it needs. */
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  type ErrorCode,
  flatten,
  inspect,
  load,
  openImage,
  type SaveOptions,
  save,
  VmsnapError,
  verify,
} from '../../lib/index.js';
import { takeApart } from '../formats/forge.js';
import { chainPlans, type Link, makeChain } from './support/chains.js';
import { sameBytes } from './support/expect.js';
import { KIB, MIB, mixedMemory, PAGE, randomMemory } from './support/memory.js';
import { cat, makeFifo } from './support/pipes.js';
import { Workspace, workspace } from './support/workspace.js';

const CHAIN_RUNS = 25;
const LOSS_RUNS = 10;
const DAMAGE_RUNS = 15;
const DETERMINISM_RUNS = 8;

async function errorNameOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: Error) => error.name,
  );
}

/** A folder of its own for each run of a property. */
async function inFolder(parent: Workspace, action: (folder: Workspace) => Promise<void>): Promise<void> {
  const folder = new Workspace(parent.path('run'));
  mkdirSync(folder.folder);
  try {
    await action(folder);
  } finally {
    rmSync(folder.folder, { recursive: true });
  }
}

async function requireRestores(t: ExecutionContext, { image, memory, saved }: Link, folder: Workspace): Promise<void> {
  const target = folder.path('target');
  const loaded = await load(image, target, { force: true, threads: 2 });
  sameBytes(t, readFileSync(target), memory);
  t.is(loaded.digest, saved.digest);
  t.is(loaded.proven, 'memory');
}

async function errorOf(action: () => Promise<unknown>): Promise<VmsnapError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof VmsnapError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

async function codeOf(action: () => Promise<unknown>): Promise<ErrorCode | undefined> {
  try {
    await action();
    return undefined;
  } catch (error) {
    return (error as VmsnapError).code;
  }
}

test('every image of a random chain comes back, is intact, reads at random and flattens', async (t) => {
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(chainPlans, fc.nat(), fc.nat({ max: 200_000 }), async (plan, from, length) => {
      await inFolder(parent, async (folder) => {
        const links = await makeChain(plan, folder);
        for (const [i, link] of links.entries()) {
          await requireRestores(t, link, folder);
          const { intact, findings, bases, digest } = await verify(link.image);
          t.true(intact, findings[0]?.message);
          t.is(bases.length, i);
          t.is(digest, link.saved.digest);
          await requireSlice(t, link, plan.pageSize, from, length);
        }
        await requireCounts(t, links);
        await requireFlat(t, links, folder);
      });
    }),
    { numRuns: CHAIN_RUNS, includeErrorInReport: true },
  );
});

async function requireSlice(t: ExecutionContext, link: Link, pageSize: number, from: number, length: number) {
  const image = await openImage(link.image);
  const start = from % link.memory.length;
  let regionStart = 0;
  for (const { name, sizeBytes } of image.regions) {
    const offset = Math.min(start, sizeBytes - 1);
    const bytes = Math.min(length, sizeBytes - offset);
    const expected = link.memory.subarray(regionStart + offset, regionStart + offset + bytes);
    sameBytes(t, await image.read(name, offset, bytes), expected);
    regionStart += sizeBytes;
  }
  let mapped = 0;
  for await (const run of image.map()) mapped += run.length;
  t.is(mapped, link.memory.length);
  t.is(mapped % pageSize, 0);
  await image.close();
}

/** What is the same as the base's is what a plain comparison finds. */
async function requireCounts(t: ExecutionContext, links: readonly Link[]): Promise<void> {
  for (const [i, link] of links.entries()) {
    if (i === 0) continue;
    const { pageSize, pages } = link.saved;
    const before = links[i - 1]!.memory;
    let same = 0;
    for (let at = 0; at < link.memory.length; at += pageSize) {
      if (link.memory.compare(before, at, at + pageSize, at, at + pageSize) === 0) same++;
    }
    t.is(pages.sameAsBase, same);
    const { base, chain } = await inspect(link.image);
    t.is(base?.identity, links[i - 1]!.saved.identity);
    t.deepEqual([chain?.complete, chain?.images.length], [true, i + 1]);
  }
}

async function requireFlat(t: ExecutionContext, links: readonly Link[], folder: Workspace): Promise<void> {
  const last = links.at(-1)!;
  const flat = await flatten(last.image, folder.path('flat'));
  t.is(flat.digest, last.saved.digest);
  t.is(flat.pages.sameAsBase, 0);
  for (const { image } of links) rmSync(image);
  await requireRestores(t, { ...last, image: folder.path('flat') }, folder);
  t.true((await verify(folder.path('flat'))).intact);
}

test('references are looked up in images of different chunk sizes', async (t) => {
  const folder = workspace(t);
  const pages = MIB / PAGE;
  const memory = Buffer.concat([randomMemory(MIB, 1), Buffer.alloc(3 * MIB)]);
  memory.copy(memory, MIB, 0, MIB);
  const options: SaveOptions = { segmentSize: MIB, codec: 'none', threads: 1 };
  const links: Link[] = [];
  for (const chunkSize of [16 * KIB, MIB, 64 * KIB]) {
    const i = links.length;
    // A verify meets the base's references first, then the image's own.
    if (i > 0) randomMemory(MIB, 1 + i).copy(memory, 2 * MIB);
    if (i > 0) memory.copy(memory, 3 * MIB, 2 * MIB, 3 * MIB);
    const [source, image, base] = [folder.path('memory'), folder.path(`${i}.vmsnap`), links[i - 1]?.image];
    writeFileSync(source, memory);
    const saved = await save(source, image, { ...options, chunkSize, ...(base === undefined ? {} : { base }) });
    t.is(saved.pages.reference, pages);
    links.push({ image, memory: Buffer.from(memory), saved });
  }
  for (const link of links) {
    const { intact, findings } = await verify(link.image, { threads: 1 });
    t.true(intact, findings[0]?.message);
    await requireRestores(t, link, folder);
    await requireSlice(t, link, PAGE, 0, 4 * MIB);
  }
});

test('whichever image is lost, those that do not need it come back, and the others name it', async (t) => {
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(chainPlans, fc.nat(), async (plan, which) => {
      await inFolder(parent, async (folder) => {
        const links = await makeChain(plan, folder);
        const lost = which % links.length;
        rmSync(links[lost]!.image);
        for (const [i, link] of links.entries()) {
          if (i === lost) continue;
          if (i < lost) {
            await requireRestores(t, link, folder);
            continue;
          }
          const error = await errorOf(() => load(link.image, folder.path('target'), { force: true }));
          t.is(error.code, 'BASE_MISMATCH');
          t.true(error.message.includes(basename(links[lost]!.image)), error.message);
          t.is(await codeOf(() => verify(link.image)), 'BASE_MISMATCH');
          t.is(await codeOf(() => flatten(link.image, folder.path('flat'))), 'BASE_MISMATCH');
          t.false((await inspect(link.image)).chain!.complete);
        }
        t.deepEqual(folder.leftovers(), []);
      });
    }),
    { numRuns: LOSS_RUNS, includeErrorInReport: true },
  );
});

test('a flipped byte anywhere in a base: verify of the child names the file, and no load gives wrong memory', async (t) => {
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(
      chainPlans,
      fc.nat(),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      async (plan, which, at, flip) => {
        await inFolder(parent, async (folder) => {
          const links = await makeChain(plan, folder);
          const damaged = links[which % (links.length - 1)]!;
          const bytes = readFileSync(damaged.image);
          bytes[at % bytes.length]! ^= flip;
          writeFileSync(damaged.image, bytes);
          const child = links.at(-1)!;
          try {
            const { intact, findings, bases } = await verify(child.image);
            t.false(intact);
            t.true(findings.every(({ path }) => path === damaged.image));
            t.deepEqual(
              bases.filter((base) => !base.intact).map(({ path }) => path),
              [damaged.image],
            );
          } catch (error) {
            t.is((error as VmsnapError).code, 'BASE_MISMATCH');
            t.true((error as VmsnapError).message.includes(damaged.image));
          }
          const code = await codeOf(() => requireRestores(t, child, folder));
          if (code !== undefined) t.true(['CORRUPT', 'BASE_MISMATCH'].includes(code), code);
          t.deepEqual(folder.leftovers(), []);
        });
      },
    ),
    { numRuns: DAMAGE_RUNS, includeErrorInReport: true },
  );
});

test('the same bytes whatever the number of threads, and whether holes or zeros', async (t) => {
  process.env.SOURCE_DATE_EPOCH = '1700000000';
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(chainPlans, async (plan) => {
      await inFolder(parent, async (folder) => {
        const bytesOf = async (threads: number, sparse: boolean) => {
          const own = new Workspace(folder.path(`threads-${threads}`));
          mkdirSync(own.folder);
          const steps = plan.steps.map((step) => ({ ...step, sparse }));
          const links = await makeChain({ ...plan, steps }, own, { threads });
          return links.map(({ image }) => readFileSync(image));
        };
        const one = await bytesOf(1, false);
        const many = await bytesOf(4, true);
        for (const [i, bytes] of one.entries()) t.true(bytes.equals(many[i]!), `image ${i}`);
      });
    }),
    { numRuns: DETERMINISM_RUNS, includeErrorInReport: true },
  );
});

/** A full image and a differential one, of memory that has a bit of everything. */
async function pair(folder: Workspace, options: SaveOptions = {}): Promise<[Link, Link]> {
  const memory = mixedMemory(3 * MIB);
  writeFileSync(folder.path('memory'), memory);
  const first = await save(folder.path('memory'), folder.path('first'), { segmentSize: MIB, frozen: true });
  const later = Buffer.from(memory);
  later.fill('something else', 40 * PAGE, 43 * PAGE);
  later.fill(0, 48 * PAGE, 49 * PAGE);
  writeFileSync(folder.path('memory'), later);
  const base = folder.path('first');
  const second = await save(folder.path('memory'), folder.path('second'), { base, frozen: true, ...options });
  return [
    { image: base, memory, saved: first },
    { image: folder.path('second'), memory: later, saved: second },
  ];
}

test('a save of unchanged memory is kilobytes and has no segment record', async (t) => {
  const folder = workspace(t);
  const [first] = await pair(folder);
  writeFileSync(folder.path('memory'), first.memory);
  const same = await save(folder.path('memory'), folder.path('same'), { base: first.image });
  t.deepEqual({ ...same.pages }, { zero: 0, data: 0, uniform: 0, reference: 0, sameAsBase: 768, absent: 0 });
  t.is(takeApart(readFileSync(folder.path('same'))).records.filter(({ kind }) => kind === 'VSEG').length, 0);
  t.true(same.imageBytes < 4 * KIB);
  t.is(same.digest, first.saved.digest);
  await requireRestores(t, { ...first, image: folder.path('same'), saved: same }, folder);
});

test('memory that became zero, by a hole, hides what the base has', async (t) => {
  const folder = workspace(t);
  const [first] = await pair(folder);
  writeFileSync(folder.path('empty'), '');
  truncateSync(folder.path('empty'), 3 * MIB);
  const saved = await save(folder.path('empty'), folder.path('zero'), { base: first.image, threads: 2 });
  t.is(saved.pages.data + saved.pages.uniform, 0);
  t.true(saved.pages.zero > 0);
  t.is(saved.run.readBytes, 0);
  await requireRestores(t, { image: folder.path('zero'), memory: Buffer.alloc(3 * MIB), saved }, folder);
});

test('from a pipe: the regions are those of the base; to a pipe and from one: with folders to look in', async (t) => {
  const folder = workspace(t);
  const [first, second] = await pair(folder);
  const [source, image] = [makeFifo(folder.path('source')), makeFifo(folder.path('image'))];
  const feed = cat(folder.path('memory'), source);
  const saved = await save(source, folder.path('piped'), { base: first.image, frozen: true });
  await feed;
  t.is(saved.digest, second.saved.digest);
  t.is(saved.regions[0]!.sizeBytes, 3 * MIB);
  const target = folder.path('target');
  const copies = cat(second.image, image);
  await load(image, target, { baseDirs: [folder.folder], threads: 3 });
  await copies;
  sameBytes(t, readFileSync(target), second.memory);
  const other = cat(second.image, image);
  const error = await errorOf(() => load(image, target, { force: true }));
  await other;
  t.is(error.code, 'BASE_MISMATCH');
  t.regex(error.message, /needs its base first .*a stream has no folder/);
});

test('a range and a region of a differential image', async (t) => {
  const folder = workspace(t);
  const [, second] = await pair(folder);
  const range = { offset: 39 * PAGE + 100, length: 9 * PAGE };
  await load(second.image, folder.path('target'), { range });
  sameBytes(t, readFileSync(folder.path('target')), second.memory.subarray(range.offset, range.offset + range.length));
});

test('a base is found beside the image first, then in each folder, by its identity alone', async (t) => {
  const folder = workspace(t);
  const [first, second] = await pair(folder);
  const store = folder.path('store');
  mkdirSync(store);
  renameSync(first.image, join(store, 'first'));
  const missing = await errorOf(() => load(second.image, folder.path('target')));
  t.is(missing.code, 'BASE_MISMATCH');
  t.true(missing.message.includes(`there is no ${first.image}`), missing.message);
  t.true(missing.message.includes(first.saved.identity));
  t.regex(missing.hint ?? '', /--base-dir/);
  // Another image under the name, beside: passed over.
  await save(folder.path('memory'), first.image, { segmentSize: MIB });
  const wrong = await errorOf(() => load(second.image, folder.path('target')));
  t.is(wrong.code, 'BASE_MISMATCH');
  t.regex(wrong.message, /is another image \(identity [0-9a-f]{32}\)/);
  await load(second.image, folder.path('target'), { baseDirs: [folder.path('nowhere'), store] });
  sameBytes(t, readFileSync(folder.path('target')), second.memory);
  const image = await openImage(second.image, { baseDirs: [store] });
  sameBytes(t, await image.read('ram', 0, MIB), second.memory.subarray(0, MIB));
  await image.close();
});

test('what does not need the base can be had without it', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('note'), 'a note');
  const [first, second] = await pair(folder, { attachments: [{ name: 'note', file: folder.path('note') }] });
  rmSync(first.image);
  const image = await openImage(second.image);
  const states = new Set<string>();
  for await (const { state } of image.map()) states.add(state);
  t.deepEqual([...states].sort(), ['data', 'same-as-base', 'zero']);
  const parts: Buffer[] = [];
  for await (const part of image.readAttachment('note')) parts.push(part);
  t.is(Buffer.concat(parts).toString(), 'a note');
  sameBytes(t, await image.read('ram', 40 * PAGE, PAGE), second.memory.subarray(40 * PAGE, 41 * PAGE));
  t.is(await codeOf(() => image.read('ram', 0, PAGE)), 'BASE_MISMATCH');
  await image.close();
});

test('regions, pages and segments must be those of the base', async (t) => {
  const folder = workspace(t);
  const [first] = await pair(folder);
  const trySave = (options: SaveOptions, source = folder.path('memory')) =>
    errorOf(() => save(source, folder.path('other'), { base: first.image, ...options }));
  const cases: [SaveOptions, RegExp][] = [
    [{ pageSize: 8 * KIB }, /pages of 4096 bytes, not 8192/],
    [{ segmentSize: 4 * MIB }, /segments of 1048576 bytes, not 4194304/],
    [{ regions: [{ name: 'ram', gpa: 4096, sizeBytes: 3 * MIB }] }, /region ram=3145728@0x0, not ram=3145728@0x1000/],
    [{ regions: [{ name: 'low', gpa: 0, sizeBytes: 3 * MIB }] }, /region ram=.* not low=/],
    [
      {
        regions: [
          { name: 'ram', gpa: 0, sizeBytes: MIB },
          { name: 'rest', gpa: MIB, sizeBytes: 2 * MIB },
        ],
      },
      /1 region, not 2/,
    ],
  ];
  for (const [options, message] of cases) {
    const error = await trySave(options);
    t.is(error.code, 'BASE_MISMATCH');
    t.regex(error.message, message);
  }
  writeFileSync(folder.path('longer'), mixedMemory(4 * MIB));
  t.regex((await trySave({}, folder.path('longer'))).message, /ram=3145728@0x0, not ram=4194304@0x0/);
  t.is(await codeOf(() => save(folder.path('memory'), folder.path('other'), { base: '-' })), 'USAGE');
  t.is(
    await codeOf(() => save(folder.path('memory'), folder.path('other'), { base: folder.path('none') })),
    'NOT_FOUND',
  );
  t.deepEqual(folder.leftovers(), []);
});

test('sizes and regions that are not given are those of the base', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(3 * MIB));
  const regions = [
    { name: 'low', gpa: 0, sizeBytes: MIB },
    { name: 'high', gpa: 2 ** 32, sizeBytes: 2 * MIB },
  ];
  const options = { pageSize: 16 * KIB, segmentSize: 2 * MIB, chunkSize: 64 * KIB, regions };
  await save(folder.path('memory'), folder.path('first'), options);
  const saved = await save(folder.path('memory'), folder.path('second'), { base: folder.path('first') });
  t.deepEqual([saved.pageSize, saved.regions.map(({ name }) => name)], [16 * KIB, ['low', 'high']]);
  const { memory, storage } = await inspect(folder.path('second'));
  t.deepEqual([memory.segmentSize, storage.chunkSize], [2 * MIB, 64 * KIB]);
});

test('no image may replace one that it needs', async (t) => {
  const folder = workspace(t);
  const [first, second] = await pair(folder);
  const before = readFileSync(first.image);
  for (const base of [first.image, second.image]) {
    const error = await errorOf(() => save(folder.path('memory'), first.image, { base, force: true }));
    t.is(error.code, 'USAGE');
    t.regex(error.message, /base and image are the same file/);
  }
  t.is(await codeOf(() => flatten(second.image, first.image, { force: true })), 'USAGE');
  t.is(await codeOf(() => flatten(second.image, second.image, { force: true })), 'USAGE');
  t.is(await codeOf(() => load(second.image, first.image, { force: true })), 'USAGE');
  t.true(readFileSync(first.image).equals(before));
});

test('32 bases are read; a save onto them is refused, until the chain is flattened', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(MIB);
  const source = folder.path('memory');
  writeFileSync(source, memory);
  await save(source, folder.path('0'), { segmentSize: MIB });
  for (let i = 1; i <= 32; i++) {
    memory.fill(i, i * 2 * PAGE, (i * 2 + 1) * PAGE);
    writeFileSync(source, memory);
    const saved = await save(source, folder.path(`${i}`), { base: folder.path(`${i - 1}`), threads: 1 });
    t.is(saved.base?.chainLength, i);
  }
  await load(folder.path('32'), folder.path('target'));
  sameBytes(t, readFileSync(folder.path('target')), memory);
  t.true((await verify(folder.path('32'))).intact);
  const error = await errorOf(() => save(source, folder.path('33'), { base: folder.path('32') }));
  t.is(error.code, 'BASE_MISMATCH');
  t.regex(error.hint ?? '', /flatten/);
  await flatten(folder.path('32'), folder.path('flat'));
  const saved = await save(source, folder.path('33'), { base: folder.path('flat') });
  t.deepEqual([saved.base?.chainLength, saved.pages.sameAsBase], [1, 256]);
});

test('flatten gives what a full save of the memory gives, and keeps what describes it', async (t) => {
  process.env.SOURCE_DATE_EPOCH = '1700000000';
  const folder = workspace(t);
  writeFileSync(folder.path('note'), mixedMemory(5 * MIB));
  const described: SaveOptions = {
    name: 'machine',
    uuid: '6f1c1e0e-6a38-4f5e-9a55-0d0a7a7c0001',
    labels: { rack: '7' },
    attachments: [{ name: 'note', file: folder.path('note') }],
  };
  const [, second] = await pair(folder, described);
  process.env.SOURCE_DATE_EPOCH = '1800000000';
  await flatten(second.image, folder.path('flat'), { threads: 2 });
  process.env.SOURCE_DATE_EPOCH = '1700000000';
  await save(folder.path('memory'), folder.path('full'), {
    ...described,
    segmentSize: MIB,
    frozen: true,
    references: false,
  });
  t.true(readFileSync(folder.path('flat')).equals(readFileSync(folder.path('full'))));
  const changed = await flatten(second.image, folder.path('none'), { codec: 'none' });
  t.deepEqual([changed.codec, changed.level, changed.digest], ['none', undefined, second.saved.digest]);
});

test('a flattened image comes back from a pipe, with no folder to look in', async (t) => {
  const folder = workspace(t);
  const [, second] = await pair(folder);
  await flatten(second.image, folder.path('flat'));
  const pipe = makeFifo(folder.path('pipe'));
  const copies = cat(folder.path('flat'), pipe);
  await load(pipe, folder.path('target'));
  await copies;
  sameBytes(t, readFileSync(folder.path('target')), second.memory);
});

test('a chain of names without end is refused', async (t) => {
  const folder = workspace(t);
  const [first, second] = await pair(folder);
  // The child under its base's name: it names itself, and is not what it names.
  writeFileSync(first.image, readFileSync(second.image));
  const error = await errorOf(() => load(first.image, folder.path('target')));
  t.is(error.code, 'BASE_MISMATCH');
  t.true(error.message.includes(`is another image (identity ${second.saved.identity})`));
});

test('1 TiB of hole over a base of 1 TiB of hole, a page in each: seconds, and kilobytes of image', async (t) => {
  const folder = workspace(t);
  const size = 2 ** 40;
  const write = (name: string, at: number, text: string): string => {
    const fd = openSync(folder.path(name), 'w');
    ftruncateSync(fd, size);
    writeSync(fd, text, at);
    closeSync(fd);
    return folder.path(name);
  };
  const before = write('before', size / 3, 'what the base has');
  const after = write('after', size / 2, 'what came later');
  await save(before, folder.path('first'), { frozen: true });
  const saved = await save(after, folder.path('second'), { base: folder.path('first'), frozen: true });
  t.deepEqual([saved.pages.data, saved.pages.zero], [1, 1]);
  t.true(saved.imageBytes < 512 * KIB);
  t.true(saved.run.durationSeconds < 60);
  await load(folder.path('second'), folder.path('target'));
  const image = await openImage(folder.path('second'));
  t.is((await image.read('ram', size / 2, 15)).toString(), 'what came later');
  t.true((await image.read('ram', Math.floor(size / 3 / PAGE) * PAGE, PAGE)).equals(Buffer.alloc(PAGE)));
  await image.close();
});

test('a differential save that is stopped leaves the old image and its base as they were', async (t) => {
  const folder = workspace(t);
  const [first, second] = await pair(folder);
  const before = [first.image, second.image].map((path) => readFileSync(path));
  writeFileSync(folder.path('memory'), mixedMemory(3 * MIB, 99));
  const controller = new AbortController();
  const saving = save(folder.path('memory'), second.image, {
    base: first.image,
    force: true,
    signal: controller.signal,
  });
  // By now the base is open.
  controller.abort();
  t.is(await errorNameOf(saving), 'AbortError');
  t.deepEqual(folder.leftovers(), []);
  for (const [i, path] of [first.image, second.image].entries()) t.true(readFileSync(path).equals(before[i]!));
});
