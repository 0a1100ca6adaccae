/**
 * Ceilings on memory and on the write rate are held, whatever the sizes, and change no byte of what is written.
 *
 * Memory: the peak that the kernel tells of a process of its own. Rate: what the kernel was given is measured at the other end of a
 * pipe, or as the growth of the file, all the time; a slow machine can only write less. VMSNAP_SAVES=N saves N sources at once.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { flatten, load, type SaveOptions, save, VmsnapError, verify } from '../../lib/index.js';
import { runCli } from '../cli/support/runCli.js';
import { sameBytes } from './support/expect.js';
import { KIB, MIB, mixedMemory, randomMemory } from './support/memory.js';
import { loadInChild, runWork, saveInChild } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

/** Nothing of it shrinks, so that every buffer is filled to its end. */
const NOISE = randomMemory(64 * MIB);
const EPOCH = new Date(1_700_000_000_000);
const MEMORY_CASES: readonly (SaveOptions & { readonly limitMiB: number })[] = [
  { limitMiB: 128, threads: 4, segmentSize: MIB },
  { limitMiB: 144, threads: 4, segmentSize: 4 * MIB },
  { limitMiB: 200, threads: 8, segmentSize: 4 * MIB },
  { limitMiB: 260, threads: 4, segmentSize: 16 * MIB },
  { limitMiB: 192, threads: 4, segmentSize: 4 * MIB, codec: 'zlib' },
  { limitMiB: 200, threads: 4, segmentSize: 4 * MIB, level: 19 },
];

function sourceOf(folder: Workspace, memory: Buffer): string {
  const source = folder.path('memory');
  writeFileSync(source, memory);
  return source;
}

test('the peak of a save and of a load stays below a ceiling, and the bytes are the same', async (t) => {
  t.timeout(600_000);
  const folder = workspace(t);
  const source = sourceOf(folder, NOISE);
  const [image, unlimited, target] = [folder.path('image'), folder.path('unlimited'), folder.path('target')];
  const common = { frozen: true, force: true, createdAt: EPOCH } as const;
  for (const { limitMiB, ...own } of MEMORY_CASES) {
    const what = `${limitMiB} MiB, ${JSON.stringify(own)}`;
    const memoryLimitBytes = limitMiB * MIB;
    const env = { SOURCE_DATE_EPOCH: '1700000000' };
    const options = { frozen: true, force: true, ...own, memoryLimitBytes };
    const saved = await saveInChild({ operation: 'save', source, image, options }, { env });
    const loaded = await loadInChild({
      operation: 'load',
      image,
      target,
      options: { threads: own.threads, force: true, memoryLimitBytes },
    });
    t.log(
      `${what}: save ${Math.ceil(saved.peakBytes / MIB)} MiB with ${saved.result.run.threads} threads, load ${Math.ceil(loaded.peakBytes / MIB)} MiB with ${loaded.result.run.threads}`,
    );
    t.true(saved.peakBytes <= memoryLimitBytes, `save: ${saved.peakBytes}, ${what}`);
    t.true(loaded.peakBytes <= memoryLimitBytes, `load: ${loaded.peakBytes}, ${what}`);
    t.is(saved.result.run.limits.memoryBytes, memoryLimitBytes);
    await save(source, unlimited, { ...common, ...own });
    t.true(readFileSync(image).equals(readFileSync(unlimited)), `the image is another: ${what}`);
    sameBytes(t, readFileSync(target), NOISE);
  }
});

for (const codec of ['zstd', 'zlib', 'none'] as const) {
  test(`${codec}: two threads take at most 200 MiB without any ceiling`, async (t) => {
    const folder = workspace(t);
    // The first half leaves zlib's buffers for what would not shrink, the second those for what does.
    const source = sourceOf(folder, Buffer.concat([NOISE, mixedMemory(64 * MIB)]));
    const image = folder.path('image');
    const target = folder.path('target');
    const saved = await saveInChild({ operation: 'save', source, image, options: { codec, threads: 2, frozen: true } });
    const loaded = await loadInChild({ operation: 'load', image, target, options: { threads: 2 } });
    t.log(`save ${Math.ceil(saved.peakBytes / MIB)} MiB, load ${Math.ceil(loaded.peakBytes / MIB)} MiB`);
    t.true(saved.peakBytes <= 200 * MIB && loaded.peakBytes <= 200 * MIB);
  });
}

test('a ceiling that not even one thread fits below is refused with the least that does, which then is enough', async (t) => {
  const folder = workspace(t);
  const source = sourceOf(folder, NOISE);
  const image = folder.path('image');
  const refuse = async (work: Parameters<typeof runWork>[0]): Promise<number> => {
    const outcome = await runWork(work);
    if (outcome.ok) throw new Error('it was not refused');
    t.is(outcome.code, 'USAGE', outcome.message);
    return Number(/takes (\d+) MiB at least/.exec(outcome.message)![1]) * MIB;
  };
  const saves = (memoryLimitBytes: number) =>
    ({ operation: 'save', source, image, options: { frozen: true, memoryLimitBytes } }) as const;
  const least = await refuse(saves(32 * MIB));
  t.is(await refuse(saves(least - MIB)), least);
  t.false(existsSync(image));
  const saved = await saveInChild(saves(least));
  t.is(saved.result.run.threads, 1);
  t.true(saved.peakBytes <= least, `${saved.peakBytes}`);
  const loads = (memoryLimitBytes: number) =>
    ({ operation: 'load', image, target: folder.path('target'), options: { memoryLimitBytes } }) as const;
  const leastOfLoad = await refuse(loads(MIB));
  const loaded = await loadInChild(loads(leastOfLoad));
  t.true(loaded.peakBytes <= leastOfLoad, `${loaded.peakBytes}`);
});

test('impossible ceilings are refused', async (t) => {
  const folder = workspace(t);
  const source = sourceOf(folder, mixedMemory(MIB));
  const image = folder.path('image');
  for (const options of [
    { memoryLimitBytes: 0 },
    { memoryLimitBytes: 1.5 },
    { memoryLimitBytes: -1 },
    { writeBytesPerSecond: 0 },
    { writeBytesPerSecond: 64 * KIB - 1 },
    { writeBytesPerSecond: Number.NaN },
  ])
    t.is((await t.throwsAsync(save(source, image, options), { instanceOf: VmsnapError })).code, 'USAGE');
  t.false(existsSync(image));
});

/** Bytes that have been written by a moment. */
interface Sample {
  readonly seconds: number;
  readonly bytes: number;
}

/** What was written beyond the rate, in the worst of all stretches of time between two samples. */
function mostBeyond(samples: readonly Sample[], bytesPerSecond: number): number {
  // Of bytes(t) - rate * t: the largest rise from any earlier moment.
  let lowest = Number.POSITIVE_INFINITY;
  let most = 0;
  for (const { seconds, bytes } of samples) {
    const level = bytes - bytesPerSecond * seconds;
    lowest = Math.min(lowest, level);
    most = Math.max(most, level - lowest);
  }
  return most;
}

const RATE = 4 * MIB;
const THREADS = 2;
const BURST = RATE / 8 + THREADS * 256 * KIB;
/** What a pipe holds may come out at once. */
const PIPE_BYTES = 64 * KIB;
const PACED_MEMORY = Buffer.concat([randomMemory(5 * MIB), Buffer.alloc(4 * MIB), mixedMemory(2 * MIB)]);

for (const operation of ['save', 'load'] as const) {
  test(`${operation} into a pipe: never more than the rate and the burst`, async (t) => {
    const folder = workspace(t);
    const source = sourceOf(folder, PACED_MEMORY);
    const image = folder.path('image');
    await save(source, image, { frozen: true, references: false });
    const words = operation === 'save' ? ['save', '--frozen', '--no-references', source, '-'] : ['load', image, '-'];
    const cli = new URL('../../bundle/vmsnap.cjs', import.meta.url).pathname;
    const child = spawn(
      process.execPath,
      [cli, ...words, '--threads', String(THREADS), '--rate', `${RATE / MIB}M`, '--quiet'],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    const pieces: Buffer[] = [];
    const samples: Sample[] = [{ seconds: performance.now() / 1000, bytes: 0 }];
    let bytes = 0;
    child.stdout.on('data', (piece: Buffer) => {
      // Two samples: what came may have come at any moment since the last one, and is charged to this.
      samples.push({ seconds: performance.now() / 1000, bytes });
      bytes += piece.length;
      samples.push({ seconds: performance.now() / 1000, bytes });
      pieces.push(piece);
    });
    const [exitCode] = await once(child, 'close');
    t.is(exitCode, 0);
    const got = Buffer.concat(pieces);
    if (operation === 'load') sameBytes(t, got, PACED_MEMORY);
    else t.true(got.length > 5 * MIB);
    const seconds = samples.at(-1)!.seconds - samples[0]!.seconds;
    t.log(`${bytes} bytes in ${seconds.toFixed(1)} s, at most ${mostBeyond(samples, RATE)} beyond the rate`);
    // What waits in the pipe and in the reader's buffer comes out at once.
    t.true(mostBeyond(samples, RATE) <= BURST + 4 * PIPE_BYTES, `${mostBeyond(samples, RATE)} bytes beyond the rate`);
  });
}

test('save, load, load in place and flatten with files: as long as the rate demands, and the same bytes', async (t) => {
  const folder = workspace(t);
  const source = sourceOf(folder, PACED_MEMORY);
  const [image, paced, flat, target] = ['image', 'paced', 'flat', 'target'].map((name) => folder.path(name)) as [
    string,
    string,
    string,
    string,
  ];
  const attachments = [{ name: 'memory', file: source }];
  const options = { frozen: true, createdAt: EPOCH, attachments, threads: THREADS } as const;
  await save(source, image, options);
  const limits = { threads: THREADS, writeBytesPerSecond: RATE } as const;
  const timed = async (what: string, bytes: () => number, work: () => Promise<unknown>) => {
    const started = performance.now();
    await work();
    const seconds = (performance.now() - started) / 1000;
    t.log(`${what}: ${bytes()} bytes in ${seconds.toFixed(2)} s`);
    t.true(bytes() <= RATE * seconds + BURST, `${what}: ${bytes()} bytes in ${seconds} s`);
  };
  const size = (path: string) => () => statSync(path).size;
  await timed('save', size(paced), () => save(source, paced, { ...options, ...limits }));
  t.true(readFileSync(paced).equals(readFileSync(image)), 'the image is another');
  const written = PACED_MEMORY.length - 4 * MIB - zeroBytes(PACED_MEMORY.subarray(9 * MIB));
  await timed(
    'load',
    () => written,
    () => load(image, target, limits),
  );
  sameBytes(t, readFileSync(target), PACED_MEMORY);
  writeFileSync(target, Buffer.alloc(PACED_MEMORY.length, 0x55));
  await timed(
    'load in place',
    () => written,
    () => load(image, target, { ...limits, inPlace: true }),
  );
  sameBytes(t, readFileSync(target), PACED_MEMORY);
  await timed('flatten', size(flat), () => flatten(image, flat, limits));
  t.true((await verify(flat)).intact);
});

function zeroBytes(memory: Buffer): number {
  let bytes = 0;
  const zero = Buffer.alloc(4096);
  for (let at = 0; at < memory.length; at += 4096) if (memory.subarray(at, at + 4096).equals(zero)) bytes += 4096;
  return bytes;
}

test('a save that waits for its rate hears of an abort at once', async (t) => {
  const folder = workspace(t);
  const source = sourceOf(folder, PACED_MEMORY);
  const controller = new AbortController();
  const reason = new Error('enough');
  const started = performance.now();
  const saving = save(source, folder.path('image'), {
    frozen: true,
    writeBytesPerSecond: 64 * KIB,
    signal: controller.signal,
    attachments: [{ name: 'memory', file: source }],
  });
  await delay(500);
  controller.abort(reason);
  t.is(await t.throwsAsync(saving), reason);
  // It would have taken two minutes and a half.
  t.true(performance.now() - started < 60_000);
  t.deepEqual(folder.leftovers(), []);
});

test('the command line shows the ceilings', async (t) => {
  const folder = workspace(t);
  const source = sourceOf(folder, mixedMemory(2 * MIB));
  const image = folder.path('image');
  const limits = ['--memory', '150M', '--rate', '100M', '--threads', '2'];
  const told = await runCli(['save', '--frozen', ...limits, source, image]);
  t.is(told.exitCode, 0, told.stderr);
  t.regex(told.stdout, /ceilings: 150 MiB of memory \([\d.]+ MiB at most were used\), 100 MiB\/s written/);
  const json = await runCli(['load', '--json', ...limits, image, folder.path('target')]);
  const { run } = JSON.parse(json.stdout) as { run: { limits: object; peakMemoryBytes: number } };
  t.deepEqual(run.limits, { memoryBytes: 150 * MIB, writeBytesPerSecond: 100 * MIB });
  t.true(run.peakMemoryBytes > 0 && run.peakMemoryBytes <= 150 * MIB);
  const refused = await runCli(['save', '--memory', '20M', '--force', source, image]);
  t.is(refused.exitCode, 2);
  t.regex(refused.stderr, /--memory \d+M/);
});

const SAVES = Number(process.env.VMSNAP_SAVES ?? 50);
const SAVE_MIB = Number(process.env.VMSNAP_SAVES_MIB ?? 2);

test('many saves of different sources at once: all finish, in bounded memory', async (t) => {
  t.timeout(600_000);
  const folder = workspace(t);
  const paths = Array.from({ length: SAVES }, (_, i) => ({
    source: folder.path(`memory-${i}`),
    image: folder.path(`image-${i}`),
  }));
  for (const [i, { source }] of paths.entries()) writeFileSync(source, mixedMemory(SAVE_MIB * MIB, i));
  const child = spawn(
    process.execPath,
    [new URL('./children/manySaves.js', import.meta.url).pathname, JSON.stringify(paths)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const [exitCode] = await once(child, 'close');
  t.is(exitCode, 0);
  const { peakBytes, seconds } = JSON.parse(said) as { peakBytes: number; seconds: number };
  t.log(
    `${SAVES} saves of ${SAVE_MIB} MiB in one process: ${seconds.toFixed(1)} s, peak ${Math.ceil(peakBytes / MIB)} MiB`,
  );
  t.true(peakBytes < 2048 * MIB);
  for (const [i, { image }] of paths.entries()) {
    if (i % 10 === 0) {
      await load(image, folder.path('target'), { force: true });
      t.true(readFileSync(folder.path('target')).equals(mixedMemory(SAVE_MIB * MIB, i)));
    } else t.true((await verify(image, { threads: 1 })).intact);
  }
});
