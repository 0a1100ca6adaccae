/**
 * The pieces of a region: which of its bytes a file has, and where, and of which of its pages it has nothing.
 *
 * A piece that is stored need not begin or end at a page, neither in memory nor in the file; one that is left out is whole pages,
 * of which no other piece has a byte. What no piece covers is zero.
 */
import { FOREIGN_PAGE_BYTES } from '../foreignFile.js';
import type { KnownPages } from '../memoryFile.js';
import { pageCeiling, pageFloor, type RangePlan } from './planRanges.js';

/** In the place of a file offset: the file has left these pages out. */
export const NOT_STORED = -1;

export interface Piece {
  readonly regionOffset: number;
  readonly fileOffset: number;
  bytes: number;
}

export function isStored({ fileOffset }: Piece): boolean {
  return fileOffset !== NOT_STORED;
}

/** By rising offset; what goes on in memory and in the file is one piece. */
export function piecesOf(plan: RangePlan, region: number): Piece[] {
  const pieces: Piece[] = [];
  let storedEnd = 0;
  for (let i = plan.firstPlaced[region]!; i < plan.firstPlaced[region + 1]!; i++) {
    const { range, regionOffset } = plan.placed[i]!;
    const end = regionOffset + range.memoryBytes;
    if (range.fileOffset === undefined)
      addLeftOut(pieces, Math.max(pageFloor(regionOffset), storedEnd), pageCeiling(end));
    else {
      addStored(pieces, regionOffset, range.fileOffset, range.memoryBytes);
      storedEnd = pageCeiling(end);
    }
  }
  return pieces;
}

function addStored(pieces: Piece[], regionOffset: number, fileOffset: number, bytes: number): void {
  let last = pieces.at(-1);
  // The page that this piece begins in is not left out any more.
  if (last !== undefined && !isStored(last)) {
    last.bytes = Math.min(last.bytes, pageFloor(regionOffset) - last.regionOffset);
    if (last.bytes <= 0) pieces.pop();
    last = pieces.at(-1);
  }
  const goesOn =
    last !== undefined &&
    isStored(last) &&
    last.regionOffset + last.bytes === regionOffset &&
    last.fileOffset + last.bytes === fileOffset;
  if (goesOn) last!.bytes += bytes;
  else pieces.push({ regionOffset, fileOffset, bytes });
}

function addLeftOut(pieces: Piece[], from: number, end: number): void {
  const last = pieces.at(-1);
  if (last !== undefined && !isStored(last) && last.regionOffset + last.bytes >= from) {
    last.bytes = Math.max(last.bytes, end - last.regionOffset);
  } else if (end > from) pieces.push({ regionOffset: from, fileOffset: NOT_STORED, bytes: end - from });
}

/** Of all regions. */
export function countPages(plan: RangePlan): KnownPages {
  let stored = 0;
  let absent = 0;
  let total = 0;
  for (const [region, { sizeBytes }] of plan.regions.entries()) {
    total += sizeBytes!;
    let counted = 0;
    for (const piece of piecesOf(plan, region)) {
      if (!isStored(piece)) {
        absent += piece.bytes;
        continue;
      }
      const end = pageCeiling(piece.regionOffset + piece.bytes);
      stored += end - Math.max(counted, pageFloor(piece.regionOffset));
      counted = end;
    }
  }
  // Where there is no gap of zeros the file says nothing of zero pages.
  const zero = total - stored - absent;
  return {
    stored: stored / FOREIGN_PAGE_BYTES,
    zero: zero === 0 ? undefined : zero / FOREIGN_PAGE_BYTES,
    absent: absent / FOREIGN_PAGE_BYTES,
  };
}
