/** Made-up memory: runs of pages of every kind, the same bytes for the same numbers. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const PAGE = 4 * KIB;

/** `almost`: zero or one repeated word but for one byte, which a detector must not miss. */
export type PageKind = 'zero' | 'uniform' | 'same' | 'text' | 'random' | 'almost';
export const PAGE_KINDS: readonly PageKind[] = ['zero', 'uniform', 'same', 'text', 'random', 'almost'];

export interface Run {
  readonly kind: PageKind;
  readonly pages: number;
}

/** Runs of pages one after the other, cut or zero-filled to exactly `sizeBytes`. */
export function makeMemory(sizeBytes: number, runs: readonly Run[], pageSize = PAGE, seed = 1): Buffer {
  const memory = Buffer.alloc(sizeBytes);
  let page = 0;
  for (const { kind, pages } of runs) {
    for (let i = 0; i < pages && (page + 1) * pageSize <= sizeBytes; i++, page++) {
      fillPage(memory.subarray(page * pageSize, (page + 1) * pageSize), kind, seed + page);
    }
  }
  return memory;
}

/** A bit of everything, `sizeBytes` long: about a quarter of it does not shrink. */
export function mixedMemory(sizeBytes: number, seed = 1): Buffer {
  const round: Run[] = [
    { kind: 'zero', pages: 7 },
    { kind: 'random', pages: 5 },
    { kind: 'uniform', pages: 2 },
    { kind: 'text', pages: 4 },
    { kind: 'almost', pages: 1 },
    { kind: 'same', pages: 1 },
  ];
  const rounds = Math.ceil(sizeBytes / PAGE / 20);
  return makeMemory(sizeBytes, Array(rounds).fill(round).flat(), PAGE, seed);
}

/** Bytes that no codec shrinks. */
export function randomMemory(sizeBytes: number, seed = 1): Buffer {
  const memory = Buffer.alloc(sizeBytes);
  fillRandom(memory, seed);
  return memory;
}

function fillPage(page: Buffer, kind: PageKind, seed: number): void {
  if (kind === 'uniform') page.fill(wordOf(seed));
  if (kind === 'same') page.fill('the same page wherever it stands, ');
  if (kind === 'text') page.fill(`page ${seed} of some text that shrinks well; `);
  if (kind === 'random') fillRandom(page, seed);
  if (kind === 'almost') {
    if (seed % 2 === 0) page.fill(wordOf(seed));
    page[(seed * 2654435761) % page.length]! ^= 0x40;
  }
}

function wordOf(seed: number): Buffer {
  const word = Buffer.alloc(8);
  word.writeUInt32LE(seed);
  word.writeUInt32LE((seed * 2654435761) % 2 ** 32, 4);
  return word;
}

/** Xorshift. */
function fillRandom(bytes: Buffer, seed: number): void {
  let word = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) | 1;
  for (let offset = 0; offset + 4 <= bytes.length; offset += 4) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    bytes.writeInt32LE(word, offset);
  }
}

export interface PageCount {
  readonly zero: number;
  readonly uniform: number;
  readonly data: number;
}

/** What a plain loop finds: the reference for every detector. */
export function countPages(memory: Buffer, pageSize = PAGE): PageCount {
  const count = { zero: 0, uniform: 0, data: 0 };
  for (let at = 0; at < memory.length; at += pageSize) count[kindOf(memory.subarray(at, at + pageSize))]++;
  return count;
}

function kindOf(page: Buffer): keyof PageCount {
  const repeats = page.compare(page, 8, page.length, 0, page.length - 8) === 0;
  if (!repeats) return 'data';
  return page.readBigUInt64LE() === 0n ? 'zero' : 'uniform';
}

/** Pages that are not zero: what {@link writeSparse} writes. */
export function usedPages(memory: Buffer): number {
  let used = 0;
  for (let at = 0; at < memory.length; at += PAGE) if (kindOf(memory.subarray(at, at + PAGE)) !== 'zero') used++;
  return used;
}

/** Writes `memory` at `offset` of a file and leaves a hole wherever a page of it is zero. */
export function writeSparse(path: string, memory: Buffer, offset = 0, flags = 'w'): void {
  const fd = openSync(path, flags);
  try {
    ftruncateSync(fd, offset + memory.length);
    for (let at = 0; at < memory.length; at += PAGE) {
      const page = memory.subarray(at, at + PAGE);
      if (kindOf(page) !== 'zero') writeSync(fd, page, 0, page.length, offset + at);
    }
  } finally {
    closeSync(fd);
  }
}
