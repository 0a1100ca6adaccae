/**
 * One worker of a save: claims a segment of its feed and has it scanned and compacted (feeds/), compresses its chunks into
 * an output buffer, announces it, and writes it once it has a place. All buffers are made once, so memory does not depend on the source's size.
 *
 * With a device it claims some segments more in advance, which the device looks at meanwhile (aheadClaims.ts). That
 * changes who saves which segment and nothing else. Nor can it stop the commit line: a worker does its claims in the order
 * of their numbers, so the one whose turn it is always belongs to a worker that is at it or at nothing before it. There
 * it waits for the device (which has a limit) or for a slot that another has not taken yet; and whoever waits in the
 * commit line takes what is his at every step, whatever he has claimed in advance.
 */
import { Geometry, leavesIn } from '../../formats/vmsnap/geometry.js';
import { CHUNK_ENTRY_BYTES, MIB, PREFIX_BYTES, roundUp } from '../../formats/vmsnap/layout.js';
import { headBytes, recordBytes } from '../../formats/vmsnap/record.js';
import { chunkRawBytes, encodeSegmentTables, segmentTablesMaxBytes } from '../../formats/vmsnap/segmentRecord.js';
import {
  native,
  REPORT_CHECKED_ANSWERS,
  REPORT_DATA_PAGES,
  REPORT_DEVICE_ZERO_PAGES,
  REPORT_UNANSWERED_PAGES,
  REPORT_UNIFORM_PAGES,
  REPORT_WRONG_ANSWERS,
  type ScanOutput,
  type SegmentScanner,
} from '../../native/binding.js';
import { bound, type ChunkCodec, type CodecSettings, createCodec } from '../codecs.js';
import { AheadClaims, type SlottedClaim } from './aheadClaims.js';
import { BaseDiff, type SegmentCounts } from './baseDiff.js';
import { ChainSource } from './chainSource.js';
import { asBuffer, CommitLine, type CommitShared, writeAt } from './commitLine.js';
import {
  isAborted,
  NUMBER_NEXT_SEGMENT,
  type SharedControl,
  STAT_DATA_BYTES,
  STAT_DONE_BYTES,
  STAT_IMAGE_BYTES,
  statsOf,
  WORD_ABORT,
  WORD_CLAIM_LOCK,
} from './control.js';
import { Duplicates, type DuplicatesShared } from './duplicates.js';
import { ChangedFeed } from './feeds/changedFeed.js';
import { type Claim, ClaimNumbers, type Feed, type FeedContext, type StoredSegments } from './feeds/feed.js';
import { FirstLookFeed } from './feeds/firstLookFeed.js';
import { ImageFeed } from './feeds/imageFeed.js';
import { LateFeed } from './feeds/lateFeed.js';
import { QemuStreamFeed } from './feeds/qemuStreamFeed.js';
import { RandomFeed } from './feeds/randomFeed.js';
import type { ImageSourceDescription, SourceDescription } from './feeds/sourceDescription.js';
import { StreamFeed } from './feeds/streamFeed.js';
import type { LinkDescription } from './link.js';
import type { LiveDescription } from './live/liveDescription.js';
import { Aborted, lock, unlock } from './mutex.js';
import { Pacer } from './pacer.js';
import { PayloadSealing } from './payloadSealing.js';
import { RecordsReadBack } from './storedSegments.js';

/** Finished segments that a worker may hold while an earlier one of another worker is not done, unless memory is short. */
export const OUTPUT_BUFFERS_PER_WORKER = 3;

export interface SaveJob {
  readonly kind: 'save';
  readonly worker: number;
  readonly commit: CommitShared;
  /** Of the buffers of `commit`, those that each worker has; at least one. */
  readonly outputBuffers: number;
  readonly source: SourceDescription | ImageSourceDescription | LiveDescription;
  /** Of a differential save: the base and the images below it. Else empty. */
  readonly base: readonly LinkDescription[];
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly chunkSize: number;
  readonly regionSizes: readonly number[];
  readonly codec: CodecSettings;
  readonly detector: 'auto' | 'avx2' | 'neon' | 'scalar';
  /** An open DSA device to which this worker hands its segments in advance; only with memory that lies in files. */
  readonly device?: JobDevice | undefined;
  /** 0 to 100: share of the zero pages that is stored as data. */
  readonly normalPageRatio?: number | undefined;
  /** Duplicate pages are stored once; only of a source of extents that holds still. */
  readonly duplicates?: DuplicatesShared | undefined;
}

export interface JobDevice {
  readonly handle: number;
  /** Segments that are with the device while one is compressed. */
  readonly aheadSegments: number;
  readonly selfCheck: boolean;
}

export interface SaveWorkerResult {
  /** Two words (low, high) a region. */
  readonly sums: BigUint64Array;
  readonly device: DeviceShare;
}

/** What the device did for one worker. */
export interface DeviceShare {
  /** Pages that the device called zero. */
  pagesZero: number;
  /** Pages that the device gave no answer for and the CPU looked at. */
  pagesByCpu: number;
  pagesChecked: number;
  pagesWrong: number;
}

/** Bytes that an output buffer needs for any segment. */
export function outputBufferBytes(geometry: Geometry, alignmentBytes: number): number {
  const tables = PREFIX_BYTES + segmentTablesMaxBytes(geometry, alignmentBytes);
  return roundUp(tables + geometry.segmentSize + bound(geometry.chunkSize) + alignmentBytes, MIB);
}

export function runSaveWorker(job: SaveJob): SaveWorkerResult {
  return new SaveWorker(job).run();
}

const NO_REFERENCES = new BigUint64Array(0);

interface Pending {
  readonly sequence: number;
  readonly segment: number;
  readonly buffer: number;
  readonly bytes: number;
}

class SaveWorker {
  readonly #job: SaveJob;
  readonly #control: SharedControl;
  readonly #geometry: Geometry;
  readonly #line: CommitLine;
  readonly #codec: ChunkCodec;
  readonly #scanner: SegmentScanner;
  readonly #feed: Feed;
  readonly #output: ScanOutput;
  readonly #sums: BigUint64Array;
  readonly #stats: Float64Array;
  readonly #base: BaseDiff | undefined;
  readonly #duplicates: Duplicates | undefined;
  readonly #buffers: ReadonlyMap<number, Buffer>;
  /** Of an encrypted image. */
  readonly #sealing: PayloadSealing | undefined;
  readonly #free: number[];
  readonly #pending: Pending[] = [];
  readonly #pacer: Pacer | undefined;
  readonly #takePlaced = () => this.#writePlaced();
  readonly #claims: AheadClaims<Claim>;
  readonly #share: DeviceShare = { pagesZero: 0, pagesByCpu: 0, pagesChecked: 0, pagesWrong: 0 };

  constructor(job: SaveJob) {
    const { pageSize, segmentSize, commit } = job;
    this.#job = job;
    this.#control = commit.control;
    this.#geometry = new Geometry(pageSize, segmentSize, job.chunkSize, job.regionSizes);
    this.#line = new CommitLine(commit);
    this.#pacer = Pacer.of(commit.control);
    this.#codec = createCodec(job.codec);
    const { device } = job;
    this.#scanner = new native.SegmentScanner({
      detector: job.detector,
      pageSize,
      segmentSize,
      normalPagePercent: job.normalPageRatio,
      selfCheck: device?.selfCheck,
      device: device?.handle,
      slots: device === undefined ? undefined : device.aheadSegments + 1,
    });
    this.#claims = new AheadClaims(
      {
        claim: () => this.#claim(),
        submit: (claim, slot) => this.#submitAhead(claim, slot),
        wanted: () => this.#claimsWanted(),
      },
      device?.aheadSegments ?? 0,
    );
    this.#base = job.base.length === 0 ? undefined : new BaseDiff(job.base, this.#geometry);
    this.#sums = new BigUint64Array(2 * job.regionSizes.length);
    this.#stats = statsOf(this.#control, job.worker);
    this.#duplicates = this.#createDuplicates();
    this.#feed = this.#createFeed();
    this.#output = this.#feed.output;
    const { keys } = commit.output;
    this.#sealing = keys && new PayloadSealing(keys, commit.control);
    this.#free = Array.from({ length: job.outputBuffers }, (_, i) => job.worker * job.outputBuffers + i);
    this.#buffers = new Map(this.#free.map((number) => [number, asBuffer(commit.buffers[number]!)]));
  }

  run(): SaveWorkerResult {
    try {
      return this.#run();
    } finally {
      this.#scanner.close();
    }
  }

  #run(): SaveWorkerResult {
    for (;;) {
      if (isAborted(this.#control)) throw new Aborted();
      const next = this.#claims.next();
      if (next === undefined) break;
      this.#process(next);
      this.#writePlaced();
    }
    while (this.#pending.length > 0) {
      this.#line.waitForPlace(this.#pending[0]!.sequence);
      this.#writePlaced();
    }
    return { sums: this.#sums, device: this.#share };
  }

  #createFeed(): Feed {
    const { source, device } = this.#job;
    const chain = source.kind === 'image' ? new ChainSource(source.links, this.#geometry) : undefined;
    const index = (this.#base ?? chain)?.index;
    const context: FeedContext = {
      control: this.#control,
      geometry: this.#geometry,
      scanner: this.#scanner,
      stats: this.#stats,
      deviceSlots: device === undefined ? 0 : device.aheadSegments + 1,
      claims: new ClaimNumbers(this.#control, this.#geometry, this.#stats, index),
      withHashes: this.#duplicates !== undefined,
      stored: this.#storedSegments(),
    };
    switch (source.kind) {
      case 'extents':
      case 'pages':
        return new RandomFeed(source, context);
      case 'stream':
        return new StreamFeed(source, context);
      case 'qemu-stream':
        return new QemuStreamFeed(source, context);
      case 'image':
        return new ImageFeed(chain!, context);
      case 'first-look':
        return new FirstLookFeed(source, context);
      case 'changed':
        return new ChangedFeed(source, context);
      case 'late':
        return new LateFeed(source, context);
    }
  }

  #createDuplicates(): Duplicates | undefined {
    const { duplicates, source } = this.#job;
    if (duplicates === undefined || source.kind !== 'extents') return undefined;
    return new Duplicates(duplicates, this.#control, this.#geometry, source);
  }

  #storedSegments(): StoredSegments | undefined {
    const { commit, codec } = this.#job;
    if (commit.overriding === undefined) return undefined;
    return new RecordsReadBack(this.#line, commit.output, this.#geometry, codec, this.#sums, this.#takePlaced);
  }

  #submitAhead(claim: Claim, slot: number): void {
    if (this.#job.device !== undefined) this.#feed.submitAhead(claim, slot);
  }

  /** Towards the end each worker leaves the others their share: a look without the lock is good enough for that. */
  #claimsWanted(): number {
    const workers = this.#job.commit.buffers.length / this.#job.outputBuffers;
    const left = this.#geometry.segmentCount - this.#control.numbers[NUMBER_NEXT_SEGMENT]!;
    return Math.max(0, Math.floor(left / workers));
  }

  #claim(): Claim | undefined {
    const { words } = this.#control;
    lock(words, WORD_CLAIM_LOCK, WORD_ABORT);
    try {
      return this.#feed.claim();
    } finally {
      unlock(words, WORD_CLAIM_LOCK);
    }
  }

  #process({ claim, slot }: SlottedClaim<Claim>): void {
    const absentPages = this.#feed.scan(claim, slot);
    this.#countAnswers();
    const { report, leaves } = this.#output;
    const dataPages = report[REPORT_DATA_PAGES]!;
    const isZero = dataPages + report[REPORT_UNIFORM_PAGES]! === 0;
    if (!isZero) {
      const sum = this.#sums.subarray(claim.region * 2, claim.region * 2 + 2);
      native.addLeaves(claim.region, claim.regionOffset / MIB, leaves, leavesIn(claim.sizeBytes), sum);
    }
    const counts = this.#takeOutDuplicates(claim, this.#takeOutBase(claim, absentPages));
    const hasNothing =
      this.#base === undefined ? isZero && counts.absentPages === 0 : counts.sameAsBasePages === this.#pagesOf(claim);
    const isFirst = claim.earlierSequence === undefined;
    // A record that there may be of it already counts until another does.
    if (hasNothing && isFirst) this.#line.announceNone(claim.sequence, this.#takePlaced);
    else this.#store(claim, counts);
    if (!isFirst) return;
    this.#stats[STAT_DONE_BYTES]! += claim.sizeBytes;
    this.#stats[STAT_DATA_BYTES]! += dataPages * this.#geometry.pageSize;
  }

  #pagesOf({ sizeBytes }: Claim): number {
    return sizeBytes / this.#geometry.pageSize;
  }

  /** The pages that are to be stored; in a differential save without those that the base has too. */
  #takeOutBase(claim: Claim, absentPages: number): SegmentCounts {
    const { report } = this.#output;
    const pageCount = this.#pagesOf(claim);
    if (this.#base !== undefined) return this.#base.apply(claim.segment, pageCount, claim.entries, this.#output);
    const dataPages = report[REPORT_DATA_PAGES]!;
    const uniformPages = report[REPORT_UNIFORM_PAGES]!;
    const zeroPages = pageCount - dataPages - uniformPages - absentPages;
    return { dataPages, uniformPages, referencePages: 0, zeroPages, sameAsBasePages: 0, absentPages };
  }

  #takeOutDuplicates(claim: Claim, counts: SegmentCounts): SegmentCounts {
    if (this.#duplicates === undefined) return counts;
    const { sequence, segment } = claim;
    if (counts.dataPages === 0) {
      this.#duplicates.pass(sequence, this.#takePlaced);
      return counts;
    }
    const pageCount = this.#pagesOf(claim);
    return { ...counts, ...this.#duplicates.takeOut(sequence, segment, pageCount, this.#output, this.#takePlaced) };
  }

  #countAnswers(): void {
    const { report } = this.#output;
    this.#share.pagesZero += report[REPORT_DEVICE_ZERO_PAGES]!;
    this.#share.pagesByCpu += report[REPORT_UNANSWERED_PAGES]!;
    this.#share.pagesChecked += report[REPORT_CHECKED_ANSWERS]!;
    this.#share.pagesWrong += report[REPORT_WRONG_ANSWERS]!;
  }

  #store(claim: Claim, counts: SegmentCounts): void {
    const { dataPages, uniformPages, referencePages } = counts;
    const { alignmentBytes } = this.#job.commit.output;
    const sealing = this.#sealing;
    const number = this.#takeBuffer();
    const out = this.#buffers.get(number)!;
    const pageCount = this.#pagesOf(claim);
    const leafCount = leavesIn(claim.sizeBytes);
    const { states, words, leaves } = this.#output;
    const references = this.#duplicates?.targets ?? NO_REFERENCES;
    const pages = { states, pageCount, dataPages, uniformPages, words, referencePages, references };
    const input = { ...pages, leaves, leafCount };
    const plan = encodeSegmentTables(input, this.#geometry, alignmentBytes, sealing !== undefined, out);
    sealing?.begin(out, plan.sealAt);
    const payloadAt = headBytes(plan);
    let at = payloadAt;
    let rawChunks = 0;
    for (let i = 0; i < plan.chunkCount; i++) {
      const rawBytes = chunkRawBytes(i, dataPages, this.#geometry);
      const stored = this.#storeChunk(i, rawBytes, out, at);
      if (stored === rawBytes) rawChunks++;
      sealing?.seal(i, at, stored);
      out.writeUInt32LE(stored, plan.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
      out.writeUInt32LE(native.crc32c(out, at, stored, 0), plan.chunkEntriesAt + CHUNK_ENTRY_BYTES * i + 4);
      at += stored;
    }
    const lengths = { tablesBytes: plan.tablesBytes, payloadBytes: at - payloadAt };
    const bytes = recordBytes(lengths, alignmentBytes);
    out.fill(0, at, bytes);
    const finished = {
      segment: claim.segment,
      ...lengths,
      payloadCrc: sealing === undefined ? 0 : native.crc32c(out, payloadAt, lengths.payloadBytes, 0),
      ...counts,
      chunks: plan.chunkCount,
      rawChunks,
      buffer: number,
    };
    this.#line.announce(claim.sequence, finished, this.#takePlaced);
    this.#pending.push({ sequence: claim.sequence, segment: claim.segment, buffer: number, bytes });
  }

  #storeChunk(i: number, rawBytes: number, out: Buffer, at: number): number {
    const start = i * this.#geometry.chunkSize;
    const raw = this.#output.data.subarray(start, start + rawBytes);
    const stored = this.#codec.compress(raw, out.subarray(at, at + bound(rawBytes)));
    if (stored > 0) return stored;
    out.set(raw, at);
    return rawBytes;
  }

  #takeBuffer(): number {
    while (this.#free.length === 0) {
      this.#line.waitForPlace(this.#pending[0]!.sequence);
      this.#writePlaced();
    }
    return this.#free.pop()!;
  }

  /** Writes this worker's records that have got a place, oldest first. */
  #writePlaced(): void {
    while (this.#pending.length > 0) {
      const { sequence, segment, buffer, bytes } = this.#pending[0]!;
      const offset = this.#line.takePlace(sequence);
      if (offset === undefined) return;
      if (offset >= 0) writeAt(this.#job.commit.output, this.#buffers.get(buffer)!, bytes, offset, this.#pacer);
      if (this.#job.commit.overriding !== undefined) this.#line.noteWritten(segment, offset);
      this.#stats[STAT_IMAGE_BYTES]! += bytes;
      this.#pending.shift();
      this.#free.push(buffer);
    }
  }
}
