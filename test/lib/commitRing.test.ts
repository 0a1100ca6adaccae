/**
 * The commit line with a ring of so few slots that workers wait for each other all the time: no order of events may
 * stop them for ever, or change a byte of what is written.
 */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { Geometry } from '../../formats/vmsnap/geometry.js';
import { CommitLine, createCommitShared } from '../../lib/pipeline/commitLine.js';
import { abort, createControl } from '../../lib/pipeline/control.js';
import { createDuplicatesShared } from '../../lib/pipeline/duplicates.js';
import { Aborted } from '../../lib/pipeline/mutex.js';
import { createPacerShared } from '../../lib/pipeline/pacer.js';
import {
  type JobDevice,
  OUTPUT_BUFFERS_PER_WORKER,
  outputBufferBytes,
  type SaveJob,
  type SaveWorkerResult,
} from '../../lib/pipeline/saveWorker.js';
import { runJobs } from '../../lib/pipeline/workerPool.js';
import { emulatedDevice } from './support/dsa.js';
import { MIB, randomMemory } from './support/memory.js';
import { type Workspace, workspace } from './support/workspace.js';

const SEGMENTS = 64;
const ALIGNMENT_BYTES = 8;
const ROUNDS = 2;
const geometry = new Geometry(4096, MIB, 256 * 1024, [SEGMENTS * MIB]);

/** Segments of all sorts in no order: zero (not holes, so that they are claimed), little data, much data. */
function writeSource(path: string): void {
  const memory = Buffer.alloc(SEGMENTS * MIB);
  const noise = randomMemory(MIB);
  for (let segment = 0; segment < SEGMENTS; segment++) {
    const kind = (segment * 7) % 10;
    if (kind === 3) noise.copy(memory, segment * MIB);
    if (kind > 6) noise.copy(memory, segment * MIB, 0, 4096 * kind);
  }
  writeFileSync(path, memory);
}

/** What comes between: a write rate, so that every write waits; an abort; duplicates looked for. */
interface Trouble {
  readonly bytesPerSecond?: number;
  readonly abortAfterMs?: number;
  readonly duplicates?: boolean;
}

async function saveWith(
  folder: Workspace,
  source: string,
  threads: number,
  slotCount: number,
  device?: JobDevice,
  trouble: Trouble = {},
): Promise<Buffer> {
  const path = folder.path('records');
  const fd = openSync(path, 'w');
  const sourceFd = openSync(source, 'r');
  try {
    const { bytesPerSecond, abortAfterMs } = trouble;
    const control = createControl(
      threads,
      bytesPerSecond === undefined ? undefined : createPacerShared(bytesPerSecond),
    );
    const output = { fd, path, isStream: false, binding: 0n, alignmentBytes: ALIGNMENT_BYTES };
    const bufferCount = threads * OUTPUT_BUFFERS_PER_WORKER;
    const bufferBytes = outputBufferBytes(geometry, ALIGNMENT_BYTES);
    const commit = createCommitShared(control, output, geometry.indexBlockCount, bufferCount, bufferBytes, slotCount);
    const line = new CommitLine(commit);
    line.start(0, 0);
    const extent = { fd: sourceFd, path: source, fileOffset: 0, lengthBytes: SEGMENTS * MIB };
    const duplicates = trouble.duplicates === true ? createDuplicatesShared() : undefined;
    const jobs = Array.from(
      { length: threads },
      (_, worker): SaveJob => ({
        kind: 'save',
        worker,
        commit,
        outputBuffers: OUTPUT_BUFFERS_PER_WORKER,
        base: [],
        source: { kind: 'extents', regions: [extent], cached: false },
        pageSize: geometry.pageSize,
        segmentSize: geometry.segmentSize,
        chunkSize: geometry.chunkSize,
        regionSizes: [SEGMENTS * MIB],
        codec: { name: 'zstd', level: 1 },
        detector: 'auto',
        device,
        duplicates,
      }),
    );
    if (abortAfterMs !== undefined) setTimeout(() => abort(control), abortAfterMs);
    await runJobs<SaveWorkerResult>(jobs, control);
    line.finishIndex(geometry.segmentCount);
  } finally {
    closeSync(sourceFd);
    closeSync(fd);
  }
  return readFileSync(path);
}

test('a ring of 2, 3 and 4 slots: same bytes from 1 to 8 threads, and nobody waits for ever', async (t) => {
  const folder = workspace(t);
  const source = folder.path('memory');
  writeSource(source);
  const expected = await saveWith(folder, source, 1, 4096);
  t.true(expected.length > MIB);
  for (let round = 0; round < ROUNDS; round++) {
    for (const slotCount of [2, 3, 4]) {
      for (const threads of [1, 2, 3, 8]) {
        const got = await saveWith(folder, source, threads, slotCount);
        t.true(got.equals(expected), `${threads} threads, ${slotCount} slots`);
      }
    }
  }
});

test('the same with segments that a device looks at in advance, more of them than the ring has slots', async (t) => {
  const folder = workspace(t);
  const source = folder.path('memory');
  writeSource(source);
  const expected = await saveWith(folder, source, 1, 4096);
  const { handle } = emulatedDevice(t);
  for (const aheadSegments of [1, 2, 7]) {
    for (const slotCount of [2, 3, 4096]) {
      for (const threads of [1, 2, 3, 8]) {
        const got = await saveWith(folder, source, threads, slotCount, { handle, aheadSegments, selfCheck: false });
        t.true(got.equals(expected), `${threads} threads, ${slotCount} slots, ${aheadSegments} ahead`);
      }
    }
  }
});

const STRESS_ROUNDS = Number(process.env.VMSNAP_STRESS ?? 24);

test('writes that wait, aborts at random moments, and a worker that fails: the same bytes, or everybody stops', async (t) => {
  t.timeout(STRESS_ROUNDS * 30_000);
  const folder = workspace(t);
  const source = folder.path('memory');
  writeSource(source);
  const short = folder.path('short');
  writeFileSync(short, readFileSync(source).subarray(0, 40 * MIB + 5000));
  const expected = {
    plain: await saveWith(folder, source, 1, 4096),
    duplicates: await saveWith(folder, source, 1, 4096, undefined, { duplicates: true }),
  };
  const outcomes = { whole: 0, aborted: 0, failed: 0 };
  const any = (limit: number) => Math.floor(Math.random() * limit);
  for (let round = 0; round < STRESS_ROUNDS; round++) {
    const duplicates = any(2) === 0;
    const trouble: Trouble = {
      duplicates,
      ...(any(2) === 0 ? { bytesPerSecond: (8 + any(400)) * MIB } : {}),
      ...(round % 3 === 1 ? { abortAfterMs: any(150) } : {}),
    };
    const [threads, slots] = [1 + any(8), [2, 3, 5, 4096][any(4)]!];
    const what = `${threads} threads, ${slots} slots, ${JSON.stringify(trouble)}`;
    try {
      const got = await saveWith(folder, round % 3 === 2 ? short : source, threads, slots, undefined, trouble);
      t.not(round % 3, 2, `a file that is too short was saved: ${what}`);
      t.true(got.equals(duplicates ? expected.duplicates : expected.plain), what);
      outcomes.whole++;
    } catch (error) {
      if (error instanceof Aborted) {
        t.is(round % 3, 1, `${what}: aborted by nobody`);
        outcomes.aborted++;
      } else {
        t.is(round % 3, 2, `${what}: ${error}`);
        t.is((error as { code?: string }).code, 'SOURCE_CHANGED', what);
        outcomes.failed++;
      }
    }
  }
  t.log(JSON.stringify(outcomes));
  t.true(outcomes.whole > 0 && outcomes.failed > 0);
});
