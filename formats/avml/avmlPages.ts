/** Pages of AVML files: a block's Snappy stream is gone through to the wanted part, and only that is decompressed. */
import { FOREIGN_PAGE_BYTES, type ForeignFile } from '../foreignFile.js';
import type { PageFinder, PageSource, StretchExtents } from '../memoryFile.js';
import type { RangePlan } from '../ranges/planRanges.js';
import { shared } from '../ranges/rangePages.js';
import type { AvmlBlock } from './avml.js';
import { SnappyStream } from './snappyStream.js';

export const AVML_PAGES = 'avml';

const NUMBERS = 4;

export interface AvmlPages extends PageSource {
  readonly kind: typeof AVML_PAGES;
  readonly fd: number;
  readonly path: string;
  /** For each block: offset in its region, bytes of memory, offset and bytes of its stream in the file; rising. */
  readonly table: Float64Array;
  /** Number of the first block of each region, and of the end. */
  readonly firstBlock: Float64Array;
}

export function avmlPages({ fd, path }: ForeignFile, plan: RangePlan<AvmlBlock>): AvmlPages {
  const table = shared(plan.placed.length * NUMBERS);
  for (const [i, { range, regionOffset }] of plan.placed.entries()) {
    table.set([regionOffset, range.memoryBytes, range.fileOffset, range.streamBytes], i * NUMBERS);
  }
  const firstBlock = shared(plan.firstPlaced.length);
  firstBlock.set(plan.firstPlaced);
  return { kind: AVML_PAGES, fd, path, table, firstBlock };
}

export class AvmlFinder implements PageFinder {
  readonly #pages: AvmlPages;
  /** The block that was decompressed last: the next stretch mostly goes on in it. */
  #stream: SnappyStream | undefined;
  #streamBlock = -1;

  constructor(pages: AvmlPages) {
    this.#pages = pages;
  }

  nextUsed(region: number, from: number, end: number): number {
    const block = this.#firstEndingAfter(region, from);
    if (block === this.#pages.firstBlock[region + 1]) return end;
    const start = this.#pages.table[block * NUMBERS]!;
    return Math.min(end, Math.max(from, start - (start % FOREIGN_PAGE_BYTES)));
  }

  find(region: number, offset: number, sizeBytes: number, _extents: StretchExtents, into: Uint8Array): 'bytes' {
    const { table, firstBlock } = this.#pages;
    const end = offset + sizeBytes;
    const last = firstBlock[region + 1]!;
    let at = offset;
    for (let block = this.#firstEndingAfter(region, offset); block < last && at < end; block++) {
      const start = table[block * NUMBERS]!;
      const from = Math.min(Math.max(at, start), end);
      const to = Math.min(start + table[block * NUMBERS + 1]!, end);
      into.fill(0, at - offset, from - offset);
      if (to > from) this.#streamOf(block).read(from - start, into.subarray(from - offset, to - offset));
      at = Math.max(from, to);
    }
    into.fill(0, at - offset, sizeBytes);
    return 'bytes';
  }

  #streamOf(block: number): SnappyStream {
    if (this.#stream === undefined || block !== this.#streamBlock) {
      const { fd, path, table } = this.#pages;
      const at = block * NUMBERS;
      const place = { memoryBytes: table[at + 1]!, offset: table[at + 2]!, streamBytes: table[at + 3]! };
      this.#stream = new SnappyStream({ fd, path }, place);
      this.#streamBlock = block;
    }
    return this.#stream;
  }

  /** The first block of the region that ends behind an offset. */
  #firstEndingAfter(region: number, offset: number): number {
    const { table, firstBlock } = this.#pages;
    let low = firstBlock[region]!;
    let high = firstBlock[region + 1]!;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (table[middle * NUMBERS]! + table[middle * NUMBERS + 1]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
