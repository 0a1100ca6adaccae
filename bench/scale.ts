/** How the cost of a save grows: with the size of the memory, with the share of data in it, and with the threads. */
import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { VMSNAP } from './contenders.js';
import { atMost, type Figure } from './figures.js';
import { inTurn } from './jobs.js';
import type { Measurement } from './measure.js';
import { median, table } from './report.js';

const GIB = 2 ** 30;
const MIB = 2 ** 20;
const ROUNDS = 3;
const SPARSE_GIB = [1, 16, 128, 1024];
const SPARSE_DATA_BYTES = 64 * MIB;
const SHARES = [0, 25, 50, 100];
const SHARE_BYTES = GIB / 2;
const PEAK_MIB_MAX = 200;

export interface Scale {
  readonly text: string;
  readonly peakBytes: number;
}

export async function measureScale(folder: string, memoryFile: string): Promise<Scale> {
  const source = (name: string | number) => join(folder, `scale-${name}`);
  const image = join(folder, 'scale.vmsnap');
  const save = (name: string | number, path: string, threads: number) => ({
    name: String(name),
    job: { command: [...VMSNAP, 'save', path, image, `--threads=${threads}`, '--quiet'] },
    prepare: () => rmSync(image, { force: true }),
  });

  for (const gib of SPARSE_GIB) writeSpread(source(gib), gib * GIB, SPARSE_DATA_BYTES);
  const bySize = await inTurn(
    SPARSE_GIB.map((gib) => save(`${gib} GiB`, source(gib), 2)),
    ROUNDS,
  );
  for (const gib of SPARSE_GIB) rmSync(source(gib));

  for (const share of SHARES) writeShare(source(`${share}%`), SHARE_BYTES, share);
  const byShare = await inTurn(
    SHARES.map((share) => save(`${share} %`, source(`${share}%`), 2)),
    ROUNDS,
  );
  for (const share of SHARES) rmSync(source(`${share}%`));

  const threadCounts = [1, 2, 4, 8].filter((count) => count <= Math.max(2, cpus().length));
  const byThreads = await inTurn(
    threadCounts.map((threads) => save(`${threads} threads`, memoryFile, threads)),
    ROUNDS,
  );
  rmSync(image, { force: true });
  const all = [...bySize.values(), ...byShare.values()].flat();
  return {
    text: [
      `Sparse memory with ${SPARSE_DATA_BYTES / MIB} MiB of data, spread evenly over it:\n\n${rows(bySize)}`,
      `Memory of ${SHARE_BYTES / MIB} MiB without holes, by the share of data pages:\n\n${rows(byShare)}`,
      `The memory of the tables above, by threads:\n\n${rows(byThreads)}`,
    ].join('\n'),
    peakBytes: Math.max(...all.map(({ peakMemoryBytes }) => peakMemoryBytes)),
  };
}

export function peakFigure(bytes: number): Figure {
  return atMost('peak memory at 2 threads, over all sources', PEAK_MIB_MAX, bytes / MIB, 'MiB');
}

function rows(results: ReadonlyMap<string, readonly Measurement[]>): string {
  const cells = [...results].map(([name, measurements]) => [
    name,
    median(measurements.map(({ wallSeconds }) => wallSeconds)).toFixed(2),
    median(measurements.map(({ cpuSeconds }) => cpuSeconds)).toFixed(2),
    (Math.max(...measurements.map(({ peakMemoryBytes }) => peakMemoryBytes)) / MIB).toFixed(0),
  ]);
  return table(['', 's', 'CPU s', 'peak MiB'], cells);
}

/** A hole with pieces of 256 KiB of data in it at equal distances. */
function writeSpread(path: string, sizeBytes: number, dataBytes: number): void {
  const piece = text(256 * 1024);
  const count = dataBytes / piece.length;
  const fd = openSync(path, 'w', 0o600);
  ftruncateSync(fd, sizeBytes);
  for (let i = 0; i < count; i++) writeSync(fd, piece, 0, piece.length, Math.floor((sizeBytes / count) * i));
  closeSync(fd);
}

/** Of every 64 pages so many percent hold data, the others are written zeros. */
function writeShare(path: string, sizeBytes: number, sharePercent: number): void {
  const block = Buffer.alloc(64 * 4096);
  text(block.length).copy(block, 0, 0, Math.round((64 * sharePercent) / 100) * 4096);
  const fd = openSync(path, 'w', 0o600);
  for (let at = 0; at < sizeBytes; at += block.length) {
    block.writeDoubleLE(at, 0);
    if (sharePercent === 0) block.fill(0, 0, 8);
    writeSync(fd, block, 0, block.length, at);
  }
  closeSync(fd);
}

/** Shrinks about as memory does, to a third, and is always the same. */
function text(bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  let word = 0x9e3779b9;
  for (let at = 0; at < bytes; at += 4) {
    word = Math.imul(word ^ (word >>> 15), 0x2c1b3c6d) + at;
    buffer.writeInt32LE(at % 12 === 0 ? word : 0x20202020 + (at % 256), at);
  }
  return buffer;
}
