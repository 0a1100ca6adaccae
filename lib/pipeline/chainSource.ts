/**
 * Memory that comes from an image and its bases instead of a machine: claims go by the index, and a decoded segment takes
 * the place of a scanned one. Its leaf digests are checked on the way.
 */
import type { Geometry } from '../../formats/vmsnap/geometry.js';
import {
  REPORT_DATA_PAGES,
  REPORT_HOLE_BYTES,
  REPORT_READ_BYTES,
  REPORT_UNIFORM_PAGES,
  type ScanOutput,
} from '../../native/binding.js';
import { ChainDecoder } from './chainDecoder.js';
import { type ChainEntries, ChainIndex } from './chainIndex.js';
import { type LinkDescription, rebuildLink } from './link.js';

export class ChainSource {
  /** Under the claim lock. */
  readonly index: ChainIndex;
  readonly #chain: ChainDecoder;

  /** `links`: the image and the images below it. */
  constructor(links: readonly LinkDescription[], geometry: Geometry) {
    const rebuilt = links.map(rebuildLink);
    this.index = new ChainIndex(rebuilt);
    this.#chain = new ChainDecoder(rebuilt, geometry);
  }

  /** The arrays that {@link read} fills, with a report as a scan gives it. */
  output(report: Float64Array): ScanOutput {
    const { data, states, words, leaves } = this.#chain;
    return { data, states, words, leaves, report };
  }

  /** Of the segment that was read last. */
  get absentPages(): number {
    return this.#chain.absentPages;
  }

  read(segment: number, pageCount: number, entries: ChainEntries | undefined, report: Float64Array): void {
    const chain = this.#chain;
    chain.resolve(segment, pageCount, entries);
    chain.decode();
    chain.checkLeaves();
    report[REPORT_DATA_PAGES] = chain.dataPages;
    report[REPORT_UNIFORM_PAGES] = chain.uniformPages;
    report[REPORT_READ_BYTES] = chain.bytesRead;
    report[REPORT_HOLE_BYTES] = 0;
    chain.bytesRead = 0;
  }
}
