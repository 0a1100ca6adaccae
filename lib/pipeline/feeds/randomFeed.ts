/**
 * Feeds from memory that lies in files. Segments are claimed in order, without those that are unused altogether: time goes
 * in proportion to the data, not to the size.
 */
import { REPORT_HOLE_BYTES, REPORT_READ_BYTES, type ScanOutput } from '../../../native/binding.js';
import { VmsnapError } from '../../../native/errors.js';
import { STAT_HOLE_BYTES, STAT_READ_BYTES } from '../control.js';
import { type Claim, createScanOutput, type Feed, type FeedContext } from './feed.js';
import { createReader, type MemoryReader } from './memoryReader.js';
import type { RandomDescription } from './sourceDescription.js';

export class RandomFeed implements Feed {
  readonly output: ScanOutput;
  readonly #context: FeedContext;
  readonly #reader: MemoryReader;
  readonly #mayHaveAbsent: boolean;

  constructor(description: RandomDescription, context: FeedContext) {
    const { scanner, geometry, deviceSlots, withHashes } = context;
    this.#context = context;
    this.#mayHaveAbsent = description.kind === 'pages' && description.pages.mayHaveAbsent === true;
    this.#reader = createReader(description, scanner, geometry, deviceSlots);
    this.output = createScanOutput(geometry, withHashes);
  }

  /** The next segment that is not unused altogether, or not zero in the base. */
  claim(): Claim | undefined {
    const { claims, geometry } = this.#context;
    for (let segment = claims.nextSegment; segment < geometry.segmentCount; ) {
      const usedAt = this.#usedSegment(segment);
      const next = claims.index === undefined || usedAt === segment ? usedAt : claims.index.nextRecord(segment, usedAt);
      if (next > segment) claims.passOver(segment, next);
      claims.nextSegment = next;
      // At the end of a region nothing is known of the segment that follows.
      if (next < usedAt || usedAt === segment) {
        claims.nextSegment = next + 1;
        return claims.take(next);
      }
      segment = next;
    }
    return undefined;
  }

  submitAhead({ region, regionOffset, sizeBytes }: Claim, slot: number): void {
    this.#reader.submitAhead(region, regionOffset, sizeBytes, slot);
  }

  scan({ region, regionOffset, sizeBytes }: Claim, slot: number): number {
    const absentPages = this.#reader.scan(region, regionOffset, sizeBytes, this.output, slot);
    const { stats } = this.#context;
    stats[STAT_READ_BYTES]! += this.output.report[REPORT_READ_BYTES]!;
    stats[STAT_HOLE_BYTES]! += this.output.report[REPORT_HOLE_BYTES]!;
    if (absentPages > 0 && !this.#mayHaveAbsent)
      throw new VmsnapError('FAILED', 'the source has absent pages, of which its reader has said nothing');
    return absentPages;
  }

  /** The first segment of the same region from this one on that is used, or the region's end. */
  #usedSegment(segment: number): number {
    const { segmentSize } = this.#context.geometry;
    const { region, regionOffset } = this.#context.geometry.placeOf(segment);
    const { sizeBytes, firstSegment, segmentCount } = this.#context.geometry.regions[region]!;
    const used = this.#reader.nextUsed(region, regionOffset, sizeBytes);
    if (used >= sizeBytes) return firstSegment + segmentCount;
    return Math.max(segment, firstSegment + Math.floor(used / segmentSize));
  }
}
