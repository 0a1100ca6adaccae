/** The scanner and the streams in worker threads, over memory that they share with this one. */
import { closeSync, readSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { native, REPORT_DATA_PAGES, REPORT_LENGTH, type ScanOutput } from '../../native/binding.js';
import { countPages, MIB, mixedMemory, PAGE } from '../lib/support/memory.js';

const BINDING = new URL('../../native/binding.js', import.meta.url).href;

/** Runs the body of a function of `native` and `data` in a thread of its own. */
function inThread<T>(data: unknown, body: string): Promise<T> {
  const code = `
    import { parentPort, workerData as data } from 'node:worker_threads';
    import { native } from ${JSON.stringify(BINDING)};
    parentPort.postMessage((() => { ${body} })());`;
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData: data });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

function sharedOutput(): ScanOutput {
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  return {
    data: new Uint8Array(shared(MIB)),
    states: new Uint8Array(shared(MIB / PAGE)),
    words: new BigUint64Array(shared((8 * MIB) / PAGE)),
    leaves: new Uint8Array(shared(16)),
    report: new Float64Array(shared(8 * REPORT_LENGTH)),
  };
}

test('scanners in several threads find what a plain loop finds, in shared memory', async (t) => {
  const jobs = [1, 2, 3].map((seed) => ({ memory: mixedMemory(MIB, seed), output: sharedOutput() }));
  await Promise.all(
    jobs.map(({ memory, output }) => {
      const input = new Uint8Array(new SharedArrayBuffer(MIB));
      input.set(memory);
      const body = `
        const scanner = new native.SegmentScanner({ detector: 'auto', pageSize: ${PAGE}, segmentSize: ${MIB} });
        return scanner.scanMemory(data.input, 0, ${MIB}, data.output);`;
      return inThread({ input, output }, body);
    }),
  );
  for (const { memory, output } of jobs) {
    const { data, uniform, zero } = countPages(memory);
    t.deepEqual([...output.report.subarray(REPORT_DATA_PAGES, REPORT_DATA_PAGES + 3)], [data, uniform, zero]);
    const expanded = Buffer.alloc(MIB);
    native.expandSegment(output.states, MIB / PAGE, PAGE, output.data, output.words, expanded);
    t.true(expanded.equals(memory));
    const leaf = new Uint8Array(16);
    native.digestSegment(output.states, MIB / PAGE, PAGE, output.data, output.words, leaf);
    t.deepEqual([...leaf], [...output.leaves]);
  }
});

test('a scanner refuses what does not fit it', (t) => {
  const Scanner = native.SegmentScanner;
  const sound = { detector: 'auto', pageSize: PAGE, segmentSize: MIB } as const;
  const wrong: unknown[] = [
    undefined,
    {},
    { ...sound, detector: 'none' },
    { ...sound, detector: 1 },
    { ...sound, pageSize: 3000 },
    { ...sound, pageSize: 2 ** 40 },
    { ...sound, pageSize: MIB, segmentSize: PAGE },
  ];
  for (const options of wrong) t.throws(() => new Scanner(options as typeof sound));
  const scanner = new Scanner(sound);
  const output = sharedOutput();
  const input = new Uint8Array(2 * MIB);
  t.throws(() => scanner.scanMemory(input, 0, 2 * MIB, output), { instanceOf: RangeError });
  t.throws(() => scanner.scanMemory(input, 0, 5000, output), { instanceOf: RangeError });
  t.throws(() => scanner.scanMemory(input, 2 * MIB, PAGE, output), { instanceOf: RangeError });
  for (const key of ['data', 'states', 'words', 'leaves', 'report'] as const) {
    const short = { ...output, [key]: output[key].subarray(1) };
    const tight = key === 'report' ? { ...output, report: new Float64Array(REPORT_LENGTH - 1) } : short;
    t.throws(() => scanner.scanMemory(input, 0, MIB, tight), { instanceOf: RangeError }, key);
    t.throws(() => scanner.scanMemory(input, 0, MIB, { ...output, [key]: undefined } as never), {
      instanceOf: TypeError,
    });
  }
  t.throws(() => scanner.scanExtents(new Float64Array(3), 2, output), { instanceOf: RangeError });
  t.throws(() => scanner.scanExtents(Float64Array.of(0.5, 0, PAGE), 1, output), { instanceOf: RangeError });
  t.is(scanner.scanExtents(Float64Array.of(-1, 0, MIB), 1, output), 0);
  t.is(scanner.scanExtents(Float64Array.of(1e6, 0, MIB), 1, output), -9);
});

function openPipe(): [number, number] {
  const ends = native.pipe(65_536);
  if (typeof ends === 'number') throw new Error(`no pipe: ${ends}`);
  return ends;
}

test('a read that waits for a stream ends when the abort word is set', async (t) => {
  const [readEnd, writeEnd] = openPipe();
  const abort = new Int32Array(new SharedArrayBuffer(8));
  const bytes = new Uint8Array(new SharedArrayBuffer(100));
  const reading = inThread<number>(
    { readEnd, bytes, abort },
    'return native.readStream(data.readEnd, data.bytes, 0, 100, data.abort, 1);',
  );
  writeSync(writeEnd, 'half');
  await new Promise((resolve) => setTimeout(resolve, 300));
  Atomics.store(abort, 1, 1);
  t.is(await reading, -125, 'ECANCELED');
  closeSync(readEnd);
  closeSync(writeEnd);
});

test('a write that waits for a full pipe ends when the abort word is set', async (t) => {
  const [readEnd, writeEnd] = openPipe();
  const abort = new Int32Array(new SharedArrayBuffer(4));
  const writing = inThread<number>(
    { writeEnd, bytes: new Uint8Array(MIB), abort },
    'return native.writeStream(data.writeEnd, data.bytes, 0, data.bytes.length, data.abort, 0);',
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  Atomics.store(abort, 0, 1);
  t.is(await writing, -125, 'ECANCELED');
  closeSync(readEnd);
  closeSync(writeEnd);
});

test('a read gathers the pieces of a stream and tells its end by what is missing', async (t) => {
  const [readEnd, writeEnd] = openPipe();
  const abort = new Int32Array(1);
  const bytes = new Uint8Array(new SharedArrayBuffer(16));
  const reading = inThread<number>(
    { readEnd, bytes, abort },
    'return native.readStream(data.readEnd, data.bytes, 2, 12, data.abort, 0);',
  );
  writeSync(writeEnd, 'abc');
  await new Promise((resolve) => setTimeout(resolve, 100));
  writeSync(writeEnd, 'def');
  closeSync(writeEnd);
  t.is(await reading, 6);
  t.is(Buffer.from(bytes).toString('latin1', 2, 8), 'abcdef');
  t.is(readSync(readEnd, Buffer.alloc(1)), 0);
  closeSync(readEnd);
});
