/**
 * Where decoded memory goes: a file (holes for zero pages), a stream (in order), or nowhere (verify).
 *
 * Files are written by all threads at once. Into a stream the threads take turns in the order of their claims; each has
 * decoded its segment before its turn comes.
 */
import { readSync } from 'node:fs';
import {
  type BlockPlace,
  encodePages,
  encodeZeroPages,
  recordsMaxBytes,
  zeroPagesIn,
} from '../../formats/qemu/pageRecords.js';
import { QEMU_PAGE_BYTES } from '../../formats/qemu/streamPages.js';
import type { Geometry, SegmentPlace } from '../../formats/vmsnap/geometry.js';
import { STATE_ABSENT, STATE_DATA, STATE_UNIFORM } from '../../formats/vmsnap/stateMap.js';
import { native, ZERO_PUNCH, ZERO_SKIP, ZERO_WRITE } from '../../native/binding.js';
import { errnoError, VmsnapError, withSystemErrors } from '../../native/errors.js';
import { startWriting, writeAt } from './commitLine.js';
import {
  isAborted,
  NUMBER_LAST_REGION_BYTES,
  type SharedControl,
  STAT_ABSENT_PAGES,
  STAT_DATA_BYTES,
  STAT_DONE_BYTES,
  WORD_ABORT,
  WORD_TURN,
} from './control.js';
import { Aborted, waitWhile } from './mutex.js';
import { Pacer } from './pacer.js';
import type { RegionSelection, SinkDescription } from './readJob.js';

export interface DecodedSegment {
  readonly states: Uint8Array;
  readonly data: Uint8Array;
  readonly words: BigUint64Array;
  readonly dataPages: number;
  /** Among those that are read as zero. */
  readonly absentPages: number;
}

const ZEROS_BYTES = 1024 * 1024;
const NO_PAGES = { data: 0, uniform: 0 };

export class Sink {
  readonly #sink: SinkDescription;
  readonly #selection: readonly (RegionSelection | undefined)[];
  readonly #geometry: Geometry;
  readonly #control: SharedControl;
  readonly #stats: Float64Array;
  readonly #failedAt = new Float64Array(1);
  readonly #pacer: Pacer | undefined;
  #expanded: Uint8Array | undefined;
  /** Room for the records of a segment. */
  #records: Buffer | undefined;

  constructor(
    sink: SinkDescription,
    selection: readonly (RegionSelection | undefined)[],
    geometry: Geometry,
    control: SharedControl,
    stats: Float64Array,
  ) {
    this.#sink = sink;
    this.#selection = selection;
    this.#geometry = geometry;
    this.#control = control;
    this.#stats = stats;
    this.#pacer = Pacer.of(control);
  }

  /** Whether zero memory is work at all: not for a new file, whose holes are zero. */
  get wantsZeros(): boolean {
    return this.#sink.kind === 'stream' || (this.#sink.kind === 'file' && this.#sink.overwrite);
  }

  /**
   * Writes the wanted part of one segment. `place.sizeBytes` is the segment's true size. `overwrites`: something has been
   * written there before. @returns how many of the pages that are wanted are absent.
   */
  writeSegment(sequence: number, place: SegmentPlace, segment: DecodedSegment, overwrites = false): number {
    const part = this.#wanted(place);
    if (part !== undefined && this.#sink.kind !== 'none') {
      const whole = part.from === place.regionOffset && part.to === place.regionOffset + place.sizeBytes;
      if (whole && this.#sink.kind === 'file') this.#writePages(part.target, place, segment, overwrites);
      else this.#writeBytes(sequence, part, place, segment);
    }
    this.#endTurn(sequence);
    if (part === undefined) return 0;
    const absentPages = this.#absentPages(part, place, segment);
    this.#stats[STAT_DONE_BYTES]! += part.to - part.from;
    this.#stats[STAT_DATA_BYTES]! += segment.dataPages * this.#geometry.pageSize;
    this.#stats[STAT_ABSENT_PAGES]! += absentPages;
    return absentPages;
  }

  /** Where bytes of a region stand in a target from which they can be read again; undefined if they do not, or not all. */
  placeOf(region: number, offset: number, length: number): number | undefined {
    const selection = this.#selection[region];
    if (selection === undefined || this.#sink.kind !== 'file') return undefined;
    if (offset < selection.from || offset + length > selection.to) return undefined;
    return selection.targetOffset + (offset - selection.from);
  }

  /** Reads what has been written at a {@link placeOf}. */
  readBack(place: number, into: Uint8Array): void {
    const { fd, path } = this.#sink as Extract<SinkDescription, { kind: 'file' }>;
    for (let done = 0; done < into.length; ) {
      const got = withSystemErrors('read', path, () => readSync(fd, into, done, into.length - done, place + done));
      if (got === 0) throw new VmsnapError('IO', `${path} became shorter while it was written`, { path });
      done += got;
    }
  }

  /** A segment that was written is about to be written again: it is not counted twice. */
  takeBack(place: SegmentPlace, dataPages: number, absentPages: number): void {
    const part = this.#wanted(place);
    if (part === undefined) return;
    this.#stats[STAT_DONE_BYTES]! -= part.to - part.from;
    this.#stats[STAT_DATA_BYTES]! -= dataPages * this.#geometry.pageSize;
    this.#stats[STAT_ABSENT_PAGES]! -= absentPages;
  }

  #absentPages(part: { from: number; to: number }, place: SegmentPlace, segment: DecodedSegment): number {
    if (segment.absentPages === 0) return 0;
    const { pageSize } = this.#geometry;
    const end = Math.ceil((part.to - place.regionOffset) / pageSize);
    let count = 0;
    for (let page = Math.floor((part.from - place.regionOffset) / pageSize); page < end; page++) {
      if (segment.states[page] === STATE_ABSENT) count++;
    }
    return count;
  }

  /** The same for a run of segments that are zero, all in one region. `endsTurn`: nothing else follows for this claim. */
  writeZeros(sequence: number, first: SegmentPlace, sizeBytes: number, endsTurn: boolean): void {
    const part = this.#wanted({ ...first, sizeBytes });
    if (part !== undefined && this.wantsZeros) {
      const length = part.to - part.from;
      if (this.#sink.kind === 'file') this.#zeroFile(this.#sink, part.target, length);
      else this.#streamZeros(sequence, first.region, part.from, length);
    }
    if (endsTurn) this.#endTurn(sequence);
    if (part !== undefined) this.#stats[STAT_DONE_BYTES]! += part.to - part.from;
  }

  #wanted(place: SegmentPlace): { from: number; to: number; target: number } | undefined {
    const selection = this.#selection[place.region];
    if (selection === undefined) return undefined;
    const from = Math.max(selection.from, place.regionOffset);
    const to = Math.min(selection.to, place.regionOffset + place.sizeBytes, this.#regionEnd(place.region));
    if (from >= to) return undefined;
    return { from, to, target: selection.targetOffset + (from - selection.from) };
  }

  /** An open-ended last region ends where the end manifest says, which only its last, zero segments need to know. */
  #regionEnd(region: number): number {
    if (region !== this.#geometry.regions.length - 1) return Number.POSITIVE_INFINITY;
    return this.#control.numbers[NUMBER_LAST_REGION_BYTES] || Number.POSITIVE_INFINITY;
  }

  #writePages(target: number, place: SegmentPlace, segment: DecodedSegment, overwrites: boolean): void {
    const sink = this.#sink as Extract<SinkDescription, { kind: 'file' }>;
    const zeroMode = !sink.overwrite && !overwrites ? ZERO_SKIP : sink.punch ? ZERO_PUNCH : ZERO_WRITE;
    const { pageSize } = this.#geometry;
    const pages = place.sizeBytes / pageSize;
    const { states, data, words } = segment;
    const pagesAtOnce = this.#pacer === undefined ? pages : Math.max(1, Math.floor(this.#pacer.pieceBytes / pageSize));
    let dataAt = 0;
    let wordsAt = 0;
    for (let page = 0; page < pages; page += pagesAtOnce) {
      const count = Math.min(pagesAtOnce, pages - page);
      const part = states.subarray(page, page + count);
      const at = target + page * pageSize;
      const found = this.#pacer === undefined ? NO_PAGES : countPages(part);
      this.#takeRate((zeroMode === ZERO_WRITE ? count : found.data + found.uniform) * pageSize);
      this.#check(
        native.writeSegment(
          sink.fd,
          at,
          part,
          count,
          pageSize,
          data.subarray(dataAt),
          words.subarray(wordsAt),
          zeroMode,
          this.#failedAt,
        ),
        this.#failedAt[0]!,
      );
      if (this.#pacer !== undefined) startWriting(sink.fd, at, count * pageSize);
      dataAt += found.data * pageSize;
      wordsAt += found.uniform;
    }
  }

  /** Holes cost nothing of the rate; zeros that are written do. */
  #zeroFile({ fd, punch }: Extract<SinkDescription, { kind: 'file' }>, at: number, length: number): void {
    const pieceBytes = punch ? length : (this.#pacer?.pieceBytes ?? length);
    for (let done = 0; done < length; done += pieceBytes) {
      const size = Math.min(pieceBytes, length - done);
      if (!punch) this.#takeRate(size);
      this.#check(native.zeroRange(fd, at + done, size, punch), at + done);
    }
  }

  #takeRate(bytes: number): void {
    if (bytes > 0) this.#pacer?.take(bytes);
  }

  /** A part of a segment, or a stream: expanded first, then written as plain bytes. */
  #writeBytes(
    sequence: number,
    part: { from: number; to: number; target: number },
    place: SegmentPlace,
    segment: DecodedSegment,
  ): void {
    this.#expanded ??= new Uint8Array(this.#geometry.segmentSize);
    const { pageSize } = this.#geometry;
    native.expandSegment(
      segment.states,
      place.sizeBytes / pageSize,
      pageSize,
      segment.data,
      segment.words,
      this.#expanded,
    );
    const bytes = this.#expanded.subarray(part.from - place.regionOffset, part.to - place.regionOffset);
    if (this.#sink.kind === 'file') {
      writeAt(this.#sink, bytes, bytes.length, part.target, this.#pacer);
      return;
    }
    const encoded = this.#encode(place.region, part.from, bytes);
    this.#awaitTurn(sequence);
    this.#streamInsert(this.#insertBefore(place.region, part.from));
    this.#stream(encoded, encoded.length);
  }

  /** The bytes as the stream has them. */
  #encode(region: number, from: number, bytes: Uint8Array): Uint8Array {
    const place = this.#placeOf(region, from);
    if (place === undefined) return bytes;
    const pages = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    return this.#recordBuffer.subarray(0, encodePages(place, pages, this.#recordBuffer));
  }

  /** Of a stream of QEMU's: where in its RAM block a part of a region lies. */
  #placeOf(region: number, from: number): BlockPlace | undefined {
    const place = this.#sink.kind === 'stream' ? this.#sink.records?.[region] : undefined;
    return place && { block: place.block, blockOffset: place.blockOffset + from };
  }

  get #recordBuffer(): Buffer {
    this.#records ??= Buffer.alloc(recordsMaxBytes(this.#geometry.segmentSize / QEMU_PAGE_BYTES));
    return this.#records;
  }

  /** What a stream has in front of this part, if it is the first of its region. */
  #insertBefore(region: number, from: number): Uint8Array | undefined {
    if (this.#sink.kind !== 'stream' || from !== this.#selection[region]!.from) return undefined;
    return this.#sink.inserts?.[region];
  }

  #streamInsert(bytes: Uint8Array | undefined): void {
    if (bytes !== undefined) this.#stream(bytes, bytes.length);
  }

  #streamZeros(sequence: number, region: number, from: number, length: number): void {
    this.#awaitTurn(sequence);
    this.#streamInsert(this.#insertBefore(region, from));
    const place = this.#placeOf(region, from);
    if (place !== undefined) {
      this.#streamZeroRecords(place, length / QEMU_PAGE_BYTES);
      return;
    }
    const zeros = new Uint8Array(ZEROS_BYTES);
    for (let done = 0; done < length; done += ZEROS_BYTES) this.#stream(zeros, Math.min(ZEROS_BYTES, length - done));
  }

  #streamZeroRecords({ block, blockOffset }: BlockPlace, pageCount: number): void {
    const most = zeroPagesIn(this.#recordBuffer.length);
    for (let page = 0; page < pageCount; page += most) {
      const place = { block, blockOffset: blockOffset + page * QEMU_PAGE_BYTES };
      const used = encodeZeroPages(place, Math.min(most, pageCount - page), this.#recordBuffer);
      this.#stream(this.#recordBuffer, used);
    }
  }

  #stream(bytes: Uint8Array, length: number): void {
    const sink = this.#sink as Extract<SinkDescription, { kind: 'stream' }>;
    const pieceBytes = this.#pacer?.pieceBytes ?? length;
    for (let at = 0; at < length; at += pieceBytes) {
      const size = Math.min(pieceBytes, length - at);
      this.#takeRate(size);
      const result = native.writeStream(sink.fd, bytes, at, size, this.#control.words, WORD_ABORT);
      if (isAborted(this.#control)) throw new Aborted();
      if (result !== 0) throw errnoError(result, 'write to', sink.path);
    }
  }

  #awaitTurn(sequence: number): void {
    for (let turn = this.#turn(); turn !== sequence; turn = this.#turn()) {
      waitWhile(this.#control.words, WORD_TURN, turn, WORD_ABORT);
    }
  }

  #endTurn(sequence: number): void {
    if (this.#sink.kind !== 'stream') return;
    this.#awaitTurn(sequence);
    Atomics.store(this.#control.words, WORD_TURN, sequence + 1);
    Atomics.notify(this.#control.words, WORD_TURN);
  }

  #turn(): number {
    return Atomics.load(this.#control.words, WORD_TURN);
  }

  #check(result: number, offset: number): void {
    if (result === 0) return;
    throw errnoError(result, 'write to', (this.#sink as { path: string }).path, offset);
  }
}

function countPages(states: Uint8Array): { data: number; uniform: number } {
  let data = 0;
  let uniform = 0;
  for (const state of states) {
    if (state === STATE_DATA) data++;
    if (state === STATE_UNIFORM) uniform++;
  }
  return { data, uniform };
}
