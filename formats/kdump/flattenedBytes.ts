/** Reads a flattened dump through its index (flatIndex.ts). Each thread has one; it holds one block of each run. */
import { readAll } from '../foreignFile.js';
import type { DumpBytes } from './dumpBytes.js';
import { BLOCK_RECORDS, FLAT_FORMAT, RECORD_BYTES, RECORD_NUMBERS, RUN_NUMBERS } from './flatIndex.js';

/** The index of a flattened file: plain data, for other threads. */
export interface FlatRecords {
  readonly fd: number;
  readonly path: string;
  readonly spillFd: number;
  /** Of the dump. */
  readonly sizeBytes: number;
  /** Three numbers each (flatIndex.ts, RUN_NUMBERS), oldest first. */
  readonly runs: Float64Array;
  readonly fences: Float64Array;
}

/** Bytes of the dump that lie together in the file, or that no record has (fileOffset -1). */
interface Piece {
  fileOffset: number;
  bytes: number;
}

export class FlattenedBytes implements DumpBytes {
  readonly format = FLAT_FORMAT;
  readonly path: string;
  readonly sizeBytes: number;
  readonly #records: FlatRecords;
  readonly #runs: FlatRun[] = [];

  constructor(records: FlatRecords) {
    this.#records = records;
    this.path = records.path;
    this.sizeBytes = records.sizeBytes;
    for (let run = 0; run < records.runs.length / RUN_NUMBERS; run++) this.#runs.push(new FlatRun(records, run));
  }

  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const { fileOffset, bytes } = this.#pieceAt(offset + done);
      const piece = into.subarray(done, Math.min(into.length, done + bytes));
      if (fileOffset < 0) piece.fill(0);
      else readAll(this.#records, fileOffset, piece);
      done += piece.length;
    }
  }

  fileOffset(offset: number): number {
    return Math.max(0, this.#pieceAt(offset).fileOffset);
  }

  #pieceAt(offset: number): Piece {
    const piece = { fileOffset: -1, bytes: Number.POSITIVE_INFINITY };
    for (let run = this.#runs.length - 1; run >= 0 && piece.fileOffset < 0; run--)
      this.#runs[run]!.narrow(offset, piece);
    return piece;
  }
}

class FlatRun {
  readonly #records: FlatRecords;
  readonly #firstRecord: number;
  readonly #count: number;
  readonly #firstFence: number;
  readonly #fenceCount: number;
  #block: Float64Array | undefined;
  #blockNumber = -1;

  constructor(records: FlatRecords, run: number) {
    const at = run * RUN_NUMBERS;
    this.#records = records;
    this.#firstRecord = records.runs[at]!;
    this.#count = records.runs[at + 1]!;
    this.#firstFence = records.runs[at + 2]!;
    this.#fenceCount = Math.ceil(this.#count / BLOCK_RECORDS);
  }

  /** Finds the record that has a byte of the dump; if there is none, `piece` ends where the next record begins. */
  narrow(offset: number, piece: Piece): void {
    const block = lastAtOrBefore(offset, this.#fenceCount, (i) => this.#records.fences[this.#firstFence + i]!);
    const records = this.#load(Math.max(block, 0));
    const count = records.length / RECORD_NUMBERS;
    const found = block < 0 ? -1 : lastAtOrBefore(offset, count, (i) => records[i * RECORD_NUMBERS]!);
    if (found >= 0) {
      const at = found * RECORD_NUMBERS;
      const skip = offset - records[at]!;
      if (skip < records[at + 2]!) {
        piece.fileOffset = records[at + 1]! + skip;
        piece.bytes = Math.min(piece.bytes, records[at + 2]! - skip);
        return;
      }
    }
    piece.bytes = Math.min(piece.bytes, this.#startOf(Math.max(block, 0), found + 1) - offset);
  }

  /** Where a record of a block begins; the one behind its last is the first of the next block. */
  #startOf(block: number, record: number): number {
    const records = this.#load(block);
    if (record * RECORD_NUMBERS < records.length) return records[record * RECORD_NUMBERS]!;
    if (block + 1 < this.#fenceCount) return this.#records.fences[this.#firstFence + block + 1]!;
    return Number.POSITIVE_INFINITY;
  }

  #load(block: number): Float64Array {
    if (this.#block !== undefined && block === this.#blockNumber) return this.#block;
    const first = block * BLOCK_RECORDS;
    const records = new Float64Array(Math.min(BLOCK_RECORDS, this.#count - first) * RECORD_NUMBERS);
    const { spillFd, path } = this.#records;
    readAll(
      { fd: spillFd, path: `the index of ${path}` },
      (this.#firstRecord + first) * RECORD_BYTES,
      new Uint8Array(records.buffer),
    );
    this.#block = records;
    this.#blockNumber = block;
    return records;
  }
}

/** The last of `count` rising numbers that is not above `value`, or -1. */
function lastAtOrBefore(value: number, count: number, numberAt: (i: number) => number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numberAt(middle) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
