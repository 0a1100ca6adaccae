/**
 * Claims for a reader that walks an image from its first record to its footer, from a file or a pipe, and so meets every
 * byte of it: segment records become claims, all others are checked here and now, by the thread that holds the claim lock.
 *
 * Segments between two segment records are zero, as the later one proves by naming the earlier; in a differential image
 * they are the same as the base's, and each becomes a claim of its own before the later record does. In a file the walk
 * gets past a damaged record: it looks for the next prefix that is sound and was written for the place where it stands.
 *
 * With overriding records a gap proves nothing. Then each record is a claim whatever its segment, the ledger notes which is
 * the last of a segment, and what has no record becomes claims when the end manifest says that no more records come.
 */

import { readUpTo } from '../../formats/readUpTo.js';
import { decodeAttachmentTables } from '../../formats/vmsnap/attachmentRecord.js';
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { decodeCountedRecord } from '../../formats/vmsnap/countedRecord.js';
import type { Geometry } from '../../formats/vmsnap/geometry.js';
import { type ImageHead, placeIn, requireCountedSize } from '../../formats/vmsnap/imageFile.js';
import {
  ATTACHMENT_PART_BYTES,
  FOOTER_BYTES,
  KIND_ATTACHMENT,
  KIND_END,
  KIND_INDEX_BLOCK,
  KIND_INDEX_LIST,
  KIND_SEGMENT,
  MIB,
  PREFIX_BYTES,
} from '../../formats/vmsnap/layout.js';
import { decodeEndManifest, imageGeometry } from '../../formats/vmsnap/manifest.js';
import { checkPayload, decodePrefix, kindName, type RecordPrefix, recordBytes } from '../../formats/vmsnap/record.js';
import { segmentTablesMaxBytes } from '../../formats/vmsnap/segmentRecord.js';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError } from '../../native/errors.js';
import { attachmentChunks } from './attachmentDecoder.js';
import type { ChainEntries, ChainIndex } from './chainIndex.js';
import {
  isAborted,
  NUMBER_INPUT_ATTACHMENT,
  NUMBER_INPUT_ATTACHMENT_PART,
  NUMBER_INPUT_CHAIN,
  NUMBER_INPUT_GAP_END,
  NUMBER_INPUT_GAP_NEXT,
  NUMBER_INPUT_OFFSET,
  NUMBER_INPUT_PREFIX_HELD,
  NUMBER_INPUT_PREVIOUS_SEGMENT,
  NUMBER_INPUT_RECORDS,
  NUMBER_INPUT_SEGMENTS_END,
  NUMBER_INPUT_STATE,
  NUMBER_LAST_REGION_BYTES,
  NUMBER_NEXT_SEQUENCE,
  STAT_IMAGE_BYTES,
  WORD_ABORT,
} from './control.js';
import { Aborted } from './mutex.js';
import type { MetRecord, ReadJob } from './readJob.js';
import type { RecordLedger } from './recordLedger.js';
import type { SegmentDecoder } from './segmentDecoder.js';

/** NUMBER_INPUT_STATE: 0 while records follow; the index list comes next; then nothing more. */
const STATE_ENDING = 2;
const STATE_OVER = 1;

/** After damage the next record is looked for in steps of this size, and of twice as much each time it is not there. */
const RESYNC_FIRST_BYTES = 4096;
const RESYNC_MOST_BYTES = MIB;

export type WalkClaim =
  | {
      readonly kind: 'record';
      readonly sequence: number;
      readonly segment: number;
      readonly prefix: RecordPrefix;
      /** The whole record, if it came from a stream. */
      readonly record: Buffer | undefined;
      /** Zero segments between the record before and this one. */
      readonly gapFrom: number;
      /** What the bases of a differential image have of the segment. */
      readonly baseEntries: ChainEntries | undefined;
    }
  /** A segment without a record; `entries` are those of the bases. */
  | { readonly kind: 'chain'; readonly sequence: number; readonly segment: number; readonly entries: ChainEntries }
  | { readonly kind: 'zero'; readonly sequence: number; readonly segment: number; readonly count: number };

/** What the walk has found, of which each thread holds a part. */
export interface WalkNotes {
  end: { offset: number; bytes: Buffer } | undefined;
  list: { offset: number; bytes: Buffer } | undefined;
  footer: { offset: number; bytes: Buffer } | undefined;
  readonly others: MetRecord[];
}

export type NoteDamage = (structure: string, error: VmsnapError, segment?: number) => void;

/** Segments [from, end) of which the walk cannot tell what they held. */
export type NoteLost = (from: number, end: number) => void;

export class WalkClaims {
  readonly notes: WalkNotes = { end: undefined, list: undefined, footer: undefined, others: [] };
  readonly #job: ReadJob;
  readonly #head: ImageHead;
  readonly #geometry: Geometry;
  readonly #decoder: SegmentDecoder;
  readonly #numbers: Float64Array;
  readonly #stats: Float64Array;
  readonly #noteDamage: NoteDamage;
  readonly #noteLost: NoteLost;
  readonly #baseIndex: ChainIndex | undefined;
  readonly #ledger: RecordLedger | undefined;
  readonly #prefixBytes = Buffer.alloc(PREFIX_BYTES);

  constructor(
    job: ReadJob,
    head: ImageHead,
    geometry: Geometry,
    decoder: SegmentDecoder,
    stats: Float64Array,
    noteDamage: NoteDamage,
    noteLost: NoteLost,
    baseIndex: ChainIndex | undefined,
    ledger: RecordLedger | undefined,
  ) {
    this.#job = job;
    this.#head = head;
    this.#geometry = geometry;
    this.#decoder = decoder;
    this.#numbers = job.control.numbers;
    this.#stats = stats;
    this.#noteDamage = noteDamage;
    this.#noteLost = noteLost;
    this.#baseIndex = baseIndex;
    this.#ledger = ledger;
  }

  /** Under the claim lock. From a stream the record is read into `into`. */
  next(into: Buffer): WalkClaim | undefined {
    try {
      while (this.#numbers[NUMBER_INPUT_STATE] !== STATE_OVER) {
        const claim = this.#nextOfGap() ?? this.#step(into);
        if (claim !== undefined) return claim;
      }
      return this.#nextOfGap();
    } catch (error) {
      // Another thread that went on from here would report what follows from the damage instead of the damage.
      this.#over();
      throw error;
    }
  }

  /** One record, or the footer. */
  #step(into: Buffer): WalkClaim | undefined {
    const offset = this.#numbers[NUMBER_INPUT_OFFSET]!;
    let prefix: RecordPrefix | undefined;
    try {
      prefix = this.#takeHeldPrefix(offset);
      if (prefix === undefined) {
        prefix = this.#readPrefix(offset);
        this.#checkOrder(prefix);
      }
      this.#checkAttachmentOrder(prefix);
      if (prefix.kind === KIND_SEGMENT) return this.#segmentClaim(prefix, into);
      return this.#takeOther(prefix, this.#readRecord(prefix));
    } catch (error) {
      if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
      this.#noteDamage(prefix === undefined ? 'record' : kindName(prefix.kind), error);
      this.#numbers[NUMBER_INPUT_ATTACHMENT] = -1;
      if (prefix === undefined) this.#resync(offset);
      else this.#advance(prefix);
      return undefined;
    }
  }

  /** Opens the gap before `prefix`, which is kept until all of it is claimed. @returns false if there is none. */
  #openGap(prefix: RecordPrefix, from: number): boolean {
    if (
      this.#baseIndex === undefined ||
      from >= prefix.subject ||
      this.#numbers[NUMBER_INPUT_GAP_END] === prefix.subject
    )
      return false;
    this.#numbers[NUMBER_INPUT_GAP_NEXT] = from;
    this.#numbers[NUMBER_INPUT_GAP_END] = prefix.subject;
    this.#numbers[NUMBER_INPUT_PREFIX_HELD] = 1;
    this.#job.heldPrefix.set(this.#prefixBytes);
    return true;
  }

  #takeHeldPrefix(offset: number): RecordPrefix | undefined {
    if (this.#numbers[NUMBER_INPUT_PREFIX_HELD] !== 1) return undefined;
    this.#numbers[NUMBER_INPUT_PREFIX_HELD] = 0;
    this.#prefixBytes.set(this.#job.heldPrefix);
    return decodePrefix(this.#prefixBytes, 0, this.#place(offset));
  }

  /** The next segment of an open gap, or the next run of which the bases have nothing either. */
  #nextOfGap(): WalkClaim | undefined {
    const gapEnd = this.#numbers[NUMBER_INPUT_GAP_END]!;
    const from = this.#numbers[NUMBER_INPUT_GAP_NEXT]!;
    const segment = this.#ledger?.next(from, gapEnd, false) ?? from;
    if (segment >= gapEnd) return undefined;
    const end = this.#ledger?.next(segment + 1, gapEnd, true) ?? gapEnd;
    const entries = this.#baseIndex?.entriesOf(segment);
    const zerosEnd = this.#baseIndex === undefined ? end : this.#baseIndex.nextRecord(segment, end);
    const next = entries === undefined ? zerosEnd : segment + 1;
    this.#numbers[NUMBER_INPUT_GAP_NEXT] = next;
    const sequence = this.#sequence();
    if (entries !== undefined) return { kind: 'chain', sequence, segment, entries };
    return { kind: 'zero', sequence, segment, count: next - segment };
  }

  #over(): undefined {
    this.#numbers[NUMBER_INPUT_STATE] = STATE_OVER;
    return undefined;
  }

  #readPrefix(offset: number): RecordPrefix {
    const got = this.#read(offset, this.#prefixBytes);
    if (got === 0) {
      this.#over();
      throw corrupt(this.#job.image.path, offset, 'truncated: no footer');
    }
    if (got < PREFIX_BYTES) {
      this.#over();
      throw corrupt(this.#job.image.path, offset, 'truncated in a record prefix');
    }
    return decodePrefix(this.#prefixBytes, 0, this.#place(offset));
  }

  #place(offset: number) {
    return placeIn(this.#head, this.#job.image.path, offset);
  }

  /** Bindings alone do not tell records of one image that were moved, or that another like it has: the chain does. */
  #checkOrder(prefix: RecordPrefix): void {
    const { path } = this.#job.image;
    const chain = this.#numbers[NUMBER_INPUT_CHAIN]!;
    const previous = this.#numbers[NUMBER_INPUT_PREVIOUS_SEGMENT]!;
    if (this.#numbers[NUMBER_INPUT_STATE] === STATE_ENDING && prefix.kind !== KIND_INDEX_LIST) {
      throw corrupt(path, prefix.offset, `${kindName(prefix.kind)} record after the end manifest`);
    }
    // After damage the record before is not known; -1 stands for that.
    if (chain < 0) return;
    if (prefix.chain !== chain) {
      this.#outOfOrder(
        prefix,
        corrupt(path, prefix.offset, `${kindName(prefix.kind)} record does not follow the one before it`),
      );
    } else if (prefix.previousSegment !== previous) {
      this.#outOfOrder(
        prefix,
        corrupt(path, prefix.offset, `a segment record is missing before this ${kindName(prefix.kind)}`),
      );
    }
  }

  /** Sound records that do not belong together: no damage makes such. Which are the image's own cannot be told. */
  #outOfOrder(prefix: RecordPrefix, error: VmsnapError): void {
    if (!this.#job.salvage) {
      this.#noteDamage(kindName(prefix.kind), error);
      return;
    }
    throw new VmsnapError('UNSUPPORTED', `${error.message}; records of several images cannot be salvaged`, {
      path: error.path,
      offset: error.offset,
      hint: 'restore the image from another copy',
    });
  }

  /** Only index blocks stand between the parts of an attachment. */
  #checkAttachmentOrder(prefix: RecordPrefix): void {
    if (prefix.kind !== KIND_ATTACHMENT && prefix.kind !== KIND_INDEX_BLOCK) this.#numbers[NUMBER_INPUT_ATTACHMENT] = 0;
  }

  #checkPart(prefix: RecordPrefix, part: number): void {
    const current = this.#numbers[NUMBER_INPUT_ATTACHMENT]!;
    const expected = current === prefix.subject + 1 ? this.#numbers[NUMBER_INPUT_ATTACHMENT_PART]! : 0;
    if (part !== expected && current >= 0) {
      throw corrupt(
        this.#job.image.path,
        prefix.offset,
        `part ${part} of attachment ${prefix.subject} where part ${expected} should be`,
      );
    }
    this.#numbers[NUMBER_INPUT_ATTACHMENT] = prefix.subject + 1;
    this.#numbers[NUMBER_INPUT_ATTACHMENT_PART] = part + 1;
  }

  #segmentClaim(prefix: RecordPrefix, into: Buffer): WalkClaim | undefined {
    const segment = prefix.subject;
    const { path } = this.#job.image;
    const previous = this.#numbers[NUMBER_INPUT_PREVIOUS_SEGMENT]!;
    const { alignmentBytes } = this.#head.header;
    const fits =
      prefix.tablesBytes <= segmentTablesMaxBytes(this.#geometry, alignmentBytes) &&
      prefix.payloadBytes <= this.#geometry.segmentSize;
    if (!fits) throw corrupt(path, prefix.offset, `segment ${segment}: record is larger than a segment can be`);
    if (segment >= this.#geometry.segmentCount)
      throw corrupt(path, prefix.offset, `segment ${segment} is beyond the memory`);
    if (this.#ledger === undefined && segment <= previous)
      throw corrupt(path, prefix.offset, `segment ${segment} stands after segment ${previous}`);
    if (this.#ledger === undefined && this.#openGap(prefix, previous + 1)) return this.#nextOfGap();
    const provesGap = this.#baseIndex === undefined && this.#ledger === undefined;
    const gapFrom = provesGap ? previous + 1 : segment;
    const baseEntries = this.#baseIndex?.entriesOf(segment);
    const record = this.#job.image.isStream ? this.#readRecord(prefix, into) : undefined;
    this.#numbers[NUMBER_INPUT_PREVIOUS_SEGMENT] = segment;
    this.#advance(prefix);
    const sequence = this.#sequence();
    this.#ledger?.claim(segment, sequence);
    return { kind: 'record', sequence, segment, prefix, record, gapFrom, baseEntries };
  }

  #sequence(): number {
    const sequence = this.#numbers[NUMBER_NEXT_SEQUENCE]!;
    this.#numbers[NUMBER_NEXT_SEQUENCE] = sequence + 1;
    return sequence;
  }

  #advance(prefix: RecordPrefix): void {
    const bytes = recordBytes(prefix, this.#head.header.alignmentBytes);
    this.#numbers[NUMBER_INPUT_OFFSET] = prefix.offset + bytes;
    this.#numbers[NUMBER_INPUT_CHAIN] = prefix.crc;
    this.#numbers[NUMBER_INPUT_RECORDS]! += 1;
    this.#stats[STAT_IMAGE_BYTES]! += bytes;
  }

  #takeOther(prefix: RecordPrefix, record: Buffer): WalkClaim | undefined {
    const { path } = this.#job.image;
    switch (prefix.kind) {
      case KIND_ATTACHMENT:
        this.#checkAttachment(prefix, record);
        break;
      case KIND_INDEX_BLOCK: {
        decodeCountedRecord(record, prefix, this.#head.seal, path);
        this.notes.others.push([prefix.kind, prefix.subject, prefix.offset, prefix.crc, 0, 0]);
        break;
      }
      case KIND_END: {
        decodeCountedRecord(record, prefix, this.#head.seal, path);
        this.notes.end = { offset: prefix.offset, bytes: Buffer.from(record) };
        this.#numbers[NUMBER_INPUT_STATE] = STATE_ENDING;
        this.#advance(prefix);
        return this.#lastGap(prefix, record);
      }
      case KIND_INDEX_LIST: {
        decodeCountedRecord(record, prefix, this.#head.seal, path);
        this.notes.list = { offset: prefix.offset, bytes: Buffer.from(record) };
        const gap = this.#gapBeforeList(prefix);
        this.#advance(prefix);
        this.#takeFooter();
        this.#over();
        return gap;
      }
    }
    this.#advance(prefix);
    return undefined;
  }

  /** Of a salvage: where the end manifest is lost, the index list too says that no segment record comes any more. */
  #gapBeforeList(prefix: RecordPrefix): WalkClaim | undefined {
    const isEnding = this.#numbers[NUMBER_INPUT_STATE] === STATE_ENDING;
    if (isEnding || !this.#job.salvage || this.#job.openEnded || this.#ledger !== undefined) return undefined;
    return this.#gapToEnd(prefix, this.#geometry.segmentCount);
  }

  /** The segments after the last record are zero, or the base's. Their number may be known only now. */
  #lastGap(prefix: RecordPrefix, record: Buffer): WalkClaim | undefined {
    const { path } = this.#job.image;
    const payload = decodeCountedRecord(record, prefix, this.#head.seal, path).payload;
    const geometry = imageGeometry(this.#head.start, decodeEndManifest(payload, this.#head.start, path, prefix.offset));
    this.#numbers[NUMBER_LAST_REGION_BYTES] = geometry.regions.at(-1)!.sizeBytes;
    return this.#gapToEnd(prefix, geometry.segmentCount);
  }

  #gapToEnd(prefix: RecordPrefix, segmentCount: number): WalkClaim | undefined {
    const { path } = this.#job.image;
    const segment = this.#ledger === undefined ? this.#numbers[NUMBER_INPUT_PREVIOUS_SEGMENT]! + 1 : 0;
    if (segment > segmentCount)
      throw corrupt(path, prefix.offset, 'end manifest: there are records of segments beyond the memory');
    const count = segmentCount - segment;
    this.#numbers[NUMBER_INPUT_SEGMENTS_END] = segmentCount;
    if (count === 0) return undefined;
    if (this.#baseIndex !== undefined || this.#ledger !== undefined) {
      this.#numbers[NUMBER_INPUT_GAP_NEXT] = segment;
      this.#numbers[NUMBER_INPUT_GAP_END] = segmentCount;
      return this.#nextOfGap();
    }
    return { kind: 'zero', sequence: this.#sequence(), segment, count };
  }

  #takeFooter(): void {
    const offset = this.#numbers[NUMBER_INPUT_OFFSET]!;
    const { path } = this.#job.image;
    // One byte more than the footer, to see that the file ends there.
    const bytes = Buffer.alloc(FOOTER_BYTES + 1);
    const got = this.#read(offset, bytes);
    this.#stats[STAT_IMAGE_BYTES]! += got;
    if (got < FOOTER_BYTES) this.#noteDamage('footer', corrupt(path, offset, 'truncated in the footer'));
    else this.notes.footer = { offset, bytes: bytes.subarray(0, FOOTER_BYTES) };
    if (got > FOOTER_BYTES)
      this.#noteDamage('footer', corrupt(path, offset + FOOTER_BYTES, 'bytes after the end of the image'));
  }

  #checkAttachment(prefix: RecordPrefix, record: Buffer): void {
    const { path } = this.#job.image;
    const tables = decodeAttachmentTables(record, prefix, this.#head.seal, path);
    this.#checkPart(prefix, tables.part);
    this.notes.others.push([prefix.kind, prefix.subject, prefix.offset, prefix.crc, tables.rawBytes, tables.part]);
    if (this.#job.structureOnly) return;
    for (const _ of attachmentChunks(record, prefix, tables, this.#decoder.codec, path));
    if (this.#head.seal !== undefined) checkPayload(record, prefix, path);
  }

  /** The whole record, into `into` if that is given. Its size has been checked for segment records. */
  #readRecord(prefix: RecordPrefix, into?: Buffer): Buffer {
    if (prefix.kind === KIND_ATTACHMENT) {
      const fits = prefix.tablesBytes <= 4096 && prefix.payloadBytes <= ATTACHMENT_PART_BYTES;
      if (!fits) throw corrupt(this.#job.image.path, prefix.offset, `attachment part of ${prefix.payloadBytes} bytes`);
    } else if (prefix.kind !== KIND_SEGMENT) {
      requireCountedSize(prefix, this.#job.image.path);
    }
    const length = recordBytes(prefix, this.#head.header.alignmentBytes);
    const record = (into ?? Buffer.allocUnsafe(length)).subarray(0, length);
    this.#prefixBytes.copy(record);
    const got = PREFIX_BYTES + this.#read(prefix.offset + PREFIX_BYTES, record.subarray(PREFIX_BYTES));
    if (got === length) return record;
    this.#over();
    throw corrupt(this.#job.image.path, prefix.offset + got, `truncated in a ${kindName(prefix.kind)} record`);
  }

  #read(offset: number, into: Buffer): number {
    const { fd, path, isStream } = this.#job.image;
    if (!isStream) return readUpTo(this.#job.image, offset, into);
    const got = native.readStream(fd, into, 0, into.length, this.#job.control.words, WORD_ABORT);
    if (isAborted(this.#job.control)) throw new Aborted();
    if (got < 0) throw errnoError(got, 'read', path, offset);
    return got;
  }

  /** Moves on to the next sound prefix after a damaged one at `offset`; of a stream there is nothing to go on with. */
  #resync(offset: number): void {
    if (this.#job.image.isStream || this.#numbers[NUMBER_INPUT_STATE] === STATE_OVER) {
      this.#over();
      return;
    }
    const next = this.#findPrefix(offset + this.#head.header.alignmentBytes);
    if (next === undefined) {
      this.#over();
      return;
    }
    this.#noteDamage(
      'record',
      corrupt(
        this.#job.image.path,
        offset,
        `${next.offset - offset} bytes cannot be read; the next sound record stands at ${next.offset}`,
      ),
    );
    this.#numbers[NUMBER_INPUT_OFFSET] = next.offset;
    this.#numbers[NUMBER_INPUT_CHAIN] = -1;
    const previous = this.#numbers[NUMBER_INPUT_PREVIOUS_SEGMENT]!;
    if (this.#ledger !== undefined) {
      this.#numbers[NUMBER_INPUT_PREVIOUS_SEGMENT] = next.previousSegment;
      return;
    }
    // What lies before the record that should stand in front of `next` is not known; what lies behind it has no record.
    const before = Math.max(next.previousSegment, previous);
    this.#noteLost(previous + 1, Math.min(before + 1, this.#geometry.segmentCount));
    this.#numbers[NUMBER_INPUT_PREVIOUS_SEGMENT] = before;
  }

  /** Reads about twice as many bytes as it passes over, so that many damaged places take no longer than a few. */
  #findPrefix(from: number): RecordPrefix | undefined {
    const { alignmentBytes } = this.#head.header;
    let windowBytes = RESYNC_FIRST_BYTES;
    for (let base = from; ; ) {
      const window = Buffer.allocUnsafe(windowBytes + PREFIX_BYTES);
      const got = readUpTo(this.#job.image, base, window);
      for (let at = 0; at + PREFIX_BYTES <= got && at < windowBytes; at += alignmentBytes) {
        const found = this.#prefixIn(window, at, base + at);
        if (found !== undefined) return found;
      }
      if (got < window.length) return undefined;
      base += windowBytes;
      windowBytes = Math.min(2 * windowBytes, RESYNC_MOST_BYTES);
    }
  }

  /** The cheap checks come first: a hostile file may have something like a prefix in every place. */
  #prefixIn(window: Buffer, at: number, offset: number): RecordPrefix | undefined {
    if (window[at] !== 0x56 || window.readUInt32LE(at + 16) !== offset % 2 ** 32) return undefined;
    if (native.crc32c(window, at, 60, 0) !== window.readUInt32LE(at + 60)) return undefined;
    try {
      return decodePrefix(window, at, this.#place(offset));
    } catch (error) {
      if (!(error instanceof VmsnapError)) throw error;
      return undefined;
    }
  }
}
