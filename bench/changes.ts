/** Changes a memory file as a guest that works does: some of its data pages get the contents that others had. */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';

const PAGE_BYTES = 4096;
const PIECE_PAGES = 256;
/** Pages that change together where changes are clustered: up to 1 MiB. */
const CLUSTER_PAGES = 256;

export type Pattern = 'clustered' | 'scattered';

/**
 * Overwrites `share` of the pages that are not zero, each with another one's contents and one word of its own, so that
 * they compress as before and equal no other. The same seed gives the same changes.
 */
export function changePages(path: string, pattern: Pattern, share: number, seed: number): void {
  const file = openSync(path, constants.O_RDWR);
  try {
    const pages = dataPages(file);
    const random = generator(seed);
    const wanted = Math.round(pages.length * share);
    const chosen =
      pattern === 'scattered' ? scattered(pages.length, wanted, random) : clustered(pages.length, wanted, random);
    const page = Buffer.alloc(PAGE_BYTES);
    for (const number of chosen) {
      readSync(file, page, 0, PAGE_BYTES, pages[Math.floor(random() * pages.length)]! * PAGE_BYTES);
      page.writeUInt32LE(seed, 1024);
      page.writeUInt32LE(pages[number]!, 1028);
      writeSync(file, page, 0, PAGE_BYTES, pages[number]! * PAGE_BYTES);
    }
  } finally {
    closeSync(file);
  }
}

function dataPages(file: number): number[] {
  const zeroPage = Buffer.alloc(PAGE_BYTES);
  const piece = Buffer.alloc(PIECE_PAGES * PAGE_BYTES);
  const total = fstatSync(file).size / PAGE_BYTES;
  const pages: number[] = [];
  for (let first = 0; first < total; first += PIECE_PAGES) {
    const bytes = readSync(file, piece, 0, piece.length, first * PAGE_BYTES);
    for (let at = 0; at < bytes; at += PAGE_BYTES) {
      if (!piece.subarray(at, at + PAGE_BYTES).equals(zeroPage)) pages.push(first + at / PAGE_BYTES);
    }
  }
  return pages;
}

function scattered(count: number, wanted: number, random: () => number): Set<number> {
  const chosen = new Set<number>();
  while (chosen.size < wanted) chosen.add(Math.floor(random() * count));
  return chosen;
}

function clustered(count: number, wanted: number, random: () => number): Set<number> {
  const chosen = new Set<number>();
  while (chosen.size < wanted) {
    const first = Math.floor(random() * count);
    const end = Math.min(count, first + 1 + Math.floor(random() * CLUSTER_PAGES));
    for (let page = first; page < end && chosen.size < wanted; page++) chosen.add(page);
  }
  return chosen;
}

/** Numbers from 0 to 1, the same for the same seed (xorshift32). */
function generator(seed: number): () => number {
  let state = (seed * 0x9e3779b1) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}
