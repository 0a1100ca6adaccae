/**
 * The indexes of the images of a chain, read side by side: what record each image has of a segment, and which segment is
 * the next that any of them has a record of.
 *
 * One block of each index is held, in memory that all threads share, so the memory does not depend on the size of the
 * images, and holes are passed over block by block. Contract: everything under the claim lock.
 */
import { readIndexBlock } from '../../formats/vmsnap/imageFile.js';
import { decodeIndexEntry, type IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import { INDEX_BLOCK_ENTRIES, INDEX_ENTRY_BYTES } from '../../formats/vmsnap/layout.js';
import { asBuffer } from './commitLine.js';
import type { Link } from './link.js';

/** Of each image, top first, its entry for one segment; undefined where it has no record, or where none is needed. */
export type ChainEntries = readonly (IndexEntry | undefined)[];

const WORDS_PER_ENTRY = INDEX_ENTRY_BYTES / 4;

export class ChainIndex {
  readonly #links: readonly Link[];
  readonly #blocks: readonly Buffer[];
  /** The same memory. */
  readonly #words: readonly Uint32Array[];

  constructor(links: readonly Link[]) {
    this.#links = links;
    this.#blocks = links.map((link) => asBuffer(link.indexBlock));
    this.#words = links.map(({ indexBlock }) => new Uint32Array(indexBlock.buffer, 0, indexBlock.length / 4));
  }

  /** The entries down to the one below which nothing is needed, or undefined if no image has a record of the segment. */
  entriesOf(segment: number): ChainEntries | undefined {
    const entries: (IndexEntry | undefined)[] = [];
    let found = false;
    for (let i = 0; i < this.#links.length; i++) {
      const entry = this.#entryOf(i, segment);
      entries.push(entry);
      if (entry === undefined) continue;
      found = true;
      if (entry.sameAsBasePages === 0) break;
    }
    return found ? entries : undefined;
  }

  /** The first segment in [from, end) that an image has a record of, or `end`. */
  nextRecord(from: number, end: number): number {
    for (let segment = from; segment < end; ) {
      const block = Math.floor(segment / INDEX_BLOCK_ENTRIES);
      const blockEnd = Math.min(end, (block + 1) * INDEX_BLOCK_ENTRIES);
      const words = this.#words.filter((_, i) => this.#load(i, block) !== 0);
      if (words.length === 0) {
        segment = blockEnd;
        continue;
      }
      for (; segment < blockEnd; segment++) {
        const at = (segment % INDEX_BLOCK_ENTRIES) * WORDS_PER_ENTRY;
        for (const entries of words) if (!isEmpty(entries, at)) return segment;
      }
    }
    return end;
  }

  #entryOf(i: number, segment: number): IndexEntry | undefined {
    const entriesAt = this.#load(i, Math.floor(segment / INDEX_BLOCK_ENTRIES));
    if (entriesAt === 0) return undefined;
    const slot = segment % INDEX_BLOCK_ENTRIES;
    const entry = decodeIndexEntry(this.#blocks[i]!, slot, this.#links[i]!.path, entriesAt);
    return entry.offset === 0 ? undefined : entry;
  }

  /** Makes `block` the one that is held of image `i`. @returns where its entries lie, 0 if it has none. */
  #load(i: number, block: number): number {
    const link = this.#links[i]!;
    const { indexState, indexList } = link;
    if (indexState[0] === block + 1) return indexState[1]!;
    const place = { offset: indexList[block * 2]!, prefixCrc: indexList[block * 2 + 1]! };
    const loaded = readIndexBlock(link, link.head, block, place, link.geometry.segmentCount, link.recordsEnd);
    if (loaded !== undefined) this.#blocks[i]!.set(loaded.entries);
    indexState[1] = loaded?.entriesAt ?? 0;
    indexState[0] = block + 1;
    return indexState[1]!;
  }
}

/** An entry without an offset that says anything else is damage, which whoever decodes it will find. */
function isEmpty(block: Uint32Array, at: number): boolean {
  for (let word = 0; word < WORDS_PER_ENTRY; word++) if (block[at + word] !== 0) return false;
  return true;
}
