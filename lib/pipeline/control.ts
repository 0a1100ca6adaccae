/**
 * The shared memory through which the threads of one save, load or verify work together.
 *
 * `words` are atomics (locks, flags); `numbers` are plain doubles, each written only by the holder of the lock named
 * beside it; `stats` are doubles of which each worker writes its own row and the main thread reads all (for progress
 * only). Page data never passes through here.
 */
import type { PacerShared } from './pacer.js';

export const WORD_ABORT = 0;
/** Guards the claiming of work, and the input where that is a stream. */
export const WORD_CLAIM_LOCK = 1;
/** Guards the commit line, and the output where that is a stream. */
export const WORD_COMMIT_LOCK = 2;
/** Sequence number whose turn it is to commit. */
export const WORD_TURN = 3;
/** Counts the records of an image with overriding records that their announcers have written. */
export const WORD_WRITTEN = 4;
/** Of a save that looks for duplicates (duplicates.ts): whose turn it is to ask the table, and what guards that. */
export const WORD_DUPLICATES_TURN = 5;
export const WORD_DUPLICATES_LOCK = 6;
/** Of a save of an encrypted image: seal numbers that are taken. */
export const WORD_SEAL_NUMBERS = 7;
/** Of a walk through an image with overriding records: each guards the segments whose number it is the remainder of. */
export const WORD_SEGMENT_LOCKS = 16;
export const WORD_SEGMENT_LOCKS_COUNT = 64;
const WORD_COUNT = WORD_SEGMENT_LOCKS + WORD_SEGMENT_LOCKS_COUNT;

/** Under the claim lock. */
export const NUMBER_NEXT_SEGMENT = 0;
export const NUMBER_NEXT_SEQUENCE = 1;
export const NUMBER_INPUT_OFFSET = 2;
export const NUMBER_INPUT_CHAIN = 3;
export const NUMBER_INPUT_PREVIOUS_SEGMENT = 4;
export const NUMBER_INPUT_RECORDS = 5;
export const NUMBER_INPUT_STATE = 6;
export const NUMBER_INPUT_BLOCK = 7;
/** Size of an open-ended last region, once the end manifest has told it; 0 before. */
export const NUMBER_LAST_REGION_BYTES = 20;
/** Of the attachment whose parts a walk is among: its number plus one (0: none, -1: not known after damage) and its next part. */
export const NUMBER_INPUT_ATTACHMENT = 21;
export const NUMBER_INPUT_ATTACHMENT_PART = 22;
/** Of a walk through a differential image: segments that a gap between two records still holds, as a range. */
export const NUMBER_INPUT_GAP_NEXT = 23;
export const NUMBER_INPUT_GAP_END = 24;
/** 1: the prefix that ends the gap is read already and kept. */
export const NUMBER_INPUT_PREFIX_HELD = 25;
/** Of a load that takes zero memory first: the segment before which that is claimed. */
export const NUMBER_ZEROS_CLAIMED_TO = 28;
/** Under the commit lock. */
export const NUMBER_OUTPUT_OFFSET = 8;
export const NUMBER_OUTPUT_CHAIN = 9;
export const NUMBER_OUTPUT_PREVIOUS_SEGMENT = 10;
export const NUMBER_OUTPUT_RECORDS = 11;
export const NUMBER_OUTPUT_BLOCK = 12;
export const NUMBER_PAGES_DATA = 14;
export const NUMBER_PAGES_UNIFORM = 15;
export const NUMBER_CHUNKS = 16;
export const NUMBER_CHUNKS_STORED = 17;
export const NUMBER_CHUNKS_RAW = 18;
export const NUMBER_INDEX_BYTES = 19;
/** Zero pages that stand in a record, which they do in a differential image where the base has something else. */
export const NUMBER_PAGES_ZERO = 26;
export const NUMBER_PAGES_ABSENT = 27;
/** Under the claim lock. Of a walk: the number of segments, once all of them are claimed that have no record. */
export const NUMBER_INPUT_SEGMENTS_END = 29;
export const NUMBER_PAGES_REFERENCE = 30;
const NUMBER_COUNT = 32;

export const STAT_DONE_BYTES = 0;
export const STAT_IMAGE_BYTES = 1;
export const STAT_READ_BYTES = 2;
export const STAT_HOLE_BYTES = 3;
export const STAT_DATA_BYTES = 4;
export const STAT_CHUNKS = 5;
/** Of what a load has brought back: pages whose contents are not known. */
export const STAT_ABSENT_PAGES = 6;
export const STAT_COUNT = 8;

export interface SharedControl {
  readonly words: Int32Array;
  readonly numbers: Float64Array;
  readonly stats: Float64Array;
  /** The ceiling on what is written a second; undefined: there is none. */
  readonly pacer?: PacerShared | undefined;
}

export function createControl(workers: number, pacer?: PacerShared | undefined): SharedControl {
  return {
    pacer,
    words: new Int32Array(new SharedArrayBuffer(WORD_COUNT * 4)),
    numbers: new Float64Array(new SharedArrayBuffer(NUMBER_COUNT * 8)),
    stats: new Float64Array(new SharedArrayBuffer(workers * STAT_COUNT * 8)),
  };
}

/** The row of one worker. */
export function statsOf(control: SharedControl, worker: number): Float64Array {
  return control.stats.subarray(worker * STAT_COUNT, (worker + 1) * STAT_COUNT);
}

export function sumStat(control: SharedControl, stat: number): number {
  let sum = 0;
  for (let at = stat; at < control.stats.length; at += STAT_COUNT) sum += control.stats[at]!;
  return sum;
}

export function abort(control: SharedControl): void {
  Atomics.store(control.words, WORD_ABORT, 1);
  for (let word = 0; word < control.words.length; word++) Atomics.notify(control.words, word);
}

/**
 * A seal number (SPEC.md, "Encryption") that no other record of the image that is being written has: with it, a nonce is used once.
 * All threads take theirs from the one counter; nothing gives one back.
 */
export function takeSealNumber(control: SharedControl): number {
  const number = Atomics.add(control.words, WORD_SEAL_NUMBERS, 1);
  // Never: 2^31 records of 1 MiB and more are 2 PiB.
  if (number < 0) throw new Error('no seal numbers are left');
  return number;
}

export function isAborted(control: SharedControl): boolean {
  return Atomics.load(control.words, WORD_ABORT) !== 0;
}
