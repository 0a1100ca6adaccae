/**
 * One worker of a comparison: claims a stretch of memory that both sides have, reads its segments from both, and holds
 * their pages against each other, byte by byte (native/compare/).
 *
 * Nothing is read where nothing need be: what is a hole or without a record on both sides is zero on both, and a segment
 * that both take from one and the same stored record is the same.
 */
import { STATE_ABSENT, STATE_ZERO } from '../../formats/vmsnap/stateMap.js';
import {
  CHANGE_BECAME_ZERO,
  CHANGE_BOTH_ZERO,
  CHANGE_CHANGED,
  CHANGE_COUNT,
  CHANGE_SAME,
  CHANGE_WAS_ZERO,
  native,
} from '../../native/binding.js';
import {
  isAborted,
  NUMBER_INPUT_OFFSET,
  NUMBER_NEXT_SEGMENT,
  type SharedControl,
  STAT_DONE_BYTES,
  STAT_IMAGE_BYTES,
  statsOf,
  WORD_ABORT,
  WORD_CLAIM_LOCK,
} from './control.js';
import {
  type FoundSegment,
  type MemorySide,
  openSide,
  PageSplitter,
  type SegmentParts,
  type SideDescription,
  sliceParts,
} from './memorySide.js';
import { Aborted, lock, unlock } from './mutex.js';
import { SameChunks } from './sameChunks.js';

/** A range of memory that both sides have. */
export interface CommonRange {
  /** Number of the region on each side. */
  readonly regionA: number;
  readonly regionB: number;
  /** Offsets in the region, the same on both sides, multiples of the page size. */
  readonly from: number;
  readonly to: number;
  /** Where `from` stands among all the memory of the heat bar. */
  readonly heatFrom: number;
}

export interface CompareJob {
  readonly kind: 'compare';
  readonly worker: number;
  readonly control: SharedControl;
  readonly a: SideDescription;
  readonly b: SideDescription;
  /** Bytes of what is counted as one page. */
  readonly pageSize: number;
  readonly ranges: readonly CommonRange[];
  readonly heatCells: number;
  /** Bytes of all the memory of the heat bar. */
  readonly heatBytes: number;
  readonly runsMax: number;
}

/** Numbers of each run: which of the ranges, offset in the region, length in bytes, CHANGE_*. */
export const RUN_NUMBERS = 4;

export interface CompareWorkerResult {
  /** CHANGE_COUNT numbers of pages for each range. */
  readonly counts: Float64Array;
  /** The first runs of pages that differ, in the order of the memory, RUN_NUMBERS numbers each. */
  readonly runs: Float64Array;
  /** The first run that had no room any more: range and offset. */
  readonly cutAt: readonly [range: number, offset: number] | undefined;
  /** Of each cell of the heat bar: pages that differ. */
  readonly heat: Float64Array;
  /** Pages of each side whose contents it does not know; they count as zero. */
  readonly absentPages: { readonly a: number; readonly b: number };
}

export function runCompareWorker(job: CompareJob): CompareWorkerResult {
  return new CompareWorker(job).run();
}

/** Part of a range, not longer than the larger segment of the two sides. */
interface Claim {
  readonly range: number;
  readonly from: number;
  readonly to: number;
}

class CompareWorker {
  readonly #job: CompareJob;
  readonly #a: MemorySide;
  readonly #b: MemorySide;
  readonly #splitA: PageSplitter;
  readonly #splitB: PageSplitter;
  /** What is compared at once, and what is claimed at once: the smaller and the larger segment. */
  readonly #stepBytes: number;
  readonly #claimBytes: number;
  readonly #sameChunks: SameChunks | undefined;
  readonly #changes: Uint8Array;
  readonly #stepCounts = new Float64Array(CHANGE_COUNT);
  readonly #stats: Float64Array;
  readonly #counts: Float64Array;
  readonly #heat: Float64Array;
  readonly #runs: Float64Array;
  readonly #absentPages = { a: 0, b: 0 };
  #runCount = 0;
  #cutAt: CompareWorkerResult['cutAt'];

  constructor(job: CompareJob) {
    this.#job = job;
    this.#a = openSide(job.a);
    this.#b = openSide(job.b);
    this.#stepBytes = Math.min(this.#a.segmentSize, this.#b.segmentSize);
    this.#claimBytes = Math.max(this.#a.segmentSize, this.#b.segmentSize);
    this.#splitA = new PageSplitter(this.#a.pageSize, job.pageSize, this.#stepBytes);
    this.#splitB = new PageSplitter(this.#b.pageSize, job.pageSize, this.#stepBytes);
    this.#sameChunks = haveSameSegments(this.#a, this.#b)
      ? new SameChunks(this.#stepBytes / job.pageSize, this.#stepBytes)
      : undefined;
    this.#changes = new Uint8Array(this.#stepBytes / job.pageSize);
    this.#stats = statsOf(job.control, job.worker);
    this.#counts = new Float64Array(job.ranges.length * CHANGE_COUNT);
    this.#heat = new Float64Array(job.heatCells);
    this.#runs = new Float64Array(job.runsMax * RUN_NUMBERS);
  }

  run(): CompareWorkerResult {
    for (let claim = this.#claim(); claim !== undefined; claim = this.#claim()) this.#compare(claim);
    return {
      counts: this.#counts,
      runs: this.#runs.slice(0, this.#runCount * RUN_NUMBERS),
      cutAt: this.#cutAt,
      heat: this.#heat,
      absentPages: this.#absentPages,
    };
  }

  #claim(): Claim | undefined {
    const { words } = this.#job.control;
    if (isAborted(this.#job.control)) throw new Aborted();
    lock(words, WORD_CLAIM_LOCK, WORD_ABORT);
    try {
      return this.#next();
    } finally {
      unlock(words, WORD_CLAIM_LOCK);
    }
  }

  /** NUMBER_NEXT_SEGMENT counts the ranges, NUMBER_INPUT_OFFSET the bytes of the range that are claimed. */
  #next(): Claim | undefined {
    const { numbers } = this.#job.control;
    for (let number = numbers[NUMBER_NEXT_SEGMENT]!; number < this.#job.ranges.length; number++) {
      const { regionA, regionB, from, to } = this.#job.ranges[number]!;
      const start = from + numbers[NUMBER_INPUT_OFFSET]!;
      const notZero = Math.min(this.#a.skipZeros(regionA, start, to), this.#b.skipZeros(regionB, start, to));
      const { pageSize } = this.#job;
      const claimFrom = notZero === to ? to : start + Math.floor((notZero - start) / pageSize) * pageSize;
      this.#count(number, CHANGE_BOTH_ZERO, claimFrom - start);
      if (claimFrom < to) {
        const claimTo = Math.min(to, (Math.floor(claimFrom / this.#claimBytes) + 1) * this.#claimBytes);
        numbers[NUMBER_NEXT_SEGMENT] = number;
        numbers[NUMBER_INPUT_OFFSET] = claimTo - from;
        return { range: number, from: claimFrom, to: claimTo };
      }
      numbers[NUMBER_INPUT_OFFSET] = 0;
    }
    numbers[NUMBER_NEXT_SEGMENT] = this.#job.ranges.length;
    return undefined;
  }

  #count(range: number, change: number, bytes: number): void {
    this.#counts[range * CHANGE_COUNT + change]! += bytes / this.#job.pageSize;
    this.#stats[STAT_DONE_BYTES]! += bytes;
  }

  #compare({ range, from, to }: Claim): void {
    const { regionA, regionB } = this.#job.ranges[range]!;
    for (let at = from; at < to; ) {
      const end = Math.min(to, (Math.floor(at / this.#stepBytes) + 1) * this.#stepBytes);
      const a = this.#a.find(regionA, at);
      const b = this.#b.find(regionB, at);
      if (a.storedAs !== undefined && a.storedAs === b.storedAs) this.#takeSame(range, at, end, a);
      else if (this.#findSameChunks(a, b)) this.#takePartly(range, at, end, a, b);
      else this.#takeStep(range, at, end, a.read(), b.read());
      at = end;
      this.#stats[STAT_IMAGE_BYTES] = this.#a.readBytes + this.#b.readBytes;
    }
  }

  /** Only how many of the pages are zero remains to be told. */
  #takeSame(range: number, from: number, to: number, found: FoundSegment): void {
    const { pageSize, segmentSize } = this.#a;
    const first = (from % segmentSize) / pageSize;
    const states = found.states().subarray(first, first + (to - from) / pageSize);
    const absentPages = countState(states, STATE_ABSENT);
    const zeroPages = countState(states, STATE_ZERO) + absentPages;
    this.#absentPages.a += absentPages;
    this.#absentPages.b += absentPages;
    this.#count(range, CHANGE_BOTH_ZERO, zeroPages * pageSize);
    this.#count(range, CHANGE_SAME, to - from - zeroPages * pageSize);
  }

  /** Only of two images with the same pages and segments: then a segment is asked for once. */
  #findSameChunks(a: FoundSegment, b: FoundSegment): boolean {
    if (this.#sameChunks === undefined) return false;
    const chunksA = a.chunks();
    const chunksB = chunksA && b.chunks();
    if (chunksA === undefined || chunksB === undefined) return false;
    return this.#sameChunks.find(a.states(), chunksA, chunksB);
  }

  /** What the two images store in the same bytes is not decoded. */
  #takePartly(range: number, from: number, to: number, a: FoundSegment, b: FoundSegment): void {
    const { wanted } = this.#sameChunks!;
    this.#takeStep(range, from, to, a.read(wanted), b.read(wanted), this.#sameChunks);
  }

  #takeStep(
    range: number,
    from: number,
    to: number,
    wholeA: SegmentParts,
    wholeB: SegmentParts,
    sameChunks?: SameChunks,
  ): void {
    const { pageSize } = this.#job;
    const a = this.#splitA.split(sliceParts(wholeA, from % this.#a.segmentSize, to - from, this.#a.pageSize));
    const b = this.#splitB.split(sliceParts(wholeB, from % this.#b.segmentSize, to - from, this.#b.pageSize));
    this.#absentPages.a += countState(a.states, STATE_ABSENT);
    this.#absentPages.b += countState(b.states, STATE_ABSENT);
    const pages = (to - from) / pageSize;
    const counts = this.#stepCounts;
    native.compareSegments(
      a.states,
      pages,
      pageSize,
      a.data,
      a.words,
      b.states,
      pages,
      pageSize,
      b.data,
      b.words,
      this.#changes,
      counts,
    );
    const first = (from % this.#a.segmentSize) / pageSize;
    sameChunks?.correct(first, a.states, this.#changes, counts);
    for (let change = 0; change < CHANGE_COUNT; change++) this.#count(range, change, counts[change]! * pageSize);
    if (counts[CHANGE_CHANGED]! + counts[CHANGE_BECAME_ZERO]! + counts[CHANGE_WAS_ZERO]! > 0)
      this.#noteRuns(range, from, pages);
  }

  #noteRuns(range: number, from: number, pages: number): void {
    const { pageSize } = this.#job;
    const changes = this.#changes;
    for (let page = 0; page < pages; ) {
      const change = changes[page]!;
      let end = page + 1;
      while (end < pages && changes[end] === change) end++;
      if (change >= CHANGE_CHANGED) this.#noteRun(range, from + page * pageSize, (end - page) * pageSize, change);
      page = end;
    }
  }

  #noteRun(range: number, from: number, length: number, change: number): void {
    const { ranges, heatCells, heatBytes, pageSize, runsMax } = this.#job;
    const heatFrom = ranges[range]!.heatFrom + from - ranges[range]!.from;
    addHeat(this.#heat, heatFrom, length, heatCells, heatBytes, pageSize);
    const runs = this.#runs;
    const last = (this.#runCount - 1) * RUN_NUMBERS;
    const goesOn =
      last >= 0 && runs[last] === range && runs[last + 3] === change && runs[last + 1]! + runs[last + 2]! === from;
    if (goesOn && this.#cutAt === undefined) {
      runs[last + 2]! += length;
    } else if (this.#runCount < runsMax) {
      runs.set([range, from, length, change], this.#runCount * RUN_NUMBERS);
      this.#runCount++;
    } else {
      this.#cutAt ??= [range, from];
    }
  }
}

function countState(states: Uint8Array, wanted: number): number {
  let count = 0;
  for (const state of states) if (state === wanted) count++;
  return count;
}

function haveSameSegments(a: MemorySide, b: MemorySide): boolean {
  return a.pageSize === b.pageSize && a.segmentSize === b.segmentSize;
}

/** Adds a run of bytes to the cells that it lies in, in pages. */
export function addHeat(
  heat: Float64Array,
  from: number,
  length: number,
  cells: number,
  totalBytes: number,
  pageSize: number,
): void {
  const to = from + length;
  let at = from;
  for (let cell = Math.min(cells - 1, Math.floor((from / totalBytes) * cells)); at < to; cell++) {
    const end = cell >= cells - 1 ? to : Math.min(to, ((cell + 1) / cells) * totalBytes);
    if (end <= at) continue;
    heat[Math.min(cell, cells - 1)]! += (end - at) / pageSize;
    at = end;
  }
}
