/**
 * One worker of a load or a verify: claims a segment record, reads, checks and decodes it, and hands its pages to the
 * sink. Leaf digests are added up on the way, in any order, because the digest is a sum.
 */

import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { Geometry } from '../../formats/vmsnap/geometry.js';
import { decodeHeader } from '../../formats/vmsnap/header.js';
import { decodeHead, type ImageHead, readExactly, readIndexBlock } from '../../formats/vmsnap/imageFile.js';
import { decodeIndexEntry, type IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import {
  CHUNK_ENTRY_BYTES,
  HEADER_BYTES,
  INDEX_BLOCK_ENTRIES,
  INDEX_ENTRY_BYTES,
  KIND_SEGMENT,
  MIB,
  PREFIX_BYTES,
} from '../../formats/vmsnap/layout.js';
import { decodePrefix, headBytes, type RecordPrefix, recordBytes } from '../../formats/vmsnap/record.js';
import { chunkRawBytes, type SegmentTables, segmentTablesMaxBytes } from '../../formats/vmsnap/segmentRecord.js';
import { native } from '../../native/binding.js';
import { VmsnapError } from '../../native/errors.js';
import { asBuffer } from './commitLine.js';
import { isAborted, STAT_CHUNKS, STAT_IMAGE_BYTES, statsOf, WORD_ABORT, WORD_CLAIM_LOCK } from './control.js';
import { IndexClaims, type ReadClaim } from './indexClaims.js';
import { Aborted, lock, unlock } from './mutex.js';
import {
  FINDINGS_MAX,
  type OpenSegment,
  type ReadJob,
  type ReadWorkerResult,
  type SegmentTotals,
  type WorkerFinding,
} from './readJob.js';
import { SegmentDecoder } from './segmentDecoder.js';
import { Sink } from './sink.js';
import { type WalkClaim, WalkClaims } from './walkClaims.js';

export function runReadWorker(job: ReadJob): ReadWorkerResult {
  return new ReadWorker(job).run();
}

class ReadWorker {
  readonly #job: ReadJob;
  readonly #head: ImageHead;
  readonly #geometry: Geometry;
  readonly #decoder: SegmentDecoder;
  readonly #sink: Sink;
  readonly #indexClaims: IndexClaims | undefined;
  readonly #walkClaims: WalkClaims | undefined;
  readonly #record: Buffer;
  readonly #sums: BigUint64Array;
  readonly #stats: Float64Array;
  readonly #findings: WorkerFinding[] = [];
  #findingCount = 0;
  #segmentRecords = 0;
  readonly #totals: SegmentTotals = { dataPages: 0, uniformPages: 0, chunks: 0, storedBytes: 0, rawChunks: 0 };
  #firstShort: OpenSegment | undefined;
  #lastOpen: OpenSegment | undefined;
  #indexBlockNumber = -1;
  #indexBlock: { entries: Buffer; entriesAt: number } | undefined;

  constructor(job: ReadJob) {
    const { start, image } = job;
    this.#job = job;
    this.#head = rebuildHead(job);
    this.#geometry = new Geometry(start.pageSize, start.segmentSize, start.chunkSize, job.regionSizes);
    this.#decoder = new SegmentDecoder(this.#geometry, start.codec, image.path);
    this.#stats = statsOf(job.control, job.worker);
    this.#sink = new Sink(job.sink, job.selection, this.#geometry, job.control, this.#stats);
    const note = (structure: string, error: VmsnapError, segment?: number) =>
      this.#noteFinding(structure, error, segment);
    this.#indexClaims = job.order === 'index' ? new IndexClaims(job, this.#head, this.#geometry) : undefined;
    this.#walkClaims =
      job.order === 'walk'
        ? new WalkClaims(job, this.#head, this.#geometry, this.#decoder, this.#stats, note)
        : undefined;
    this.#record = Buffer.alloc(recordMaxBytes(this.#geometry, this.#head.header.alignmentBytes));
    this.#sums = new BigUint64Array(2 * job.regionSizes.length);
  }

  run(): ReadWorkerResult {
    for (let claim = this.#claim(); claim !== undefined; claim = this.#claim()) {
      if (isAborted(this.#job.control)) throw new Aborted();
      if (claim.kind === 'zero') this.#takeZeros(claim.sequence, claim.segment, claim.count, true);
      else if ('entry' in claim) this.#takeIndexed(claim.sequence, claim.segment, claim.entry);
      else this.#takeWalked(claim);
    }
    return {
      sums: this.#sums,
      findings: this.#findings,
      findingCount: this.#findingCount,
      segmentRecords: this.#segmentRecords,
      chunks: this.#stats[STAT_CHUNKS]!,
      tail: this.#walkClaims?.notes ?? { end: undefined, list: undefined, footer: undefined },
      others: this.#walkClaims?.notes.others ?? [],
      totals: this.#totals,
      openSegments: { firstShort: this.#firstShort, last: this.#lastOpen },
    };
  }

  #claim(): ReadClaim | WalkClaim | undefined {
    const { words } = this.#job.control;
    lock(words, WORD_CLAIM_LOCK, WORD_ABORT);
    try {
      return this.#indexClaims?.next() ?? this.#walkClaims?.next(this.#record);
    } finally {
      unlock(words, WORD_CLAIM_LOCK);
    }
  }

  /** `endsTurn`: nothing else follows for this claim. */
  #takeZeros(sequence: number, segment: number, count: number, endsTurn: boolean): void {
    const end = segment + count;
    // A gap of a walk may cross regions, whose targets need not adjoin.
    for (let at = segment; at < end; ) {
      const region = this.#geometry.regionOf(at);
      const next = Math.min(end, region.firstSegment + region.segmentCount);
      const first = this.#geometry.placeOf(at);
      const last = this.#geometry.placeOf(next - 1);
      const bytes = last.regionOffset + last.sizeBytes - first.regionOffset;
      this.#sink.writeZeros(sequence, first, bytes, endsTurn && next === end);
      at = next;
    }
  }

  #takeIndexed(sequence: number, segment: number, entry: IndexEntry): void {
    const { path } = this.#job.image;
    const record = this.#readIndexed(segment, entry);
    const prefix = decodePrefix(record, 0, {
      path,
      offset: entry.offset,
      binding: this.#head.binding,
      alignmentBytes: this.#head.header.alignmentBytes,
    });
    if (!matchesEntry(prefix, segment, entry)) throw entryMismatch(path, segment, entry.offset);
    this.#takeRecord(sequence, segment, prefix, record, entry);
  }

  #readIndexed(segment: number, entry: IndexEntry): Buffer {
    const { image } = this.#job;
    const { alignmentBytes } = this.#head.header;
    const length = recordBytes(
      { tablesBytes: entry.headBytes - PREFIX_BYTES, payloadBytes: entry.payloadBytes },
      alignmentBytes,
    );
    if (length > this.#record.length || entry.offset + length > image.recordsEnd) {
      throw corrupt(image.path, entry.offset, `index: the record of segment ${segment} has no place in the file`);
    }
    const wasCached = !image.dropBehind || native.residentShare(image.fd, entry.offset, length) > 0.5;
    const record = readExactly(image, entry.offset, length, `the record of segment ${segment}`, this.#record);
    if (!wasCached) native.dropCache(image.fd, entry.offset, length);
    this.#stats[STAT_IMAGE_BYTES]! += length;
    return record;
  }

  #takeWalked(claim: Extract<WalkClaim, { kind: 'record' }>): void {
    const { segment, prefix } = claim;
    this.#takeZeros(claim.sequence, claim.gapFrom, segment - claim.gapFrom, false);
    try {
      const record = claim.record ?? this.#readWalked(prefix);
      this.#takeRecord(claim.sequence, segment, prefix, record, this.#indexEntryOf(segment, prefix));
    } catch (error) {
      if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
      this.#noteFinding('record', error, segment);
    }
  }

  #readWalked(prefix: RecordPrefix): Buffer {
    const length = this.#job.structureOnly ? headBytes(prefix) : recordBytes(prefix, this.#head.header.alignmentBytes);
    return readExactly(this.#job.image, prefix.offset, length, `the record of segment ${prefix.subject}`, this.#record);
  }

  /** In a walk through a file that has a sound index, each record is held against its entry. */
  #indexEntryOf(segment: number, prefix: RecordPrefix): IndexEntry | undefined {
    if (this.#job.indexList === undefined) return undefined;
    const block = Math.floor(segment / INDEX_BLOCK_ENTRIES);
    if (this.#indexBlockNumber !== block) {
      const place = { offset: this.#job.indexList[block * 2]!, prefixCrc: this.#job.indexList[block * 2 + 1]! };
      const { image } = this.#job;
      this.#indexBlockNumber = block;
      this.#indexBlock = undefined;
      this.#indexBlock = readIndexBlock(image, this.#head, block, place, this.#geometry.segmentCount, image.recordsEnd);
    }
    if (this.#indexBlock === undefined)
      throw corrupt(
        this.#job.image.path,
        prefix.offset,
        `index: segment ${segment} has a record that it does not name`,
      );
    const slot = segment % INDEX_BLOCK_ENTRIES;
    const entry = decodeIndexEntry(this.#indexBlock.entries, slot, this.#job.image.path, this.#indexBlock.entriesAt);
    if (!matchesEntry(prefix, segment, entry) || entry.offset !== prefix.offset) {
      throw corrupt(
        this.#job.image.path,
        this.#indexBlock.entriesAt + slot * INDEX_ENTRY_BYTES,
        `index entry of segment ${segment} does not name its record`,
      );
    }
    return entry;
  }

  #takeRecord(
    sequence: number,
    segment: number,
    prefix: RecordPrefix,
    record: Buffer,
    entry: IndexEntry | undefined,
  ): void {
    const openEnded = this.#job.openEnded && segment >= this.#geometry.regions.at(-1)!.firstSegment;
    const place = this.#geometry.placeOf(segment);
    const pageCount = openEnded ? undefined : place.sizeBytes / this.#geometry.pageSize;
    const tables = this.#decoder.decodeTables(record, prefix, pageCount);
    if (entry !== undefined) requireCounts(tables, entry, segment, prefix, this.#job.image.path);
    if (openEnded) this.#noteOpenSegment({ segment, pageCount: tables.pageCount, offset: prefix.offset });
    this.#segmentRecords++;
    this.#addTotals(prefix, record, tables);
    const sized = { ...place, sizeBytes: tables.pageCount * this.#geometry.pageSize };
    if (!this.#job.structureOnly) this.#takePayload(prefix, record, tables, sized);
    const { states, data, words } = this.#decoder;
    this.#sink.writeSegment(sequence, sized, { states, data, words, dataPages: tables.dataPages });
  }

  /** Claims of one worker rise, so its first and last are known without looking at the others. */
  #noteOpenSegment(open: OpenSegment): void {
    this.#lastOpen = open;
    if (open.pageCount < this.#geometry.pagesPerSegment) this.#firstShort ??= open;
  }

  #addTotals(prefix: RecordPrefix, record: Buffer, tables: SegmentTables): void {
    const totals = this.#totals;
    totals.dataPages += tables.dataPages;
    totals.uniformPages += tables.uniformPages;
    totals.chunks += tables.chunkCount;
    totals.storedBytes += prefix.payloadBytes;
    for (let i = 0; i < tables.chunkCount; i++) {
      const storedBytes = record.readUInt32LE(tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
      if (storedBytes === chunkRawBytes(i, tables.dataPages, this.#geometry)) totals.rawChunks++;
    }
  }

  #takePayload(
    prefix: RecordPrefix,
    record: Buffer,
    tables: SegmentTables,
    place: { region: number; regionOffset: number },
  ): void {
    this.#decoder.decodePayload(record, prefix, tables, (damage) => {
      this.#noteFinding(damage.structure, damage.error, prefix.subject, damage.ranges);
    });
    this.#stats[STAT_CHUNKS]! += tables.chunkCount;
    const sum = this.#sums.subarray(place.region * 2, place.region * 2 + 2);
    native.addLeaves(place.region, place.regionOffset / MIB, this.#decoder.leaves, tables.leafCount, sum);
  }

  /** A load stops at the first damage; a verify notes it and goes on. */
  #noteFinding(structure: string, error: VmsnapError, segment?: number, ranges?: WorkerFinding['ranges']): void {
    if (!this.#job.collect) throw error;
    this.#findingCount++;
    if (this.#findings.length < FINDINGS_MAX)
      this.#findings.push({ structure, error: error.toPlain(), segment, ranges });
  }
}

/** Bytes of the largest segment record that this geometry allows. */
function recordMaxBytes(geometry: Geometry, alignmentBytes: number): number {
  return PREFIX_BYTES + segmentTablesMaxBytes(geometry, alignmentBytes) + geometry.segmentSize + alignmentBytes;
}

function matchesEntry(prefix: RecordPrefix, segment: number, entry: IndexEntry): boolean {
  return (
    prefix.kind === KIND_SEGMENT &&
    prefix.subject === segment &&
    prefix.crc === entry.prefixCrc &&
    headBytes(prefix) === entry.headBytes &&
    prefix.payloadBytes === entry.payloadBytes
  );
}

function entryMismatch(path: string, segment: number, offset: number): VmsnapError {
  return corrupt(path, offset, `this is not the record of segment ${segment} that the index names`);
}

function requireCounts(
  tables: SegmentTables,
  entry: IndexEntry,
  segment: number,
  prefix: RecordPrefix,
  path: string,
): void {
  const equal =
    tables.dataPages === entry.dataPages &&
    tables.uniformPages === entry.uniformPages &&
    entry.referencePages + entry.sameAsBasePages + entry.absentPages === 0;
  if (!equal)
    throw corrupt(path, prefix.offset, `index entry of segment ${segment} has other page counts than its record`);
}

/** The head's bytes come through a message; everything else about it is derived again. */
function rebuildHead(job: ReadJob): ImageHead {
  const bytes = asBuffer(job.headBytes as Uint8Array);
  const header = decodeHeader(bytes.subarray(0, HEADER_BYTES), job.image.path);
  return decodeHead(header, bytes.subarray(0, HEADER_BYTES), bytes.subarray(HEADER_BYTES), job.image.path);
}
