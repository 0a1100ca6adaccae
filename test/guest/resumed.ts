/** A guest that `vmsnap resume` has brought back, and that counts on its serial port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CLI_PATH } from './cli.js';
import { COUNT_MARKER } from './init.js';

const COUNT_SECONDS = 90;

/** Counts on the standard output of a child. */
export class Counter {
  errors = '';
  readonly exitCode: Promise<number | null>;
  protected readonly child: ChildProcess;
  #console = '';

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout!.setEncoding('latin1').on('data', (text: string) => (this.#console += text));
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    this.exitCode = once(child, 'close').then(([code]) => code as number | null);
  }

  get counts(): number[] {
    return [...this.#console.matchAll(new RegExp(`${COUNT_MARKER} (\\d+)\\r?\\n`, 'g'))].map((match) =>
      Number(match[1]),
    );
  }

  async waitForCountBeyond(count: number): Promise<void> {
    await this.#waitFor(`count beyond ${count}`, () => (this.counts.at(-1) ?? 0) > count);
  }

  /** On its standard error. */
  async waitForWords(words: RegExp): Promise<void> {
    await this.#waitFor(`word of ${words}`, () => words.test(this.errors));
  }

  async #waitFor(what: string, reached: () => boolean): Promise<void> {
    const deadline = performance.now() + COUNT_SECONDS * 1000;
    while (!reached()) {
      if (this.child.exitCode !== null) throw new Error(`ended with ${this.child.exitCode}: ${this.errors}`);
      if (performance.now() > deadline) throw new Error(`no ${what}: ${this.errors}${this.#console}`);
      await sleep(20);
    }
  }
}

export class Resumed extends Counter {
  readonly memoryDir: string;
  readonly temporary: string;

  constructor(folder: string, image: string, command: readonly string[], options: readonly string[] = []) {
    const [memoryDir, temporary] = [join(folder, 'memory'), join(folder, 'tmp')];
    for (const path of [memoryDir, temporary]) mkdirSync(path, { recursive: true });
    const args = [CLI_PATH, 'resume', '--memory-dir', memoryDir, ...options, image, '--', ...command];
    super(
      spawn(process.execPath, args, {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, TMPDIR: temporary },
      }),
    );
    this.memoryDir = memoryDir;
    this.temporary = temporary;
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.child.kill(signal);
    return await this.exitCode;
  }

  kill(): void {
    if (this.child.exitCode === null) this.child.kill('SIGTERM');
  }
}
