/**
 * The index of an image whose segments may have several records (SPEC.md, "Overriding records"), while it is written.
 *
 * Such records come in any order, so no index block is complete before the end: the entries of all segments are held in
 * shared memory until then, and with each what the record counted, because the next one of its segment takes its place.
 * 48 bytes a segment: 12 MiB for 1 TiB in segments of 4 MiB. The memory is taken by the system when it is touched, and
 * SPEC.md limits the segments, so it is 192 MiB at most.
 *
 * Contract: everything under the commit lock, or after all workers are done.
 */
import { decodeIndexEntry, encodeIndexEntry, type IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import { INDEX_BLOCK_ENTRIES, INDEX_ENTRY_BYTES } from '../../formats/vmsnap/layout.js';

/** What a record counts that its index entry does not say. */
export interface RecordCounts {
  readonly zeroPages: number;
  readonly chunks: number;
  readonly rawChunks: number;
}

const COUNT_NUMBERS = 4;
const AT_ZERO_PAGES = 0;
const AT_CHUNKS = 1;
const AT_RAW_CHUNKS = 2;
/** 1: the record that the entry names has been written. */
const AT_WRITTEN = 3;

const NO_ENTRIES = Buffer.alloc(INDEX_BLOCK_ENTRIES * INDEX_ENTRY_BYTES);

/** All of it shared memory. */
export interface OverridingIndexShared {
  readonly entries: Uint8Array;
  readonly counts: Int32Array;
}

export function createOverridingIndex(segmentCount: number): OverridingIndexShared {
  return {
    entries: new Uint8Array(new SharedArrayBuffer(segmentCount * INDEX_ENTRY_BYTES)),
    counts: new Int32Array(new SharedArrayBuffer(segmentCount * COUNT_NUMBERS * 4)),
  };
}

export class OverridingIndex {
  readonly #entries: Buffer;
  readonly #counts: Int32Array;

  constructor(shared: OverridingIndexShared) {
    this.#entries = Buffer.from(shared.entries.buffer);
    this.#counts = shared.counts;
  }

  /** Undefined: the segment has no record yet. */
  entryOf(segment: number): IndexEntry | undefined {
    const entry = decodeIndexEntry(this.#entries, segment, '', 0);
    return entry.offset === 0 ? undefined : entry;
  }

  countsOf(segment: number): RecordCounts {
    const at = segment * COUNT_NUMBERS;
    return {
      zeroPages: this.#counts[at + AT_ZERO_PAGES]!,
      chunks: this.#counts[at + AT_CHUNKS]!,
      rawChunks: this.#counts[at + AT_RAW_CHUNKS]!,
    };
  }

  /** The segment's record is this one now; its bytes may not be written yet. */
  put(segment: number, entry: IndexEntry, counts: RecordCounts): void {
    encodeIndexEntry(entry, this.#entries, segment);
    const at = segment * COUNT_NUMBERS;
    this.#counts[at + AT_ZERO_PAGES] = counts.zeroPages;
    this.#counts[at + AT_CHUNKS] = counts.chunks;
    this.#counts[at + AT_RAW_CHUNKS] = counts.rawChunks;
    Atomics.store(this.#counts, at + AT_WRITTEN, 0);
  }

  /** The record at `offset` has been written; nothing changes where another has taken its place already. */
  setWritten(segment: number, offset: number): void {
    if (this.entryOf(segment)?.offset === offset) Atomics.store(this.#counts, segment * COUNT_NUMBERS + AT_WRITTEN, 1);
  }

  isWritten(segment: number): boolean {
    return Atomics.load(this.#counts, segment * COUNT_NUMBERS + AT_WRITTEN) === 1;
  }

  /** The entries of an index block, or undefined if none of its segments has a record. */
  block(number: number, entryCount: number): Buffer | undefined {
    const start = number * INDEX_BLOCK_ENTRIES * INDEX_ENTRY_BYTES;
    const entries = this.#entries.subarray(start, start + entryCount * INDEX_ENTRY_BYTES);
    return entries.equals(NO_ENTRIES.subarray(0, entries.length)) ? undefined : entries;
  }
}
