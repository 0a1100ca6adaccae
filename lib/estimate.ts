/**
 * `estimate`: what a save of a source would take, in bytes and in seconds, without writing anything.
 *
 * In full, every segment is scanned and compressed as a save does it, and the size is that of the image, to the byte as long as
 * the options are the same. From a sample, pieces of 1 MiB (or one chunk, where that is more) are, and the total follows with
 * its bounds (sampleBounds.ts). Holes are passed over and known to take nothing. A piece's last chunk may be shorter than it
 * would be in a whole segment and shrink a little less, so a sample errs towards too much, by 1 % and less of real memory.
 */

import { statfsSync } from 'node:fs';
import { Geometry } from '../formats/vmsnap/geometry.js';
import {
  alignmentOf,
  COUNTED_TABLES_BYTES,
  FOOTER_BYTES,
  HEADER_BYTES,
  INDEX_BLOCK_ENTRIES,
  INDEX_ENTRY_BYTES,
  INDEX_LIST_ENTRY_BYTES,
  MIB,
  PREFIX_BYTES,
  roundUp,
  SEGMENT_TABLES_FIXED_BYTES,
} from '../formats/vmsnap/layout.js';
import { encodeEndManifest, encodeStartManifest, type PageCounts } from '../formats/vmsnap/manifest.js';
import { native } from '../native/binding.js';
import { withSystemErrors } from '../native/errors.js';
import { abortReason, linkSignal } from './abort.js';
import { kernelOf } from './detector.js';
import { SourceGuard } from './files/sourceGuard.js';
import { checkSaveOptions, type SaveSettings, usage } from './options.js';
import { createControl, STAT_READ_BYTES, sumStat } from './pipeline/control.js';
import { createDuplicatesShared } from './pipeline/duplicates.js';
import {
  type EstimateJob,
  type EstimateWorkerResult,
  PIECE_ABSENT_PAGES,
  PIECE_BYTES,
  PIECE_CHUNKS,
  PIECE_DATA_PAGES,
  PIECE_NUMBERS,
  PIECE_PAYLOAD_BYTES,
  PIECE_RAW_CHUNKS,
  PIECE_RECORD_BYTES,
  PIECE_REFERENCE_PAGES,
  PIECE_SECONDS,
  PIECE_TABLES_BYTES,
  PIECE_UNIFORM_PAGES,
} from './pipeline/estimateWorker.js';
import { createReader } from './pipeline/feeds/memoryReader.js';
import {
  type ImageSourceDescription,
  isRandom,
  type RandomDescription,
  type SourceDescription,
} from './pipeline/feeds/sourceDescription.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import { type Bounds, CONFIDENCE, chooseSample, SAMPLE_MIN_PIECES, totalBounds } from './sampleBounds.js';
import { type OpenedSource, openSource } from './source.js';
import { settingsFor, withMachine } from './sourceSettings.js';
import type { EstimateOptions, EstimateResult, EstimateTarget } from './types.js';
import { version } from './version.js';

const DEFAULT_SAMPLE_BYTES = 256 * MIB;
/** Tables of a piece of data pages only, which is the largest there is. */
const PIECE_TABLES_MAX_BYTES = 1024;
/** What a save does beside scanning and compressing: rough figures, from measurements of many saves. */
const STARTUP_SECONDS = 0.1;
const WRITE_BYTES_PER_SECOND = 1e9;
const DIGEST_HEX = '0'.repeat(32);

/**
 * Estimates what a save would take.
 * @param source a memory file or block device; undefined if every region names its file.
 * @throws USAGE for a pipe and a gzip file, of which no sample can be taken; else as a save does.
 */
export async function estimate(source: string | undefined, options: EstimateOptions = {}): Promise<EstimateResult> {
  const asked = checkSaveOptions(options);
  checkSampleBytes(options, pieceSizeOf(asked));
  options.signal?.throwIfAborted();
  if (source === '-') throw notSampled('standard input');
  const opened = await openSource(source, options, asked.pageSize);
  try {
    const settings = settingsFor(opened, asked, options);
    const sampleBytes = checkSampleBytes(options, pieceSizeOf(settings));
    const references = options.references !== false && holdsStill(opened, options);
    const own = { ...withMachine(options, opened.machine), sampleBytes, references };
    const result = await estimateOpened(opened, settings, own);
    if (options.target === undefined) return result;
    return { ...result, target: describeTarget(options.target, result.imageBytes) };
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    opened.close();
  }
}

/** Whether a save that began now would look for duplicates. */
function holdsStill({ guarded }: OpenedSource, { frozen }: EstimateOptions): boolean {
  const guard = new SourceGuard(guarded, frozen ?? false, () => {});
  guard.close();
  return guard.holdsStill;
}

function checkSampleBytes({ full, sampleBytes }: EstimateOptions, pieceSize: number): number {
  if (full && sampleBytes !== undefined) throw usage('a full estimate takes no sample', 'choose one of the two');
  const least = SAMPLE_MIN_PIECES * pieceSize;
  if (sampleBytes === undefined) return Math.max(DEFAULT_SAMPLE_BYTES, least);
  if (Number.isSafeInteger(sampleBytes) && sampleBytes >= least) return sampleBytes;
  throw usage(`a sample of ${sampleBytes} bytes says too little; it takes ${least} or more`);
}

function pieceSizeOf({ pageSize, chunkSize }: SaveSettings): number {
  return Math.max(MIB, pageSize, chunkSize);
}

function notSampled(what: string): Error {
  return usage(
    `${what} can be read only once, from the front: no estimate can be made of it`,
    'put the memory into a file first (gunzip -c FILE.gz > FILE)',
  );
}

type OpenedOptions = Pick<
  EstimateOptions,
  'full' | 'sampleBytes' | 'signal' | 'onProgress' | 'progressIntervalSeconds' | 'name' | 'uuid'
> & {
  /** Count duplicates once, where everything is looked at: how many there are, no sample tells. */
  readonly references?: boolean;
};

/** A source that is open. */
export type EstimateSource = Pick<OpenedSource, 'manifest' | 'regions'> & {
  readonly attachments?: OpenedSource['attachments'] | undefined;
  readonly description: SourceDescription | ImageSourceDescription;
};

/** The same for a source that is open. */
export async function estimateOpened(
  source: EstimateSource,
  settings: SaveSettings,
  options: OpenedOptions,
): Promise<EstimateResult> {
  const { description } = source;
  if (!isRandom(description)) throw notSampled(`the source ${source.manifest.name ?? description.kind}`);
  return await new Estimate(source, description, settings, options).run();
}

class Estimate {
  readonly #source: EstimateSource;
  readonly #description: RandomDescription;
  readonly #settings: SaveSettings;
  readonly #options: OpenedOptions;
  readonly #started = performance.now();
  readonly #regionSizes: readonly number[];
  readonly #segments: Geometry;
  /** Numbers of the segments that are not wholly holes. */
  readonly #dataSegments: readonly number[];
  /** Everything is looked at, in whole segments. */
  readonly #full: boolean;
  /** A piece is a segment of this geometry. */
  readonly #pieces: Geometry;
  /** Numbers of the pieces that are not wholly holes, and which of them are looked at. */
  readonly #dataPieces: readonly number[];
  readonly #chosen: readonly number[];

  constructor(source: EstimateSource, description: RandomDescription, settings: SaveSettings, options: OpenedOptions) {
    this.#source = source;
    this.#description = description;
    this.#settings = settings;
    this.#options = options;
    this.#regionSizes = source.regions.map((region) => region.sizeBytes!);
    const { pageSize, segmentSize, chunkSize } = settings;
    this.#segments = new Geometry(pageSize, segmentSize, chunkSize, this.#regionSizes);
    this.#dataSegments = dataPieces(this.#segments, description);
    const pieceSize = Math.min(segmentSize, pieceSizeOf(settings));
    const pieces = new Geometry(pageSize, pieceSize, chunkSize, this.#regionSizes);
    const count = Math.floor((options.sampleBytes ?? DEFAULT_SAMPLE_BYTES) / pieceSize);
    const inPieces = options.full ? [] : dataPieces(pieces, description);
    this.#full = options.full === true || inPieces.length <= count;
    this.#pieces = this.#full ? this.#segments : pieces;
    this.#dataPieces = this.#full ? this.#dataSegments : inPieces;
    this.#chosen = chooseSample(this.#dataPieces.length, this.#full ? this.#dataPieces.length : count);
  }

  async run(): Promise<EstimateResult> {
    const { measured, detector, readBytes, threads } = await this.#measure();
    const figures = Array.from({ length: this.#chosen.length }, (_, i) =>
      measured.subarray(i * PIECE_NUMBERS, (i + 1) * PIECE_NUMBERS),
    );
    const pages = this.#pageCounts(figures);
    const { codec } = this.#settings;
    return {
      memoryBytes: this.#segments.totalBytes,
      pageSize: this.#settings.pageSize,
      pages,
      imageBytes: wholeBytes(this.#full ? this.#exactBytes(figures, pages) : this.#sampledBytes(figures, pages)),
      confidence: this.#full ? 1 : CONFIDENCE,
      seconds: this.#seconds(figures, threads),
      codec: codec.name,
      level: codec.level,
      sample: {
        full: this.#full,
        pieces: this.#chosen.length,
        bytes: figures.reduce((sum, own) => sum + own[PIECE_BYTES]!, 0),
        ofBytes: this.#dataPieces.reduce((sum, piece) => sum + this.#pieces.placeOf(piece).sizeBytes, 0),
      },
      target: undefined,
      run: { detector, threads, durationSeconds: (performance.now() - this.#started) / 1000, readBytes },
    };
  }

  async #measure(): Promise<{ measured: Float64Array; detector: string; readBytes: number; threads: number }> {
    const { pageSize, chunkSize, codec, detector } = this.#settings;
    const count = this.#chosen.length;
    const threads = Math.max(1, Math.min(this.#settings.threads, count));
    const control = createControl(threads);
    const pieces = new Float64Array(new SharedArrayBuffer(count * 8));
    pieces.set(this.#chosen.map((number) => this.#dataPieces[number]!));
    const measured = new Float64Array(new SharedArrayBuffer(count * PIECE_NUMBERS * 8));
    const shared: Omit<EstimateJob, 'worker'> = {
      kind: 'estimate',
      control,
      source: this.#description,
      regionSizes: this.#regionSizes,
      pageSize,
      chunkSize,
      pieceSize: this.#pieces.segmentSize,
      alignmentBytes: this.#full ? alignmentOf(codec.name) : 1,
      codec,
      detector: kernelOf(detector),
      pieces,
      measured,
      duplicates: this.#full && this.#options.references === true ? createDuplicatesShared() : undefined,
    };
    const totalBytes = pieces.reduce((sum, piece) => sum + this.#pieces.placeOf(piece).sizeBytes, 0);
    const unlink = linkSignal(this.#options.signal, control);
    const endReports = reportProgress('estimate', control, totalBytes, this.#options);
    try {
      const jobs = Array.from({ length: threads }, (_, worker): EstimateJob => ({ ...shared, worker }));
      const detectors = await runJobs<EstimateWorkerResult>(jobs, control);
      return { measured, detector: detectors[0]!, readBytes: sumStat(control, STAT_READ_BYTES), threads };
    } finally {
      endReports();
      unlink();
    }
  }

  /** In a sample, what there is likely to be. */
  #pageCounts(figures: readonly Float64Array[]): PageCounts {
    const total = this.#segments.totalBytes / this.#settings.pageSize;
    const share = figures.length === 0 ? 0 : this.#dataPieces.length / figures.length;
    const data = Math.min(total, Math.round(sumOf(figures, PIECE_DATA_PAGES) * share));
    const uniform = Math.min(total - data, Math.round(sumOf(figures, PIECE_UNIFORM_PAGES) * share));
    const absent = Math.min(total - data - uniform, Math.round(sumOf(figures, PIECE_ABSENT_PAGES) * share));
    const reference = sumOf(figures, PIECE_REFERENCE_PAGES);
    const zero = total - data - uniform - reference - absent;
    return { zero, data, uniform, reference, sameAsBase: 0, absent };
  }

  #exactBytes(figures: readonly Float64Array[], pages: PageCounts): Bounds {
    const withRecord = this.#dataSegments.filter((_, i) => figures[i]![PIECE_RECORD_BYTES]! > 0);
    const chunks = {
      count: sumOf(figures, PIECE_CHUNKS),
      stored: sumOf(figures, PIECE_PAYLOAD_BYTES),
      raw: sumOf(figures, PIECE_RAW_CHUNKS),
    };
    const bytes = sumOf(figures, PIECE_RECORD_BYTES) + this.#frameBytes(pages, chunks) + this.#indexBytes(withRecord);
    return { low: bytes, likely: bytes, high: bytes };
  }

  /** Tables and payloads follow from the sample; what each record has beside them, and the index, from the segments. */
  #sampledBytes(figures: readonly Float64Array[], pages: PageCounts): Bounds {
    const sizes = figures.map((own) =>
      own[PIECE_TABLES_BYTES] === 0
        ? 0
        : own[PIECE_TABLES_BYTES]! - SEGMENT_TABLES_FIXED_BYTES + own[PIECE_PAYLOAD_BYTES]!,
    );
    const most = this.#pieces.segmentSize + PIECE_TABLES_MAX_BYTES;
    const { low, likely, high } = totalBounds(sizes, this.#dataPieces.length, most);
    const frame = this.#frameBytes(pages, { count: 0, stored: Math.round(likely), raw: 0 });
    const alignmentBytes = alignmentOf(this.#settings.codec.name);
    const records = this.#dataSegments.length;
    const recordBytes = PREFIX_BYTES + SEGMENT_TABLES_FIXED_BYTES;
    const index = this.#indexBytes(this.#dataSegments);
    const beside = likely === 0 ? 0 : records * (recordBytes + alignmentBytes / 2) + index;
    return {
      low: low + frame,
      likely: likely + frame + beside,
      high: high + frame + records * (recordBytes + alignmentBytes) + index,
    };
  }

  /** Header, both manifests, index list and footer. */
  #frameBytes(pages: PageCounts, chunks: { count: number; stored: number; raw: number }): number {
    const { pageSize, segmentSize, chunkSize, codec, labels, createdAt } = this.#settings;
    const alignmentBytes = alignmentOf(codec.name);
    const start = encodeStartManifest({
      tool: `vmsnap ${version}`,
      createdAt,
      pageSize,
      segmentSize,
      chunkSize,
      codec,
      machine: { name: this.#options.name, uuid: this.#options.uuid },
      labels,
      source: this.#source.manifest,
      base: undefined,
      encryption: undefined,
      regions: this.#source.regions,
    });
    const end = encodeEndManifest({
      regions: this.#regionSizes.map((sizeBytes) => ({ sizeBytes, sum: DIGEST_HEX })),
      digest: DIGEST_HEX,
      pages,
      chunks,
      source: { mayHaveChanged: false },
      attachments: [],
    });
    const list = this.#segments.indexBlockCount * INDEX_LIST_ENTRY_BYTES;
    return (
      roundUp(HEADER_BYTES + start.length, alignmentBytes) +
      countedBytes(end.length, alignmentBytes) +
      countedBytes(list, alignmentBytes) +
      FOOTER_BYTES
    );
  }

  /** The index blocks that segments with a record need. */
  #indexBytes(segments: readonly number[]): number {
    const alignmentBytes = alignmentOf(this.#settings.codec.name);
    let bytes = 0;
    let last = -1;
    for (const segment of segments) {
      const block = Math.floor(segment / INDEX_BLOCK_ENTRIES);
      if (block === last) continue;
      const entries = Math.min(INDEX_BLOCK_ENTRIES, this.#segments.segmentCount - block * INDEX_BLOCK_ENTRIES);
      bytes += countedBytes(entries * INDEX_ENTRY_BYTES, alignmentBytes);
      last = block;
    }
    return bytes;
  }

  /** Scanning and compressing as measured, without the first piece of each thread, and a round figure for the rest. */
  #seconds(figures: readonly Float64Array[], threads: number): number {
    const timed = figures.filter((own) => own[PIECE_SECONDS]! > 0);
    if (timed.length === 0) return STARTUP_SECONDS;
    const stored = sumOf(figures, PIECE_PAYLOAD_BYTES) / figures.length / WRITE_BYTES_PER_SECOND;
    const perPiece = sumOf(timed, PIECE_SECONDS) / timed.length + stored;
    const parallel = Math.min(this.#settings.threads, Math.max(threads, this.#dataSegments.length));
    return STARTUP_SECONDS + (perPiece * this.#dataPieces.length) / parallel;
  }
}

/** A record with one payload. */
function countedBytes(payloadBytes: number, alignmentBytes: number): number {
  return roundUp(PREFIX_BYTES + COUNTED_TABLES_BYTES, alignmentBytes) + roundUp(payloadBytes, alignmentBytes);
}

function sumOf(figures: readonly Float64Array[], number: number): number {
  return figures.reduce((sum, own) => sum + own[number]!, 0);
}

function wholeBytes({ low, likely, high }: Bounds): Bounds {
  return { low: Math.floor(low), likely: Math.round(likely), high: Math.ceil(high) };
}

/** The pieces of a geometry that are not wholly unused, rising. */
function dataPieces(geometry: Geometry, description: RandomDescription): number[] {
  const pieces: number[] = [];
  const { pageSize, segmentSize } = geometry;
  const reader = createReader(
    description,
    new native.SegmentScanner({ detector: 'auto', pageSize, segmentSize }),
    geometry,
  );
  for (const { number, firstSegment, segmentCount, sizeBytes } of geometry.regions) {
    for (let piece = 0; piece < segmentCount; piece++) {
      const from = piece * segmentSize;
      const used = Math.max(from, reader.nextUsed(number, from, sizeBytes));
      if (used >= sizeBytes) break;
      piece = Math.floor(used / segmentSize);
      pieces.push(firstSegment + piece);
    }
  }
  return pieces;
}

function describeTarget(folder: string, { low, likely, high }: Bounds): EstimateTarget {
  const freeBytes = freeBytesOf(folder);
  if (freeBytes === undefined) return { folder, freeBytes, fits: 'unknown' };
  const fits = high <= freeBytes ? 'yes' : likely <= freeBytes ? 'likely' : low <= freeBytes ? 'unlikely' : 'no';
  return { folder, freeBytes, fits };
}

/**
 * What this process may still write into a file system; root may use the reserve as well. Undefined where the file system
 * does not say, as one without a limit.
 */
export function freeBytesOf(folder: string): number | undefined {
  const { blocks, bavail, bfree, bsize } = withSystemErrors('look at the file system of', folder, () =>
    statfsSync(folder),
  );
  return blocks === 0 ? undefined : (process.geteuid?.() === 0 ? bfree : bavail) * bsize;
}
