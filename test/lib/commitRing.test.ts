/**
 * The commit line with a ring of so few slots that workers wait for each other all the time: no order of events may
 * stop them for ever, or change a byte of what is written.
 */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { Geometry } from '../../formats/vmsnap/geometry.js';
import { CommitLine, createCommitShared } from '../../lib/pipeline/commitLine.js';
import { createControl } from '../../lib/pipeline/control.js';
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

async function saveWith(
  folder: Workspace,
  source: string,
  threads: number,
  slotCount: number,
  device?: JobDevice,
): Promise<Buffer> {
  const path = folder.path('records');
  const fd = openSync(path, 'w');
  const sourceFd = openSync(source, 'r');
  try {
    const control = createControl(threads);
    const output = { fd, path, isStream: false, binding: 0n, alignmentBytes: ALIGNMENT_BYTES };
    const bufferCount = threads * OUTPUT_BUFFERS_PER_WORKER;
    const bufferBytes = outputBufferBytes(geometry, ALIGNMENT_BYTES);
    const commit = createCommitShared(control, output, geometry.indexBlockCount, bufferCount, bufferBytes, slotCount);
    const line = new CommitLine(commit);
    line.start(0, 0);
    const extent = { fd: sourceFd, path: source, fileOffset: 0, lengthBytes: SEGMENTS * MIB };
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
      }),
    );
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
