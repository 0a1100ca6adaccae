/**
 * One worker of an estimate: scans and compresses pieces of a source as a save would, and keeps only what they would take in
 * an image and how long it took.
 */
import { Geometry, leavesIn } from '../../formats/vmsnap/geometry.js';
import { PREFIX_BYTES } from '../../formats/vmsnap/layout.js';
import { headBytes, recordBytes } from '../../formats/vmsnap/record.js';
import { chunkRawBytes, encodeSegmentTables, segmentTablesMaxBytes } from '../../formats/vmsnap/segmentRecord.js';
import {
  native,
  REPORT_DATA_PAGES,
  REPORT_READ_BYTES,
  REPORT_UNIFORM_PAGES,
  type ScanOutput,
  type SegmentScanner,
} from '../../native/binding.js';
import { bound, type ChunkCodec, type CodecSettings, createCodec } from '../codecs.js';
import {
  isAborted,
  NUMBER_NEXT_SEGMENT,
  type SharedControl,
  STAT_DONE_BYTES,
  STAT_IMAGE_BYTES,
  STAT_READ_BYTES,
  statsOf,
  WORD_ABORT,
  WORD_CLAIM_LOCK,
} from './control.js';
import { Duplicates, type DuplicatesShared, type TakenOut } from './duplicates.js';
import { createScanOutput } from './feeds/feed.js';
import { createReader, type MemoryReader } from './feeds/memoryReader.js';
import type { RandomDescription } from './feeds/sourceDescription.js';
import { Aborted, lock, unlock } from './mutex.js';

/** What is told of each piece. */
export const PIECE_TABLES_BYTES = 0;
export const PIECE_PAYLOAD_BYTES = 1;
/** The whole record, if the piece were a segment by itself; 0 for a piece of zeros. */
export const PIECE_RECORD_BYTES = 2;
export const PIECE_DATA_PAGES = 3;
export const PIECE_UNIFORM_PAGES = 4;
export const PIECE_CHUNKS = 5;
export const PIECE_RAW_CHUNKS = 6;
export const PIECE_BYTES = 7;
/** 0: it was the first of its thread, which is slower than those that follow. */
export const PIECE_SECONDS = 8;
export const PIECE_ABSENT_PAGES = 9;
export const PIECE_REFERENCE_PAGES = 10;
export const PIECE_NUMBERS = 11;

export interface EstimateJob {
  readonly kind: 'estimate';
  readonly worker: number;
  readonly control: SharedControl;
  readonly source: RandomDescription;
  readonly regionSizes: readonly number[];
  readonly pageSize: number;
  readonly chunkSize: number;
  /** What is scanned and measured at once; a segment, or a part of one. */
  readonly pieceSize: number;
  readonly alignmentBytes: number;
  readonly codec: CodecSettings;
  /** As in a save; only if every piece is looked at, and is a segment. */
  readonly duplicates: DuplicatesShared | undefined;
  readonly detector: 'auto' | 'avx2' | 'neon' | 'scalar';
  /** Shared: which pieces are looked at, in a geometry in which a piece is a segment. */
  readonly pieces: Float64Array;
  /** Shared: PIECE_NUMBERS figures for each of them. */
  readonly measured: Float64Array;
}

/** The detector's name. */
export type EstimateWorkerResult = string;

export function runEstimateWorker(job: EstimateJob): EstimateWorkerResult {
  return new EstimateWorker(job).run();
}

class EstimateWorker {
  readonly #job: EstimateJob;
  readonly #geometry: Geometry;
  readonly #codec: ChunkCodec;
  readonly #scanner: SegmentScanner;
  readonly #reader: MemoryReader;
  readonly #output: ScanOutput;
  readonly #duplicates: Duplicates | undefined;
  readonly #tables: Buffer;
  readonly #compressed: Uint8Array;
  readonly #stats: Float64Array;

  constructor(job: EstimateJob) {
    const { pageSize, pieceSize, chunkSize } = job;
    this.#job = job;
    this.#geometry = new Geometry(pageSize, pieceSize, chunkSize, job.regionSizes);
    this.#codec = createCodec(job.codec);
    this.#scanner = new native.SegmentScanner({ detector: job.detector, pageSize, segmentSize: pieceSize });
    this.#reader = createReader(job.source, this.#scanner, this.#geometry);
    const { duplicates, source, control } = job;
    if (duplicates !== undefined && source.kind === 'extents')
      this.#duplicates = new Duplicates(duplicates, control, this.#geometry, source);
    this.#output = createScanOutput(this.#geometry, this.#duplicates !== undefined);
    this.#tables = Buffer.alloc(PREFIX_BYTES + segmentTablesMaxBytes(this.#geometry, job.alignmentBytes));
    this.#compressed = new Uint8Array(bound(chunkSize));
    this.#stats = statsOf(job.control, job.worker);
  }

  run(): EstimateWorkerResult {
    let isFirst = true;
    for (let number = this.#claim(); number !== undefined; number = this.#claim()) {
      if (isAborted(this.#job.control)) throw new Aborted();
      const started = performance.now();
      const figures = this.#job.measured.subarray(number * PIECE_NUMBERS, (number + 1) * PIECE_NUMBERS);
      this.#measure(number, this.#job.pieces[number]!, figures);
      figures[PIECE_SECONDS] = isFirst ? 0 : (performance.now() - started) / 1000;
      isFirst = false;
    }
    return this.#scanner.detector;
  }

  #claim(): number | undefined {
    const { words, numbers } = this.#job.control;
    lock(words, WORD_CLAIM_LOCK, WORD_ABORT);
    try {
      const number = numbers[NUMBER_NEXT_SEGMENT]!;
      if (number === this.#job.pieces.length) return undefined;
      numbers[NUMBER_NEXT_SEGMENT] = number + 1;
      return number;
    } finally {
      unlock(words, WORD_CLAIM_LOCK);
    }
  }

  /** `number`: of the piece among those that are looked at. */
  #measure(number: number, piece: number, figures: Float64Array): void {
    const { region, regionOffset, sizeBytes } = this.#geometry.placeOf(piece);
    const absentPages = this.#reader.scan(region, regionOffset, sizeBytes, this.#output);
    const { report } = this.#output;
    const found = report[REPORT_DATA_PAGES]!;
    const { dataPages, referencePages } = this.#takeOutDuplicates(number, piece, sizeBytes, found);
    const uniformPages = report[REPORT_UNIFORM_PAGES]!;
    figures[PIECE_BYTES] = sizeBytes;
    figures[PIECE_DATA_PAGES] = dataPages;
    figures[PIECE_UNIFORM_PAGES] = uniformPages;
    figures[PIECE_REFERENCE_PAGES] = referencePages;
    figures[PIECE_ABSENT_PAGES] = absentPages;
    if (found + uniformPages + absentPages > 0) this.#measureRecord(sizeBytes, figures);
    this.#stats[STAT_DONE_BYTES]! += sizeBytes;
    this.#stats[STAT_READ_BYTES]! += report[REPORT_READ_BYTES]!;
    this.#stats[STAT_IMAGE_BYTES]! += figures[PIECE_RECORD_BYTES]!;
  }

  #takeOutDuplicates(number: number, piece: number, sizeBytes: number, dataPages: number): TakenOut {
    if (this.#duplicates === undefined) return { dataPages, referencePages: 0 };
    if (dataPages > 0) {
      const pageCount = sizeBytes / this.#job.pageSize;
      return this.#duplicates.takeOut(number, piece, pageCount, this.#output, () => {});
    }
    this.#duplicates.pass(number, () => {});
    return { dataPages, referencePages: 0 };
  }

  #measureRecord(sizeBytes: number, figures: Float64Array): void {
    const dataPages = figures[PIECE_DATA_PAGES]!;
    const { pageSize, chunkSize, alignmentBytes } = this.#job;
    const { states, words, leaves, data } = this.#output;
    const leafCount = leavesIn(sizeBytes);
    const pageCount = sizeBytes / pageSize;
    const pages = {
      states,
      pageCount,
      dataPages,
      uniformPages: figures[PIECE_UNIFORM_PAGES]!,
      words,
      referencePages: figures[PIECE_REFERENCE_PAGES]!,
      references: this.#duplicates?.targets ?? new BigUint64Array(0),
    };
    const input = { ...pages, leaves, leafCount };
    const plan = encodeSegmentTables(input, this.#geometry, alignmentBytes, false, this.#tables);
    let payloadBytes = 0;
    let rawChunks = 0;
    for (let chunk = 0; chunk < plan.chunkCount; chunk++) {
      const rawBytes = chunkRawBytes(chunk, dataPages, this.#geometry);
      const start = chunk * chunkSize;
      const stored = this.#codec.compress(data.subarray(start, start + rawBytes), this.#compressed);
      if (stored === 0) rawChunks++;
      payloadBytes += stored === 0 ? rawBytes : stored;
    }
    const lengths = { tablesBytes: plan.tablesBytes, payloadBytes };
    figures[PIECE_TABLES_BYTES] = headBytes(lengths) - PREFIX_BYTES;
    figures[PIECE_PAYLOAD_BYTES] = payloadBytes;
    figures[PIECE_RECORD_BYTES] = recordBytes(lengths, alignmentBytes);
    figures[PIECE_CHUNKS] = plan.chunkCount;
    figures[PIECE_RAW_CHUNKS] = rawChunks;
  }
}
