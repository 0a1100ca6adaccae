/**
 * Claims for a reader that goes by the index: the next segment of the selection that has a record, or a run of segments
 * that have none. Index blocks are read one at a time into memory that all threads share, so a reader needs 128 KiB of
 * index whatever the size of the image.
 */
import type { Geometry } from '../../formats/vmsnap/geometry.js';
import { type ImageHead, readIndexBlock } from '../../formats/vmsnap/imageFile.js';
import { decodeIndexEntry, type IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import { INDEX_BLOCK_ENTRIES } from '../../formats/vmsnap/layout.js';
import { asBuffer } from './commitLine.js';
import { NUMBER_INPUT_BLOCK, NUMBER_INPUT_OFFSET, NUMBER_NEXT_SEGMENT, NUMBER_NEXT_SEQUENCE } from './control.js';
import type { ReadJob, RegionSelection } from './readJob.js';

/** Segments without a record that one claim takes: enough that 1 TiB of hole is 64 claims. */
const ZERO_RUN_MAX = 4096;

export type ReadClaim =
  | { readonly kind: 'record'; readonly sequence: number; readonly segment: number; readonly entry: IndexEntry }
  | { readonly kind: 'zero'; readonly sequence: number; readonly segment: number; readonly count: number };

export class IndexClaims {
  readonly #job: ReadJob;
  readonly #head: ImageHead;
  readonly #geometry: Geometry;
  readonly #block: Buffer;

  constructor(job: ReadJob, head: ImageHead, geometry: Geometry) {
    this.#job = job;
    this.#head = head;
    this.#geometry = geometry;
    this.#block = asBuffer(job.indexBlock);
  }

  /** Under the claim lock. */
  next(): ReadClaim | undefined {
    const { numbers } = this.#job.control;
    for (;;) {
      const segment = this.#nextSelected(numbers[NUMBER_NEXT_SEGMENT]!);
      if (segment === undefined) return undefined;
      const entry = this.#entryOf(segment);
      if (entry !== undefined) {
        numbers[NUMBER_NEXT_SEGMENT] = segment + 1;
        return { kind: 'record', sequence: this.#sequence(), segment, entry };
      }
      const count = this.#zeroRun(segment);
      numbers[NUMBER_NEXT_SEGMENT] = segment + count;
      return { kind: 'zero', sequence: this.#sequence(), segment, count };
    }
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

  /** Segments from `segment` on, in the same region, selection and index block, that have no record. */
  #zeroRun(segment: number): number {
    const region = this.#geometry.regionOf(segment);
    const end = Math.min(
      region.firstSegment + endSegment(this.#job.selection[region.number]!, this.#geometry.segmentSize),
      (Math.floor(segment / INDEX_BLOCK_ENTRIES) + 1) * INDEX_BLOCK_ENTRIES,
      segment + ZERO_RUN_MAX,
    );
    let next = segment + 1;
    while (next < end && this.#entryOf(next) === undefined) next++;
    return next - segment;
  }

  #entryOf(segment: number): IndexEntry | undefined {
    const block = Math.floor(segment / INDEX_BLOCK_ENTRIES);
    this.#loadBlock(block);
    const entriesAt = this.#job.control.numbers[NUMBER_INPUT_OFFSET]!;
    if (entriesAt === 0) return undefined;
    const entry = decodeIndexEntry(this.#block, segment % INDEX_BLOCK_ENTRIES, this.#job.image.path, entriesAt);
    return entry.offset === 0 ? undefined : entry;
  }

  /** NUMBER_INPUT_BLOCK holds the block's number plus one, NUMBER_INPUT_OFFSET where its entries lie, 0 if it has none. */
  #loadBlock(block: number): void {
    const { numbers } = this.#job.control;
    if (numbers[NUMBER_INPUT_BLOCK] === block + 1) return;
    const list = this.#job.indexList!;
    const place = { offset: list[block * 2]!, prefixCrc: list[block * 2 + 1]! };
    const loaded = readIndexBlock(
      this.#job.image,
      this.#head,
      block,
      place,
      this.#geometry.segmentCount,
      this.#job.image.recordsEnd,
    );
    if (loaded !== undefined) this.#block.set(loaded.entries);
    numbers[NUMBER_INPUT_OFFSET] = loaded?.entriesAt ?? 0;
    numbers[NUMBER_INPUT_BLOCK] = block + 1;
  }
}

function firstSegment(selection: RegionSelection | undefined, segmentSize: number): number {
  return selection === undefined ? 0 : Math.floor(selection.from / segmentSize);
}

function endSegment(selection: RegionSelection, segmentSize: number): number {
  return Math.ceil(selection.to / segmentSize);
}
