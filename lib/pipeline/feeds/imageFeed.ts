/** Feeds from an image and its bases: claims go by their indexes, and a decoded segment takes the place of a scanned one. */
import { REPORT_LENGTH, REPORT_READ_BYTES, type ScanOutput } from '../../../native/binding.js';
import type { ChainSource } from '../chainSource.js';
import { STAT_READ_BYTES } from '../control.js';
import type { Claim, Feed, FeedContext } from './feed.js';

export class ImageFeed implements Feed {
  readonly output: ScanOutput;
  readonly #chain: ChainSource;
  readonly #context: FeedContext;

  /** The claims of the context are numbered by this chain's index. */
  constructor(chain: ChainSource, context: FeedContext) {
    this.#chain = chain;
    this.#context = context;
    this.output = chain.output(new Float64Array(REPORT_LENGTH));
  }

  claim(): Claim | undefined {
    const { claims, geometry } = this.#context;
    const from = claims.nextSegment;
    const segment = this.#chain.index.nextRecord(from, geometry.segmentCount);
    if (segment > from) claims.passOver(from, segment);
    claims.nextSegment = Math.min(segment + 1, geometry.segmentCount);
    return segment === geometry.segmentCount ? undefined : claims.take(segment);
  }

  submitAhead(): void {
    // An image tells which of its pages are zero.
  }

  scan({ segment, sizeBytes, entries }: Claim): number {
    const { report } = this.output;
    this.#chain.read(segment, sizeBytes / this.#context.geometry.pageSize, entries, report);
    this.#context.stats[STAT_READ_BYTES]! += report[REPORT_READ_BYTES]!;
    return this.#chain.absentPages;
  }
}
