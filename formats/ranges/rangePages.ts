/**
 * Memory that lies uncompressed in ranges of a file: the pages of ELF cores and LiME files.
 *
 * The table of pieces (rangePieces.ts) is shared by all threads: three numbers each (offset in the region, offset in the file,
 * bytes), rising. What no piece covers is zero, what the file has left out is absent.
 */
import { FOREIGN_PAGE_BYTES, type ForeignFile } from '../foreignFile.js';
import { seekData } from '../holes.js';
import {
  addExtent,
  type ExtentPages,
  NO_FILE,
  type PageFinder,
  type PageSource,
  type SourceExtent,
  type StretchExtents,
} from '../memoryFile.js';
import type { RangePlan } from './planRanges.js';
import { isStored, NOT_STORED, type Piece, piecesOf } from './rangePieces.js';

export const RANGE_PAGES = 'ranges';

const NUMBERS = 3;

export interface RangePages extends PageSource {
  readonly kind: typeof RANGE_PAGES;
  readonly fd: number;
  readonly path: string;
  readonly table: Float64Array;
  /** Number of the first range of each region, and of the end. */
  readonly firstRange: Float64Array;
}

/** Ranges that a device may look at: for shorter or more of them, making them reachable costs more than checking them. */
const LONG_RANGES_MAX = 1024;
const LONG_RANGE_MIN_BYTES = 2 ** 20;

/** Regions that lie in one piece each are read as a raw memory file is, all others through a {@link RangeFinder}. */
export function rangePages(file: ForeignFile, plan: RangePlan): RangePages | ExtentPages {
  const pieces = plan.regions.map((_, region) => piecesOf(plan, region));
  const whole = pieces.map((own, region) => wholeRegion(own, plan.regions[region]!.sizeBytes));
  if (whole.every((piece) => piece !== undefined)) {
    return { kind: 'extents', regions: whole.map((piece) => extentOf(file, piece)) };
  }
  const all = pieces.flat();
  const table = shared(all.length * NUMBERS);
  for (const [i, { regionOffset, fileOffset, bytes }] of all.entries()) {
    table.set([regionOffset, fileOffset, bytes], i * NUMBERS);
  }
  const firstRange = shared(pieces.length + 1);
  for (const [region, own] of pieces.entries()) firstRange[region + 1] = firstRange[region]! + own.length;
  const { fd, path } = file;
  const stored = all.filter(isStored);
  return {
    kind: RANGE_PAGES,
    fd,
    path,
    table,
    firstRange,
    longExtents: longExtents(file, stored),
    mayHaveAbsent: stored.length < all.length,
  };
}

function wholeRegion(pieces: readonly Piece[], sizeBytes: number | undefined): Piece | undefined {
  const [first] = pieces;
  return pieces.length === 1 && first!.bytes === sizeBytes && isStored(first!) ? first : undefined;
}

function longExtents(file: ForeignFile, pieces: readonly Piece[]): SourceExtent[] | undefined {
  const bytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
  const isLong = pieces.length <= LONG_RANGES_MAX && bytes >= pieces.length * LONG_RANGE_MIN_BYTES;
  return isLong ? pieces.map((piece) => extentOf(file, piece)) : undefined;
}

function extentOf({ fd, path }: ForeignFile, { fileOffset, bytes }: Piece): SourceExtent {
  return { fd, path, fileOffset, lengthBytes: bytes };
}

export function shared(count: number): Float64Array {
  return new Float64Array(new SharedArrayBuffer(count * Float64Array.BYTES_PER_ELEMENT));
}

export class RangeFinder implements PageFinder {
  readonly #pages: RangePages;

  constructor(pages: RangePages) {
    this.#pages = pages;
  }

  nextUsed(region: number, from: number, end: number): number {
    const last = this.#pages.firstRange[region + 1]!;
    for (let i = this.#firstEndingAfter(region, from); i < last; i++) {
      const { start, fileOffset, bytes } = this.#range(i);
      if (start >= end) return end;
      const at = Math.max(from, start);
      if (fileOffset === NOT_STORED) return at;
      const fileEnd = fileOffset + Math.min(bytes, end - start);
      const data = seekData(this.#pages, fileOffset + at - start, fileEnd);
      if (data < fileEnd) {
        const used = start + data - fileOffset;
        return Math.max(from, used - (used % FOREIGN_PAGE_BYTES));
      }
    }
    return end;
  }

  find(
    region: number,
    offset: number,
    sizeBytes: number,
    extents: StretchExtents,
    _into: Uint8Array,
    absent: Uint8Array,
  ): 'extents' {
    const { fd } = this.#pages;
    const end = offset + sizeBytes;
    const last = this.#pages.firstRange[region + 1]!;
    let at = offset;
    for (let i = this.#firstEndingAfter(region, offset); i < last && at < end; i++) {
      const { start, fileOffset, bytes } = this.#range(i);
      const from = Math.min(Math.max(at, start), end);
      const to = Math.min(start + bytes, end);
      addExtent(extents, NO_FILE, 0, from - at);
      if (to > from && fileOffset === NOT_STORED) {
        absent.fill(1, (from - offset) / FOREIGN_PAGE_BYTES, (to - offset) / FOREIGN_PAGE_BYTES);
        addExtent(extents, NO_FILE, 0, to - from);
      } else if (to > from) addExtent(extents, fd, fileOffset + from - start, to - from);
      at = Math.max(from, to);
    }
    addExtent(extents, NO_FILE, 0, end - at);
    return 'extents';
  }

  #range(i: number): { start: number; fileOffset: number; bytes: number } {
    const { table } = this.#pages;
    const at = i * NUMBERS;
    return { start: table[at]!, fileOffset: table[at + 1]!, bytes: table[at + 2]! };
  }

  /** The first range of the region that has bytes at or behind an offset. */
  #firstEndingAfter(region: number, offset: number): number {
    const { table, firstRange } = this.#pages;
    let low = firstRange[region]!;
    let high = firstRange[region + 1]!;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (table[middle * NUMBERS]! + table[middle * NUMBERS + 2]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
