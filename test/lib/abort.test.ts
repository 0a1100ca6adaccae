/** AbortSignal, progress, and many operations in one process. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import { extract, inspect, load, type Progress, save, verify } from '../../lib/index.js';
import { sameBytes } from './support/expect.js';
import { MIB, mixedMemory, PAGE } from './support/memory.js';
import { type Workspace, workspace } from './support/workspace.js';

const MEMORY = mixedMemory(24 * MIB);
const SEGMENTS = { segmentSize: MIB, threads: 2 } as const;
const ABORTS = 15;
const ROUNDS = 300;
const WARM_UP_ROUNDS = 60;
/** Of the least that the process takes in any of so many rounds: what the collector has not got to yet comes and goes. */
const FLOOR_ROUNDS = 100;
const GROWTH_MAX_BYTES = 64 * MIB;

type Operation = (signal: AbortSignal | undefined, onProgress?: (progress: Progress) => void) => Promise<unknown>;

async function machine(t: ExecutionContext): Promise<{ folder: Workspace; operations: Record<string, Operation> }> {
  const folder = workspace(t);
  const [source, image] = [folder.path('memory'), folder.path('image')];
  writeFileSync(source, MEMORY);
  await save(source, image, SEGMENTS);
  const common = { threads: 2, progressIntervalSeconds: 0.002 };
  return {
    folder,
    operations: {
      save: (signal, onProgress) =>
        save(source, folder.path('new'), { ...SEGMENTS, ...common, signal, onProgress, force: true }),
      load: (signal, onProgress) => load(image, folder.path('back'), { ...common, signal, onProgress, force: true }),
      verify: (signal, onProgress) => verify(image, { ...common, signal, onProgress }),
    },
  };
}

async function durationMs(operation: Operation): Promise<number> {
  const started = performance.now();
  await operation(undefined);
  return performance.now() - started;
}

test.serial('aborted at any time: the reason comes back, nothing is left, and the next run works', async (t) => {
  const { folder, operations } = await machine(t);
  for (const [what, operation] of Object.entries(operations)) {
    await operation(undefined);
    const longestMs = await durationMs(operation);
    let aborted = 0;
    for (let i = 0; i < ABORTS; i++) {
      const reason = new Error(`reason ${i}`);
      const controller = new AbortController();
      const timer = setTimeout(() => controller.abort(reason), (longestMs * i) / ABORTS);
      const error = await operation(controller.signal).then(
        () => undefined,
        (rejection: unknown) => rejection,
      );
      clearTimeout(timer);
      if (error !== undefined) {
        t.is(error, reason);
        aborted++;
      }
      t.deepEqual(folder.leftovers(), [], what);
    }
    t.log(`${what}: ${aborted} of ${ABORTS} were aborted`);
    await operation(undefined);
  }
  sameBytes(t, readFileSync(folder.path('back')), MEMORY);
  t.true((await verify(folder.path('new'))).intact);
});

test.serial('aborted before it begins', async (t) => {
  const { folder, operations } = await machine(t);
  const names = readdirSync(folder.folder).sort();
  const signal = AbortSignal.abort('at once');
  for (const operation of [...Object.values(operations), () => inspect(folder.path('image'), { signal })]) {
    const reason = await operation(signal).catch((error: unknown) => error);
    t.is(reason, 'at once');
  }
  t.deepEqual(readdirSync(folder.folder).sort(), names);
});

test.serial('an abort of extract', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(MIB));
  writeFileSync(folder.path('file'), MEMORY);
  const attachments = [{ name: 'file', file: folder.path('file') }];
  await save(folder.path('memory'), folder.path('image'), { attachments });
  const controller = new AbortController();
  const reason = new Error('enough');
  const extracting = extract(folder.path('image'), 'file', folder.path('out'), { signal: controller.signal });
  controller.abort(reason);
  t.is(await extracting.catch((error: unknown) => error), reason);
  t.deepEqual(readdirSync(folder.folder).sort(), ['file', 'image', 'memory']);
});

test.serial('progress only grows, and ends at the total', async (t) => {
  const { folder, operations } = await machine(t);
  for (const [what, operation] of Object.entries(operations)) {
    const seen: Progress[] = [];
    await operation(undefined, (progress) => seen.push(progress));
    t.true(seen.length > 0, what);
    for (const [i, { phase, doneBytes, imageBytes, elapsedSeconds, totalBytes }] of seen.entries()) {
      t.is(phase, what as Progress['phase']);
      t.true(doneBytes <= totalBytes!, `${what}: ${doneBytes} of ${totalBytes}`);
      const before = seen[i - 1];
      if (before === undefined) continue;
      t.true(doneBytes >= before.doneBytes && imageBytes >= before.imageBytes);
      t.true(elapsedSeconds >= before.elapsedSeconds);
    }
    const last = seen.at(-1)!;
    t.is(last.doneBytes, last.totalBytes!, what);
    t.log(`${what}: ${seen.length} reports`);
  }
  t.deepEqual(folder.leftovers(), []);
});

test.serial('a callback that throws fails the work and leaves nothing', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), MEMORY);
  // Whoever has the source open for writing is warned about.
  const writer = await open(folder.path('memory'), 'r+');
  const error = new Error('from the callback');
  const saving = save(folder.path('memory'), folder.path('image'), {
    onWarning: () => {
      throw error;
    },
  });
  t.is(await saving.catch((reason: unknown) => reason), error);
  await writer.close();
  t.deepEqual(readdirSync(folder.folder), ['memory']);
});

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

test.serial(`${ROUNDS} saves and loads in one process leak neither descriptors nor memory`, async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(MIB + 3 * PAGE);
  writeFileSync(folder.path('memory'), memory);
  const round = async (i: number): Promise<void> => {
    const options = { ...SEGMENTS, codec: (['zstd', 'zlib', 'none'] as const)[i % 3]!, force: true };
    await save(folder.path('memory'), folder.path('image'), options);
    await load(folder.path('image'), folder.path('back'), { threads: 2, force: true });
    if (i % 10 === 0) await verify(folder.path('image'), { threads: 2 });
    if (i % 10 === 5) await save(folder.path('none'), folder.path('image')).catch(() => {});
    if (i % 10 === 7) await load(folder.path('memory'), folder.path('image')).catch(() => {});
  };
  for (let i = 0; i < WARM_UP_ROUNDS; i++) await round(i);
  const files = openFiles();
  const taken: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    await round(i);
    taken.push(process.memoryUsage.rss());
  }
  const grown = Math.min(...taken.slice(-FLOOR_ROUNDS)) - Math.min(...taken.slice(0, FLOOR_ROUNDS));
  t.log(`${files} open files before and ${openFiles()} after; memory grew by ${Math.round(grown / MIB)} MiB`);
  t.is(openFiles(), files);
  t.true(grown < GROWTH_MAX_BYTES);
  sameBytes(t, readFileSync(folder.path('back')), memory);
});
