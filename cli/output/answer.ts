/**
 * Where a command's answer goes: standard output, or standard error when standard output carries the data.
 *
 * A reader that goes away (`vmsnap inspect --map ... | head`) is no error: what is written after that is dropped, and
 * `closed` tells long listings to stop.
 */
import { once } from 'node:events';

export class Answer {
  readonly #stream: NodeJS.WriteStream;
  #closed = false;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    stream.on('error', (error: NodeJS.ErrnoException) => this.#onError(error));
  }

  get closed(): boolean {
    return this.#closed;
  }

  get isTerminal(): boolean {
    return this.#stream.isTTY === true;
  }

  /** Of a terminal that knows its size. */
  get columns(): number | undefined {
    return this.isTerminal ? this.#stream.columns || undefined : undefined;
  }

  /** Waits when the reader is slow, so a long listing does not pile up in memory. */
  async text(text: string): Promise<void> {
    if (this.#closed) return;
    if (this.#stream.write(text)) return;
    await Promise.race([once(this.#stream, 'drain'), once(this.#stream, 'close')]).catch(() => undefined);
  }

  line(text: string): Promise<void> {
    return this.text(`${text}\n`);
  }

  async lines(lines: readonly string[]): Promise<void> {
    if (lines.length > 0) await this.text(`${lines.join('\n')}\n`);
  }

  json(value: object): Promise<void> {
    return this.line(JSON.stringify(value));
  }

  #onError(error: NodeJS.ErrnoException): void {
    this.#closed = true;
    if (error.code === 'EPIPE') return;
    // A full disk behind `vmsnap inspect > file` must not pass for success.
    process.exitCode = 20;
    process.stderr.write(`vmsnap: error: cannot write the answer: ${error.message}\n`);
    process.once('exit', () => {
      process.exitCode = 20;
    });
  }
}
