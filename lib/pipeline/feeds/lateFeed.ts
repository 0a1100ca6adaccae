/**
 * Feeds those regions of a running machine that came only when it had been stopped, in its device state. They have no records yet:
 * the first look saw a hole in their place.
 */
import type { ScanOutput } from '../../../native/binding.js';
import type { LateDescription } from '../live/liveDescription.js';
import type { Claim, Feed, FeedContext } from './feed.js';
import { createScanOutput } from './feed.js';
import { createReader, type MemoryReader } from './memoryReader.js';

export class LateFeed implements Feed {
  readonly output: ScanOutput;
  readonly #context: FeedContext;
  readonly #reader: MemoryReader;
  readonly #isLate: ReadonlySet<number>;

  constructor({ source, regions }: LateDescription, context: FeedContext) {
    this.#context = context;
    this.#reader = createReader(source, context.scanner, context.geometry);
    this.#isLate = new Set(regions);
    this.output = createScanOutput(context.geometry);
  }

  claim(): Claim | undefined {
    const { claims, geometry } = this.#context;
    for (let segment = claims.nextSegment; segment < geometry.segmentCount; ) {
      const { region, regionOffset } = geometry.placeOf(segment);
      const { sizeBytes, firstSegment, segmentCount } = geometry.regions[region]!;
      const used = this.#isLate.has(region) ? this.#reader.nextUsed(region, regionOffset, sizeBytes) : sizeBytes;
      if (used < sizeBytes) {
        const next = Math.max(segment, firstSegment + Math.floor(used / geometry.segmentSize));
        claims.nextSegment = next + 1;
        return claims.take(next);
      }
      segment = firstSegment + segmentCount;
    }
    claims.nextSegment = geometry.segmentCount;
    return undefined;
  }

  submitAhead(): void {
    // A device gets nothing of these few.
  }

  scan({ region, regionOffset, sizeBytes }: Claim): number {
    return this.#reader.scan(region, regionOffset, sizeBytes, this.output);
  }
}
