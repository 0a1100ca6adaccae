/**
 * What a worker of a differential save does with a scanned segment: takes out of it whatever the base has too.
 *
 * Pages are compared byte for byte with what the base's chain really holds, decompressed; no hash stands in for them. That
 * is done chunk by chunk, so that what was decompressed is compared in the processor's cache and never gathered. A page
 * that is the same becomes "same as base", always: so what is stored does not depend on the number of threads, and a
 * segment in which nothing changed gets no record. Chunks of the base in which no page could be the same, because what was
 * data there is none any more, are not decompressed.
 */
import type { Geometry } from '../../formats/vmsnap/geometry.js';
import {
  DIFF_ABSENT_PAGES,
  DIFF_DATA_PAGES,
  DIFF_LENGTH,
  DIFF_SAME_AS_BASE_PAGES,
  DIFF_UNIFORM_PAGES,
  DIFF_ZERO_PAGES,
  native,
  REPORT_DATA_PAGES,
  type ScanOutput,
} from '../../native/binding.js';
import { ChainDecoder } from './chainDecoder.js';
import { type ChainEntries, ChainIndex } from './chainIndex.js';
import { type LinkDescription, rebuildLink } from './link.js';

export interface SegmentCounts {
  readonly dataPages: number;
  readonly uniformPages: number;
  readonly referencePages: number;
  readonly zeroPages: number;
  readonly sameAsBasePages: number;
  readonly absentPages: number;
}

export class BaseDiff {
  /** Under the claim lock. */
  readonly index: ChainIndex;
  readonly #chain: ChainDecoder;
  readonly #pageSize: number;
  /** Of each data page: 1 if the base has the same bytes there. */
  readonly #same: Uint8Array;
  readonly #counts = new Float64Array(DIFF_LENGTH);

  /** `links`: the base and the images below it. */
  constructor(links: readonly LinkDescription[], geometry: Geometry) {
    const rebuilt = links.map(rebuildLink);
    this.index = new ChainIndex(rebuilt);
    this.#chain = new ChainDecoder(rebuilt, geometry);
    this.#pageSize = geometry.pageSize;
    this.#same = new Uint8Array(geometry.pagesPerSegment);
  }

  /** Rewrites `scanned` in place. `entries`: what the base's chain has of the segment; undefined: nothing, it is zero. */
  apply(segment: number, pageCount: number, entries: ChainEntries | undefined, scanned: ScanOutput): SegmentCounts {
    const { states, data, words, report } = scanned;
    const chain = this.#chain;
    chain.resolve(segment, pageCount, entries);
    this.#same.fill(0, 0, report[REPORT_DATA_PAGES]!);
    chain.matchData(states, data, this.#same);
    native.diffSegment(
      states,
      pageCount,
      this.#pageSize,
      data,
      words,
      this.#same,
      chain.states,
      chain.words,
      this.#counts,
    );
    return {
      dataPages: this.#counts[DIFF_DATA_PAGES]!,
      uniformPages: this.#counts[DIFF_UNIFORM_PAGES]!,
      referencePages: 0,
      zeroPages: this.#counts[DIFF_ZERO_PAGES]!,
      sameAsBasePages: this.#counts[DIFF_SAME_AS_BASE_PAGES]!,
      absentPages: this.#counts[DIFF_ABSENT_PAGES]!,
    };
  }
}
