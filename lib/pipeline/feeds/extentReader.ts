/** Regions that lie in one extent of a file each: raw memory, and files whose format comes to the same. */
import { seekData } from '../../../formats/holes.js';
import type { SourceExtent } from '../../../formats/memoryFile.js';
import {
  native,
  REPORT_FAILED_OFFSET,
  SCAN_TRUNCATED,
  type ScanOutput,
  type SegmentScanner,
} from '../../../native/binding.js';
import { errnoError } from '../../../native/errors.js';
import type { MemoryReader } from './memoryReader.js';
import type { ExtentsDescription } from './sourceDescription.js';
import { isCached, sourceTruncated } from './sourceFiles.js';

export class ExtentReader implements MemoryReader {
  readonly #regions: readonly SourceExtent[];
  readonly #cached: boolean;
  readonly #scanner: SegmentScanner;
  readonly #pageSize: number;
  readonly #hasDevice: boolean;
  readonly #extent = new Float64Array(3);

  constructor(description: ExtentsDescription, scanner: SegmentScanner, pageSize: number, hasDevice: boolean) {
    this.#regions = description.regions;
    this.#cached = description.cached;
    this.#scanner = scanner;
    this.#pageSize = pageSize;
    this.#hasDevice = hasDevice;
  }

  nextUsed(region: number, from: number, end: number): number {
    const file = this.#regions[region]!;
    return seekData(file, file.fileOffset + from, file.fileOffset + end) - file.fileOffset;
  }

  submitAhead(region: number, offset: number, sizeBytes: number, slot: number): void {
    this.#takeExtent(region, offset, sizeBytes);
    this.#scanner.submitAhead(slot, this.#extent, 1);
  }

  scan(region: number, offset: number, sizeBytes: number, output: ScanOutput, slot?: number): number {
    const { fd, path, fileOffset } = this.#takeExtent(region, offset, sizeBytes);
    const wasCached = !this.#cached || isCached(fd, fileOffset + offset, sizeBytes);
    const answers = this.#hasDevice ? slot : undefined;
    const status = this.#scanner.scanExtents(this.#extent, 1, output, offset / this.#pageSize, answers);
    const failedOffset = output.report[REPORT_FAILED_OFFSET]!;
    if (status === SCAN_TRUNCATED) throw sourceTruncated(path, failedOffset);
    if (status < 0) throw errnoError(status, 'read', path, failedOffset);
    if (!wasCached) native.dropCache(fd, fileOffset + offset, sizeBytes);
    return 0;
  }

  /** Puts where the bytes are into #extent. @returns the part of the source that they belong to. */
  #takeExtent(region: number, offset: number, sizeBytes: number): SourceExtent {
    const extent = this.#regions[region]!;
    this.#extent[0] = extent.fd;
    this.#extent[1] = extent.fileOffset + offset;
    this.#extent[2] = sizeBytes;
    return extent;
  }
}
