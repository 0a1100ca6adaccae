/**
 * One worker of the second look of a live save, while the machine stands still: reads memory, compares it with the hashes of what
 * was stored, and copies the pages that differ. Nothing is compressed, so it takes about as long as reading does.
 */
import { Geometry } from '../../formats/vmsnap/geometry.js';
import {
  CHANGES_FAILED_OFFSET,
  CHANGES_LENGTH,
  CHANGES_PAGES,
  CHANGES_READ_BYTES,
  native,
  SCAN_TRUNCATED,
} from '../../native/binding.js';
import { errnoError } from '../../native/errors.js';
import { isAborted, type SharedControl, STAT_READ_BYTES, statsOf } from './control.js';
import type { ExtentsDescription } from './feeds/sourceDescription.js';
import { sourceTruncated } from './feeds/sourceFiles.js';
import { LiveFiles, type LiveShared } from './live/liveFiles.js';
import { Aborted } from './mutex.js';
import { OverridingIndex, type OverridingIndexShared } from './overridingIndex.js';

export interface ChangesJob {
  readonly kind: 'changes';
  readonly worker: number;
  readonly control: SharedControl;
  readonly source: ExtentsDescription;
  readonly live: LiveShared;
  /** Of the image, to which nobody writes meanwhile. */
  readonly index: OverridingIndexShared;
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly chunkSize: number;
  readonly regionSizes: readonly number[];
}

export interface ChangesResult {
  readonly changedPages: number;
  readonly changedSegments: number;
  /** Those of the changed segments whose pages there was no room for. */
  readonly uncopiedSegments: number;
}

export function runChangesWorker(job: ChangesJob): ChangesResult {
  return new ChangesWorker(job).run();
}

class ChangesWorker {
  readonly #job: ChangesJob;
  readonly #geometry: Geometry;
  readonly #files: LiveFiles;
  readonly #index: OverridingIndex;
  readonly #stats: Float64Array;
  readonly #hashes: Uint8Array;
  readonly #pages: Uint8Array;
  readonly #changed: Uint8Array;
  readonly #report = new Float64Array(CHANGES_LENGTH);
  #changedPages = 0;
  #changedSegments = 0;
  #uncopiedSegments = 0;

  constructor(job: ChangesJob) {
    this.#job = job;
    this.#geometry = new Geometry(job.pageSize, job.segmentSize, job.chunkSize, job.regionSizes);
    this.#files = new LiveFiles(job.live, this.#geometry);
    this.#index = new OverridingIndex(job.index);
    this.#stats = statsOf(job.control, job.worker);
    this.#hashes = this.#files.createHashes();
    this.#pages = new Uint8Array(job.segmentSize);
    this.#changed = new Uint8Array(this.#geometry.pagesPerSegment);
  }

  run(): ChangesResult {
    for (let segment = this.#files.takeSegment(); segment !== undefined; segment = this.#files.takeSegment()) {
      if (isAborted(this.#job.control)) throw new Aborted();
      this.#look(segment);
    }
    return {
      changedPages: this.#changedPages,
      changedSegments: this.#changedSegments,
      uncopiedSegments: this.#uncopiedSegments,
    };
  }

  #look(segment: number): void {
    const { region, regionOffset, sizeBytes } = this.#geometry.placeOf(segment);
    const { fd, path, fileOffset } = this.#job.source.regions[region]!;
    const offset = fileOffset + regionOffset;
    if (this.#wasZero(segment) && isHole(fd, path, offset, sizeBytes)) return;
    const { pageSize } = this.#geometry;
    const changed = this.#changed.subarray(0, sizeBytes / pageSize);
    this.#files.readHashes(segment, this.#hashes);
    const status = native.findChanges(
      this.#files.key,
      fd,
      offset,
      sizeBytes,
      pageSize,
      this.#hashes,
      this.#pages,
      changed,
      this.#report,
    );
    const failedOffset = this.#report[CHANGES_FAILED_OFFSET]!;
    if (status === SCAN_TRUNCATED) throw sourceTruncated(path, failedOffset);
    if (status < 0) throw errnoError(status, 'read', path, failedOffset);
    this.#stats[STAT_READ_BYTES]! += this.#report[CHANGES_READ_BYTES]!;
    const changedPages = this.#report[CHANGES_PAGES]!;
    if (changedPages === 0) return;
    this.#changedPages += changedPages;
    this.#changedSegments++;
    if (!this.#files.keepChanges(segment, changed, this.#pages, changedPages)) this.#uncopiedSegments++;
  }

  /** It has no record. */
  #wasZero(segment: number): boolean {
    return this.#index.entryOf(segment) === undefined;
  }
}

function isHole(fd: number, path: string, offset: number, sizeBytes: number): boolean {
  const data = native.seekData(fd, offset, offset + sizeBytes);
  if (data < 0) throw errnoError(data, 'read', path, offset);
  return data === offset + sizeBytes;
}
