/** Standard input and output, pipes and named pipes: sources, images and targets that cannot seek. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { load, type SaveOptions, type SaveResult, save, type VerifyResult, verify } from '../../lib/index.js';
import { failsWith, sameBytes } from './support/expect.js';
import { MIB, mixedMemory, PAGE, randomMemory } from './support/memory.js';
import { cat, makeFifo, Pipe, withFd } from './support/pipes.js';
import { loadInChild, type RunningWork, runWork, saveInChild, startWork, succeed } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

const MEMORY = mixedMemory(9 * MIB + 3 * PAGE);
const SMALL_SEGMENTS = { segmentSize: MIB, threads: 2 } as const;
/** An abort is seen within 100 ms; the rest is for a busy machine. */
const STOP_SECONDS = 5;
const KILL_AFTER_MS = 60_000;

async function savedImage(folder: Workspace, memory = MEMORY, options: SaveOptions = {}): Promise<string> {
  writeFileSync(folder.path('memory'), memory);
  await save(folder.path('memory'), folder.path('image'), { ...SMALL_SEGMENTS, ...options });
  return folder.path('image');
}

/** Saves `memory` from a named pipe. */
async function saveFromPipe(folder: Workspace, memory: Buffer, options: SaveOptions = {}): Promise<SaveResult> {
  const fifo = folder.path('stream');
  if (!existsSync(fifo)) makeFifo(fifo);
  writeFileSync(folder.path('memory'), memory);
  const feed = cat(folder.path('memory'), fifo);
  try {
    return await save(fifo, folder.path('image'), { ...SMALL_SEGMENTS, ...options });
  } finally {
    await feed;
  }
}

for (const codec of ['zstd', 'zlib', 'none'] as const) {
  test(`${codec}: saved and loaded through three pipes`, async (t) => {
    const [input, image, output] = [new Pipe(), new Pipe(), new Pipe()];
    const saving = startWork(
      { operation: 'save', source: '-', image: '-', options: { ...SMALL_SEGMENTS, codec } },
      { stdin: input.readFd, stdout: image.writeFd },
    );
    const loading = startWork(
      { operation: 'load', image: '-', target: '-', options: { threads: 3 } },
      { stdin: image.readFd, stdout: output.writeFd },
    );
    input.closeRead();
    image.close();
    output.closeWrite();
    input.feed(MEMORY, true);
    sameBytes(t, await output.collect(), MEMORY);
    const saved = await saving.outcome;
    const loaded = await loading.outcome;
    t.is(succeed(saved).result.digest, succeed(loaded).result.digest);
  });
}

test('sockets instead of pipes', async (t) => {
  const saving = startWork({ operation: 'save', source: '-', image: '-' }, { stdin: 'pipe', stdout: 'pipe' });
  const loading = startWork({ operation: 'load', image: '-', target: '-' }, { stdin: 'pipe', stdout: 'pipe' });
  saving.child.stdout!.pipe(loading.child.stdin!);
  saving.child.stdin!.end(MEMORY);
  const parts: Buffer[] = [];
  for await (const part of loading.child.stdout!) parts.push(part as Buffer);
  sameBytes(t, Buffer.concat(parts), MEMORY);
  succeed(await saving.outcome);
  succeed(await loading.outcome);
});

test('standard input and output that are files', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), MEMORY);
  await withFd(folder.path('memory'), 'r', (stdin) =>
    withFd(folder.path('image'), 'w', (stdout) =>
      saveInChild({ operation: 'save', source: '-', image: '-' }, { stdin, stdout }),
    ),
  );
  t.true((await verify(folder.path('image'))).intact);
  await withFd(folder.path('image'), 'r', (stdin) =>
    withFd(folder.path('back'), 'w', (stdout) =>
      loadInChild({ operation: 'load', image: '-', target: '-' }, { stdin, stdout }),
    ),
  );
  sameBytes(t, readFileSync(folder.path('back')), MEMORY);
});

test('verify reads an image from a pipe', async (t) => {
  const folder = workspace(t);
  const bytes = readFileSync(await savedImage(folder));
  const outcomes = [bytes, bytes.subarray(0, bytes.length - 1)].map(async (image) => {
    const pipe = new Pipe();
    const work = startWork({ operation: 'verify', image: '-' }, { stdin: pipe.readFd });
    pipe.closeRead();
    pipe.feed(image, true);
    return await work.outcome;
  });
  const [whole, cut] = await Promise.all(outcomes);
  t.true(succeed<VerifyResult>(whole!).result.intact);
  t.false(succeed<VerifyResult>(cut!).result.intact);
});

test('a stream that is no multiple of the page size', async (t) => {
  const folder = workspace(t);
  for (const extra of [1, 4095]) {
    const saving = saveFromPipe(folder, randomMemory(MIB + extra));
    await failsWith(t, 'USAGE', saving, /no multiple of the page size/);
    t.false(existsSync(folder.path('image')));
    t.deepEqual(folder.leftovers(), []);
  }
});

test('an empty stream', async (t) => {
  const folder = workspace(t);
  await failsWith(t, 'USAGE', saveFromPipe(folder, Buffer.alloc(0)), /empty/);
  await failsWith(t, 'USAGE', save('/dev/null', folder.path('image')), /empty/);
  t.false(existsSync(folder.path('image')));
  t.deepEqual(folder.leftovers(), []);
});

test('a stream that ends before or after its regions', async (t) => {
  const folder = workspace(t);
  const regions = [
    { name: 'low', gpa: 0, sizeBytes: 2 * MIB },
    { name: 'high', gpa: 4 * 2 ** 30, sizeBytes: MIB + PAGE },
  ];
  const size = 3 * MIB + PAGE;
  const image = folder.path('image');
  for (const length of [0, 1, PAGE, 2 * MIB, size - PAGE, size - 1]) {
    await failsWith(t, 'USAGE', saveFromPipe(folder, randomMemory(length), { regions }), /ends after/);
    t.false(existsSync(image), `${length}`);
  }
  for (const length of [size + 1, size + PAGE, size + 9 * MIB]) {
    await failsWith(t, 'USAGE', saveFromPipe(folder, randomMemory(length), { regions }), /goes on after/);
    t.false(existsSync(image), `${length}`);
  }
  const memory = randomMemory(size);
  await saveFromPipe(folder, memory, { regions });
  await load(image, folder.path('back'));
  sameBytes(t, readFileSync(folder.path('back')), memory);
});

test('the reader of the image goes away', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), randomMemory(16 * MIB));
  const pipe = new Pipe();
  const work = startWork(
    { operation: 'save', source: folder.path('memory'), image: '-' },
    { stdout: pipe.writeFd, stdin: 'ignore' },
  );
  pipe.closeWrite();
  await work.moved;
  pipe.closeRead();
  requireFailure(t, await work.outcome, 'IO', /the reader is gone/);
});

test('the reader of the memory goes away', async (t) => {
  const folder = workspace(t);
  const image = await savedImage(folder, randomMemory(16 * MIB));
  const pipe = new Pipe();
  const work = startWork({ operation: 'load', image, target: '-' }, { stdout: pipe.writeFd });
  pipe.closeWrite();
  await work.started;
  pipe.closeRead();
  requireFailure(t, await work.outcome, 'IO', /the reader is gone/);
});

/** Waits for the work to stop; kills it where it does not. */
async function stopSeconds(work: RunningWork): Promise<number> {
  const started = performance.now();
  const killer = setTimeout(() => work.child.kill('SIGKILL'), KILL_AFTER_MS);
  work.abort();
  await work.outcome;
  clearTimeout(killer);
  return (performance.now() - started) / 1000;
}

async function requireStops(t: ExecutionContext, work: RunningWork, what: string): Promise<void> {
  const seconds = await stopSeconds(work);
  requireFailure(t, await work.outcome, 'Error', /told to stop/);
  t.log(`${what}: stopped after ${seconds.toFixed(2)} s`);
  t.true(seconds < STOP_SECONDS, what);
}

test('an abort while standard input is idle', async (t) => {
  const folder = workspace(t);
  const bytes = readFileSync(await savedImage(folder));
  const idle: readonly [string, Buffer, Parameters<typeof startWork>[0]][] = [
    ['save, nothing', Buffer.alloc(0), { operation: 'save', source: '-', image: folder.path('a') }],
    ['save, half a segment', randomMemory(MIB), { operation: 'save', source: '-', image: folder.path('b') }],
    ['load, nothing', Buffer.alloc(0), { operation: 'load', image: '-', target: folder.path('c') }],
    ['load, half a header', bytes.subarray(0, 32), { operation: 'load', image: '-', target: folder.path('d') }],
    [
      'load, half the image',
      bytes.subarray(0, bytes.length / 2),
      { operation: 'load', image: '-', target: folder.path('e') },
    ],
    ['verify, nothing', Buffer.alloc(0), { operation: 'verify', image: '-' }],
  ];
  for (const [what, first, operation] of idle) {
    const pipe = new Pipe();
    const work = startWork(operation, { stdin: pipe.readFd });
    pipe.closeRead();
    if (first.length > 0) pipe.feed(first, false);
    await work.started;
    await requireStops(t, work, what);
    pipe.closeWrite();
  }
  t.deepEqual(folder.leftovers(), []);
  for (const name of ['a', 'b', 'c', 'd', 'e']) t.false(existsSync(folder.path(name)));
});

test('an abort while nobody reads standard output', async (t) => {
  const folder = workspace(t);
  const image = await savedImage(folder, randomMemory(16 * MIB));
  const stuck: Parameters<typeof startWork>[0][] = [
    { operation: 'save', source: folder.path('memory'), image: '-' },
    { operation: 'load', image, target: '-' },
  ];
  for (const operation of stuck) {
    const pipe = new Pipe();
    const work = startWork(operation, { stdout: pipe.writeFd });
    pipe.closeWrite();
    await work.started;
    await requireStops(t, work, operation.operation);
    pipe.closeRead();
  }
});

test('an abort while nobody opens the other end of a named pipe', async (t) => {
  const folder = workspace(t);
  const image = await savedImage(folder);
  const fifo = makeFifo(folder.path('fifo'));
  const waiting: Parameters<typeof startWork>[0][] = [
    { operation: 'save', source: fifo, image: folder.path('new') },
    { operation: 'load', image: fifo, target: folder.path('new') },
    { operation: 'load', image, target: fifo },
  ];
  for (const operation of waiting) {
    const work = startWork(operation);
    await work.started;
    await requireStops(
      t,
      work,
      `${operation.operation} ${JSON.stringify(operation).includes('new"') ? 'from' : 'to'} it`,
    );
  }
  t.deepEqual(folder.leftovers(), []);
});

test('a named pipe as source, image and target, whose other end comes late', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), MEMORY);
  const fifo = makeFifo(folder.path('fifo'));
  const saving = startWork({ operation: 'save', source: fifo, image: folder.path('image') });
  await saving.started;
  await cat(folder.path('memory'), fifo);
  succeed(await saving.outcome);
  const loading = startWork({ operation: 'load', image: fifo, target: folder.path('back') });
  await loading.started;
  await cat(folder.path('image'), fifo);
  succeed(await loading.outcome);
  sameBytes(t, readFileSync(folder.path('back')), MEMORY);
  const writing = startWork({ operation: 'load', image: folder.path('image'), target: fifo });
  await writing.started;
  await cat(fifo, folder.path('again'));
  succeed(await writing.outcome);
  sameBytes(t, readFileSync(folder.path('again')), MEMORY);
});

test('an image cut off anywhere is refused from a pipe, and nothing is left', async (t) => {
  const folder = workspace(t);
  const bytes = readFileSync(await savedImage(folder, mixedMemory(3 * MIB)));
  const places = [0, 1, 63, 64, 65, 200, 1000, bytes.length / 3, bytes.length / 2, bytes.length - 97, bytes.length - 1];
  const fifo = makeFifo(folder.path('fifo'));
  for (const place of places.map(Math.floor)) {
    writeFileSync(folder.path('cut'), bytes.subarray(0, place));
    const feed = cat(folder.path('cut'), fifo);
    await failsWith(t, 'CORRUPT', load(fifo, folder.path('back')), /./);
    await feed;
    t.false(existsSync(folder.path('back')), `cut at ${place}`);
  }
  writeFileSync(folder.path('cut'), Buffer.concat([bytes, Buffer.from('x')]));
  const feed = cat(folder.path('cut'), fifo);
  await failsWith(t, 'CORRUPT', load(fifo, folder.path('back')), /after the end/);
  await feed;
  t.deepEqual(folder.leftovers(), []);
});

test('parts of the memory from a pipe', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(5 * MIB);
  const regions = [
    { name: 'a', gpa: 0, sizeBytes: 2 * MIB },
    { name: 'b', gpa: 2 ** 32, sizeBytes: 3 * MIB },
  ];
  const image = await savedImage(folder, memory, { regions, references: false });
  const fifo = makeFifo(folder.path('fifo'));
  const parts: [object, Buffer][] = [
    [{ region: 'b' }, memory.subarray(2 * MIB)],
    [{ range: { offset: MIB + 17, length: 2 * MIB } }, memory.subarray(MIB + 17, 3 * MIB + 17)],
    [{ region: 'b', range: { offset: 5, length: 9 } }, memory.subarray(2 * MIB + 5, 2 * MIB + 14)],
  ];
  for (const [options, expected] of parts) {
    const feed = cat(image, fifo);
    await load(fifo, folder.path('back'), { ...options, force: true });
    await feed;
    sameBytes(t, readFileSync(folder.path('back')), expected, JSON.stringify(options));
  }
});

test('a range of an open-ended stream', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(3 * MIB);
  await saveFromPipe(folder, memory);
  const fifo = makeFifo(folder.path('fifo'));
  const good = cat(folder.path('image'), fifo);
  await load(fifo, folder.path('back'), { range: { offset: 2 * MIB + 1, length: MIB - 1 } });
  await good;
  sameBytes(t, readFileSync(folder.path('back')), memory.subarray(2 * MIB + 1));
  const bad = cat(folder.path('image'), fifo);
  await failsWith(
    t,
    'USAGE',
    load(fifo, folder.path('none'), { range: { offset: 2 * MIB, length: MIB + 1 } }),
    /beyond/,
  );
  await bad;
  t.false(existsSync(folder.path('none')));
  t.deepEqual(folder.leftovers(), []);
});

test('standard input that is closed', async (t) => {
  const folder = workspace(t);
  const outcome = await runWork({ operation: 'load', image: '-', target: folder.path('back') }, { stdin: 'ignore' });
  requireFailure(t, outcome, 'CORRUPT', /truncated|empty|short|not/i);
});

function requireFailure(
  t: ExecutionContext,
  outcome: Awaited<ReturnType<typeof runWork>>,
  code: string,
  message: RegExp,
): void {
  if (outcome.ok) {
    t.fail('the work succeeded');
    return;
  }
  t.is(outcome.code, code, outcome.message);
  t.regex(outcome.message, message);
}
