/**
 * Chunks that two images store in the same bytes: their pages are the same, and need not be decompressed to be known so.
 *
 * Looked for where both have the segment in one record each, made with the same codec and chunk size, with the same pages
 * in the same states: then chunk i holds the same pages on both sides. Checksums only tell which chunks are worth reading.
 */
import { STATE_DATA, STATE_ZERO } from '../../formats/vmsnap/stateMap.js';
import { CHANGE_SAME, native } from '../../native/binding.js';
import type { StoredChunks } from './chainDecoder.js';
import { asBuffer } from './commitLine.js';
import { readImageRange } from './link.js';

export class SameChunks {
  /** The states of the segment without the data pages that are known to be the same: what remains to be decoded. */
  readonly wanted: Uint8Array;
  readonly #storedA: Buffer;
  readonly #storedB: Buffer;

  constructor(pagesPerSegment: number, chunkBytes: number) {
    this.wanted = new Uint8Array(pagesPerSegment);
    this.#storedA = Buffer.alloc(chunkBytes);
    this.#storedB = Buffer.alloc(chunkBytes);
  }

  /**
   * `states`: of the segment, in which references are data pages; they are in no chunk and stay wanted.
   * @returns whether there are any; `wanted` is then that of this segment.
   */
  find(states: Uint8Array, a: StoredChunks, b: StoredChunks): boolean {
    const alike =
      a.chunkSize === b.chunkSize &&
      a.link.head.start.codec.name === b.link.head.start.codec.name &&
      asBuffer(a.states).equals(asBuffer(b.states));
    if (!alike) return false;
    const same = this.#compareChunks(a, b);
    if (!same.includes(true)) return false;
    this.wanted.set(states);
    this.#takeOut(a.states, same, a.pagesPerChunk);
    return true;
  }

  #compareChunks(a: StoredChunks, b: StoredChunks): boolean[] {
    let [atA, atB] = [a.offset, b.offset];
    return a.lengths.map((length, chunk) => {
      const [fromA, fromB] = [atA, atB];
      atA += length;
      atB += b.lengths[chunk]!;
      const mayBe = length === b.lengths[chunk] && a.crcs[chunk] === b.crcs[chunk] && length <= this.#storedA.length;
      return mayBe && this.#areSame(a, fromA, b, fromB, length, a.crcs[chunk]!);
    });
  }

  /** Damage is none of this: a decoder meets it and says where it is. */
  #areSame(a: StoredChunks, fromA: number, b: StoredChunks, fromB: number, length: number, crc: number): boolean {
    const storedA = readImageRange(a.link, fromA, length, 'a chunk', this.#storedA);
    const storedB = readImageRange(b.link, fromB, length, 'a chunk', this.#storedB);
    return storedA.equals(storedB) && native.crc32c(storedA, 0, length, 0) === crc;
  }

  #takeOut(states: Uint8Array, same: readonly boolean[], pagesPerChunk: number): void {
    let ordinal = 0;
    for (let page = 0; page < states.length; page++) {
      if (states[page] !== STATE_DATA) continue;
      if (same[Math.floor(ordinal / pagesPerChunk)]) this.wanted[page] = STATE_ZERO;
      ordinal++;
    }
  }

  /**
   * Corrects a comparison in which the pages that were not decoded had the bytes of another segment. `states` and `changes` are
   * those of the pages from page `first` of the segment on.
   */
  correct(first: number, states: Uint8Array, changes: Uint8Array, counts: Float64Array): void {
    for (let page = 0; page < states.length; page++) {
      if (states[page] === this.wanted[first + page]) continue;
      counts[changes[page]!]!--;
      counts[CHANGE_SAME]!++;
      changes[page] = CHANGE_SAME;
    }
  }
}
