/**
 * A feed is where a save gets its segments from, one for each kind of source and one a worker: it claims a segment, which
 * all workers do in turn under one lock, and scans what it has claimed, which each does by itself.
 */
import type { Geometry } from '../../../formats/vmsnap/geometry.js';
import { DIGEST_BYTES } from '../../../formats/vmsnap/layout.js';
import { REPORT_LENGTH, type ScanOutput, type SegmentScanner } from '../../../native/binding.js';
import type { ChainEntries, ChainIndex } from '../chainIndex.js';
import {
  NUMBER_NEXT_SEGMENT,
  NUMBER_NEXT_SEQUENCE,
  type SharedControl,
  STAT_DONE_BYTES,
  STAT_HOLE_BYTES,
} from '../control.js';

/** A segment that a worker is to save. */
export interface Claim {
  /** Records stand in the image in the order of these. */
  readonly sequence: number;
  readonly segment: number;
  readonly region: number;
  readonly regionOffset: number;
  readonly sizeBytes: number;
  /** What the images have of the segment that it is read from, or compared with. */
  readonly entries: ChainEntries | undefined;
  /** Of a segment that has been claimed before: the sequence of its last claim, whose record this one's takes the place of. */
  readonly earlierSequence?: number | undefined;
}

export interface Feed {
  /** The arrays that {@link scan} fills. */
  readonly output: ScanOutput;
  /**
   * The next claim, or undefined: there are no more. Under the claim lock, so it must be quick, unless the source can be
   * read by one thread at a time only.
   */
  claim(): Claim | undefined;
  /** With a device: hands the segment to it, if it can look at it. The slot is free. */
  submitAhead(claim: Claim, slot: number): void;
  /**
   * Fills the output with the claim's pages. `slot`: where it was submitted, if there is a device.
   * @returns how many pages have the state "absent"; they are none of the zero pages of the report.
   */
  scan(claim: Claim, slot: number): number;
}

/** What a feed works with. */
export interface FeedContext {
  readonly control: SharedControl;
  readonly geometry: Geometry;
  readonly scanner: SegmentScanner;
  /** The worker's own row. */
  readonly stats: Float64Array;
  /** Claims that may be with a device at a time; 0: there is no device. */
  readonly deviceSlots: number;
  readonly claims: ClaimNumbers;
  /** Data pages are to be hashed, for the search for duplicates. */
  readonly withHashes: boolean;
  /** Undefined: segments are claimed in order, and once. */
  readonly stored?: StoredSegments | undefined;
}

/** Reads back what this save has stored of a segment. */
export interface StoredSegments {
  /**
   * Puts what an earlier claim of the segment has stored of its pages into `into`, which is zero there, where `isThere` has 0
   * for a page, and sets that to 1, but for pages that are absent.
   */
  fillIn(claim: Claim, earlierSequence: number, into: Uint8Array, isThere: Uint8Array): void;
  /** What an earlier claim of the segment has stored counts no more, and nothing of it is wanted. */
  takeOut(claim: Claim, earlierSequence: number): void;
}

export function createScanOutput(geometry: Geometry, withHashes = false): ScanOutput {
  const { segmentSize, pagesPerSegment: pages } = geometry;
  return {
    data: new Uint8Array(segmentSize),
    states: new Uint8Array(pages),
    words: new BigUint64Array(pages),
    leaves: new Uint8Array(DIGEST_BYTES * geometry.leavesPerSegment),
    report: new Float64Array(REPORT_LENGTH),
    hashes: withHashes ? new BigUint64Array(pages) : undefined,
  };
}

/** Gives claims their numbers. Under the claim lock, all of it. */
export class ClaimNumbers {
  readonly #numbers: Float64Array;
  readonly #stats: Float64Array;
  readonly #geometry: Geometry;
  /** Of the images that the memory comes from or is compared with. */
  readonly index: ChainIndex | undefined;

  constructor(control: SharedControl, geometry: Geometry, stats: Float64Array, index: ChainIndex | undefined) {
    this.#numbers = control.numbers;
    this.#stats = stats;
    this.#geometry = geometry;
    this.index = index;
  }

  /** The first segment that nobody has claimed or passed over, where they are claimed in order. */
  get nextSegment(): number {
    return this.#numbers[NUMBER_NEXT_SEGMENT]!;
  }

  set nextSegment(segment: number) {
    this.#numbers[NUMBER_NEXT_SEGMENT] = segment;
  }

  take(segment: number): Claim {
    const sequence = this.#numbers[NUMBER_NEXT_SEQUENCE]!;
    this.#numbers[NUMBER_NEXT_SEQUENCE] = sequence + 1;
    return { sequence, segment, ...this.#geometry.placeOf(segment), entries: this.index?.entriesOf(segment) };
  }

  /** Takes the last claim back: there was nothing to save. */
  takeBack(claim: Claim): void {
    this.#numbers[NUMBER_NEXT_SEQUENCE] = claim.sequence;
  }

  /** Counts segments that are zero as done; they may reach over several regions. */
  passOver(segment: number, end: number): void {
    const first = this.#geometry.placeOf(segment);
    const last = this.#geometry.placeOf(end - 1);
    let bytes = last.regionOffset + last.sizeBytes - first.regionOffset;
    for (let region = first.region; region < last.region; region++) bytes += this.#geometry.regions[region]!.sizeBytes;
    this.#stats[STAT_DONE_BYTES]! += bytes;
    this.#stats[STAT_HOLE_BYTES]! += bytes;
  }
}
