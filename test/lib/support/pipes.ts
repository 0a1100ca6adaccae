/** Pipes, named and not, and what stands at their other end. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, createReadStream, createWriteStream, openSync } from 'node:fs';
import { native } from '../../../native/binding.js';

const PIPE_BYTES = 64 * 1024;

export function makeFifo(path: string): string {
  execFileSync('mkfifo', [path]);
  return path;
}

/** Copies a file or named pipe to another; resolves when the copier has ended. */
export async function cat(from: string, to: string): Promise<void> {
  // The shell opens both ends: opening a pipe waits for the other side.
  const child = spawn('sh', ['-c', 'cat < "$1" > "$2"', 'sh', from, to], { stdio: 'ignore' });
  await once(child, 'exit');
}

/** A real pipe. (What node:child_process calls a pipe is a pair of sockets.) Each end belongs to who takes it. */
export class Pipe {
  readonly readFd: number;
  readonly writeFd: number;
  readonly #open = new Set<number>();

  constructor() {
    const ends = native.pipe(PIPE_BYTES);
    if (typeof ends === 'number') throw new Error(`no pipe: ${ends}`);
    [this.readFd, this.writeFd] = ends;
    this.#open.add(this.readFd).add(this.writeFd);
  }

  closeRead(): void {
    this.#close(this.readFd);
  }

  closeWrite(): void {
    this.#close(this.writeFd);
  }

  close(): void {
    this.closeRead();
    this.closeWrite();
  }

  #close(fd: number): void {
    if (this.#open.delete(fd)) closeSync(fd);
  }

  /** Writes bytes into the pipe; with `end`, closes it behind them. A reader that goes away is no error. */
  feed(bytes: Buffer, end: boolean): void {
    this.#open.delete(this.writeFd);
    const stream = createWriteStream('', { fd: this.writeFd, autoClose: end });
    stream.on('error', () => {});
    stream.write(bytes);
    if (end) stream.end();
  }

  /** All bytes until the end. */
  async collect(): Promise<Buffer> {
    this.#open.delete(this.readFd);
    const parts: Buffer[] = [];
    for await (const part of createReadStream('', { fd: this.readFd })) parts.push(part as Buffer);
    return Buffer.concat(parts);
  }
}

/** Runs `action` with a descriptor of a file. */
export async function withFd<T>(path: string, flags: string, action: (fd: number) => Promise<T>): Promise<T> {
  const fd = openSync(path, flags);
  try {
    return await action(fd);
  } finally {
    closeSync(fd);
  }
}
