/**
 * Claims for a reader that goes by the index: the next segment of the selection of which an image of the chain has a
 * record, or a run of segments of which none has. Index blocks are read one at a time into memory that all threads share
 * (chainIndex.ts), so a reader needs 128 KiB of index an image, whatever its size.
 *
 * Over a file that has contents, the zero runs of each index block come before its records: to punch holes is work that holds the
 * file's lock, so it should be done while other threads decompress, and not alone at the end.
 */
import type { Geometry } from '../../formats/vmsnap/geometry.js';
import { INDEX_BLOCK_ENTRIES } from '../../formats/vmsnap/layout.js';
import type { ChainEntries, ChainIndex } from './chainIndex.js';
import { NUMBER_NEXT_SEGMENT, NUMBER_NEXT_SEQUENCE, NUMBER_ZEROS_CLAIMED_TO } from './control.js';
import type { ReadJob, RegionSelection } from './readJob.js';

/** Segments without a record that one claim takes: enough that 1 TiB of hole is 64 claims. */
const ZERO_RUN_MAX = 4096;

export type ReadClaim =
  /** The first of `entries` is that of the image itself. */
  | { readonly kind: 'chain'; readonly sequence: number; readonly segment: number; readonly entries: ChainEntries }
  | { readonly kind: 'zero'; readonly sequence: number; readonly segment: number; readonly count: number };

export class IndexClaims {
  readonly #job: ReadJob;
  readonly #geometry: Geometry;
  readonly #index: ChainIndex;

  constructor(job: ReadJob, geometry: Geometry, index: ChainIndex) {
    this.#job = job;
    this.#geometry = geometry;
    this.#index = index;
  }

  /** Under the claim lock. */
  next(): ReadClaim | undefined {
    const { numbers } = this.#job.control;
    for (;;) {
      const segment = this.#nextSelected(numbers[NUMBER_NEXT_SEGMENT]!);
      if (segment === undefined) return undefined;
      const zeros = this.#zerosFirst ? this.#nextZeros(segment) : undefined;
      if (zeros !== undefined) return zeros;
      const entries = this.#index.entriesOf(segment);
      if (entries !== undefined) {
        numbers[NUMBER_NEXT_SEGMENT] = segment + 1;
        return { kind: 'chain', sequence: this.#sequence(), segment, entries };
      }
      const count = this.#zeroRun(segment);
      numbers[NUMBER_NEXT_SEGMENT] = segment + count;
      if (!this.#zerosFirst) return { kind: 'zero', sequence: this.#sequence(), segment, count };
    }
  }

  get #zerosFirst(): boolean {
    const { sink } = this.#job;
    return sink.kind === 'file' && sink.overwrite;
  }

  /** The next zero run that is not claimed, from `segment` to the end of its index block. */
  #nextZeros(segment: number): ReadClaim | undefined {
    const { numbers } = this.#job.control;
    const end = this.#runEnd(segment);
    for (let at = Math.max(segment, numbers[NUMBER_ZEROS_CLAIMED_TO]!); at < end; at++) {
      numbers[NUMBER_ZEROS_CLAIMED_TO] = at + 1;
      if (this.#index.nextRecord(at, at + 1) === at) continue;
      const count = this.#zeroRun(at);
      numbers[NUMBER_ZEROS_CLAIMED_TO] = at + count;
      return { kind: 'zero', sequence: this.#sequence(), segment: at, count };
    }
    return undefined;
  }

  #sequence(): number {
    const { numbers } = this.#job.control;
    const sequence = numbers[NUMBER_NEXT_SEQUENCE]!;
    numbers[NUMBER_NEXT_SEQUENCE] = sequence + 1;
    return sequence;
  }

  /** The first segment at or after `from` that holds bytes of the selection. */
  #nextSelected(from: number): number | undefined {
    let segment = from;
    while (segment < this.#geometry.segmentCount) {
      const region = this.#geometry.regionOf(segment);
      const selection = this.#job.selection[region.number];
      const first = region.firstSegment + firstSegment(selection, this.#geometry.segmentSize);
      if (selection !== undefined && segment < first) segment = first;
      if (selection !== undefined && segment < region.firstSegment + endSegment(selection, this.#geometry.segmentSize))
        return segment;
      segment = region.firstSegment + region.segmentCount;
    }
    return undefined;
  }

  /** Segments from `segment` on, in the same region, selection and index block, of which there is no record. */
  #zeroRun(segment: number): number {
    const end = Math.min(this.#runEnd(segment), segment + ZERO_RUN_MAX);
    return this.#index.nextRecord(segment + 1, end) - segment;
  }

  /** The end of the region's selection, or of the index block. */
  #runEnd(segment: number): number {
    const region = this.#geometry.regionOf(segment);
    return Math.min(
      region.firstSegment + endSegment(this.#job.selection[region.number]!, this.#geometry.segmentSize),
      (Math.floor(segment / INDEX_BLOCK_ENTRIES) + 1) * INDEX_BLOCK_ENTRIES,
    );
  }
}

function firstSegment(selection: RegionSelection | undefined, segmentSize: number): number {
  return selection === undefined ? 0 : Math.floor(selection.from / segmentSize);
}

function endSegment(selection: RegionSelection, segmentSize: number): number {
  return Math.ceil(selection.to / segmentSize);
}
