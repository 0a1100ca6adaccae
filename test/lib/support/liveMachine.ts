/** A machine that runs: a memory file and a thread that writes it, which a save stops. */
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { LiveMachine, MemoryAttachment } from '../../../lib/index.js';
import type { MachineWriterData } from '../children/machineWriter.js';

const SCRIPT = new URL('../children/machineWriter.js', import.meta.url);

export class WrittenMemory implements LiveMachine {
  /** What the memory was when the machine had stopped. */
  stopped: Buffer | undefined;
  readonly calls: string[] = [];
  readonly copiedBytesMost: number | undefined;
  readonly #path: string;
  readonly #pageSize: number;
  readonly #words = new Int32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;
  readonly #ended: Promise<unknown>;
  #later: WrittenMemory | undefined;

  /** `share`: of the pages that it writes, spread over all of them. */
  constructor(
    path: string,
    share: number,
    options: { pageSize?: number | undefined; seed?: number; copiedBytesMost?: number | undefined } = {},
  ) {
    const { pageSize = 4096, seed = 1 } = options;
    this.#path = path;
    this.#pageSize = pageSize;
    this.copiedBytesMost = options.copiedBytesMost;
    const count = statSync(path).size / pageSize;
    const pages = Array.from({ length: count }, (_, page) => page).filter(
      (page) => (page * 37 + seed) % 100 < share * 100,
    );
    const workerData: MachineWriterData = { path, pageSize, pages, seed, words: this.#words };
    this.#worker = new Worker(SCRIPT, { workerData });
    this.#ended = once(this.#worker, 'exit');
  }

  /** Resolves once it writes. */
  async running(): Promise<this> {
    await once(this.#worker, 'online');
    Atomics.wait(this.#words, 1, 0);
    return this;
  }

  async halt(): Promise<void> {
    Atomics.store(this.#words, 0, 1);
    Atomics.notify(this.#words, 0);
    await this.#ended;
    await this.#later?.halt();
  }

  async stop(): Promise<void> {
    this.calls.push('stop');
    await this.halt();
    this.stopped = readFileSync(this.#path);
  }

  /** It runs on, and writes all of its memory. */
  async memoryRead(): Promise<void> {
    this.calls.push('memoryRead');
    this.#later = await new WrittenMemory(this.#path, 1, { pageSize: this.#pageSize, seed: 99 }).running();
  }

  async attachments(): Promise<readonly MemoryAttachment[]> {
    this.calls.push('attachments');
    return [{ name: 'device-state', bytes: Buffer.from('the state of its devices') }];
  }
}
