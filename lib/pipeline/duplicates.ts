/**
 * The search for duplicates in a save: a data page of which an earlier one has the same bytes is stored as a reference.
 *
 * Between scanning a segment and compressing it, a worker asks the table of the pages that are stored already. All do so in
 * the order of their claims, each in its turn, and so the answers do not depend on the number of threads; that takes
 * microseconds. What the table proposes is read again from the source and compared, which each does by itself. A page
 * that turns out to differ is stored, and is not in the table, whose pages are all stored ones: no reference is to a
 * reference.
 *
 * A worker must not wait in here with records of its own that have a place and are not taken: another may wait for
 * the slot of one before its own turn comes.
 */
import type { Geometry } from '../../formats/vmsnap/geometry.js';
import {
  type DuplicateCheck,
  native,
  SCAN_TRUNCATED,
  type ScanOutput,
  TAKEN_DATA_PAGES,
  TAKEN_FAILED_PAGE,
  TAKEN_LENGTH,
  TAKEN_REFERENCES,
} from '../../native/binding.js';
import { errnoError } from '../../native/errors.js';
import { type SharedControl, WORD_ABORT, WORD_DUPLICATES_LOCK, WORD_DUPLICATES_TURN } from './control.js';
import type { ExtentsDescription } from './feeds/sourceDescription.js';
import { sourceTruncated } from './feeds/sourceFiles.js';
import { Aborted, lock, unlock } from './mutex.js';

/**
 * Pages that the table holds. Part of what decides the bytes of an image (SPEC.md, "References"): it must never depend on the
 * machine. 16 MiB, which are 8 GiB of different data pages.
 */
const TABLE_ENTRIES = 2 ** 21;
export const DUPLICATES_BYTES = TABLE_ENTRIES * 8;
/** Claims that may be beyond the one whose turn it is. */
const RING_SLOTS = 4096;

export interface DuplicatesShared {
  readonly table: BigUint64Array;
  /** Of each claim in the ring: 1 once it is through. */
  readonly done: Uint8Array;
}

/** The table of a save that is done. A process that saves often would else hold many of them, until they are collected. */
let spareTable: BigUint64Array | undefined;

export function createDuplicatesShared(): DuplicatesShared {
  const table = spareTable?.fill(0n) ?? new BigUint64Array(new SharedArrayBuffer(TABLE_ENTRIES * 8));
  spareTable = undefined;
  return { table, done: new Uint8Array(new SharedArrayBuffer(RING_SLOTS)) };
}

/** After a save whose threads are done with it. */
export function keepDuplicatesTable({ table }: DuplicatesShared): void {
  spareTable = table;
}

/** What is left of a segment's data pages. */
export interface TakenOut {
  readonly dataPages: number;
  readonly referencePages: number;
}

export class Duplicates {
  /** After {@link takeOut}: the global page numbers of the targets, in page order. */
  readonly targets: BigUint64Array;
  readonly #shared: DuplicatesShared;
  readonly #words: Int32Array;
  readonly #geometry: Geometry;
  readonly #source: ExtentsDescription;
  readonly #check: DuplicateCheck;
  readonly #report = new Float64Array(TAKEN_LENGTH);

  constructor(shared: DuplicatesShared, control: SharedControl, geometry: Geometry, source: ExtentsDescription) {
    this.#shared = shared;
    this.#words = control.words;
    this.#geometry = geometry;
    this.#source = source;
    this.targets = new BigUint64Array(geometry.pagesPerSegment);
    this.#check = new native.DuplicateCheck(regionRows(geometry, source), geometry.pageSize);
  }

  /** A claim that has no data pages for the table. Each claim must come to one of the two. */
  pass(sequence: number, takePlaced: () => void): void {
    while (sequence - this.#turn() >= RING_SLOTS) this.#wait(takePlaced);
    this.#leave(sequence);
  }

  /** Turns duplicates among the data pages of a scanned segment into references, in place. */
  takeOut(sequence: number, segment: number, pageCount: number, output: ScanOutput, takePlaced: () => void): TakenOut {
    const { states, data, hashes } = output;
    const firstPage = segment * this.#geometry.pagesPerSegment;
    while (this.#turn() !== sequence) this.#wait(takePlaced);
    native.proposeDuplicates(this.#shared.table, states, pageCount, hashes!, firstPage, this.targets);
    this.#leave(sequence);
    const status = this.#check.takeOut(states, pageCount, data, firstPage, this.targets, this.#report);
    if (status !== 0) throw this.#failed(status, this.#report[TAKEN_FAILED_PAGE]!);
    return { dataPages: this.#report[TAKEN_DATA_PAGES]!, referencePages: this.#report[TAKEN_REFERENCES]! };
  }

  #turn(): number {
    return Atomics.load(this.#words, WORD_DUPLICATES_TURN);
  }

  #wait(takePlaced: () => void): void {
    if (Atomics.load(this.#words, WORD_ABORT) !== 0) throw new Aborted();
    const turn = this.#turn();
    takePlaced();
    Atomics.wait(this.#words, WORD_DUPLICATES_TURN, turn, 10);
  }

  /** Passes the turn on to the first claim that is not through. */
  #leave(sequence: number): void {
    const { done } = this.#shared;
    lock(this.#words, WORD_DUPLICATES_LOCK, WORD_ABORT);
    try {
      done[sequence % RING_SLOTS] = 1;
      let turn = this.#turn();
      for (; done[turn % RING_SLOTS] === 1; turn++) done[turn % RING_SLOTS] = 0;
      Atomics.store(this.#words, WORD_DUPLICATES_TURN, turn);
    } finally {
      unlock(this.#words, WORD_DUPLICATES_LOCK);
    }
    Atomics.notify(this.#words, WORD_DUPLICATES_TURN);
  }

  #failed(status: number, failedPage: number): Error {
    const { pageSize, pagesPerSegment } = this.#geometry;
    const segment = Math.floor(failedPage / pagesPerSegment);
    const { region, regionOffset } = this.#geometry.placeOf(segment);
    const { path, fileOffset } = this.#source.regions[region]!;
    const offset = fileOffset + regionOffset + (failedPage - segment * pagesPerSegment) * pageSize;
    return status === SCAN_TRUNCATED ? sourceTruncated(path, offset) : errnoError(status, 'read', path, offset);
  }
}

function regionRows(geometry: Geometry, source: ExtentsDescription): Float64Array {
  const rows = geometry.regions.flatMap(({ firstSegment, sizeBytes }, i) => {
    const { fd, fileOffset } = source.regions[i]!;
    return [firstSegment * geometry.pagesPerSegment, sizeBytes / geometry.pageSize, fd, fileOffset];
  });
  return Float64Array.from(rows);
}
