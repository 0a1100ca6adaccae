/**
 * One worker of a load or a verify: claims a segment record, reads, checks and decodes it, and hands its pages to the
 * sink. Leaf digests are added up on the way, in any order, because the digest is a sum.
 */

import { readUpTo } from '../../formats/readUpTo.js';
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { Geometry, leavesIn, type SegmentPlace } from '../../formats/vmsnap/geometry.js';
import { type ImageHead, mayRefer, placeIn, readExactly, readIndexBlock } from '../../formats/vmsnap/imageFile.js';
import { decodeIndexEntry, type IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import {
  CHUNK_ENTRY_BYTES,
  DIGEST_BYTES,
  INDEX_BLOCK_ENTRIES,
  INDEX_ENTRY_BYTES,
  MIB,
  PREFIX_BYTES,
} from '../../formats/vmsnap/layout.js';
import { addSum, subtractSum } from '../../formats/vmsnap/memoryDigest.js';
import { checkPayload, decodePrefix, headBytes, type RecordPrefix, recordBytes } from '../../formats/vmsnap/record.js';
import {
  chunkRawBytes,
  type PageNumber,
  type SegmentTables,
  segmentTablesMaxBytes,
  zeroPagesOf,
} from '../../formats/vmsnap/segmentRecord.js';
import { STATE_REFERENCE } from '../../formats/vmsnap/stateMap.js';
import { native } from '../../native/binding.js';
import { VmsnapError } from '../../native/errors.js';
import { ChainDecoder } from './chainDecoder.js';
import { type ChainEntries, ChainIndex } from './chainIndex.js';
import { isAborted, STAT_CHUNKS, STAT_IMAGE_BYTES, statsOf, WORD_ABORT, WORD_CLAIM_LOCK } from './control.js';
import { IndexClaims, type ReadClaim } from './indexClaims.js';
import { type Link, readImageRange, rebuildHead, rebuildLink } from './link.js';
import { LostMemory, leaveOut } from './lostMemory.js';
import { entryMismatch, matchesEntry, requireCounts } from './matchEntry.js';
import { Aborted, lock, unlock } from './mutex.js';
import {
  FINDINGS_MAX,
  type OpenSegment,
  type ReadJob,
  type ReadWorkerResult,
  type SegmentTotals,
  type WorkerFinding,
} from './readJob.js';
import { RecordLedger, type TakenRecord } from './recordLedger.js';
import { type Damage, SegmentDecoder } from './segmentDecoder.js';
import { SegmentsInWork } from './segmentsInWork.js';
import { type DecodedSegment, Sink } from './sink.js';
import { type WalkClaim, WalkClaims } from './walkClaims.js';

const NO_TOTALS: SegmentTotals = {
  dataPages: 0,
  uniformPages: 0,
  referencePages: 0,
  sameAsBasePages: 0,
  absentPages: 0,
  zeroPages: 0,
  chunks: 0,
  storedBytes: 0,
  rawChunks: 0,
};

export function runReadWorker(job: ReadJob): ReadWorkerResult {
  return new ReadWorker(job).run();
}

class ReadWorker {
  readonly #job: ReadJob;
  readonly #head: ImageHead;
  readonly #geometry: Geometry;
  readonly #decoder: SegmentDecoder;
  /** Of a differential image, and one with references: puts segments together from where their pages are. */
  readonly #chain: ChainDecoder | undefined;
  /** The image as one whose pages can be looked up; undefined if there is no index. */
  readonly #link: Link | undefined;
  readonly #inWork: SegmentsInWork;
  readonly #sink: Sink;
  readonly #indexClaims: IndexClaims | undefined;
  readonly #walkClaims: WalkClaims | undefined;
  readonly #ledger: RecordLedger | undefined;
  readonly #record: Buffer;
  /** Of a salvage. */
  readonly #lost: LostMemory | undefined;
  readonly #sums: BigUint64Array;
  readonly #stats: Float64Array;
  readonly #findings: WorkerFinding[] = [];
  #findingCount = 0;
  #segmentRecords = 0;
  readonly #totals: SegmentTotals = { ...NO_TOTALS };
  #firstShort: OpenSegment | undefined;
  #lastOpen: OpenSegment | undefined;
  #indexBlockNumber = -1;
  #indexBlock: { entries: Buffer; entriesAt: number } | undefined;

  constructor(job: ReadJob) {
    const { start, image } = job;
    this.#job = job;
    this.#head = rebuildHead(job.headBytes, job.keys, image.path);
    this.#geometry = new Geometry(start.pageSize, start.segmentSize, start.chunkSize, job.regionSizes);
    this.#decoder = new SegmentDecoder(this.#geometry, this.#head, image.path);
    const bases = job.bases.map(rebuildLink);
    const needsChain = bases.length > 0 || mayRefer(this.#head.header);
    this.#chain = needsChain ? new ChainDecoder(bases, this.#geometry) : undefined;
    this.#link = job.top && rebuildLink(job.top);
    this.#inWork = new SegmentsInWork(job.segmentsInWork, job.worker);
    this.#stats = statsOf(job.control, job.worker);
    this.#sink = new Sink(job.sink, job.selection, this.#geometry, job.control, this.#stats);
    this.#lost = job.salvage ? new LostMemory(this.#geometry) : undefined;
    const note = (structure: string, error: VmsnapError, segment?: number) =>
      this.#noteFinding(structure, error, segment);
    const noteLost = (from: number, end: number) => this.#lost?.addSegments(from, end);
    this.#indexClaims =
      job.order === 'index' ? new IndexClaims(job, this.#geometry, new ChainIndex([this.#link!, ...bases])) : undefined;
    this.#ledger = job.ledger && new RecordLedger(job.ledger, job.control);
    const baseIndex = bases.length === 0 ? undefined : new ChainIndex(bases);
    this.#walkClaims =
      job.order === 'walk'
        ? new WalkClaims(
            job,
            this.#head,
            this.#geometry,
            this.#decoder,
            this.#stats,
            note,
            noteLost,
            baseIndex,
            this.#ledger,
          )
        : undefined;
    this.#record = Buffer.alloc(recordMaxBytes(this.#geometry, this.#head.header.alignmentBytes));
    this.#sums = new BigUint64Array(2 * job.regionSizes.length);
  }

  run(): ReadWorkerResult {
    for (let claim = this.#claim(); claim !== undefined; claim = this.#claim()) {
      if (isAborted(this.#job.control)) throw new Aborted();
      if (claim.kind === 'zero') this.#takeZeros(claim.sequence, claim.segment, claim.count, true);
      else if (claim.kind === 'chain') this.#takeChain(claim.sequence, claim.segment, claim.entries);
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
      lost: this.#lost?.spans ?? [],
      openSegments: { firstShort: this.#firstShort, last: this.#lastOpen },
    };
  }

  #claim(): ReadClaim | WalkClaim | undefined {
    const { words } = this.#job.control;
    this.#inWork.end();
    lock(words, WORD_CLAIM_LOCK, WORD_ABORT);
    try {
      const claim = this.#indexClaims?.next() ?? this.#walkClaims?.next(this.#record);
      if (claim !== undefined) this.#inWork.begin(claim.segment);
      return claim;
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

  #takeChain(sequence: number, segment: number, entries: ChainEntries): void {
    if (this.#job.order === 'walk') {
      this.#collecting(segment, () => this.#takeBases(sequence, segment, entries));
      return;
    }
    const [own, ...below] = entries;
    const take = () => {
      if (own === undefined) this.#takeBases(sequence, segment, below);
      else this.#takeIndexed(sequence, segment, own, below);
    };
    if (this.#job.salvage) this.#collecting(segment, take);
    else take();
  }

  /** A segment of which this image has no record, but one of its bases. */
  #takeBases(sequence: number, segment: number, entries: ChainEntries): void {
    const place = this.#geometry.placeOf(segment);
    const chain = this.#chain!;
    chain.resolve(segment, place.sizeBytes / this.#geometry.pageSize, entries);
    const onDamage = this.#lost && ((damage: Damage) => this.#noteDamage(damage, segment));
    if (chain.decode(undefined, onDamage)) chain.checkLeaves(onDamage);
    this.#countChain(chain);
    this.#addLeaves(place, chain.leaves, leavesIn(place.sizeBytes));
    this.#writeSegment(sequence, place, chain);
  }

  /** Of a salvage, what is damaged in the segment is left out. */
  #writeSegment(sequence: number, place: SegmentPlace, decoded: DecodedSegment): void {
    const pages = this.#lost?.takePages(place);
    const left = pages === undefined ? decoded : leaveOut(pages, decoded, this.#geometry.pageSize);
    this.#sink.writeSegment(sequence, place, left);
  }

  #countChain(chain: ChainDecoder): void {
    this.#stats[STAT_CHUNKS]! += chain.chunksDecoded;
    // The progress of a verify counts the bytes of the image itself.
    if (!this.#job.collect) this.#stats[STAT_IMAGE_BYTES]! += chain.bytesRead;
    chain.chunksDecoded = 0;
    chain.bytesRead = 0;
  }

  #takeIndexed(sequence: number, segment: number, entry: IndexEntry, baseEntries: ChainEntries): void {
    const { path } = this.#job.image;
    const record = this.#readIndexed(segment, entry);
    const prefix = decodePrefix(record, 0, placeIn(this.#head, path, entry.offset));
    if (!matchesEntry(prefix, segment, entry)) throw entryMismatch(path, segment, entry.offset);
    this.#takeRecord(sequence, segment, prefix, record, entry, baseEntries);
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
    const record = readImageRange(image, entry.offset, length, `the record of segment ${segment}`, this.#record);
    this.#stats[STAT_IMAGE_BYTES]! += length;
    return record;
  }

  #takeWalked(claim: Extract<WalkClaim, { kind: 'record' }>): void {
    const { segment, prefix } = claim;
    this.#takeZeros(claim.sequence, claim.gapFrom, segment - claim.gapFrom, false);
    this.#collecting(segment, () => {
      const record = claim.record ?? this.#readWalked(prefix);
      const entry = this.#indexEntryOf(segment, prefix);
      if (entry !== undefined || this.#job.indexList === undefined) this.#segmentRecords++;
      const findings = this.#findingCount;
      this.#takeRecord(claim.sequence, segment, prefix, record, entry, claim.baseEntries);
      // What is damaged has been told chunk by chunk.
      if (this.#mustCheckPayload && this.#findingCount === findings) checkPayload(record, prefix, this.#job.image.path);
    });
  }

  /** Damage in a segment of a walk does not end it, if it is to be collected. */
  #collecting(segment: number, action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
      this.#lost?.loseSegment(segment);
      this.#noteFinding('record', error, segment);
    }
  }

  /** Of what is sealed it says nothing new: only the checksum itself can be wrong. */
  get #mustCheckPayload(): boolean {
    const { structureOnly, salvage } = this.#job;
    return this.#head.seal !== undefined && !structureOnly && salvage !== true;
  }

  #readWalked(prefix: RecordPrefix): Buffer {
    const length = this.#job.structureOnly ? headBytes(prefix) : recordBytes(prefix, this.#head.header.alignmentBytes);
    if (this.#job.salvage) return this.#readCutOff(prefix.offset, length);
    return readExactly(this.#job.image, prefix.offset, length, `the record of segment ${prefix.subject}`, this.#record);
  }

  /** Of a record that the file ends in, the chunks that are there may be whole; checksums tell. */
  #readCutOff(offset: number, length: number): Buffer {
    const record = this.#record.subarray(0, length);
    record.fill(0, readUpTo(this.#job.image, offset, record));
    return record;
  }

  /**
   * In a walk through a file that has a sound index, each record is held against its entry. Of overriding records the entry
   * names the last, which is proven by all the others standing before it, and by as many records being named as entries there are.
   * @returns undefined without an index, and of a record that a later one overrides.
   */
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
    if (this.#ledger !== undefined && prefix.offset < entry.offset) return undefined;
    if (!matchesEntry(prefix, segment, entry) || entry.offset !== prefix.offset) {
      throw corrupt(
        this.#job.image.path,
        this.#indexBlock.entriesAt + slot * INDEX_ENTRY_BYTES,
        `index entry of segment ${segment} does not name its ${this.#ledger === undefined ? '' : 'last '}record`,
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
    baseEntries: ChainEntries | undefined,
  ): void {
    const openEnded = this.#job.openEnded && segment >= this.#geometry.regions.at(-1)!.firstSegment;
    const place = this.#geometry.placeOf(segment);
    const pageCount = openEnded ? undefined : place.sizeBytes / this.#geometry.pageSize;
    const tables = this.#decoder.decodeTables(record, prefix, pageCount);
    if (entry !== undefined) requireCounts(tables, entry, segment, prefix, this.#job.image.path);
    if (openEnded) this.#noteOpenSegment({ segment, pageCount: tables.pageCount, offset: prefix.offset });
    const sized = { ...place, sizeBytes: tables.pageCount * this.#geometry.pageSize };
    const decoded = this.#mustJoin(tables)
      ? this.#join(segment, prefix, record, tables, baseEntries)
      : this.#decode(prefix, record, tables);
    const totals = this.#totalsOf(prefix, record, tables);
    if (this.#ledger === undefined) {
      this.#addTotals(totals, 1);
      if (decoded.leaves !== undefined) this.#addLeaves(sized, decoded.leaves, tables.leafCount);
      this.#writeSegment(sequence, sized, decoded);
      return;
    }
    this.#ledger.take(segment, sequence, (earlier) =>
      this.#override(sequence, sized, tables, decoded, totals, earlier),
    );
  }

  /** Puts a record into the place of an earlier one of its segment. */
  #override(
    sequence: number,
    place: SegmentPlace,
    tables: SegmentTables,
    decoded: Decoded,
    totals: SegmentTotals,
    earlier: TakenRecord | undefined,
  ): TakenRecord {
    const region = this.#sums.subarray(place.region * 2, place.region * 2 + 2);
    if (earlier !== undefined) {
      this.#addTotals(earlier.totals, -1);
      this.#sink.takeBack(place, earlier.dataPages, earlier.absentPages);
      subtractSum(region, earlier.sum);
    }
    const sum = new BigUint64Array(2);
    const firstLeaf = place.regionOffset / MIB;
    if (decoded.leaves !== undefined) native.addLeaves(place.region, firstLeaf, decoded.leaves, tables.leafCount, sum);
    addSum(region, [sum[0]!, sum[1]!]);
    this.#addTotals(totals, 1);
    const absentPages = this.#sink.writeSegment(sequence, place, decoded, earlier !== undefined);
    return { totals, dataPages: decoded.dataPages, absentPages, sum: [sum[0]!, sum[1]!] };
  }

  /** Whether pages of the segment lie elsewhere, and can be had. */
  #mustJoin({ sameAsBasePages, referencePages }: SegmentTables): boolean {
    const { resolve, sink, structureOnly } = this.#job;
    if (sameAsBasePages > 0) return resolve;
    return referencePages > 0 && !structureOnly && (this.#link !== undefined || sink.kind === 'file');
  }

  /** What a load has brought back already is in its target. */
  readonly #bringPages = ({ segment, page }: PageNumber, into: Uint8Array): boolean => {
    const { region, regionOffset } = this.#geometry.placeOf(segment);
    const place = this.#sink.placeOf(region, regionOffset + page * this.#geometry.pageSize, into.length);
    if (place === undefined) return false;
    this.#inWork.waitFor(segment, () => isAborted(this.#job.control));
    this.#sink.readBack(place, into);
    return true;
  };

  #join(
    segment: number,
    prefix: RecordPrefix,
    record: Buffer,
    tables: SegmentTables,
    baseEntries: ChainEntries | undefined,
  ): Decoded {
    const { states, words, codec } = this.#decoder;
    const chain = this.#chain!;
    const onDamage = (damage: Damage) => this.#noteDamage(damage, segment);
    const { path } = this.#job.image;
    const stored = { path, prefix, record, tables, states, words, codec, chunkSize: this.#geometry.chunkSize };
    // What a salvage has brought back may be a hole: where the image can be asked itself, it is.
    const bringPages = this.#lost !== undefined && this.#link !== undefined ? undefined : this.#bringPages;
    const top = { ...stored, link: this.#link, bringPages };
    chain.resolve(segment, tables.pageCount, baseEntries, top);
    const whole = chain.decode(undefined, onDamage);
    if (!whole && bringPages !== undefined) this.#distrustReferences(segment, prefix, tables);
    this.#decoder.checkPadding(record, prefix, onDamage);
    if (whole) chain.checkLeaves(onDamage);
    this.#countChain(chain);
    return chain;
  }

  /** A salvage that walks takes referenced pages from its target, and only digests of whole leaves tell that none of them was lost. */
  #distrustReferences(segment: number, prefix: RecordPrefix, { pageCount }: SegmentTables): void {
    if (this.#lost === undefined) return;
    const { pageSize } = this.#geometry;
    const ranges: { offset: number; length: number }[] = [];
    for (let page = 0; page < pageCount; page++) {
      if (this.#decoder.states[page] === STATE_REFERENCE) ranges.push({ offset: page * pageSize, length: pageSize });
    }
    if (ranges.length === 0) return;
    const what = `segment ${segment}: it is damaged, so that nothing proves the pages it refers to`;
    const error = corrupt(this.#job.image.path, prefix.offset, what);
    this.#noteDamage({ structure: 'reference', error, ranges }, segment);
  }

  /** Claims of one worker rise, so its first and last are known without looking at the others. */
  #noteOpenSegment(open: OpenSegment): void {
    this.#lastOpen = open;
    if (open.pageCount < this.#geometry.pagesPerSegment) this.#firstShort ??= open;
  }

  #addTotals(totals: SegmentTotals, sign: 1 | -1): void {
    for (const key of Object.keys(NO_TOTALS) as (keyof SegmentTotals)[]) this.#totals[key] += sign * totals[key];
  }

  #totalsOf(prefix: RecordPrefix, record: Buffer, tables: SegmentTables): SegmentTotals {
    let rawChunks = 0;
    for (let i = 0; i < tables.chunkCount; i++) {
      const storedBytes = record.readUInt32LE(tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
      if (storedBytes === chunkRawBytes(i, tables.dataPages, this.#geometry)) rawChunks++;
    }
    const { dataPages, uniformPages, referencePages, sameAsBasePages, absentPages, chunkCount: chunks } = tables;
    const zeroPages = zeroPagesOf(tables);
    const storedBytes = prefix.payloadBytes;
    const pages = { dataPages, uniformPages, referencePages, sameAsBasePages, absentPages, zeroPages };
    return { ...pages, chunks, storedBytes, rawChunks };
  }

  #decode(prefix: RecordPrefix, record: Buffer, tables: SegmentTables): Decoded {
    const { states, data, words, leaves } = this.#decoder;
    const { dataPages, absentPages } = tables;
    const decoded = { states, data, words, dataPages, absentPages };
    if (this.#job.structureOnly) return { ...decoded, leaves: undefined };
    this.#decoder.decodePayload(record, prefix, tables, (damage) => this.#noteDamage(damage, prefix.subject));
    this.#stats[STAT_CHUNKS]! += tables.chunkCount;
    if (tables.referencePages === 0) return { ...decoded, leaves };
    // Its references are not at hand, so its memory cannot be proven here; that what is stored is sound, its checksums say.
    const { leavesAt, leafCount } = tables;
    return { ...decoded, leaves: record.subarray(leavesAt, leavesAt + DIGEST_BYTES * leafCount) };
  }

  #addLeaves(place: { region: number; regionOffset: number }, leaves: Uint8Array, leafCount: number): void {
    const sum = this.#sums.subarray(place.region * 2, place.region * 2 + 2);
    native.addLeaves(place.region, place.regionOffset / MIB, leaves, leafCount, sum);
  }

  #noteDamage({ structure, error, ranges }: Damage, segment: number): void {
    this.#lost?.noteRanges(segment, ranges);
    this.#noteFinding(structure, error, segment, ranges);
  }

  /** A load stops at the first damage; a verify notes it and goes on. */
  #noteFinding(structure: string, error: VmsnapError, segment?: number, ranges?: WorkerFinding['ranges']): void {
    if (!this.#job.collect) throw error;
    this.#findingCount++;
    if (this.#findings.length < FINDINGS_MAX)
      this.#findings.push({ structure, error: error.toPlain(), segment, ranges });
  }
}

/** A segment's pages with its leaf digests, which are undefined where no payload was read. */
interface Decoded extends DecodedSegment {
  readonly leaves: Uint8Array | undefined;
}

/** Bytes of the largest segment record that this geometry allows. */
function recordMaxBytes(geometry: Geometry, alignmentBytes: number): number {
  return PREFIX_BYTES + segmentTablesMaxBytes(geometry, alignmentBytes) + geometry.segmentSize + alignmentBytes;
}
