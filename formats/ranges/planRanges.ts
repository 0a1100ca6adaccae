/**
 * From the ranges of guest-physical memory that a file lists to regions of whole pages.
 *
 * Ranges are sorted. Those that touch each other become one region, as do those that share a page: a range that begins or
 * ends within a page is widened to it, and the filler is zero. Of some ranges the file may tell that they are memory, and no
 * more. What lies between regions is no memory.
 */
import type { VmsnapError } from '../../native/errors.js';
import { FOREIGN_PAGE_BYTES, FOREIGN_REGIONS_MAX, hex } from '../foreignFile.js';
import type { RegionManifest } from '../vmsnap/manifest.js';

/** Ranges that one file may list. AVML takes 65,536 for 1 TiB. */
export const RANGES_MAX = 2 ** 20;

export interface MemoryRange {
  /** Guest-physical address of the first byte. */
  readonly start: number;
  readonly memoryBytes: number;
  /** Where the bytes lie; undefined: the file has none of them, and nobody knows what they were. */
  readonly fileOffset: number | undefined;
  /** Where the file tells of this range, for messages. */
  readonly toldAt: number;
}

/** A range in its region. */
export interface PlacedRange<R extends MemoryRange = MemoryRange> {
  readonly range: R;
  readonly regionOffset: number;
}

export interface RangePlan<R extends MemoryRange = MemoryRange> {
  readonly regions: readonly RegionManifest[];
  /** Rising, of all regions one after the other. */
  readonly placed: readonly PlacedRange<R>[];
  /** Of each region, and behind the last. */
  readonly firstPlaced: readonly number[];
}

export interface RangeRules {
  readonly damaged: (offset: number, what: string) => VmsnapError;
  readonly notSupported: (offset: number, what: string) => VmsnapError;
  /** Whether what lies between two ranges is memory that the file leaves out because it is zero. */
  readonly isZeroGap?: ((before: MemoryRange, after: MemoryRange) => boolean) | undefined;
}

export function planRanges<R extends MemoryRange>(ranges: readonly R[], rules: RangeRules): RangePlan<R> {
  const sorted = ranges.filter((range) => range.memoryBytes > 0).sort((a, b) => a.start - b.start);
  const spans: { start: number; end: number }[] = [];
  const placed: PlacedRange<R>[] = [];
  const firstPlaced: number[] = [];
  let before: R | undefined;
  for (const range of sorted) {
    checkRange(range, before, rules);
    const end = pageCeiling(range.start + range.memoryBytes);
    const span = spans.at(-1);
    const goesOn =
      span !== undefined && (pageFloor(range.start) <= span.end || rules.isZeroGap?.(before!, range) === true);
    if (goesOn) span.end = end;
    else {
      if (spans.length === FOREIGN_REGIONS_MAX)
        throw rules.notSupported(range.toldAt, `it has more than ${FOREIGN_REGIONS_MAX} separate ranges of memory`);
      spans.push({ start: pageFloor(range.start), end });
      firstPlaced.push(placed.length);
    }
    placed.push({ range, regionOffset: range.start - spans.at(-1)!.start });
    before = range;
  }
  firstPlaced.push(placed.length);
  return { regions: namedRegions(spans), placed, firstPlaced };
}

/** Regions by their address; a machine with one calls it "ram". */
export function namedRegions(spans: readonly { readonly start: number; readonly end: number }[]): RegionManifest[] {
  return spans.map(({ start, end }) => ({
    name: spans.length === 1 ? 'ram' : `ram-${hex(start)}`,
    gpa: start,
    sizeBytes: end - start,
  }));
}

function checkRange(range: MemoryRange, before: MemoryRange | undefined, rules: RangeRules): void {
  const end = range.start + range.memoryBytes;
  if (!Number.isSafeInteger(end + FOREIGN_PAGE_BYTES))
    throw rules.damaged(range.toldAt, `a range ends at the address ${hex(end)}, beyond 2^53`);
  if (before === undefined) return;
  const endBefore = before.start + before.memoryBytes;
  if (range.start < endBefore)
    throw rules.damaged(
      range.toldAt,
      `the range at the address ${hex(range.start)} overlaps the one that ends at ${hex(endBefore)}`,
    );
}

export function pageFloor(address: number): number {
  return address - (address % FOREIGN_PAGE_BYTES);
}

export function pageCeiling(address: number): number {
  return pageFloor(address + FOREIGN_PAGE_BYTES - 1);
}
