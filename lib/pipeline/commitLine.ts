/**
 * The commit line of a save: takes finished segments in segment order and gives each its place in the file.
 *
 * Workers finish in any order, but the image must not depend on the number of threads. So every claim has a sequence
 * number, and a finished segment is announced in a ring of slots. Whoever announces tries to become the committer (one
 * try-lock); the committer takes all slots that are next in order, whoever's they are, gives each its offset, chain and
 * prefix CRC, enters it into the index, and passes the lock on. Nobody waits for anybody else's write: each worker
 * writes its own records with pwrite once they have a place. Into a stream the committer writes them itself, in order.
 *
 * In an image with overriding records, claims are of any segments, in any order and repeatedly: the order of the claims is
 * that of the records, the last record of a segment counts, and the index is written at the end (overridingIndex.ts).
 *
 * Contract: one instance per thread over the same shared state; `announce` may be called from any worker; `finish` only
 * after all workers are done. Output buffers are shared memory owned by their worker until announced, and again once
 * their slot is PLACED.
 */
import { encodeCountedRecord } from '../../formats/vmsnap/countedRecord.js';
import { encodeIndexEntry, type IndexEntry, type IndexListEntry } from '../../formats/vmsnap/imageIndex.js';
import {
  INDEX_BLOCK_ENTRIES,
  INDEX_ENTRY_BYTES,
  KIND_INDEX_BLOCK,
  KIND_SEGMENT,
  MIB,
  OVERRIDING_SEGMENTS_MAX,
} from '../../formats/vmsnap/layout.js';
import { finishRecord, headBytes, recordBytes } from '../../formats/vmsnap/record.js';
import type { SealKeys } from '../../formats/vmsnap/seal.js';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError } from '../../native/errors.js';
import {
  NUMBER_CHUNKS,
  NUMBER_CHUNKS_RAW,
  NUMBER_CHUNKS_STORED,
  NUMBER_INDEX_BYTES,
  NUMBER_OUTPUT_BLOCK,
  NUMBER_OUTPUT_CHAIN,
  NUMBER_OUTPUT_OFFSET,
  NUMBER_OUTPUT_PREVIOUS_SEGMENT,
  NUMBER_OUTPUT_RECORDS,
  NUMBER_PAGES_ABSENT,
  NUMBER_PAGES_DATA,
  NUMBER_PAGES_REFERENCE,
  NUMBER_PAGES_UNIFORM,
  NUMBER_PAGES_ZERO,
  type SharedControl,
  takeSealNumber,
  WORD_ABORT,
  WORD_COMMIT_LOCK,
  WORD_TURN,
  WORD_WRITTEN,
} from './control.js';
import { Aborted, lock, tryLock, unlock } from './mutex.js';
import {
  createOverridingIndex,
  OverridingIndex,
  type OverridingIndexShared,
  type RecordCounts,
} from './overridingIndex.js';
import { Pacer } from './pacer.js';

/** Claims that may be under way at once; a worker that is further ahead waits. */
const SLOT_COUNT = 4096;
const SLOT_NUMBERS = 14;
const SLOT_EMPTY = 0;
const SLOT_READY = 1;
const SLOT_PLACED = 2;

const AT_SEGMENT = 0;
const AT_TABLES_BYTES = 1;
const AT_PAYLOAD_BYTES = 2;
const AT_PAYLOAD_CRC = 3;
const AT_DATA_PAGES = 4;
const AT_UNIFORM_PAGES = 5;
const AT_CHUNKS = 6;
const AT_RAW_CHUNKS = 7;
/** Which output buffer holds the record; -1: the segment has none. */
const AT_BUFFER = 8;
/** The answer: the record's offset in the file. */
const AT_OFFSET = 9;
const AT_SAME_AS_BASE_PAGES = 10;
const AT_ZERO_PAGES = 11;
const AT_ABSENT_PAGES = 12;
const AT_REFERENCE_PAGES = 13;

/** Write-back is started, and older output dropped from the page cache, in windows of this size. */
const WRITEBACK_WINDOW_BYTES = 32 * MIB;
/** Index blocks an image of unknown size may have: 1 PiB in segments of 4 MiB. */
const OPEN_ENDED_BLOCKS = 65_536;

export interface OutputDescription {
  readonly fd: number;
  readonly path: string;
  /** A pipe or the like: everything is written in order at the current position. */
  readonly isStream: boolean;
  readonly binding: bigint;
  readonly alignmentBytes: number;
  /** Of an encrypted image. */
  readonly keys?: SealKeys | undefined;
}

/** Passed to every thread; all of it shared memory or plain data. */
export interface CommitShared {
  readonly control: SharedControl;
  readonly output: OutputDescription;
  readonly slotStates: Int32Array;
  readonly slots: Float64Array;
  readonly indexBlock: Uint8Array;
  /** Instead of `indexBlock`, in an image with overriding records. */
  readonly overriding: OverridingIndexShared | undefined;
  /** Pairs of offset and prefix CRC, one for each index block. */
  readonly indexList: Float64Array;
  readonly buffers: readonly Uint8Array[];
}

/**
 * `blockCount` undefined: the size of the source is not known. `slotCount`: a small ring makes workers wait (tests).
 * `overridingSegments`: segments of an image with overriding records; undefined: it has none.
 */
export function createCommitShared(
  control: SharedControl,
  output: OutputDescription,
  blockCount: number | undefined,
  bufferCount: number,
  bufferBytes: number,
  slotCount = SLOT_COUNT,
  overridingSegments?: number | undefined,
): CommitShared {
  if (overridingSegments !== undefined && overridingSegments > OVERRIDING_SEGMENTS_MAX) {
    const message = `the memory has ${overridingSegments} segments; where segments may come twice, an image can hold ${OVERRIDING_SEGMENTS_MAX}`;
    throw new VmsnapError('USAGE', message, { hint: 'use larger segments (--segment-size)' });
  }
  return {
    control,
    output,
    slotStates: new Int32Array(new SharedArrayBuffer(slotCount * 4)),
    slots: new Float64Array(new SharedArrayBuffer(slotCount * SLOT_NUMBERS * 8)),
    indexBlock: new Uint8Array(new SharedArrayBuffer(INDEX_BLOCK_ENTRIES * INDEX_ENTRY_BYTES)),
    overriding: overridingSegments === undefined ? undefined : createOverridingIndex(overridingSegments),
    indexList: new Float64Array(new SharedArrayBuffer((blockCount ?? OPEN_ENDED_BLOCKS) * 16)),
    buffers: Array.from({ length: bufferCount }, () => new Uint8Array(new SharedArrayBuffer(bufferBytes))),
  };
}

export interface FinishedSegment {
  readonly segment: number;
  readonly tablesBytes: number;
  readonly payloadBytes: number;
  /** Of an encrypted image; else 0. */
  readonly payloadCrc: number;
  readonly dataPages: number;
  readonly uniformPages: number;
  /** Pages of STATE_REFERENCE; only in an image whose header has the feature. */
  readonly referencePages: number;
  readonly sameAsBasePages: number;
  readonly zeroPages: number;
  /** Pages of STATE_ABSENT; only in an image whose header has the feature. */
  readonly absentPages: number;
  readonly chunks: number;
  readonly rawChunks: number;
  readonly buffer: number;
}

export class CommitLine {
  readonly #shared: CommitShared;
  readonly #words: Int32Array;
  readonly #numbers: Float64Array;
  readonly #slotCount: number;
  readonly #indexBlock: Buffer;
  readonly #overriding: OverridingIndex | undefined;
  readonly #buffers: Buffer[];
  readonly #pacer: Pacer | undefined;
  /** Of the main thread under a ceiling on the write rate, which must not sleep: what it is to write at the next {@link flush}. */
  readonly #deferred: { readonly bytes: Uint8Array; readonly offset: number }[] | undefined;

  /** `defers`: this thread must not be blocked by a ceiling on the write rate, and calls {@link flush} after what it writes. */
  constructor(shared: CommitShared, defers = false) {
    this.#shared = shared;
    this.#pacer = Pacer.of(shared.control);
    this.#deferred = defers && this.#pacer !== undefined ? [] : undefined;
    this.#words = shared.control.words;
    this.#numbers = shared.control.numbers;
    this.#slotCount = shared.slotStates.length;
    this.#indexBlock = asBuffer(shared.indexBlock);
    this.#overriding = shared.overriding === undefined ? undefined : new OverridingIndex(shared.overriding);
    this.#buffers = shared.buffers.map(asBuffer);
  }

  /** Before any worker runs: the first record stands at `offset`, after a header with the CRC `chain`. */
  start(offset: number, chain: number): void {
    this.#numbers[NUMBER_OUTPUT_OFFSET] = offset;
    this.#numbers[NUMBER_OUTPUT_CHAIN] = chain;
    this.#numbers[NUMBER_OUTPUT_PREVIOUS_SEGMENT] = -1;
    this.#numbers[NUMBER_OUTPUT_BLOCK] = -1;
  }

  /** Announces a segment that gets no record. `takePlaced` as in {@link announce}. */
  announceNone(sequence: number, takePlaced: () => void): void {
    this.#claimSlot(sequence, takePlaced);
    const slot = sequence % this.#slotCount;
    this.#shared.slots[slot * SLOT_NUMBERS + AT_BUFFER] = -1;
    this.#publish(slot);
  }

  /**
   * Announces a record that stands finished, its prefix excepted, in an output buffer. While the ring is full it waits, and
   * calls `takePlaced`, which takes the caller's own slots that have got a place: two workers that each wait for a slot
   * which the other has not taken would wait for ever.
   */
  announce(sequence: number, finished: FinishedSegment, takePlaced: () => void): void {
    this.#claimSlot(sequence, takePlaced);
    const slot = sequence % this.#slotCount;
    const { slots } = this.#shared;
    const at = slot * SLOT_NUMBERS;
    slots[at + AT_SEGMENT] = finished.segment;
    slots[at + AT_TABLES_BYTES] = finished.tablesBytes;
    slots[at + AT_PAYLOAD_BYTES] = finished.payloadBytes;
    slots[at + AT_PAYLOAD_CRC] = finished.payloadCrc;
    slots[at + AT_DATA_PAGES] = finished.dataPages;
    slots[at + AT_UNIFORM_PAGES] = finished.uniformPages;
    slots[at + AT_REFERENCE_PAGES] = finished.referencePages;
    slots[at + AT_SAME_AS_BASE_PAGES] = finished.sameAsBasePages;
    slots[at + AT_ZERO_PAGES] = finished.zeroPages;
    slots[at + AT_ABSENT_PAGES] = finished.absentPages;
    slots[at + AT_CHUNKS] = finished.chunks;
    slots[at + AT_RAW_CHUNKS] = finished.rawChunks;
    slots[at + AT_BUFFER] = finished.buffer;
    this.#publish(slot);
  }

  /** The file offset of an announced record once it has one (-1: it is written already), else undefined. Frees the slot. */
  takePlace(sequence: number): number | undefined {
    const slot = sequence % this.#slotCount;
    if (Atomics.load(this.#shared.slotStates, slot) !== SLOT_PLACED) return undefined;
    const offset = this.#shared.slots[slot * SLOT_NUMBERS + AT_OFFSET]!;
    Atomics.store(this.#shared.slotStates, slot, SLOT_EMPTY);
    return offset;
  }

  /** Waits until {@link takePlace} has an answer. */
  waitForPlace(sequence: number): void {
    const slot = sequence % this.#slotCount;
    while (Atomics.load(this.#shared.slotStates, slot) === SLOT_READY) {
      if (Atomics.load(this.#words, WORD_ABORT) !== 0) throw new Aborted();
      Atomics.wait(this.#shared.slotStates, slot, SLOT_READY, 100);
    }
  }

  /**
   * Of an image with overriding records: the record that counts for a segment so far, of those that have a place; undefined
   * if there is none. Its bytes may not be written yet (see {@link waitForStored}), and another may take its place any time.
   */
  entryOf(segment: number): IndexEntry | undefined {
    return this.#underLock(() => this.#overriding!.entryOf(segment));
  }

  /** Of an image with overriding records: its announcer has written the segment's record that got this offset. */
  noteWritten(segment: number, offset: number): void {
    this.#underLock(() => this.#overriding!.setWritten(segment, offset));
    Atomics.add(this.#words, WORD_WRITTEN, 1);
    Atomics.notify(this.#words, WORD_WRITTEN);
  }

  /**
   * Of an image with overriding records in a file: waits until all claims up to `sequence` have their place and the record
   * that then counts for the segment is written. @returns its entry, or undefined if there is none. The caller's own claim
   * must be later than `sequence`, and each announcer must call {@link noteWritten}; `takePlaced` as in {@link announce}.
   */
  waitForStored(sequence: number, segment: number, takePlaced: () => void): IndexEntry | undefined {
    for (let turn = this.#turn(); turn <= sequence; turn = this.#turn()) {
      if (Atomics.load(this.#words, WORD_ABORT) !== 0) throw new Aborted();
      takePlaced();
      Atomics.wait(this.#words, WORD_TURN, turn, 10);
    }
    for (;;) {
      const seen = Atomics.load(this.#words, WORD_WRITTEN);
      const entry = this.entryOf(segment);
      if (entry === undefined || this.#overriding!.isWritten(segment)) return entry;
      if (Atomics.load(this.#words, WORD_ABORT) !== 0) throw new Aborted();
      // Whoever is waited for may be waiting for a record of the caller's.
      takePlaced();
      Atomics.wait(this.#words, WORD_WRITTEN, seen, 10);
    }
  }

  #turn(): number {
    return Atomics.load(this.#words, WORD_TURN);
  }

  #underLock<T>(action: () => T): T {
    lock(this.#words, WORD_COMMIT_LOCK, WORD_ABORT);
    try {
      return action();
    } finally {
      unlock(this.#words, WORD_COMMIT_LOCK);
      // Who announced meanwhile found the lock taken.
      this.#commitReady();
    }
  }

  /** A slot may be used again only when its claim of one round before is committed and taken. */
  #claimSlot(sequence: number, takePlaced: () => void): void {
    const slot = sequence % this.#slotCount;
    for (;;) {
      const turn = Atomics.load(this.#words, WORD_TURN);
      if (sequence - turn < this.#slotCount && Atomics.load(this.#shared.slotStates, slot) === SLOT_EMPTY) return;
      if (Atomics.load(this.#words, WORD_ABORT) !== 0) throw new Aborted();
      takePlaced();
      Atomics.wait(this.#words, WORD_TURN, turn, 10);
    }
  }

  #publish(slot: number): void {
    Atomics.store(this.#shared.slotStates, slot, SLOT_READY);
    this.#commitReady();
  }

  #commitReady(): void {
    // Whoever holds the lock looks again after letting it go, so a slot announced meanwhile is never left lying.
    while (this.#nextIsReady() && tryLock(this.#words, WORD_COMMIT_LOCK)) {
      let window: number | undefined;
      try {
        while (this.#nextIsReady()) window = this.#commitNext() ?? window;
      } finally {
        unlock(this.#words, WORD_COMMIT_LOCK);
      }
      if (window !== undefined) this.#writeBehind(window);
    }
  }

  #nextIsReady(): boolean {
    const turn = Atomics.load(this.#words, WORD_TURN);
    return Atomics.load(this.#shared.slotStates, turn % this.#slotCount) === SLOT_READY;
  }

  /** Commits the segment whose turn it is. @returns the end of a write-back window that was just filled. */
  #commitNext(): number | undefined {
    const turn = Atomics.load(this.#words, WORD_TURN);
    const slot = turn % this.#slotCount;
    const hasRecord = this.#shared.slots[slot * SLOT_NUMBERS + AT_BUFFER]! >= 0;
    const before = this.#numbers[NUMBER_OUTPUT_OFFSET]!;
    if (hasRecord) this.#place(slot);
    Atomics.store(this.#shared.slotStates, slot, hasRecord ? SLOT_PLACED : SLOT_EMPTY);
    Atomics.notify(this.#shared.slotStates, slot);
    // The counter does not wrap: 2^31 claims of the smallest segment, 1 MiB, are 2 PiB.
    Atomics.store(this.#words, WORD_TURN, turn + 1);
    Atomics.notify(this.#words, WORD_TURN);
    const after = this.#numbers[NUMBER_OUTPUT_OFFSET]!;
    const window = Math.floor(after / WRITEBACK_WINDOW_BYTES);
    return window > Math.floor(before / WRITEBACK_WINDOW_BYTES) ? window : undefined;
  }

  #place(slot: number): void {
    const { slots, output } = this.#shared;
    const numbers = this.#numbers;
    const at = slot * SLOT_NUMBERS;
    const segment = slots[at + AT_SEGMENT]!;
    const bufferNumber = slots[at + AT_BUFFER]!;
    if (this.#overriding === undefined) this.#openIndexBlock(Math.floor(segment / INDEX_BLOCK_ENTRIES));
    const lengths = { tablesBytes: slots[at + AT_TABLES_BYTES]!, payloadBytes: slots[at + AT_PAYLOAD_BYTES]! };
    const offset = numbers[NUMBER_OUTPUT_OFFSET]!;
    const buffer = this.#buffers[bufferNumber]!;
    const crc = finishRecord(
      {
        kind: KIND_SEGMENT,
        ...lengths,
        offset,
        subject: segment,
        previousSegment: numbers[NUMBER_OUTPUT_PREVIOUS_SEGMENT]!,
        chain: numbers[NUMBER_OUTPUT_CHAIN]!,
        payloadCrc: slots[at + AT_PAYLOAD_CRC]!,
      },
      output.binding,
      output.keys,
      buffer,
    );
    const bytes = recordBytes(lengths, output.alignmentBytes);
    const entry: IndexEntry = {
      offset,
      headBytes: headBytes(lengths),
      payloadBytes: lengths.payloadBytes,
      prefixCrc: crc,
      dataPages: slots[at + AT_DATA_PAGES]!,
      uniformPages: slots[at + AT_UNIFORM_PAGES]!,
      referencePages: slots[at + AT_REFERENCE_PAGES]!,
      sameAsBasePages: slots[at + AT_SAME_AS_BASE_PAGES]!,
      absentPages: slots[at + AT_ABSENT_PAGES]!,
    };
    this.#enter(segment, entry, {
      zeroPages: slots[at + AT_ZERO_PAGES]!,
      chunks: slots[at + AT_CHUNKS]!,
      rawChunks: slots[at + AT_RAW_CHUNKS]!,
    });
    numbers[NUMBER_OUTPUT_PREVIOUS_SEGMENT] = segment;
    this.#advance(bytes, crc);
    slots[at + AT_OFFSET] = output.isStream ? -1 : offset;
    if (output.isStream) this.#writeStream(buffer, bytes);
  }

  /** Into the index and the totals; what an earlier record of the segment has counted is taken back. */
  #enter(segment: number, entry: IndexEntry, counts: RecordCounts): void {
    const overriding = this.#overriding;
    if (overriding === undefined) {
      encodeIndexEntry(entry, this.#indexBlock, segment % INDEX_BLOCK_ENTRIES);
    } else {
      const earlier = overriding.entryOf(segment);
      if (earlier !== undefined) this.#count(earlier, overriding.countsOf(segment), -1);
      overriding.put(segment, entry, counts);
    }
    this.#count(entry, counts, 1);
  }

  #count(entry: IndexEntry, counts: RecordCounts, sign: 1 | -1): void {
    const numbers = this.#numbers;
    numbers[NUMBER_PAGES_DATA]! += sign * entry.dataPages;
    numbers[NUMBER_PAGES_UNIFORM]! += sign * entry.uniformPages;
    numbers[NUMBER_PAGES_REFERENCE]! += sign * entry.referencePages;
    numbers[NUMBER_PAGES_ABSENT]! += sign * entry.absentPages;
    numbers[NUMBER_PAGES_ZERO]! += sign * counts.zeroPages;
    numbers[NUMBER_CHUNKS]! += sign * counts.chunks;
    numbers[NUMBER_CHUNKS_STORED]! += sign * entry.payloadBytes;
    numbers[NUMBER_CHUNKS_RAW]! += sign * counts.rawChunks;
  }

  #advance(bytes: number, crc: number): void {
    this.#numbers[NUMBER_OUTPUT_OFFSET]! += bytes;
    this.#numbers[NUMBER_OUTPUT_CHAIN] = crc;
    this.#numbers[NUMBER_OUTPUT_RECORDS]! += 1;
  }

  /** Makes `block` the one being filled; the one before it is complete and is written. */
  #openIndexBlock(block: number): void {
    const current = this.#numbers[NUMBER_OUTPUT_BLOCK]!;
    if (block === current) return;
    if (current >= 0) this.#writeOpenBlock(current, INDEX_BLOCK_ENTRIES);
    this.#numbers[NUMBER_OUTPUT_BLOCK] = block;
  }

  #writeOpenBlock(block: number, entryCount: number): void {
    this.#writeIndexBlock(block, entryCount, this.#indexBlock.subarray(0, entryCount * INDEX_ENTRY_BYTES));
    this.#indexBlock.fill(0);
  }

  #writeIndexBlock(block: number, entryCount: number, payload: Buffer): void {
    if (block * 2 + 1 >= this.#shared.indexList.length) {
      throw new VmsnapError('UNSUPPORTED', 'the source is larger than the index of one image allows', {
        hint: 'use larger segments (--segment-size)',
      });
    }
    const offset = this.#numbers[NUMBER_OUTPUT_OFFSET]!;
    const crc = this.append(KIND_INDEX_BLOCK, block, entryCount, payload).crc;
    this.#shared.indexList[block * 2] = offset;
    this.#shared.indexList[block * 2 + 1] = crc;
    this.#numbers[NUMBER_INDEX_BYTES]! += this.#numbers[NUMBER_OUTPUT_OFFSET]! - offset;
  }

  /** Writes a counted record at the end of the line. Under the commit lock, or after all workers are done. */
  append(
    kind: number,
    subject: number,
    entryCount: number,
    payload: Uint8Array,
  ): { bytes: Buffer; crc: number; offset: number } {
    const { output } = this.#shared;
    const offset = this.#numbers[NUMBER_OUTPUT_OFFSET]!;
    const { keys } = output;
    const record = encodeCountedRecord(
      {
        kind,
        offset,
        subject,
        previousSegment: this.#numbers[NUMBER_OUTPUT_PREVIOUS_SEGMENT]!,
        chain: this.#numbers[NUMBER_OUTPUT_CHAIN]!,
        entryCount,
        payload,
      },
      output.binding,
      output.alignmentBytes,
      keys && { keys, number: takeSealNumber(this.#shared.control) },
    );
    this.#advance(record.bytes.length, record.crc);
    this.write(record.bytes, offset);
    return { ...record, offset };
  }

  /** Places and writes a record that stands whole, its prefix excepted, in `bytes`. After all workers are done. */
  appendPrefixed(
    kind: number,
    subject: number,
    lengths: { tablesBytes: number; payloadBytes: number; payloadCrc: number },
    bytes: Buffer,
  ): number {
    const { output } = this.#shared;
    const offset = this.#numbers[NUMBER_OUTPUT_OFFSET]!;
    const crc = finishRecord(
      {
        kind,
        ...lengths,
        offset,
        subject,
        previousSegment: this.#numbers[NUMBER_OUTPUT_PREVIOUS_SEGMENT]!,
        chain: this.#numbers[NUMBER_OUTPUT_CHAIN]!,
      },
      output.binding,
      output.keys,
      bytes,
    );
    const length = recordBytes(lengths, output.alignmentBytes);
    this.#advance(length, crc);
    this.write(bytes.subarray(0, length), offset);
    return offset;
  }

  /** `bytes` must stay as they are until the next {@link flush}. */
  write(bytes: Uint8Array, offset: number): void {
    if (this.#deferred !== undefined) this.#deferred.push({ bytes, offset });
    else if (this.#shared.output.isStream) this.#writeStream(bytes, bytes.length);
    else writeAt(this.#shared.output, bytes, bytes.length, offset, this.#pacer);
  }

  /** Writes what was deferred. */
  async flush(): Promise<void> {
    const { output } = this.#shared;
    const pacer = this.#pacer;
    if (this.#deferred === undefined || pacer === undefined) return;
    for (const { bytes, offset } of this.#deferred.splice(0)) {
      for (let at = 0; at < bytes.length; at += pacer.pieceBytes) {
        const piece = bytes.subarray(at, at + pacer.pieceBytes);
        await pacer.takeSoon(piece.length);
        if (output.isStream) this.#writeStreamNow(piece, 0, piece.length);
        else writeNow(output, piece, 0, piece.length, offset + at);
      }
    }
  }

  #writeStream(bytes: Uint8Array, length: number): void {
    const pieceBytes = this.#pacer?.pieceBytes ?? length;
    for (let at = 0; at < length; at += pieceBytes) {
      const size = Math.min(pieceBytes, length - at);
      this.#pacer?.take(size);
      this.#writeStreamNow(bytes, at, size);
    }
  }

  #writeStreamNow(bytes: Uint8Array, at: number, length: number): void {
    const { fd, path } = this.#shared.output;
    const result = native.writeStream(fd, bytes, at, length, this.#words, WORD_ABORT);
    if (result === 0) return;
    if (Atomics.load(this.#words, WORD_ABORT) !== 0) throw new Aborted();
    throw errnoError(result, 'write to', path);
  }

  /** A nightly save must not push the host's page cache out: write-back starts early, and what is written is dropped. */
  #writeBehind(window: number): void {
    const { fd, isStream } = this.#shared.output;
    if (isStream) return;
    const size = WRITEBACK_WINDOW_BYTES;
    // One window behind, because the records of the window just filled may not all be written yet.
    if (window >= 2) native.startWriteback(fd, (window - 2) * size, size);
    if (window >= 4) native.dropCache(fd, (window - 4) * size, size);
  }

  /** After all workers are done: writes what is left of the index. @returns the list of all blocks. */
  finishIndex(segmentCount: number): IndexListEntry[] {
    const entriesIn = (block: number) => Math.min(INDEX_BLOCK_ENTRIES, segmentCount - block * INDEX_BLOCK_ENTRIES);
    const current = this.#numbers[NUMBER_OUTPUT_BLOCK]!;
    if (current >= 0) this.#writeOpenBlock(current, entriesIn(current));
    for (let block = 0; this.#overriding !== undefined && block * INDEX_BLOCK_ENTRIES < segmentCount; block++) {
      const entries = this.#overriding.block(block, entriesIn(block));
      if (entries !== undefined) this.#writeIndexBlock(block, entriesIn(block), entries);
    }
    const list: IndexListEntry[] = [];
    for (let block = 0; block * INDEX_BLOCK_ENTRIES < segmentCount; block++) {
      list.push({ offset: this.#shared.indexList[block * 2]!, prefixCrc: this.#shared.indexList[block * 2 + 1]! });
    }
    return list;
  }
}

/** Writes all of `bytes[0..length)` at `offset` of a file; with a pacer not before it may, and piece by piece. */
export function writeAt(
  output: { fd: number; path: string },
  bytes: Uint8Array,
  length: number,
  offset: number,
  pacer?: Pacer | undefined,
): void {
  if (pacer === undefined) {
    writeNow(output, bytes, 0, length, offset);
    return;
  }
  for (let at = 0; at < length; at += pacer.pieceBytes) {
    const size = Math.min(pacer.pieceBytes, length - at);
    pacer.take(size);
    writeNow(output, bytes, at, size, offset + at);
    startWriting(output.fd, offset + at, size);
  }
}

function writeNow(
  output: { fd: number; path: string },
  bytes: Uint8Array,
  at: number,
  length: number,
  offset: number,
): void {
  const result = native.writeBytes(output.fd, offset, bytes, at, length);
  if (result !== 0) throw errnoError(result, 'write to', output.path, offset);
}

/** Under a ceiling the disk is to see an even stream too, and not what the kernel has gathered for half a minute. */
export function startWriting(fd: number, offset: number, length: number): void {
  native.startWriteback(fd, offset, length);
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}
