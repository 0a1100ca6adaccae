/** Where a load can go: parts of the memory, over stale bytes, devices, huge pages, pipes. */
import { chmodSync, chownSync, existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type LoadOptions, load, save } from '../../lib/index.js';
import { failsWith, sameBytes } from './support/expect.js';
import { GIB, MIB, makeMemory, mixedMemory, PAGE, randomMemory, writeSparse } from './support/memory.js';
import { cat, makeFifo } from './support/pipes.js';
import { loopDevice, mount, onHugePages, onLoopDevice, reserveHugePages } from './support/privileged.js';
import { runWork } from './support/work.js';
import { diskWorkspace, type Workspace, workspace } from './support/workspace.js';

const HUGE_PAGE = 2 * MIB;
const A = mixedMemory(3 * MIB + 7 * PAGE);
const B = makeMemory(6 * MIB, [
  { kind: 'zero', pages: 500 },
  { kind: 'random', pages: 100 },
  { kind: 'zero', pages: 600 },
  { kind: 'uniform', pages: 300 },
]);
const MEMORY = Buffer.concat([A, B]);

async function machine(t: ExecutionContext, make = workspace): Promise<{ folder: Workspace; image: string }> {
  const folder = make(t);
  writeSparse(folder.path('memory'), MEMORY);
  const regions = [
    { name: 'a', gpa: 0, sizeBytes: A.length },
    { name: 'b', gpa: 4 * GIB, sizeBytes: B.length },
  ];
  await save(folder.path('memory'), folder.path('image'), { regions, segmentSize: MIB, chunkSize: 16 * 1024 });
  return { folder, image: folder.path('image') };
}

/** Stale bytes wherever zero pages will be. */
const stale = (sizeBytes: number): Buffer => Buffer.alloc(sizeBytes, 0xa5);

test('one region', async (t) => {
  const { folder, image } = await machine(t);
  for (const [region, memory] of [
    ['a', A],
    ['b', B],
  ] as const) {
    const loaded = await load(image, folder.path(region), { region });
    sameBytes(t, readFileSync(folder.path(region)), memory, region);
    t.is(loaded.proven, 'region');
  }
  const error = await failsWith(t, 'NOT_FOUND', load(image, folder.path('c'), { region: 'c' }), /no region "c"/);
  t.is(error.hint, 'it has a, b');
  t.false(existsSync(folder.path('c')));
});

const RANGES: [number, number][] = [
  [0, 1],
  [0, MEMORY.length],
  [1, MEMORY.length - 1],
  [A.length - 1, 2],
  [A.length, 1],
  [MIB - 3, 7],
  [PAGE, PAGE],
  [PAGE * 3 + 5, MIB * 4 + 1234],
  [A.length + 2 * MIB, 3 * MIB],
  [MEMORY.length - 1, 1],
];

test('any range, of pages or not', async (t) => {
  const { folder, image } = await machine(t);
  for (const [offset, length] of RANGES) {
    const expected = MEMORY.subarray(offset, offset + length);
    const whole = length === MEMORY.length;
    for (const options of [{ force: true }, { inPlace: true }] satisfies LoadOptions[]) {
      const target = folder.path(JSON.stringify(Object.keys(options)));
      writeFileSync(target, stale(length + 3 * PAGE));
      const loaded = await load(image, target, { ...options, range: { offset, length }, threads: 2 });
      sameBytes(t, readFileSync(target), expected, `${offset}:${length} ${Object.keys(options)}`);
      t.is(loaded.proven, whole ? 'memory' : 'leaves');
      t.is(loaded.memoryBytes, length);
    }
  }
});

test('a range of a region', async (t) => {
  const { folder, image } = await machine(t);
  for (const [offset, length] of [
    [0, B.length],
    [2 * MIB - 5, MIB],
    [B.length - 9, 9],
  ] as const) {
    await load(image, folder.path('part'), { region: 'b', range: { offset, length }, force: true });
    sameBytes(t, readFileSync(folder.path('part')), B.subarray(offset, offset + length), `${offset}:${length}`);
  }
});

test('ranges that are none', async (t) => {
  const { folder, image } = await machine(t);
  const wrong = [
    [0, 0],
    [-1, 5],
    [0, -1],
    [0.5, 1],
    [0, Number.NaN],
    [MEMORY.length, 1],
    [0, MEMORY.length + 1],
    [Number.MAX_SAFE_INTEGER, 2],
  ] as const;
  for (const [offset, length] of wrong) {
    await failsWith(t, 'USAGE', load(image, folder.path('part'), { range: { offset, length } }), /range/);
    t.false(existsSync(folder.path('part')));
  }
});

test('in place over stale bytes: shorter, longer, as long', async (t) => {
  const { folder, image } = await machine(t);
  for (const size of [0, 1, PAGE * 3 + 1, MEMORY.length - 1, MEMORY.length, MEMORY.length + 5 * MIB]) {
    const target = folder.path('target');
    writeFileSync(target, stale(size));
    const { ino } = statSync(target);
    const loaded = await load(image, target, { inPlace: true, threads: 3 });
    t.true(loaded.run.inPlace);
    sameBytes(t, readFileSync(target), MEMORY, `over ${size} bytes`);
    t.is(statSync(target).ino, ino, 'it is the same file');
    t.deepEqual(folder.leftovers(), []);
  }
});

test('in place, zero memory becomes holes', async (t) => {
  const { folder, image } = await machine(t);
  writeFileSync(folder.path('target'), stale(MEMORY.length));
  await load(image, folder.path('target'), { inPlace: true });
  const { blocks } = statSync(folder.path('target'));
  t.true(blocks * 512 < MEMORY.length * 0.75, `${blocks} blocks`);
});

test('a new file is sparse', async (t) => {
  const { folder, image } = await machine(t);
  await load(image, folder.path('target'));
  const { blocks } = statSync(folder.path('target'));
  t.true(blocks * 512 < MEMORY.length * 0.75, `${blocks} blocks`);
});

const withLoopDevice = onLoopDevice();

withLoopDevice('a block device', async (t) => {
  const { folder, image } = await machine(t, diskWorkspace);
  const size = MEMORY.length + MIB;
  writeFileSync(folder.path('disk'), stale(size));
  const device = loopDevice(t, folder.path('disk'));
  await failsWith(t, 'EXISTS', load(image, device), /where it stands/);
  const loaded = await load(image, device, { inPlace: true, threads: 2 });
  t.true(loaded.run.inPlace);
  const bytes = readFileSync(device);
  sameBytes(t, bytes.subarray(0, MEMORY.length), MEMORY);
  sameBytes(t, bytes.subarray(MEMORY.length), stale(MIB), 'what lies behind it');
});

withLoopDevice('a block device that is too small', async (t) => {
  const { folder, image } = await machine(t, diskWorkspace);
  writeFileSync(folder.path('disk'), stale(MIB));
  const device = loopDevice(t, folder.path('disk'));
  await failsWith(t, 'NO_SPACE', load(image, device, { inPlace: true }), /has 1048576 bytes/);
  sameBytes(t, readFileSync(device), stale(MIB), 'the device');
});

const withHugePages = onHugePages(12);

/** Of a whole number of huge pages, as such files are. */
async function hugeMachine(t: ExecutionContext): Promise<{ folder: Workspace; memory: Buffer }> {
  const folder = workspace(t);
  const memory = mixedMemory(5 * HUGE_PAGE);
  writeFileSync(folder.path('memory'), memory);
  await save(folder.path('memory'), folder.path('image'));
  return { folder, memory };
}

withHugePages('hugetlbfs: a source and a target', async (t) => {
  const { folder, memory } = await hugeMachine(t);
  reserveHugePages(t, 12);
  const huge = mount(t, folder, 'hugetlbfs', 'pagesize=2M');
  const target = join(huge, 'memory');
  const loaded = await load(folder.path('image'), target);
  t.true(loaded.run.inPlace);
  sameBytes(t, readFileSync(target), memory);
  const saved = await save(target, folder.path('again'));
  t.is(saved.digest, loaded.digest);
  await load(folder.path('image'), target, { inPlace: true });
  sameBytes(t, readFileSync(target), memory, 'the memory, once more');
});

withHugePages('hugetlbfs: parts of the memory, threads, and an image from a pipe', async (t) => {
  const { folder, memory } = await hugeMachine(t);
  reserveHugePages(t, 12);
  const huge = mount(t, folder, 'hugetlbfs', 'pagesize=2M');
  const target = join(huge, 'memory');
  const range = { offset: HUGE_PAGE + 4096 + 7, length: 2 * HUGE_PAGE };
  await load(folder.path('image'), target, { range, inPlace: true, threads: 2 });
  sameBytes(t, readFileSync(target), memory.subarray(range.offset, range.offset + range.length), 'the range');
  const fifo = makeFifo(folder.path('fifo'));
  const feed = cat(folder.path('image'), fifo);
  await load(fifo, target, { inPlace: true, threads: 2 });
  await feed;
  sameBytes(t, readFileSync(target), memory);
});

withHugePages('hugetlbfs: memory that is no whole number of huge pages is followed by zeros', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(3 * MIB);
  writeFileSync(folder.path('memory'), memory);
  await save(folder.path('memory'), folder.path('image'));
  reserveHugePages(t, 8);
  const huge = mount(t, folder, 'hugetlbfs', 'pagesize=2M');
  await load(folder.path('image'), join(huge, 'memory'));
  const expected = Buffer.concat([memory, Buffer.alloc(MIB)]);
  sameBytes(t, readFileSync(join(huge, 'memory')), expected);
});

withHugePages('hugetlbfs: a pool that is too small is an error and no SIGBUS', async (t) => {
  const { folder } = await hugeMachine(t);
  reserveHugePages(t, 2);
  const huge = mount(t, folder, 'hugetlbfs', 'pagesize=2M');
  const work = { operation: 'load', image: folder.path('image'), target: join(huge, 'memory') } as const;
  const outcome = await runWork(work);
  t.is(outcome.ok || outcome.code, 'NO_SPACE');
  if (!outcome.ok) t.regex(outcome.hint!, /nr_hugepages/);
});

test('a named pipe', async (t) => {
  const { folder, image } = await machine(t);
  const fifo = makeFifo(folder.path('fifo'));
  const copy = cat(fifo, folder.path('back'));
  const loaded = await load(image, fifo, { threads: 3 });
  await copy;
  t.false(loaded.run.inPlace);
  sameBytes(t, readFileSync(folder.path('back')), MEMORY);
});

test('/dev/null and /dev/full', async (t) => {
  const { folder, image } = await machine(t);
  const loaded = await load(image, '/dev/null');
  t.is(loaded.memoryBytes, MEMORY.length);
  await failsWith(t, 'NO_SPACE', load(image, '/dev/full'));
  await failsWith(t, 'USAGE', save(folder.path('memory'), '/dev/null'), /no regular file/);
  t.true(statSync('/dev/null').isCharacterDevice());
});

test('permissions and owner', async (t) => {
  const { folder, image } = await machine(t);
  const modes: [number | undefined, number][] = [
    [undefined, 0o600],
    [0o640, 0o640],
    [0o400, 0o400],
    [0o666, 0o666],
  ];
  for (const [mode, expected] of modes) {
    await load(image, folder.path('target'), { mode, force: true });
    t.is(statSync(folder.path('target')).mode & 0o7777, expected);
  }
  const owner =
    process.getuid!() === 0 ? { uid: 12_345, gid: 23_456 } : { uid: process.getuid!(), gid: process.getgid!() };
  await load(image, folder.path('owned'), { owner, mode: 0o660 });
  const { uid, gid, mode } = statSync(folder.path('owned'));
  t.deepEqual({ uid, gid, mode: mode & 0o7777 }, { ...owner, mode: 0o660 });
  await failsWith(t, 'USAGE', load(image, folder.path('target'), { owner, inPlace: true }), /--owner/);
});

test('in place keeps the permissions and the owner that a file has', async (t) => {
  const { folder, image } = await machine(t);
  writeFileSync(folder.path('target'), randomMemory(MIB));
  if (process.getuid!() === 0) chownSync(folder.path('target'), 12_345, 23_456);
  chmodSync(folder.path('target'), 0o640);
  const before = statSync(folder.path('target'));
  await load(image, folder.path('target'), { inPlace: true });
  const after = statSync(folder.path('target'));
  t.deepEqual([after.mode, after.uid, after.gid], [before.mode, before.uid, before.gid]);
});

test('a target on another file system than the image, and a sparse old one', async (t) => {
  const { folder, image } = await machine(t);
  const disk = diskWorkspace(t);
  writeFileSync(disk.path('target'), '');
  truncateSync(disk.path('target'), 20 * MIB);
  await load(image, disk.path('target'), { inPlace: true });
  sameBytes(t, readFileSync(disk.path('target')), MEMORY);
  await load(image, disk.path('target'), { force: true });
  sameBytes(t, readFileSync(disk.path('target')), MEMORY);
  t.deepEqual([...folder.leftovers(), ...disk.leftovers()], []);
});
