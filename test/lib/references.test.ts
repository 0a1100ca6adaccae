/** Memory full of duplicates: stored once, and brought back bit for bit by every way there is. */
import { mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  type CodecName,
  compare,
  flatten,
  load,
  openImage,
  type SaveOptions,
  type SaveResult,
  save,
  verify,
} from '../../lib/index.js';
import { sameBytes } from './support/expect.js';
import { KIB, MIB, makeMemory, PAGE, randomMemory } from './support/memory.js';
import { cat, makeFifo } from './support/pipes.js';
import { Workspace, workspace } from './support/workspace.js';

const RUNS = 40;

/** `pick`: which of the different pages; a run goes on with the ones after it. */
interface Stretch {
  readonly pick: number;
  readonly pages: number;
}

interface Plan {
  readonly pageSize: number;
  readonly codec: CodecName;
  readonly chunkSize: number;
  readonly regionPages: readonly number[];
  readonly stretches: readonly Stretch[];
  readonly variety: number;
  readonly seed: number;
  readonly threads: number;
}

const stretches = fc.array(fc.record({ pick: fc.nat({ max: 200 }), pages: fc.integer({ min: 1, max: 90 }) }), {
  minLength: 3,
  maxLength: 30,
});

const plans: fc.Arbitrary<Plan> = fc.record({
  pageSize: fc.constantFrom(4 * KIB, 4 * KIB, 8 * KIB, 64 * KIB),
  codec: fc.constantFrom<CodecName>('zstd', 'zlib', 'none'),
  chunkSize: fc.constantFrom(64 * KIB, 256 * KIB),
  regionPages: fc.array(fc.oneof(fc.integer({ min: 1, max: 400 }), fc.constantFrom(255, 256, 257)), {
    minLength: 1,
    maxLength: 3,
  }),
  stretches,
  variety: fc.constantFrom(1, 20, 150),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
  threads: fc.integer({ min: 1, max: 4 }),
});

/** Page `number` of the different pages: every eighth is zero, every ninth uniform. */
function somePage(number: number, pageSize: number, seed: number): Buffer {
  const kind = number % 8 === 7 ? 'zero' : number % 9 === 8 ? 'uniform' : number % 2 === 0 ? 'random' : 'text';
  return makeMemory(pageSize, [{ kind, pages: 1 }], pageSize, seed + number);
}

function memoryOf({ pageSize, regionPages, variety, seed }: Plan, from: readonly Stretch[]): Buffer {
  const total = regionPages.reduce((sum, pages) => sum + pages, 0);
  const pages: Buffer[] = [];
  while (pages.length < total) {
    for (const { pick, pages: count } of from) {
      for (let i = 0; i < count && pages.length < total; i++)
        pages.push(somePage((pick + i) % variety, pageSize, seed));
    }
  }
  return Buffer.concat(pages);
}

function regionsOf({ pageSize, regionPages }: Plan) {
  return regionPages.map((pages, i) => ({ name: `region-${i}`, gpa: i * 2 ** 33, sizeBytes: pages * pageSize }));
}

/** How many pages with data there are, and how many of them for the first time, as a plain loop finds it. */
function countDuplicates(memory: Buffer, pageSize: number): { data: number; reference: number } {
  const known = new Set<string>();
  const counts = { data: 0, reference: 0 };
  for (let at = 0; at < memory.length; at += pageSize) {
    const page = memory.subarray(at, at + pageSize);
    if (page.compare(page, 8, pageSize, 0, pageSize - 8) === 0) continue;
    const bytes = page.toString('latin1');
    counts[known.has(bytes) ? 'reference' : 'data']++;
    known.add(bytes);
  }
  return counts;
}

async function inFolder(parent: Workspace, action: (folder: Workspace) => Promise<void>): Promise<void> {
  const folder = new Workspace(parent.path('run'));
  mkdirSync(folder.folder);
  try {
    await action(folder);
  } finally {
    rmSync(folder.folder, { recursive: true });
  }
}

async function savePlan(plan: Plan, memory: Buffer, folder: Workspace, options: SaveOptions = {}): Promise<SaveResult> {
  const { pageSize, codec, chunkSize, threads } = plan;
  writeFileSync(folder.path('memory'), memory);
  const own = { codec, chunkSize: Math.max(chunkSize, pageSize), threads };
  const geometry = { pageSize, segmentSize: MIB, regions: regionsOf(plan) };
  return await save(folder.path('memory'), folder.path('image'), { ...own, ...geometry, force: true, ...options });
}

async function requireIntact(t: ExecutionContext, image: string, threads: number): Promise<void> {
  const { findings } = await verify(image, { threads });
  t.deepEqual(findings, []);
}

async function requireRandomReads(t: ExecutionContext, image: string, plan: Plan, memory: Buffer): Promise<void> {
  await using opened = await openImage(image);
  let start = 0;
  for (const { name, sizeBytes } of regionsOf(plan)) {
    const from = Math.floor(sizeBytes / 3);
    const bytes = await opened.read(name, from, sizeBytes - from);
    sameBytes(t, bytes, memory.subarray(start + from, start + sizeBytes), `region ${name}`);
    start += sizeBytes;
  }
}

test('every duplicate is a reference, and every way back gives the memory', async (t) => {
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(plans, fc.nat(), async (plan, at) => {
      await inFolder(parent, async (folder) => {
        const memory = memoryOf(plan, plan.stretches);
        const { pages } = await savePlan(plan, memory, folder);
        t.like(pages, countDuplicates(memory, plan.pageSize));
        const [image, target] = [folder.path('image'), folder.path('target')];
        const { threads } = plan;
        await requireIntact(t, image, threads);
        const loaded = await load(image, target, { threads });
        t.is(loaded.proven, 'memory');
        sameBytes(t, readFileSync(target), memory, 'a new file');
        writeFileSync(target, randomMemory(memory.length));
        await load(image, target, { threads, inPlace: true });
        sameBytes(t, readFileSync(target), memory, 'a file in place');
        const offset = at % memory.length;
        const length = Math.max(1, Math.floor((memory.length - offset) / 2));
        await load(image, target, { threads, range: { offset, length }, force: true });
        sameBytes(t, readFileSync(target), memory.subarray(offset, offset + length), 'a range');
        await requireRandomReads(t, image, plan, memory);
        const compared = await compare(image, folder.path('memory'), { threads });
        t.true(compared.equal);
      });
    }),
    { numRuns: RUNS, includeErrorInReport: true },
  );
});

test('into a pipe, and from a pipe into a file', async (t) => {
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(plans, async (plan) => {
      await inFolder(parent, async (folder) => {
        const memory = memoryOf(plan, plan.stretches);
        await savePlan(plan, memory, folder);
        const { threads } = plan;
        const [image, target, pipe] = [folder.path('image'), folder.path('target'), makeFifo(folder.path('pipe'))];
        const copied = cat(pipe, target);
        await load(image, pipe, { threads });
        await copied;
        sameBytes(t, readFileSync(target), memory, 'through a pipe');
        const fed = cat(image, pipe);
        await load(pipe, target, { threads, force: true });
        await fed;
        sameBytes(t, readFileSync(target), memory, 'an image from a pipe');
        const fedAgain = cat(image, pipe);
        const { findings } = await verify(pipe, { threads });
        await fedAgain;
        t.deepEqual(findings, []);
      });
    }),
    { numRuns: 10, includeErrorInReport: true },
  );
});

test('differential images refer to their own pages only, and flatten, compare and load put them together', async (t) => {
  const parent = workspace(t);
  const changes = fc.array(stretches, { minLength: 1, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(plans, changes, async (plan, later) => {
      await inFolder(parent, async (folder) => {
        let memory = memoryOf(plan, plan.stretches);
        await savePlan(plan, memory, folder, { force: false });
        let base = folder.path('image');
        for (const [i, next] of later.entries()) {
          // Half of it changes: what is new may be a duplicate of something new, or of something that only the base has.
          const changed = memoryOf({ ...plan, seed: plan.seed + (i % 2) }, next);
          const half = Math.floor(memory.length / plan.pageSize / 2) * plan.pageSize;
          memory = Buffer.concat([memory.subarray(0, half), changed.subarray(half)]);
          const image = folder.path(`image-${i}`);
          writeFileSync(folder.path('memory'), memory);
          await save(folder.path('memory'), image, { base, codec: plan.codec, threads: plan.threads });
          base = image;
        }
        const { threads } = plan;
        const target = folder.path('target');
        await requireIntact(t, base, threads);
        await load(base, target, { threads });
        sameBytes(t, readFileSync(target), memory, 'the chain');
        await requireRandomReads(t, base, plan, memory);
        t.true((await compare(base, folder.path('memory'), { threads })).equal);
        await flatten(base, folder.path('flat'), { threads });
        await load(folder.path('flat'), target, { threads, force: true });
        sameBytes(t, readFileSync(target), memory, 'the flattened chain');
      });
    }),
    { numRuns: 25, includeErrorInReport: true },
  );
});

test('the image does not depend on the number of threads', async (t) => {
  const folder = workspace(t);
  const plan: Plan = {
    pageSize: PAGE,
    codec: 'zstd',
    chunkSize: 64 * KIB,
    regionPages: [4000, 1111, 3000],
    stretches: Array.from({ length: 60 }, (_, i) => ({ pick: (i * 37) % 900, pages: 1 + ((i * 13) % 200) })),
    variety: 900,
    seed: 5,
    threads: 1,
  };
  process.env.SOURCE_DATE_EPOCH = '1700000000';
  const memory = memoryOf(plan, plan.stretches);
  const { pages } = await savePlan(plan, memory, folder);
  t.true(pages.reference > 1000);
  const expected = readFileSync(folder.path('image'));
  for (const threads of [2, 3, 5, 8, 8]) {
    await savePlan({ ...plan, threads }, memory, folder);
    sameBytes(t, readFileSync(folder.path('image')), expected, `the image with ${threads} threads`);
  }
});

test('not looked for: when told so, of a source that may be written, and of a pipe', async (t) => {
  const folder = workspace(t);
  const memory = Buffer.concat(Array(600).fill(randomMemory(PAGE)));
  const [source, image] = [folder.path('memory'), folder.path('image')];
  writeFileSync(source, memory);
  const pagesOf = async (options: SaveOptions) => (await save(source, image, { ...options, force: true })).pages;
  t.like(await pagesOf({}), { data: 1, reference: 599 });
  t.like(await pagesOf({ references: false }), { data: 600, reference: 0 });
  const writer = openSync(source, 'r+');
  t.teardown(() => rmSync(source, { force: true }));
  t.like(await pagesOf({}), { data: 600, reference: 0 });
  t.like(await pagesOf({ frozen: true }), { data: 1, reference: 599 });
  t.true(writer > 0);
  const pipe = makeFifo(folder.path('pipe'));
  const fed = cat(source, pipe);
  const piped = await save(pipe, image, { force: true });
  await fed;
  t.like(piped.pages, { data: 600, reference: 0 });
});

test('from a pipe, what cannot be read again is refused before anything is written', async (t) => {
  const folder = workspace(t);
  const [source, image, target] = [folder.path('memory'), folder.path('image'), folder.path('target')];
  writeFileSync(source, Buffer.concat(Array(600).fill(randomMemory(PAGE))));
  await save(source, image);
  const imagePipe = makeFifo(folder.path('image-pipe'));
  const outPipe = makeFifo(folder.path('out-pipe'));
  const feed = () => cat(image, imagePipe);
  let fed = feed();
  const drained = cat(outPipe, folder.path('drained'));
  await t.throwsAsync(load(imagePipe, outPipe), { code: 'USAGE', message: /duplicate pages once.* only into a file/ });
  await Promise.all([fed, drained]);
  t.is(readFileSync(folder.path('drained')).length, 0);
  fed = feed();
  const range = { offset: 0, length: PAGE };
  await t.throwsAsync(load(imagePipe, target, { range }), { code: 'USAGE', message: /only whole/ });
  await fed;
});
