/**
 * What a walk keeps of each segment of an image with overriding records: which of the records that it has met is the last,
 * and what the one that was taken so far has counted, so that the next can take its place.
 *
 * Several threads may be at records of one segment at a time. Whoever has decoded one takes it under the segment's lock, and
 * only if no later one has been claimed: so the later one always finds a record that is either taken whole or not at all,
 * and what is written last is what stands last in the image.
 *
 * 68 bytes a segment, of which the system takes only what is touched: 17 MiB for 1 TiB in segments of 4 MiB. SPEC.md limits
 * the segments of such an image, so it is 272 MiB at most.
 */
import { type SharedControl, WORD_ABORT, WORD_SEGMENT_LOCKS, WORD_SEGMENT_LOCKS_COUNT } from './control.js';
import { lock, unlock } from './mutex.js';
import type { SegmentTotals } from './readJob.js';

/** What a record counts, once it is taken. */
export interface TakenRecord {
  readonly totals: SegmentTotals;
  /** Data pages, with those of the bases, and pages that are absent, of what is wanted of the memory. */
  readonly dataPages: number;
  readonly absentPages: number;
  /** What its leaves add to the region's sum: low and high word. */
  readonly sum: readonly [bigint, bigint];
}

/** All of it shared memory. */
export interface RecordLedgerShared {
  /** Sequence number of the last record that was claimed, plus one; 0: none. */
  readonly claimed: Int32Array;
  readonly counts: Uint32Array;
  readonly sums: BigUint64Array;
}

const COUNT_NUMBERS = 12;
const AT_TAKEN = 0;
const AT_DATA_PAGES = 1;
const AT_ABSENT_PAGES = 2;
const AT_TOTALS = 3;
const TOTALS_KEYS: readonly (keyof SegmentTotals)[] = [
  'dataPages',
  'uniformPages',
  'referencePages',
  'sameAsBasePages',
  'absentPages',
  'zeroPages',
  'chunks',
  'storedBytes',
  'rawChunks',
];

export function createRecordLedger(segmentCount: number): RecordLedgerShared {
  return {
    claimed: new Int32Array(new SharedArrayBuffer(segmentCount * 4)),
    counts: new Uint32Array(new SharedArrayBuffer(segmentCount * COUNT_NUMBERS * 4)),
    sums: new BigUint64Array(new SharedArrayBuffer(segmentCount * 16)),
  };
}

export class RecordLedger {
  readonly #shared: RecordLedgerShared;
  readonly #words: Int32Array;

  constructor(shared: RecordLedgerShared, control: SharedControl) {
    this.#shared = shared;
    this.#words = control.words;
  }

  /** Under the claim lock. */
  claim(segment: number, sequence: number): void {
    Atomics.store(this.#shared.claimed, segment, markOf(sequence));
  }

  /** The first segment in [from, end) without a record, or with one, as far as the walk has come; `end` if there is none. */
  next(from: number, end: number, withRecord: boolean): number {
    let segment = from;
    while (segment < end && (Atomics.load(this.#shared.claimed, segment) !== 0) !== withRecord) segment++;
    return segment;
  }

  /**
   * Takes a record by `take`, which is told what the segment's record so far has counted, and says what this one does. Does
   * nothing if a later record of the segment has been claimed.
   */
  take(segment: number, sequence: number, take: (earlier: TakenRecord | undefined) => TakenRecord): void {
    const word = WORD_SEGMENT_LOCKS + (segment % WORD_SEGMENT_LOCKS_COUNT);
    lock(this.#words, word, WORD_ABORT);
    try {
      if (Atomics.load(this.#shared.claimed, segment) !== markOf(sequence)) return;
      this.#put(segment, take(this.#takenOf(segment)));
    } finally {
      unlock(this.#words, word);
    }
  }

  #takenOf(segment: number): TakenRecord | undefined {
    const { counts, sums } = this.#shared;
    const at = segment * COUNT_NUMBERS;
    if (counts[at + AT_TAKEN] === 0) return undefined;
    const totals = Object.fromEntries(TOTALS_KEYS.map((key, i) => [key, counts[at + AT_TOTALS + i]!]));
    return {
      totals: totals as unknown as SegmentTotals,
      dataPages: counts[at + AT_DATA_PAGES]!,
      absentPages: counts[at + AT_ABSENT_PAGES]!,
      sum: [sums[segment * 2]!, sums[segment * 2 + 1]!],
    };
  }

  #put(segment: number, { totals, dataPages, absentPages, sum }: TakenRecord): void {
    const { counts, sums } = this.#shared;
    const at = segment * COUNT_NUMBERS;
    counts[at + AT_TAKEN] = 1;
    counts[at + AT_DATA_PAGES] = dataPages;
    counts[at + AT_ABSENT_PAGES] = absentPages;
    for (const [i, key] of TOTALS_KEYS.entries()) counts[at + AT_TOTALS + i] = totals[key];
    sums[segment * 2] = sum[0];
    sums[segment * 2 + 1] = sum[1];
  }
}

/** Only whether two are equal matters, so that it may wrap. */
function markOf(sequence: number): number {
  return (sequence % 0x7fff_ffff) + 1;
}
