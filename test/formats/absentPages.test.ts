/** Absent pages: memory whose contents nobody knows is zero wherever it is read, and every reader says how much that is. */
import { readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import {
  compare,
  flatten,
  inspect,
  load,
  type MapRange,
  openImage,
  save,
  verify,
  type Warning,
} from '../../lib/index.js';
import { schemaFaults } from '../cli/support/jsonSchema.js';
import { runCli } from '../cli/support/runCli.js';
import { sameBytes } from '../lib/support/expect.js';
import { KIB, MIB, mixedMemory, PAGE } from '../lib/support/memory.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { editEnd, type ForgedImage, forge, type Json, recordOf } from './forge.js';
import { Judge, type Verdict } from './support/judge.js';
import { RecordImage } from './support/recordImage.js';
import { missingTool, readWithSecondReader, refusalsOfSecondReader, skip } from './support/secondReader.js';

const MEMORY_BYTES = 4 * MIB + 64 * KIB;
const PAGES_PER_SEGMENT = MIB / PAGE;
/** Of segment 0 and of the short last one; segment 2 is absent altogether, segments 1 and 3 have no record. */
const SOME = [0, 1, 9, 200];
const LAST = [15];
const ABSENT_PAGES = SOME.length + PAGES_PER_SEGMENT + LAST.length;

interface Made {
  readonly path: string;
  readonly memory: Buffer;
  readonly identity: string;
}

function makeImage(folder: Workspace, name = 'image'): Made {
  const memory = Buffer.alloc(MEMORY_BYTES);
  mixedMemory(MIB, 3).copy(memory);
  mixedMemory(64 * KIB, 4).copy(memory, 4 * MIB);
  for (const page of SOME) memory.fill(0, page * PAGE, (page + 1) * PAGE);
  for (const page of LAST) memory.fill(0, 4 * MIB + page * PAGE, 4 * MIB + (page + 1) * PAGE);
  const path = folder.path(name);
  const regions = [{ name: 'ram', gpa: 0, sizeBytes: MEMORY_BYTES }];
  const image = new RecordImage(path, { regions, mayHaveAbsent: true });
  image.put(0, memory.subarray(0, MIB), SOME);
  image.put(
    2,
    Buffer.alloc(MIB),
    Array.from({ length: PAGES_PER_SEGMENT }, (_, page) => page),
  );
  image.put(4, memory.subarray(4 * MIB), LAST);
  return { path, memory, identity: image.finish().identity };
}

async function mapOf(path: string): Promise<MapRange[]> {
  const image = await openImage(path);
  const runs: MapRange[] = [];
  for await (const run of image.map()) if (run.state === 'absent') runs.push(run);
  await image.close();
  return runs;
}

const ABSENT_RUNS = [
  [0, 2 * PAGE],
  [9 * PAGE, PAGE],
  [200 * PAGE, PAGE],
  [2 * MIB, MIB],
  [4 * MIB + 15 * PAGE, PAGE],
];

const places = (runs: readonly MapRange[]) => runs.map(({ offset, length }) => [offset, length]);

test('load writes zeros, tells how many pages and warns once, from a file, a pipe and over old contents', async (t) => {
  const folder = workspace(t);
  const { path, memory } = makeImage(folder);
  const target = folder.path('target');
  const loadFrom = async (image: string, inPlace = false, threads = 2) => {
    const heard: Warning[] = [];
    const options = { threads, force: true, inPlace, onWarning: (warning: Warning) => heard.push(warning) };
    const { absentPages, warnings, proven } = await load(image, target, options);
    t.deepEqual([absentPages, proven], [ABSENT_PAGES, 'memory']);
    t.deepEqual(
      heard.map(({ code }) => code),
      ['absent-pages'],
    );
    t.deepEqual(heard, [...warnings]);
    t.regex(heard[0]!.message, new RegExp(`contents of ${ABSENT_PAGES} pages`));
    sameBytes(t, readFileSync(target), memory);
  };
  await loadFrom(path);
  const pipe = makeFifo(folder.path('pipe'));
  await Promise.all([loadFrom(pipe, false, 3), cat(path, pipe)]);
  writeFileSync(target, Buffer.alloc(MEMORY_BYTES, 0xee));
  await loadFrom(path, true);
  const part = await load(path, target, { force: true, range: { offset: 9 * PAGE + 8, length: PAGE } });
  t.is(part.absentPages, 1);
  const none = await load(path, target, { force: true, range: { offset: 16 * PAGE, length: 8 * PAGE } });
  t.deepEqual([none.absentPages, none.warnings.length], [0, 0]);
});

test('verify, inspect, map, reads and the second reader know them', async (t) => {
  const folder = workspace(t);
  const { path, memory, identity } = makeImage(folder);
  const { intact, findings } = await verify(path);
  t.true(intact, findings[0]?.message);
  const report = await inspect(path);
  t.deepEqual(report.format.incompatibleFeatures, ['absent pages']);
  t.is(report.memory.pages?.absent, ABSENT_PAGES);
  t.is(report.memory.regions[0]?.absentPages, ABSENT_PAGES);
  const inCells = report.heat!.reduce((sum, cell) => sum + cell.absentPages, 0);
  t.true(Math.abs(inCells - ABSENT_PAGES) < 0.001);
  t.deepEqual(places(await mapOf(path)), ABSENT_RUNS);
  const image = await openImage(path);
  sameBytes(t, await image.read('ram', PAGE + 7, 11 * PAGE), memory.subarray(PAGE + 7, 12 * PAGE + 7));
  await image.close();
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  const reading = await readWithSecondReader(path, folder.path('read'));
  t.deepEqual([reading.identity, (reading.pages as Json).absent], [identity, ABSENT_PAGES]);
  sameBytes(t, readFileSync(folder.path('read')), memory);
});

test('the commands: a mark in the heat bar, a state of the map, exit code 3 of a load', async (t) => {
  const folder = workspace(t);
  const { path } = makeImage(folder);
  const cli = (...args: string[]) => runCli(args, { cwd: folder.folder });
  const screen = await cli('inspect', path);
  t.regex(screen.stdout, /261 absent \(25\.\d %\)/);
  t.regex(screen.stdout, /× absent/);
  t.regex(screen.stdout, /^ {2}[·░▒▓█×]*×{8}[·░▒▓█×]*$/m);
  t.regex((await cli('inspect', '--map', '--state', 'absent', path)).stdout, /^ram +0x200000 +1 MiB +absent$/m);
  t.regex((await cli('inspect', '--regions', path)).stdout, /ABSENT.*\nram .* 261 /);
  const told = await cli('load', path, 'told');
  t.is(told.exitCode, 3);
  t.regex(told.stderr, /does not know the contents of 261 pages/);
  const loaded = await cli('load', '--json', path, 'target');
  t.is(loaded.exitCode, 3);
  for (const [file, output] of [
    ['load.json', loaded],
    ['inspect.json', await cli('inspect', '--json', path)],
    ['compare.json', await cli('compare', '--json', path, 'target')],
  ] as const) {
    t.deepEqual(schemaFaults(file, JSON.parse(output.stdout)), [], file);
  }
});

test('compare takes them for zero and says how many each side has', async (t) => {
  const folder = workspace(t);
  const { path, memory } = makeImage(folder);
  writeFileSync(folder.path('memory'), memory);
  const known = folder.path('known');
  await save(folder.path('memory'), known, { segmentSize: MIB, frozen: true });
  for (const other of [folder.path('memory'), known]) {
    const result = await compare(path, other);
    t.true(result.equal);
    t.deepEqual([result.a.absentPages, result.b.absentPages], [ABSENT_PAGES, 0]);
  }
  const itself = await compare(path, path);
  t.deepEqual([itself.equal, itself.a.absentPages, itself.b.absentPages], [true, ABSENT_PAGES, ABSENT_PAGES]);
  memory.fill('data', 2 * MIB, 2 * MIB + PAGE);
  writeFileSync(folder.path('memory'), memory);
  const { pages, ranges } = await compare(path, folder.path('memory'));
  t.is(pages.wasZero, 1);
  t.deepEqual(ranges[0], { region: 'ram', offset: 2 * MIB, length: PAGE, change: 'was-zero' });
});

test('flatten keeps them', async (t) => {
  const folder = workspace(t);
  const { path, memory } = makeImage(folder);
  const { pages, digest } = await flatten(path, folder.path('flat'), { codec: 'none', threads: 2 });
  t.is(pages.absent, ABSENT_PAGES);
  t.is((await inspect(path)).memory.digest, digest);
  t.deepEqual(places(await mapOf(folder.path('flat'))), ABSENT_RUNS);
  t.true((await verify(folder.path('flat'))).intact);
  await load(folder.path('flat'), folder.path('target'));
  sameBytes(t, readFileSync(folder.path('target')), memory);
});

test('a difference: who knows that a page is zero says so, and nothing else is lost or invented', async (t) => {
  const folder = workspace(t);
  const { path, memory } = makeImage(folder);
  const child = folder.path('child');
  const source = folder.path('memory');
  memory.fill('changed', 9 * PAGE, 10 * PAGE);
  writeFileSync(source, memory);
  const saved = await save(source, child, { base: path, frozen: true });
  // All of the memory is known to the child: what is absent in the base is zero now, and stands in its records.
  t.deepEqual([saved.pages.absent, saved.pages.zero, saved.pages.data], [0, ABSENT_PAGES - 1, 1]);
  const loaded = await load(child, folder.path('target'), { threads: 2 });
  t.is(loaded.absentPages, 0);
  sameBytes(t, readFileSync(folder.path('target')), memory);
  t.true((await verify(child)).intact);
  const flat = await flatten(child, folder.path('flat'));
  t.is(flat.pages.absent, 0);

  // A difference without records takes everything from the base.
  const same = await save(source, folder.path('same'), { base: child, frozen: true });
  t.is(same.pages.sameAsBase, MEMORY_BYTES / PAGE);
  await readByAll(t, folder, folder.path('same'), memory);
});

test('absent pages that a base has are those of a child that does not say otherwise', async (t) => {
  const folder = workspace(t);
  const { path, memory } = makeImage(folder);
  const source = folder.path('memory');
  writeFileSync(source, memory);
  const child = folder.path('child');
  await save(source, child, { base: path, segmentSize: MIB, frozen: true });
  // Without its records the child is the base again.
  const bare = forge(readFileSync(child), (image) => {
    image.records = image.records.filter(({ kind }) => kind !== 'VSEG' && kind !== 'VIDX');
    editEnd(image, (m) => {
      m.pages = { ...m.pages, zero: 0, data: 0, uniform: 0, sameAsBase: MEMORY_BYTES / PAGE };
      m.chunks = { count: 0, stored: 0, raw: 0 };
    });
  });
  writeFileSync(child, bare);
  const { absentPages } = await load(child, folder.path('target'));
  t.is(absentPages, ABSENT_PAGES);
  t.is((await flatten(child, folder.path('flat'))).pages.absent, ABSENT_PAGES);
  t.is((await compare(child, source)).a.absentPages, ABSENT_PAGES);
  await readByAll(t, folder, child, memory);
});

async function readByAll(t: ExecutionContext, folder: Workspace, path: string, memory: Buffer): Promise<void> {
  t.true((await verify(path)).intact);
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  await readWithSecondReader(path, folder.path('read'));
  sameBytes(t, readFileSync(folder.path('read')), memory);
}

const HOSTILE: readonly [string, (image: ForgedImage) => void, { readonly load: string; readonly verify: Verdict }][] =
  [
    [
      'the state without the feature',
      (image) => void image.header.writeBigUInt64LE(0n, 24),
      { load: 'UNSUPPORTED', verify: 'UNSUPPORTED' },
    ],
    [
      'an index entry that counts one less',
      (image) => {
        const block = recordOf(image, 'VIDX');
        block.payload.writeUInt16LE(block.payload.readUInt16LE(28) - 1, 28);
        block.asIs = true;
      },
      { load: 'CORRUPT', verify: 'damaged' },
    ],
    [
      'an index entry that takes absent pages for pages of the base',
      (image) => {
        const block = recordOf(image, 'VIDX');
        block.payload.writeUInt16LE(block.payload.readUInt16LE(28), 26);
        block.payload.writeUInt16LE(0, 28);
        block.asIs = true;
      },
      { load: 'CORRUPT', verify: 'damaged' },
    ],
    [
      'an end manifest that takes one for zero',
      (image) =>
        editEnd(image, (m) => {
          m.pages.absent -= 1;
          m.pages.zero += 1;
        }),
      { load: 'taken', verify: 'damaged' },
    ],
    [
      'an end manifest that counts more pages than there are',
      (image) => editEnd(image, (m) => Object.assign(m.pages, { absent: m.pages.absent + 1 })),
      { load: 'CORRUPT', verify: 'damaged' },
    ],
    [
      'a record left out of a segment that is all absent',
      (image) => void image.records.splice(image.records.indexOf(recordOf(image, 'VSEG', 1)), 1),
      { load: 'taken', verify: 'damaged' },
    ],
  ];

test('what does not fit is refused, by every reader', async (t) => {
  const folder = workspace(t);
  const { path, memory } = makeImage(folder);
  const valid = readFileSync(path);
  const judge = new Judge(folder);
  const names: string[] = [];
  for (const [i, [name, change, expected]] of HOSTILE.entries()) {
    judge.put(forge(valid, change));
    writeFileSync(folder.path(`hostile-${i}`), readFileSync(judge.imagePath));
    names.push(folder.path(`hostile-${i}`));
    t.is(await judge.verify(), expected.verify, name);
    const result = await judge.load();
    t.is(typeof result === 'string' ? result : 'taken', expected.load, name);
    // From a file a load does not count; what it gives is right all the same.
    if (typeof result !== 'string') sameBytes(t, result, memory, name);
  }
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  for (const [image, refusal] of await refusalsOfSecondReader(names)) t.regex(refusal ?? 'none', /offset \d+/, image);
});
