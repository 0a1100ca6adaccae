/**
 * Regions of which a PageFinder knows where their pages lie (formats/memoryFile.ts).
 *
 * A stretch that lies in files is scanned there, page by page as from any file; one whose pages are compressed is decompressed
 * by the finder straight to where the scanner compacts it. Then the pages that the file does not know become "absent".
 *
 * A device gets what lies in few pieces: for many, making them reachable costs more than checking them. What was found for
 * the device is kept until the scan.
 */
import type { PageFinder, StretchExtents } from '../../../formats/memoryFile.js';
import { NO_FILE } from '../../../formats/memoryFile.js';
import type { Geometry } from '../../../formats/vmsnap/geometry.js';
import { STATE_ABSENT, STATE_ZERO } from '../../../formats/vmsnap/stateMap.js';
import {
  native,
  REPORT_FAILED_EXTENT,
  REPORT_FAILED_OFFSET,
  REPORT_ZERO_PAGES,
  SCAN_TRUNCATED,
  type ScanOutput,
  type SegmentScanner,
} from '../../../native/binding.js';
import { errnoError, VmsnapError } from '../../../native/errors.js';
import type { MemoryReader } from './memoryReader.js';
import type { PagesDescription } from './sourceDescription.js';
import { isCached, sourceTruncated } from './sourceFiles.js';

/** Pieces that a device may get of one segment. */
const DEVICE_EXTENTS_MAX = 16;

/** A stretch that was looked up. */
interface Stretch {
  readonly extents: StretchExtents;
  readonly absent: Uint8Array;
  /** It was handed to the device. */
  submitted: boolean;
}

export class PageReader implements MemoryReader {
  readonly #files: PagesDescription['files'];
  readonly #cached: boolean;
  readonly #scanner: SegmentScanner;
  readonly #pageSize: number;
  readonly #finder: PageFinder;
  /** One for each slot of the device, and one for what the device does not get. */
  readonly #stretches: readonly Stretch[];

  constructor(
    finder: PageFinder,
    { files, cached }: Pick<PagesDescription, 'files' | 'cached'>,
    scanner: SegmentScanner,
    geometry: Geometry,
    deviceSlots: number,
  ) {
    this.#files = files;
    this.#cached = cached;
    this.#scanner = scanner;
    this.#pageSize = geometry.pageSize;
    this.#finder = finder;
    this.#stretches = Array.from({ length: deviceSlots + 1 }, () => ({
      extents: { numbers: new Float64Array(0), count: 0 },
      absent: new Uint8Array(geometry.pagesPerSegment),
      submitted: false,
    }));
  }

  nextUsed(region: number, from: number, end: number): number {
    return this.#finder.nextUsed(region, from, end);
  }

  submitAhead(region: number, offset: number, sizeBytes: number, slot: number): void {
    const stretch = this.#stretches[slot]!;
    // A source for devices answers with extents, so nothing is written to `into`.
    const found = this.#find(stretch, region, offset, sizeBytes, NO_BYTES);
    const { numbers, count } = stretch.extents;
    stretch.submitted = found === 'extents' && count <= DEVICE_EXTENTS_MAX;
    if (stretch.submitted) this.#scanner.submitAhead(slot, numbers, count);
  }

  scan(region: number, offset: number, sizeBytes: number, output: ScanOutput, slot?: number): number {
    const submitted = slot === undefined ? undefined : this.#stretches[slot];
    const isWithDevice = submitted?.submitted === true;
    const stretch = isWithDevice ? submitted : this.#stretches.at(-1)!;
    const firstPage = offset / this.#pageSize;
    if (isWithDevice) {
      stretch.submitted = false;
      this.#scanExtents(stretch, output, firstPage, slot);
    } else if (this.#find(stretch, region, offset, sizeBytes, output.data) === 'extents') {
      this.#scanExtents(stretch, output, firstPage, undefined);
    } else {
      this.#scanner.scanMemory(output.data, 0, sizeBytes, output, firstPage);
    }
    return markAbsent(stretch.absent.subarray(0, sizeBytes / this.#pageSize), output);
  }

  #find(stretch: Stretch, region: number, offset: number, sizeBytes: number, into: Uint8Array): 'extents' | 'bytes' {
    const { extents, absent } = stretch;
    extents.count = 0;
    const found = absent.subarray(0, sizeBytes / this.#pageSize).fill(0);
    return this.#finder.find(region, offset, sizeBytes, extents, into, found);
  }

  #scanExtents({ extents }: Stretch, output: ScanOutput, firstPage: number, slot: number | undefined): void {
    const { numbers, count } = extents;
    const span = this.#cached ? fileSpan(extents) : undefined;
    const drops = span !== undefined && !isCached(span.fd, span.from, span.to - span.from);
    const status = this.#scanner.scanExtents(numbers, count, output, firstPage, slot);
    if (status !== 0) throw this.#failure(status, numbers, output.report);
    if (drops) native.dropCache(span.fd, span.from, span.to - span.from);
  }

  #failure(status: number, numbers: Float64Array, report: Float64Array): VmsnapError {
    const fd = numbers[3 * report[REPORT_FAILED_EXTENT]!]!;
    const path = this.#files.find((file) => file.fd === fd)?.path ?? `file descriptor ${fd}`;
    const offset = report[REPORT_FAILED_OFFSET]!;
    return status === SCAN_TRUNCATED ? sourceTruncated(path, offset) : errnoError(status, 'read', path, offset);
  }
}

const NO_BYTES = new Uint8Array(0);

/**
 * Where in one file a stretch lies, if that is one place: its pages may be out of order, but they leave no large gaps, so that the
 * cache behind it can be told and dropped as one.
 */
function fileSpan({ numbers, count }: StretchExtents): { fd: number; from: number; to: number } | undefined {
  let fd = NO_FILE;
  let from = Number.POSITIVE_INFINITY;
  let to = 0;
  let bytes = 0;
  for (let at = 0; at < 3 * count; at += 3) {
    if (numbers[at] === NO_FILE) continue;
    if (fd !== NO_FILE && fd !== numbers[at]) return undefined;
    fd = numbers[at]!;
    from = Math.min(from, numbers[at + 1]!);
    to = Math.max(to, numbers[at + 1]! + numbers[at + 2]!);
    bytes += numbers[at + 2]!;
  }
  return fd === NO_FILE || to - from > 2 * bytes ? undefined : { fd, from, to };
}

/** @returns how many pages became absent. */
function markAbsent(absent: Uint8Array, { states, report }: ScanOutput): number {
  let count = 0;
  for (let page = absent.indexOf(1); page >= 0; page = absent.indexOf(1, page + 1)) {
    if (states[page] !== STATE_ZERO)
      throw new VmsnapError('FAILED', `page ${page} of a segment was found, and is absent all the same`);
    states[page] = STATE_ABSENT;
    count++;
  }
  report[REPORT_ZERO_PAGES]! -= count;
  return count;
}
