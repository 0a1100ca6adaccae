/**
 * A thread that writes a memory file as a running machine does, at any time and without anybody being told: pages of random bytes, of one
 * word, of zeros. Where it stops, every page that it was given is other than it was at the beginning.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

export interface MachineWriterData {
  readonly path: string;
  readonly pageSize: number;
  readonly pages: readonly number[];
  readonly seed: number;
  /** [0]: not 0 stops it; [1]: becomes 1 once it has begun. */
  readonly words: Int32Array;
}

const { path, pageSize, pages, seed, words } = workerData as MachineWriterData;

let state = seed;
function random(): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
}

const page = Buffer.alloc(pageSize);

function fill(): void {
  const kind = random();
  if (kind < 0.2) page.fill(0);
  else if (kind < 0.4) page.fill(Math.floor(random() * 255) + 1);
  else for (let at = 0; at < pageSize; at += 4) page.writeUInt32LE(Math.floor(random() * 2 ** 32), at);
}

const file = openSync(path, 'r+');
const before = Buffer.alloc(pageSize);

/** Other than it is, in one bit at least. */
function change(number: number): void {
  readSync(file, before, 0, pageSize, number * pageSize);
  if (random() < 0.3) before.copy(page);
  else fill();
  if (page.equals(before)) page[Math.floor(random() * pageSize)]! ^= 1 << Math.floor(random() * 8);
  writeSync(file, page, 0, pageSize, number * pageSize);
}

Atomics.store(words, 1, 1);
Atomics.notify(words, 1);
while (pages.length > 0 && Atomics.load(words, 0) === 0) change(pages[Math.floor(random() * pages.length)]!);
if (pages.length === 0) Atomics.wait(words, 0, 0);
for (const number of pages) change(number);
closeSync(file);
