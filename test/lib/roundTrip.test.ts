/** Whatever the memory, its layout and the options: what comes back is what was saved, bit for bit. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { inspect, load, openImage, type SaveResult, save, verify } from '../../lib/index.js';
import { sameBytes } from './support/expect.js';
import { machines, type WrittenMachine, writeMachine } from './support/machines.js';
import { countPages } from './support/memory.js';
import { cat, makeFifo } from './support/pipes.js';
import { Workspace, workspace } from './support/workspace.js';

const FILE_RUNS = 60;
const PIPE_RUNS = 15;
const DIGEST_RUNS = 15;

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

test('file to file, with verify, inspect and random reads', async (t) => {
  const parent = workspace(t);
  const slices = fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat()), { minLength: 3, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(machines, slices, async (machine, reads) => {
      await inFolder(parent, async (folder) => {
        const written = writeMachine(machine, folder);
        const image = folder.path('image');
        const regions = written.regions.map(({ memory: _, ...region }) => region);
        const saved = await save(undefined, image, { ...written.saveOptions, regions });
        requireResult(t, saved, written);
        await requireIntact(t, image, saved);
        await requireCounts(t, image, saved, written);
        await requireSlices(t, image, written, reads);
        const loaded = await load(image, folder.path('target'), { threads: machine.loadThreads });
        sameBytes(t, readFileSync(folder.path('target')), written.memory);
        t.is(loaded.digest, saved.digest);
        t.is(loaded.proven, 'memory');
        t.deepEqual(folder.leftovers(), []);
      });
    }),
    { numRuns: FILE_RUNS, includeErrorInReport: true },
  );
});

test('pipe to file, and pipe to pipe back', async (t) => {
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(machines, fc.boolean(), async (machine, openEnded) => {
      await inFolder(parent, async (folder) => {
        const written = writeMachine(machine, folder);
        writeFileSync(folder.path('memory'), written.memory);
        const fifos = ['source', 'image-pipe', 'target'].map((name) => makeFifo(folder.path(name)));
        const [source, imagePipe, target] = fifos as [string, string, string];
        const regions = written.regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes }));
        const options = openEnded ? written.saveOptions : { ...written.saveOptions, regions };
        const feed = cat(folder.path('memory'), source);
        const saved = await save(source, folder.path('image'), options);
        await feed;
        t.is(saved.memoryBytes, written.memory.length);
        await requireIntact(t, folder.path('image'), saved);
        const copies = [cat(folder.path('image'), imagePipe), cat(target, folder.path('back'))];
        const loaded = await load(imagePipe, target, { threads: machine.loadThreads });
        await Promise.all(copies);
        sameBytes(t, readFileSync(folder.path('back')), written.memory);
        t.is(loaded.digest, saved.digest);
      });
    }),
    { numRuns: PIPE_RUNS, includeErrorInReport: true },
  );
});

test('the digest depends on nothing but the regions', async (t) => {
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(machines, async (machine) => {
      await inFolder(parent, async (folder) => {
        const written = writeMachine(machine, folder);
        const regions = written.regions.map(({ memory: _, ...region }) => region);
        const one = await save(undefined, folder.path('one'), { ...written.saveOptions, regions });
        const other = await save(undefined, folder.path('other'), { codec: 'none', regions });
        t.is(one.digest, other.digest);
      });
    }),
    { numRuns: DIGEST_RUNS, includeErrorInReport: true },
  );
});

function requireResult(t: ExecutionContext, saved: SaveResult, { memory, regions }: WrittenMachine): void {
  const expected = countPages(memory, saved.pageSize);
  const { zero, uniform, data, reference } = saved.pages;
  t.deepEqual({ zero, uniform, data: data + reference }, expected);
  t.is(saved.memoryBytes, memory.length);
  t.deepEqual(
    saved.regions,
    regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })),
  );
}

async function requireIntact(t: ExecutionContext, image: string, saved: SaveResult): Promise<void> {
  const verified = await verify(image);
  t.deepEqual(verified.findings, []);
  t.true(verified.intact);
  t.is(verified.digest, saved.digest);
  t.is(verified.identity, saved.identity);
  t.is(verified.checked.memoryBytes, saved.memoryBytes);
  t.is(verified.checked.chunks, saved.chunks.count);
  const structure = await verify(image, { structureOnly: true });
  t.true(structure.intact);
}

async function requireCounts(
  t: ExecutionContext,
  image: string,
  saved: SaveResult,
  written: WrittenMachine,
): Promise<void> {
  const report = await inspect(image);
  t.true(report.complete);
  t.deepEqual(report.problems, []);
  t.is(report.fileBytes, saved.imageBytes);
  t.is(report.trustedBytes, saved.imageBytes);
  t.deepEqual(report.memory.pages, saved.pages);
  t.is(report.memory.digest, saved.digest);
  t.is(report.storage.storedBytes, saved.chunks.stored);
  t.is(report.storage.chunks, saved.chunks.count);
  t.is(report.storage.rawChunks, saved.chunks.raw);
  for (const [i, region] of report.memory.regions.entries()) {
    const counted = countPages(written.regions[i]!.memory, saved.pageSize);
    t.is(region.dataPages! + region.referencePages!, counted.data);
    t.is(region.uniformPages, counted.uniform);
  }
  const heat = report.heat!.reduce(
    (sum, cell) => ({
      pages: sum.pages + cell.pages,
      data: sum.data + cell.dataPages,
      uniform: sum.uniform + cell.uniformPages,
    }),
    { pages: 0, data: 0, uniform: 0 },
  );
  // Pages of a segment that crosses cells are shared out among them.
  t.is(Math.round(heat.pages), saved.memoryBytes / saved.pageSize);
  t.is(Math.round(heat.data), saved.pages.data);
  t.is(Math.round(heat.uniform), saved.pages.uniform);
}

async function requireSlices(
  t: ExecutionContext,
  path: string,
  written: WrittenMachine,
  reads: readonly (readonly [number, number, number])[],
): Promise<void> {
  const image = await openImage(path);
  try {
    for (const [which, from, length] of reads) {
      const { name, memory } = written.regions[which % written.regions.length]!;
      const offset = from % (memory.length + 1);
      const bytes = length % (memory.length - offset + 1);
      sameBytes(t, await image.read(name, offset, bytes), memory.subarray(offset, offset + bytes), `${name}+${offset}`);
    }
    let mapped = 0;
    for await (const range of image.map()) mapped += range.length;
    t.is(mapped, written.memory.length);
  } finally {
    await image.close();
  }
}
