/**
 * Feeds the segments of a running machine that have changed since the first look: from the stopped machine itself, or, when it
 * runs on already, from what was copied of them and what is stored.
 */
import { REPORT_READ_BYTES, type ScanOutput } from '../../../native/binding.js';
import { STAT_READ_BYTES } from '../control.js';
import type { ChangedDescription } from '../live/liveDescription.js';
import { FOUND_COPIED, FOUND_NO_ROOM, LiveFiles } from '../live/liveFiles.js';
import { type Claim, createScanOutput, type Feed, type FeedContext } from './feed.js';
import { createReader, type MemoryReader } from './memoryReader.js';

export class ChangedFeed implements Feed {
  readonly output: ScanOutput;
  readonly #description: ChangedDescription;
  readonly #context: FeedContext;
  readonly #files: LiveFiles;
  readonly #reader: MemoryReader;
  readonly #isThere: Uint8Array;
  readonly #input: Uint8Array;

  constructor(description: ChangedDescription, context: FeedContext) {
    const { geometry, scanner } = context;
    this.#description = description;
    this.#context = context;
    this.#files = new LiveFiles(description.live, geometry);
    this.#reader = createReader(description.source, scanner, geometry);
    this.#isThere = new Uint8Array(geometry.pagesPerSegment);
    this.#input = new Uint8Array(description.from === 'copies' ? geometry.segmentSize : 0);
    this.output = createScanOutput(geometry);
  }

  claim(): Claim | undefined {
    const { claims, geometry } = this.#context;
    let segment = claims.nextSegment;
    while (segment < geometry.segmentCount && !this.#isWanted(segment)) segment++;
    claims.nextSegment = Math.min(segment + 1, geometry.segmentCount);
    if (segment === geometry.segmentCount) return undefined;
    return { ...claims.take(segment), earlierSequence: this.#description.earlierSequence };
  }

  #isWanted(segment: number): boolean {
    const found = this.#files.found(segment);
    return this.#description.from === 'memory' ? found === FOUND_NO_ROOM : found >= FOUND_COPIED;
  }

  submitAhead(): void {
    // A device gets nothing of these few.
  }

  scan(claim: Claim): number {
    if (this.#description.from === 'memory') this.#scanMemory(claim);
    else this.#scanCopies(claim);
    return 0;
  }

  #scanMemory(claim: Claim): void {
    const { region, regionOffset, sizeBytes } = claim;
    this.#context.stored!.takeOut(claim, this.#description.earlierSequence);
    this.#reader.scan(region, regionOffset, sizeBytes, this.output);
    this.#context.stats[STAT_READ_BYTES]! += this.output.report[REPORT_READ_BYTES]!;
  }

  #scanCopies(claim: Claim): void {
    const { geometry, scanner, stored } = this.#context;
    const { segment, regionOffset, sizeBytes } = claim;
    const isThere = this.#isThere.subarray(0, sizeBytes / geometry.pageSize);
    this.#input.fill(0);
    this.#files.readChanges(segment, this.#input, isThere);
    stored!.fillIn(claim, this.#description.earlierSequence, this.#input, isThere);
    scanner.scanMemory(this.#input, 0, sizeBytes, this.output, regionOffset / geometry.pageSize);
  }
}
