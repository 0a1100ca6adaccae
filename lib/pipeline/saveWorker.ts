/**
 * One worker of a save: claims a segment, scans and compacts it, compresses its chunks into an output buffer, announces
 * it, and writes it once it has a place. All buffers are made once, so memory does not depend on the source's size.
 */
import { Geometry, leavesIn } from '../../formats/vmsnap/geometry.js';
import { CHUNK_ENTRY_BYTES, MIB, PREFIX_BYTES, roundUp } from '../../formats/vmsnap/layout.js';
import { headBytes, recordBytes } from '../../formats/vmsnap/record.js';
import {
  chunkRawBytes,
  encodeSegmentTables,
  finishSegmentTables,
  segmentTablesMaxBytes,
} from '../../formats/vmsnap/segmentRecord.js';
import {
  native,
  REPORT_DATA_PAGES,
  REPORT_FAILED_OFFSET,
  REPORT_HOLE_BYTES,
  REPORT_LENGTH,
  REPORT_READ_BYTES,
  REPORT_UNIFORM_PAGES,
  SCAN_TRUNCATED,
  type ScanOutput,
  type SegmentScanner,
} from '../../native/binding.js';
import { errnoError, VmsnapError } from '../../native/errors.js';
import { bound, type ChunkCodec, type CodecSettings, createCodec } from '../codecs.js';
import { asBuffer, CommitLine, type CommitShared, writeAt } from './commitLine.js';
import {
  isAborted,
  NUMBER_INPUT_STATE,
  NUMBER_NEXT_SEGMENT,
  NUMBER_NEXT_SEQUENCE,
  type SharedControl,
  STAT_DATA_BYTES,
  STAT_DONE_BYTES,
  STAT_HOLE_BYTES,
  STAT_IMAGE_BYTES,
  STAT_READ_BYTES,
  statsOf,
  WORD_ABORT,
  WORD_CLAIM_LOCK,
} from './control.js';
import { Aborted, lock, unlock } from './mutex.js';

/** Finished segments that a worker may hold while an earlier one of another worker is not done. */
export const OUTPUT_BUFFERS_PER_WORKER = 3;

/** A part of a file that holds a part of a region. */
export interface SourceExtent {
  readonly fd: number;
  readonly path: string;
  readonly fileOffset: number;
  readonly lengthBytes: number;
}

export type SourceDescription =
  /** `regions[i]` lies in one extent. `cached`: its file has a page cache worth keeping clean. */
  | { readonly kind: 'extents'; readonly regions: readonly SourceExtent[]; readonly cached: boolean }
  /** Regions end to end from a pipe or the like. `openEnded`: the last region takes what comes. */
  | { readonly kind: 'stream'; readonly fd: number; readonly path: string; readonly openEnded: boolean };

export interface SaveJob {
  readonly kind: 'save';
  readonly worker: number;
  readonly commit: CommitShared;
  readonly source: SourceDescription;
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly chunkSize: number;
  readonly regionSizes: readonly number[];
  readonly codec: CodecSettings;
  readonly detector: 'auto' | 'avx2' | 'neon' | 'scalar';
}

export interface SaveWorkerResult {
  /** Two words (low, high) a region. */
  readonly sums: BigUint64Array;
  readonly detector: string;
}

/** Bytes that an output buffer needs for any segment. */
export function outputBufferBytes(geometry: Geometry, alignmentBytes: number): number {
  const tables = PREFIX_BYTES + segmentTablesMaxBytes(geometry, alignmentBytes);
  return roundUp(tables + geometry.segmentSize + bound(geometry.chunkSize) + alignmentBytes, MIB);
}

export function runSaveWorker(job: SaveJob): SaveWorkerResult {
  return new SaveWorker(job).run();
}

interface Claim {
  readonly sequence: number;
  readonly segment: number;
  readonly region: number;
  readonly regionOffset: number;
  readonly sizeBytes: number;
}

interface Pending {
  readonly sequence: number;
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
  readonly #output: ScanOutput;
  readonly #sums: BigUint64Array;
  readonly #stats: Float64Array;
  readonly #extent = new Float64Array(3);
  readonly #input: Uint8Array | undefined;
  readonly #buffers: ReadonlyMap<number, Buffer>;
  readonly #free: number[];
  readonly #pending: Pending[] = [];
  readonly #takePlaced = () => this.#writePlaced();

  constructor(job: SaveJob) {
    const { pageSize, segmentSize, commit } = job;
    this.#job = job;
    this.#control = commit.control;
    this.#geometry = new Geometry(pageSize, segmentSize, job.chunkSize, job.regionSizes);
    this.#line = new CommitLine(commit);
    this.#codec = createCodec(job.codec);
    this.#scanner = new native.SegmentScanner({ detector: job.detector, pageSize, segmentSize });
    const pages = this.#geometry.pagesPerSegment;
    this.#output = {
      data: new Uint8Array(segmentSize),
      states: new Uint8Array(pages),
      words: new BigUint64Array(pages),
      leaves: new Uint8Array(16 * this.#geometry.leavesPerSegment),
      report: new Float64Array(REPORT_LENGTH),
    };
    this.#sums = new BigUint64Array(2 * job.regionSizes.length);
    this.#stats = statsOf(this.#control, job.worker);
    this.#input = job.source.kind === 'stream' ? new Uint8Array(segmentSize) : undefined;
    this.#free = Array.from(
      { length: OUTPUT_BUFFERS_PER_WORKER },
      (_, i) => job.worker * OUTPUT_BUFFERS_PER_WORKER + i,
    );
    this.#buffers = new Map(this.#free.map((number) => [number, asBuffer(commit.buffers[number]!)]));
  }

  run(): SaveWorkerResult {
    for (;;) {
      if (isAborted(this.#control)) throw new Aborted();
      const claim = this.#claim();
      if (claim === undefined) break;
      this.#process(claim);
      this.#writePlaced();
    }
    while (this.#pending.length > 0) {
      this.#line.waitForPlace(this.#pending[0]!.sequence);
      this.#writePlaced();
    }
    return { sums: this.#sums, detector: this.#scanner.detector };
  }

  #claim(): Claim | undefined {
    const { words } = this.#control;
    lock(words, WORD_CLAIM_LOCK, WORD_ABORT);
    try {
      return this.#job.source.kind === 'extents' ? this.#claimExtent(this.#job.source.regions) : this.#claimStream();
    } finally {
      unlock(words, WORD_CLAIM_LOCK);
    }
  }

  /** The next segment that is not wholly a hole: time goes in proportion to the data, not to the size. */
  #claimExtent(regions: readonly SourceExtent[]): Claim | undefined {
    const { numbers } = this.#control;
    let segment = numbers[NUMBER_NEXT_SEGMENT]!;
    while (segment < this.#geometry.segmentCount) {
      const place = this.#geometry.placeOf(segment);
      const extent = regions[place.region]!;
      const from = extent.fileOffset + place.regionOffset;
      const data = native.seekData(extent.fd, from, extent.fileOffset + extent.lengthBytes);
      if (data < 0) throw errnoError(data, 'read', extent.path, from);
      const hole = Math.floor((data - from) / this.#geometry.segmentSize);
      if (hole === 0 && data < extent.fileOffset + extent.lengthBytes) {
        numbers[NUMBER_NEXT_SEGMENT] = segment + 1;
        return this.#numbered(segment);
      }
      const region = this.#geometry.regions[place.region]!;
      const skipTo =
        data === extent.fileOffset + extent.lengthBytes ? region.firstSegment + region.segmentCount : segment + hole;
      this.#skipHole(segment, skipTo);
      segment = skipTo;
    }
    numbers[NUMBER_NEXT_SEGMENT] = segment;
    return undefined;
  }

  #skipHole(segment: number, end: number): void {
    const first = this.#geometry.placeOf(segment);
    const last = this.#geometry.placeOf(end - 1);
    const bytes = last.regionOffset + last.sizeBytes - first.regionOffset;
    this.#stats[STAT_DONE_BYTES]! += bytes;
    this.#stats[STAT_HOLE_BYTES]! += bytes;
  }

  #numbered(segment: number): Claim {
    const sequence = this.#control.numbers[NUMBER_NEXT_SEQUENCE]!;
    this.#control.numbers[NUMBER_NEXT_SEQUENCE] = sequence + 1;
    return { sequence, segment, ...this.#geometry.placeOf(segment) };
  }

  /** Reads the next segment of a stream into this worker's input buffer. NUMBER_INPUT_STATE 1: the stream has ended. */
  #claimStream(): Claim | undefined {
    const { numbers } = this.#control;
    const source = this.#job.source as Extract<SourceDescription, { kind: 'stream' }>;
    const segment = numbers[NUMBER_NEXT_SEGMENT]!;
    if (numbers[NUMBER_INPUT_STATE] === 1) return undefined;
    if (segment >= this.#geometry.segmentCount) return this.#expectEnd(source);
    const claim = this.#numbered(segment);
    const wanted = claim.sizeBytes;
    const got = this.#readStream(source, this.#input!, wanted);
    numbers[NUMBER_NEXT_SEGMENT] = segment + 1;
    if (got === wanted) return claim;
    numbers[NUMBER_INPUT_STATE] = 1;
    const lastRegion = this.#job.regionSizes.length - 1;
    const total =
      this.#geometry.regions.slice(0, claim.region).reduce((sum, r) => sum + r.sizeBytes, 0) + claim.regionOffset + got;
    if (!source.openEnded || claim.region !== lastRegion) throw this.#shortStream(source, total);
    if (got % this.#geometry.pageSize !== 0) throw notWholePages(source.path, total, this.#geometry.pageSize);
    if (total === 0)
      throw new VmsnapError('USAGE', `${source.path} is empty: there is no memory to save`, { path: source.path });
    if (got === 0) {
      // The stream ended at a segment boundary: the claim was for nothing.
      numbers[NUMBER_NEXT_SEQUENCE] = claim.sequence;
      return undefined;
    }
    return { ...claim, sizeBytes: got };
  }

  #expectEnd(source: { fd: number; path: string }): undefined {
    this.#control.numbers[NUMBER_INPUT_STATE] = 1;
    const extra = new Uint8Array(1);
    if (this.#readStream(source, extra, 1) === 0) return undefined;
    throw new VmsnapError(
      'USAGE',
      `${source.path} goes on after the ${this.#geometry.totalBytes} bytes that the regions take`,
      {
        path: source.path,
        hint: 'check the sizes of --region',
      },
    );
  }

  #readStream(source: { fd: number; path: string }, into: Uint8Array, length: number): number {
    const got = native.readStream(source.fd, into, 0, length, this.#control.words, WORD_ABORT);
    if (isAborted(this.#control)) throw new Aborted();
    if (got < 0) throw errnoError(got, 'read', source.path);
    this.#stats[STAT_READ_BYTES]! += got;
    return got;
  }

  #shortStream(source: { path: string }, total: number): VmsnapError {
    return new VmsnapError(
      'USAGE',
      `${source.path} ends after ${total} bytes, before the ${this.#geometry.totalBytes} that the regions take`,
      { path: source.path, offset: total, hint: 'check the sizes of --region' },
    );
  }

  #process(claim: Claim): void {
    this.#scan(claim);
    const { report, leaves } = this.#output;
    const dataPages = report[REPORT_DATA_PAGES]!;
    const uniformPages = report[REPORT_UNIFORM_PAGES]!;
    if (dataPages + uniformPages === 0) {
      this.#line.announceZero(claim.sequence, this.#takePlaced);
    } else {
      const leafCount = leavesIn(claim.sizeBytes);
      const sum = this.#sums.subarray(claim.region * 2, claim.region * 2 + 2);
      native.addLeaves(claim.region, claim.regionOffset / MIB, leaves, leafCount, sum);
      this.#store(claim, dataPages, uniformPages, leafCount);
    }
    this.#stats[STAT_DONE_BYTES]! += claim.sizeBytes;
    this.#stats[STAT_DATA_BYTES]! += dataPages * this.#geometry.pageSize;
  }

  #scan(claim: Claim): void {
    if (this.#job.source.kind === 'stream') {
      this.#scanner.scanMemory(this.#input!, 0, claim.sizeBytes, this.#output);
      return;
    }
    const extent = this.#job.source.regions[claim.region]!;
    const offset = extent.fileOffset + claim.regionOffset;
    const wasCached = !this.#job.source.cached || isCached(extent.fd, offset, claim.sizeBytes);
    this.#extent[0] = extent.fd;
    this.#extent[1] = offset;
    this.#extent[2] = claim.sizeBytes;
    const status = this.#scanner.scanExtents(this.#extent, 1, this.#output);
    const { report } = this.#output;
    if (status === SCAN_TRUNCATED) throw sourceTruncated(extent.path, report[REPORT_FAILED_OFFSET]!);
    if (status < 0) throw errnoError(status, 'read', extent.path, report[REPORT_FAILED_OFFSET]!);
    this.#stats[STAT_READ_BYTES]! += report[REPORT_READ_BYTES]!;
    this.#stats[STAT_HOLE_BYTES]! += report[REPORT_HOLE_BYTES]!;
    if (!wasCached) native.dropCache(extent.fd, offset, claim.sizeBytes);
  }

  #store(claim: Claim, dataPages: number, uniformPages: number, leafCount: number): void {
    const { alignmentBytes } = this.#job.commit.output;
    const number = this.#takeBuffer();
    const out = this.#buffers.get(number)!;
    const pageCount = claim.sizeBytes / this.#geometry.pageSize;
    const { states, words, leaves } = this.#output;
    const input = { states, pageCount, dataPages, uniformPages, words, leaves, leafCount };
    const plan = encodeSegmentTables(input, this.#geometry, alignmentBytes, out);
    const payloadAt = headBytes(plan);
    let at = payloadAt;
    let rawChunks = 0;
    for (let i = 0; i < plan.chunkCount; i++) {
      const rawBytes = chunkRawBytes(i, dataPages, this.#geometry);
      const stored = this.#storeChunk(i, rawBytes, out, at);
      if (stored === rawBytes) rawChunks++;
      out.writeUInt32LE(stored, plan.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
      out.writeUInt32LE(native.crc32c(out, at, stored, 0), plan.chunkEntriesAt + CHUNK_ENTRY_BYTES * i + 4);
      at += stored;
    }
    const lengths = { tablesBytes: plan.tablesBytes, payloadBytes: at - payloadAt };
    const bytes = recordBytes(lengths, alignmentBytes);
    out.fill(0, at, bytes);
    const tablesCrc = finishSegmentTables(plan, out);
    const finished = {
      segment: claim.segment,
      ...lengths,
      tablesCrc,
      dataPages,
      uniformPages,
      chunks: plan.chunkCount,
      rawChunks,
      buffer: number,
    };
    this.#line.announce(claim.sequence, finished, this.#takePlaced);
    this.#pending.push({ sequence: claim.sequence, buffer: number, bytes });
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
      const { sequence, buffer, bytes } = this.#pending[0]!;
      const offset = this.#line.takePlace(sequence);
      if (offset === undefined) return;
      if (offset >= 0) writeAt(this.#job.commit.output, this.#buffers.get(buffer)!, bytes, offset);
      this.#stats[STAT_IMAGE_BYTES]! += bytes;
      this.#pending.shift();
      this.#free.push(buffer);
    }
  }
}

/**
 * Whether a segment was in the page cache before we read it. A sample from its middle, because read-ahead of the segment
 * before has touched its beginning.
 */
function isCached(fd: number, offset: number, length: number): boolean {
  const sample = Math.min(length, 128 * 1024);
  return native.residentShare(fd, offset + Math.floor((length - sample) / 2), sample) > 0.5;
}

export function sourceTruncated(path: string, offset: number): VmsnapError {
  return new VmsnapError(
    'SOURCE_CHANGED',
    `${path} became shorter while it was read: it ends at or before offset ${offset}`,
    {
      path,
      offset,
      hint: 'nothing was saved; pause the machine, or stop what truncates the file, and save again',
    },
  );
}

export function notWholePages(path: string, sizeBytes: number, pageSize: number): VmsnapError {
  return new VmsnapError('USAGE', `${path} has ${sizeBytes} bytes, no multiple of the page size, ${pageSize}`, {
    path,
    hint: 'is it a raw memory file, and whole? Name the part that is memory with --region NAME=SIZE@GPA:FILE+OFFSET',
  });
}
