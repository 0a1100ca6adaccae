/**
 * Saves of a memory that is written while it is saved: the image is what the memory was when the machine stood still, whatever was
 * written before and is written after, and in whatever way the changes were taken.
 */
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import {
  extract,
  flatten,
  type LiveMachine,
  load,
  type SaveOptions,
  type SaveResult,
  save,
  verify,
} from '../../lib/index.js';
import { missingTool, readWithSecondReader, skip } from '../formats/support/secondReader.js';
import { failsWith, sameBytes } from './support/expect.js';
import { WrittenMemory } from './support/liveMachine.js';
import { KIB, MIB, mixedMemory, PAGE, writeSparse } from './support/memory.js';
import { type Workspace, workspace } from './support/workspace.js';

const MEMORY = mixedMemory(10 * MIB + 3 * PAGE);
const QUIET: LiveMachine = { stop: async () => {}, memoryRead: async () => {} };

test.beforeEach((t) => t.timeout(240_000));

function fixture(t: ExecutionContext, memory = MEMORY): { folder: Workspace; source: string; image: string } {
  const folder = workspace(t);
  writeSparse(folder.path('memory'), memory);
  return { folder, source: folder.path('memory'), image: folder.path('image') };
}

/** The image of a stopped machine with the same memory: what a live one must come to. */
async function plainSave(folder: Workspace, memory: Buffer, options: SaveOptions): Promise<SaveResult> {
  writeFileSync(folder.path('stopped'), memory);
  return await save(folder.path('stopped'), folder.path('plain'), {
    segmentSize: MIB,
    ...options,
    frozen: true,
    // A live save takes none.
    references: false,
    force: true,
  });
}

interface Way {
  readonly share: number;
  readonly options: SaveOptions;
  readonly pageSize?: number;
  readonly copiedBytesMost?: number;
}

const WAYS: readonly Way[] = [
  { share: 0, options: { threads: 2 } },
  { share: 0.05, options: { threads: 1, segmentSize: MIB } },
  { share: 0.05, options: { threads: 3, segmentSize: MIB, codec: 'none' } },
  { share: 0.5, options: { threads: 2, segmentSize: 2 * MIB, codec: 'zlib' }, copiedBytesMost: 64 * MIB },
  { share: 0.5, options: { threads: 2, segmentSize: MIB, chunkSize: 64 * KIB }, copiedBytesMost: 2 * MIB },
  { share: 1, options: { threads: 2, segmentSize: MIB } },
  { share: 1, options: { threads: 1 }, copiedBytesMost: 64 * MIB },
  { share: 1, options: { threads: 3, segmentSize: MIB }, copiedBytesMost: 0 },
  { share: 0.2, options: { threads: 2, segmentSize: MIB, pageSize: 16 * KIB }, pageSize: 16 * KIB },
  { share: 0.1, options: { threads: 2, segmentSize: MIB, normalPageRatio: 50 } },
  { share: 0.1, options: { threads: 2, segmentSize: MIB, detector: 'dsa-emulated' } },
];

for (const [i, { share, options, pageSize, copiedBytesMost }] of WAYS.entries()) {
  const said = JSON.stringify({ ...options, ...(copiedBytesMost === undefined ? {} : { copiedBytesMost }) });
  test(`${share * 100} % of the pages written meanwhile, ${said}`, async (t) => {
    const memory = pageSize === undefined ? MEMORY : MEMORY.subarray(0, 10 * MIB);
    const { folder, source, image } = fixture(t, memory);
    const machine = await new WrittenMemory(source, share, { seed: i + 1, pageSize, copiedBytesMost }).running();
    const result = await save(source, image, { ...options, live: machine });
    await machine.halt();
    const stopped = machine.stopped!;
    t.deepEqual(machine.calls, ['stop', 'memoryRead', 'attachments']);

    const plain = await plainSave(folder, stopped, options);
    t.deepEqual([result.digest, result.pages, result.chunks], [plain.digest, plain.pages, plain.chunks]);
    t.false(result.sourceMayHaveChanged);
    t.deepEqual(result.warnings, []);
    await load(image, folder.path('back'), { threads: 2 });
    sameBytes(t, readFileSync(folder.path('back')), stopped);
    const verified = await verify(image);
    t.true(verified.intact, verified.findings[0]?.message);
    await extract(image, 'device-state', folder.path('state'));
    t.is(readFileSync(folder.path('state'), 'utf8'), 'the state of its devices');
    t.deepEqual(folder.leftovers(), []);
    checkRun(t, result, share, copiedBytesMost);
  });
}

function checkRun(t: ExecutionContext, { run, memoryBytes, pageSize }: SaveResult, share: number, most?: number): void {
  const live = run.live!;
  const pages = memoryBytes / pageSize;
  // Those of the first look may have had their last contents already, and some had them before.
  t.true(live.changedPages <= Math.ceil(pages * share) + 100, `${live.changedPages} of ${pages}`);
  t.true(share < 0.5 || live.changedPages > 0);
  t.true(live.copiedBytes <= (most ?? memoryBytes / 4));
  t.is(live.segmentsStoredInPause > 0, live.copiedBytes < live.changedPages * pageSize);
  if (most === 0) t.is(live.segmentsStoredInPause, live.changedSegments);
  t.is(live.changedPages === 0, live.changedSegments === 0);
}

test('a machine that writes nothing: the same records as of a stopped one, and no more', async (t) => {
  const { folder, source, image } = fixture(t);
  const { run, digest, imageBytes } = await save(source, image, { live: QUIET, segmentSize: MIB });
  const plain = await plainSave(folder, MEMORY, { segmentSize: MIB });
  t.is(digest, plain.digest);
  t.deepEqual([run.live!.changedPages, run.live!.copiedBytes, run.live!.segmentsStoredInPause], [0, 0, 0]);
  t.true(Math.abs(imageBytes - plain.imageBytes) < 64 * KIB, `${imageBytes} and ${plain.imageBytes}`);
});

test('regions of several files at odd offsets; holes that were filled, and data that became holes', async (t) => {
  const folder = workspace(t);
  const [low, high] = [folder.path('low'), folder.path('high')];
  const first = Buffer.concat([Buffer.alloc(777), mixedMemory(3 * MIB, 5), Buffer.alloc(5 * MIB)]);
  const second = Buffer.concat([mixedMemory(2 * MIB, 6), Buffer.alloc(4 * MIB), mixedMemory(MIB + PAGE, 7)]);
  writeSparse(low, first);
  writeSparse(high, second);
  const stop = async (): Promise<void> => {
    first.fill('written meanwhile', 777 + 6 * MIB - 100, 777 + 6 * MIB + 100);
    first.fill(0, 777, 777 + MIB + 5);
    second.fill(0, 0, 2 * MIB);
    writeSparse(low, first);
    writeSparse(high, second);
  };
  const regions = [
    { name: 'low', sizeBytes: 8 * MIB, gpa: 0, file: low, fileOffset: 777 },
    { name: 'high', sizeBytes: 7 * MIB + PAGE, gpa: 4096 * MIB, file: high },
  ];
  const image = folder.path('image');
  const result = await save(undefined, image, { regions, segmentSize: MIB, threads: 2, live: { ...QUIET, stop } });
  await load(image, folder.path('back'));
  sameBytes(t, readFileSync(folder.path('back')), Buffer.concat([first.subarray(777), second]));
  t.true((await verify(image)).intact);
  t.true(result.run.live!.changedSegments >= 4);

  await flatten(image, folder.path('flat'));
  t.true((await verify(folder.path('flat'))).intact);
  await load(folder.path('flat'), folder.path('back'), { force: true });
  sameBytes(t, readFileSync(folder.path('back')), Buffer.concat([first.subarray(777), second]));
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  t.is((await readWithSecondReader(image, folder.path('read'))).digest, result.digest);
  sameBytes(t, readFileSync(folder.path('read')), Buffer.concat([first.subarray(777), second]));
});

test('memory without any data, before and after; and all of it written meanwhile', async (t) => {
  for (const writes of [false, true]) {
    const { folder, source, image } = fixture(t, Buffer.alloc(3 * MIB));
    const memory = writes ? mixedMemory(3 * MIB, 8) : Buffer.alloc(3 * MIB);
    const stop = async (): Promise<void> => (writes ? writeFileSync(source, memory, { flag: 'r+' }) : undefined);
    const result = await save(source, image, { segmentSize: MIB, live: { ...QUIET, stop } });
    t.is(result.run.live!.changedSegments, writes ? 3 : 0);
    await load(image, folder.path('back'));
    sameBytes(t, readFileSync(folder.path('back')), memory);
  }
});

test.serial('no descriptor stays open, whether it succeeds or fails', async (t) => {
  const { source, image } = fixture(t);
  const stop = (): Promise<void> => Promise.reject(new Error('no'));
  const once = async (): Promise<void> => {
    await save(source, image, { force: true, threads: 2, live: QUIET });
    await t.throwsAsync(save(source, image, { force: true, threads: 2, live: { ...QUIET, stop } }));
  };
  await once();
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 5; i++) await once();
  // Less than one for each.
  t.true(readdirSync('/proc/self/fd').length < before + 5);
});

const PHASES = ['stop', 'memoryRead', 'attachments'] as const;

for (const phase of PHASES) {
  test(`${phase} rejects, or the save is aborted in it: that reason comes back, and nothing is left`, async (t) => {
    const { folder, source, image } = fixture(t);
    const refusal = new Error(`no ${phase}`);
    for (const isAbort of [false, true]) {
      const controller = new AbortController();
      const fail = async (): Promise<never[]> => {
        if (!isAbort) throw refusal;
        controller.abort(refusal);
        return [];
      };
      const stop = async (): Promise<void> => writeFileSync(source, mixedMemory(2 * MIB, 9), { flag: 'r+' });
      const live = { ...QUIET, stop, [phase]: fail };
      const saving = save(source, image, { segmentSize: MIB, live, signal: controller.signal });
      t.is(
        await saving.then(
          () => undefined,
          (error: unknown) => error,
        ),
        refusal,
      );
      t.deepEqual(readdirSync(folder.folder), ['memory']);
    }
  });
}

test('aborted at any moment: that reason comes back, nothing is left, and a machine is stopped once at most', async (t) => {
  const { folder, source, image } = fixture(t);
  const options = { segmentSize: MIB, threads: 2, force: true };
  const started = performance.now();
  await save(source, image, { ...options, live: QUIET });
  const longestMs = performance.now() - started;
  for (let i = 0; i < 10; i++) {
    const reason = new Error(`reason ${i}`);
    const controller = new AbortController();
    const machine = await new WrittenMemory(source, 0.5, { seed: i + 1 }).running();
    const timer = setTimeout(() => controller.abort(reason), (longestMs * i) / 10);
    const saving = save(source, image, { ...options, live: machine, signal: controller.signal });
    const error = await saving.then(
      () => undefined,
      (rejection: unknown) => rejection,
    );
    clearTimeout(timer);
    await machine.halt();
    if (error !== undefined) t.is(error, reason);
    t.deepEqual(folder.leftovers(), []);
    t.true((await verify(image)).intact);
  }
});

test('a file that became shorter or longer while the machine ran', async (t) => {
  for (const sizeBytes of [9 * MIB, 11 * MIB]) {
    const { folder, source, image } = fixture(t);
    const stop = async (): Promise<void> => truncateSync(source, sizeBytes);
    await failsWith(t, 'SOURCE_CHANGED', save(source, image, { live: { ...QUIET, stop } }), /changed its size/);
    t.deepEqual(readdirSync(folder.folder), ['memory']);
  }
});

test('a file that is written while the machine is said to stand still', async (t) => {
  const { folder, source, image } = fixture(t);
  // Runs when the machine has stopped and the workers have been told to read.
  const stop = async (): Promise<void> => void setImmediate(() => writeFileSync(source, 'written', { flag: 'r+' }));
  await failsWith(t, 'SOURCE_CHANGED', save(source, image, { live: { ...QUIET, stop } }), /was written/);
  t.deepEqual(readdirSync(folder.folder), ['memory']);
});

test('what cannot be saved live is refused before anything is read', async (t) => {
  const { folder, source, image } = fixture(t);
  const stop = (): Promise<void> => Promise.reject(new Error('stopped all the same'));
  const live = { ...QUIET, stop };
  await failsWith(t, 'USAGE', save(source, '-', { live }), /pipe/);
  await save(source, folder.path('base'), {});
  await failsWith(t, 'USAGE', save(source, image, { live, base: folder.path('base') }), /difference/);
});
