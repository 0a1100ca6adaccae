/**
 * Memory that is made up, always the same: every page is written, so none is a hole.
 *
 * `mixed` is like that of a Linux guest at work: 65 % zero pages, 5 % uniform ones, the rest tables of pointers, text and
 * bytes that do not shrink; one data page in seven is there twice.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { VmsnapError, wrapSystemError } from '../../native/errors.js';

export type MemoryKind = 'mixed' | 'half zero' | 'all zero';

const PAGE_BYTES = 4096;
const BLOCK_PAGES = 256;
const WORDS = 'the of and page kernel process memory return value static struct table error device driver'.split(' ');

export function writeMemory(path: string, kind: MemoryKind, sizeBytes: number, signal?: AbortSignal): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    const maker = new PageMaker(kind);
    const block = Buffer.alloc(BLOCK_PAGES * PAGE_BYTES);
    for (let offset = 0; offset < sizeBytes; offset += block.length) {
      signal?.throwIfAborted();
      for (let at = 0; at < block.length; at += PAGE_BYTES) maker.fill(block.subarray(at, at + PAGE_BYTES));
      writeAll(fd, path, block.subarray(0, Math.min(block.length, sizeBytes - offset)), offset);
    }
  } finally {
    closeSync(fd);
  }
}

function writeAll(fd: number, path: string, bytes: Buffer, offset: number): void {
  try {
    for (let done = 0; done < bytes.length; ) {
      const written = writeSync(fd, bytes, done, bytes.length - done, offset + done);
      if (written === 0) throw new VmsnapError('IO', `${path} takes no more bytes`, { path });
      done += written;
    }
  } catch (error) {
    throw wrapSystemError(error, 'write the memory to measure with to', path);
  }
}

class PageMaker {
  readonly #kind: MemoryKind;
  readonly #earlier: Buffer[] = [];
  #state = 0x9e3779b9;
  #page = 0;

  constructor(kind: MemoryKind) {
    this.#kind = kind;
  }

  fill(page: Buffer): void {
    const number = this.#page++;
    page.fill(0);
    if (this.#kind === 'all zero') return;
    if (this.#kind === 'half zero') {
      if (number % 2 === 1) this.#fillData(page);
      return;
    }
    // Runs of 64 pages are alike in what they hold, as in a real guest.
    const run = mix(number >>> 6) % 100;
    if (run < 65) return;
    if (run < 70) page.fill(Buffer.from([run, 0x5a, 0, 0, 0, 0, 0, 0x80]));
    else this.#fillData(page);
  }

  #fillData(page: Buffer): void {
    const choice = this.#next();
    const repeated = this.#earlier[choice % 64];
    if (choice % 7 === 0 && repeated !== undefined) {
      repeated.copy(page);
      return;
    }
    if (choice % 10 < 4) this.#fillPointers(page);
    else if (choice % 10 < 8) this.#fillText(page);
    else for (let at = 0; at < PAGE_BYTES; at += 4) page.writeUInt32LE(this.#next(), at);
    this.#earlier[(choice >>> 8) % 64] = Buffer.from(page);
  }

  #fillPointers(page: Buffer): void {
    const base = this.#next() % 0x1000000;
    for (let at = 0; at < PAGE_BYTES; at += 16) {
      page.writeUInt32LE((base + (this.#next() % 65_536) * 64) >>> 0, at);
      page.writeUInt32LE(0xffff8880, at + 4);
      page.writeUInt32LE(this.#next() % 4096, at + 8);
    }
  }

  #fillText(page: Buffer): void {
    for (let at = 0; at < PAGE_BYTES; ) {
      const word = WORDS[this.#next() % WORDS.length]!;
      at += page.write(`${word}${this.#next() % 8 === 0 ? '\n' : ' '}`, at, 'latin1');
      if (at > PAGE_BYTES - 12) break;
    }
  }

  /** xorshift32: the same numbers on every machine. */
  #next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }
}

/** Spreads small numbers over all 32 bits. */
function mix(value: number): number {
  let x = Math.imul(value + 1, 0x9e3779b1);
  x = Math.imul(x ^ (x >>> 15), 0x85ebca6b);
  return (x ^ (x >>> 13)) >>> 0;
}
