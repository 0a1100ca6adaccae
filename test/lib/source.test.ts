/** A source that may be written, changes, fails or cannot be read: told, marked or refused, never silently torn. */
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { inspect, load, type SaveResult, save, type Warning } from '../../lib/index.js';
import { needing } from '../support/needing.js';
import { failsWith, sameBytes } from './support/expect.js';
import { MIB, mixedMemory, PAGE, randomMemory } from './support/memory.js';
import { Pipe } from './support/pipes.js';
import { loopDevice, onLoopDevice, onProgram } from './support/privileged.js';
import { type RunningWork, startWork, succeed } from './support/work.js';
import { diskWorkspace, type Workspace, workspace } from './support/workspace.js';
import { mapForWriting, openForWriting } from './support/writers.js';

/** Zero at first: a save that cannot write its image gets at least past that. */
const MEMORY = Buffer.concat([Buffer.alloc(MIB), randomMemory(23 * MIB)]);
const NOBODY = 65_534;
/** A writer waits for the lease to be given up, which is looked at 20 times a second; the rest is for a busy machine. */
/** Far below the 45 s after which the kernel breaks a lease that nobody gives up. */
const OPEN_SECONDS = 20;

function source(t: ExecutionContext, memory = MEMORY): { folder: Workspace; path: string; image: string } {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), memory);
  return { folder, path: folder.path('memory'), image: folder.path('image') };
}

async function saveAndCollect(path: string, image: string, options = {}): Promise<[SaveResult, Warning[]]> {
  const warnings: Warning[] = [];
  const saved = await save(path, image, { ...options, onWarning: (warning) => warnings.push(warning) });
  return [saved, warnings];
}

for (const [what, start, define] of [
  ['open', openForWriting, needing(undefined)],
  ['mapped', mapForWriting, onProgram('python3')],
] as const) {
  define(`${what} for writing by another process: warned about with its pid, and marked`, async (t) => {
    const { folder, path, image } = source(t);
    const pid = await start(t, path);
    const [saved, warnings] = await saveAndCollect(path, image);
    t.is(warnings.length, 1);
    t.is(warnings[0]!.code, 'source-may-change');
    t.regex(warnings[0]!.message, new RegExp(`process (\\d+, )*${pid}\\b`));
    t.deepEqual(saved.warnings, warnings);
    t.true(saved.sourceMayHaveChanged);
    t.true((await inspect(image)).source.mayHaveChanged);
    const loaded = await load(image, folder.path('back'));
    t.deepEqual(
      loaded.warnings.map(({ code }) => code),
      ['source-may-have-changed'],
    );
  });
}

test('frozen: the caller vouches for it', async (t) => {
  const { folder, path, image } = source(t);
  await openForWriting(t, path);
  const [saved, warnings] = await saveAndCollect(path, image, { frozen: true });
  t.deepEqual(warnings, []);
  t.false(saved.sourceMayHaveChanged);
  t.false((await inspect(image)).source.mayHaveChanged);
  t.deepEqual((await load(image, folder.path('back'))).warnings, []);
});

test('a source that nobody writes is not marked, and others may read it', async (t) => {
  const { path, image } = source(t);
  const reader = await open(path, 'r');
  const [saved, warnings] = await saveAndCollect(path, image);
  await reader.close();
  t.deepEqual(warnings, []);
  t.false(saved.sourceMayHaveChanged);
});

test('one of several files is written', async (t) => {
  const { folder, path, image } = source(t);
  writeFileSync(folder.path('second'), mixedMemory(MIB));
  await openForWriting(t, folder.path('second'));
  const regions = [
    { name: 'a', gpa: 0, sizeBytes: MIB, file: path },
    { name: 'b', gpa: MIB, sizeBytes: MIB, file: folder.path('second') },
    { name: 'c', gpa: 2 * MIB, sizeBytes: MIB, file: path },
  ];
  const warnings: Warning[] = [];
  await save(undefined, image, { regions, onWarning: (warning) => warnings.push(warning) });
  t.is(warnings.length, 1);
  t.true(warnings[0]!.message.startsWith(folder.path('second')));
});

/** A save that has begun to read and cannot go on, because nobody reads its image. */
async function startStuckSave(path: string, options = {}): Promise<{ work: RunningWork; image: Pipe }> {
  const image = new Pipe();
  const work = startWork(
    { operation: 'save', source: path, image: '-', options: { segmentSize: MIB, threads: 1, ...options } },
    { stdout: image.writeFd },
  );
  image.closeWrite();
  await work.moved;
  return { work, image };
}

test('opened for writing meanwhile: the writer goes on at once, and it is told', async (t) => {
  const { path } = source(t);
  const { work, image } = await startStuckSave(path);
  const started = performance.now();
  const writer: FileHandle = await open(path, 'r+');
  const seconds = (performance.now() - started) / 1000;
  t.log(`the writer waited for ${seconds.toFixed(3)} s`);
  t.true(seconds < OPEN_SECONDS);
  await image.collect();
  await writer.close();
  const { result } = succeed<SaveResult>(await work.outcome);
  t.true(result.sourceMayHaveChanged);
  t.regex(result.warnings[0]!.message, /opened for writing while it was read/);
});

const CHANGES: [string, (path: string) => void][] = [
  ['truncated to nothing', (path) => truncateSync(path, 0)],
  ['cut in the middle', (path) => truncateSync(path, 12 * MIB + 5)],
  ['cut by one byte', (path) => truncateSync(path, MEMORY.length - 1)],
  ['grown', (path) => appendFileSync(path, 'x')],
  ['written', (path) => writeFileSync(path, MEMORY.subarray(0, PAGE), { flag: 'r+' })],
];
for (const [what, change] of CHANGES) {
  for (const frozen of [false, true]) {
    test(`${what} while it is read${frozen ? ', though vouched for' : ''}`, async (t) => {
      const { path } = source(t);
      // A change must be told by its time stamp, whatever the grain of the clock.
      utimesSync(path, 1, 1);
      const { work, image } = await startStuckSave(path, { frozen });
      change(path);
      await image.collect();
      const outcome = await work.outcome;
      t.is(outcome.ok || outcome.code, 'SOURCE_CHANGED');
    });
  }
}

test('truncated at random moments: an error or a whole image, and no SIGBUS', async (t) => {
  const { folder, path, image } = source(t);
  let failures = 0;
  for (let i = 0; i < 12; i++) {
    writeFileSync(path, MEMORY);
    const work = startWork({ operation: 'save', source: path, image, options: { force: true } });
    await (i % 2 === 0 ? work.moved : work.started);
    truncateSync(path, (i * 2 * MIB) % MEMORY.length);
    const outcome = await work.outcome;
    if (outcome.ok) continue;
    failures++;
    t.true(['SOURCE_CHANGED', 'USAGE'].includes(outcome.code), `${outcome.code} ${outcome.message}`);
    t.deepEqual(folder.leftovers(), []);
  }
  t.log(`${failures} of 12 were caught while reading`);
});

test('another file takes its name meanwhile: what was opened is saved', async (t) => {
  const { folder, path } = source(t);
  const { work, image } = await startStuckSave(path);
  writeFileSync(folder.path('other'), mixedMemory(MIB));
  renameSync(folder.path('other'), path);
  writeFileSync(folder.path('image'), await image.collect());
  succeed(await work.outcome);
  await load(folder.path('image'), folder.path('back'));
  sameBytes(t, readFileSync(folder.path('back')), MEMORY);
});

const withLoopDevice = onLoopDevice();

withLoopDevice('a block device', async (t) => {
  const folder = diskWorkspace(t);
  writeFileSync(folder.path('disk'), MEMORY);
  const device = loopDevice(t, folder.path('disk'));
  const [saved, warnings] = await saveAndCollect(device, folder.path('image'));
  t.is(saved.memoryBytes, MEMORY.length);
  t.regex(warnings[0]!.message, /it is a device/);
  t.deepEqual(await saveAndCollect(device, folder.path('frozen'), { frozen: true }).then(([, list]) => list), []);
  await load(folder.path('image'), folder.path('back'));
  sameBytes(t, readFileSync(folder.path('back')), MEMORY);
});

withLoopDevice('a device that fails to read', async (t) => {
  const folder = diskWorkspace(t);
  writeFileSync(folder.path('disk'), MEMORY);
  // A loop device whose file has become shorter answers EIO behind its end.
  const device = loopDevice(t, folder.path('disk'));
  truncateSync(folder.path('disk'), 8 * MIB);
  for (const threads of [1, 2]) {
    const saving = save(device, folder.path('image'), { threads, segmentSize: MIB, frozen: true });
    const error = await failsWith(t, 'IO', saving, /cannot read .*input\/output error/);
    t.is(error.path, device);
    t.true(error.offset! >= 8 * MIB && error.offset! < MEMORY.length, `${error.offset}`);
    t.false(existsSync(folder.path('image')));
    t.deepEqual(folder.leftovers(), []);
  }
});

test('unreadable', async (t) => {
  const { path, image } = source(t);
  chmodSync(path, 0);
  chmodSync(dirname(path), 0o777);
  await failsWith(
    t,
    'PERMISSION',
    asNobody(() => save(path, image)),
    new RegExp(`${path}: permission denied`),
  );
  t.false(existsSync(image));
});

/** Root may read everything. Tests of a file run one after the other, so that nobody else needs the identity meanwhile. */
async function asNobody<T>(action: () => Promise<T>): Promise<T> {
  if (process.geteuid!() !== 0) return action();
  process.seteuid!(NOBODY);
  try {
    return await action();
  } finally {
    process.seteuid!(0);
  }
}

test('a folder, nothing, a character device, a part of a page', async (t) => {
  const { folder, path, image } = source(t);
  mkdirSync(folder.path('folder'));
  await failsWith(t, 'USAGE', save(folder.path('folder'), image), /is a folder/);
  await failsWith(t, 'NOT_FOUND', save(folder.path('none'), image), /no such file/);
  await failsWith(t, 'USAGE', save(undefined, image), /no source/);
  writeFileSync(path, '');
  await failsWith(t, 'USAGE', save(path, image), /is empty/);
  for (const bytes of [1, PAGE - 1, PAGE + 1, MIB - 512]) {
    writeFileSync(path, randomMemory(bytes));
    const error = await failsWith(t, 'USAGE', save(path, image), /no multiple of the page size/);
    t.regex(error.hint!, /--region/);
  }
  writeFileSync(path, randomMemory(3 * PAGE));
  await failsWith(t, 'USAGE', save(path, image, { pageSize: 8192 }), /no multiple of the page size, 8192/);
  t.false(existsSync(image));
  t.deepEqual(folder.leftovers(), []);
});

test('regions that are not in their files', async (t) => {
  const { folder, path, image } = source(t);
  const region = { name: 'a', gpa: 0, sizeBytes: MIB, file: path };
  const wrong: [object, RegExp][] = [
    [{ ...region, fileOffset: MEMORY.length - MIB + 1 }, /ends at offset/],
    [{ ...region, sizeBytes: MEMORY.length + PAGE }, /ends at offset/],
    [{ ...region, sizeBytes: MIB + 1 }, /no multiple/],
    [{ ...region, gpa: 1 }, /page boundary/],
    [{ ...region, sizeBytes: 0 }, /empty/],
    [{ ...region, name: '' }, /name/],
    [{ ...region, fileOffset: -1 }, /offset/],
    [{ ...region, fileOffset: 0.5 }, /offset/],
    [{ ...region, sizeBytes: Number.NaN }, /size/],
    [{ ...region, gpa: -PAGE }, /address|page boundary|negative/],
  ];
  for (const [bad, message] of wrong) {
    const saving = save(undefined, image, { regions: [bad as typeof region] });
    await failsWith(t, 'USAGE', saving, message);
  }
  const overlap = [region, { ...region, name: 'b', gpa: MIB - PAGE }];
  await failsWith(t, 'USAGE', save(undefined, image, { regions: overlap }), /overlap/);
  await failsWith(t, 'USAGE', save(undefined, image, { regions: [region, { ...region, gpa: MIB }] }), /two regions/);
  await failsWith(t, 'USAGE', save(undefined, image, { regions: [] }));
  t.deepEqual(folder.leftovers(), []);
});
