/**
 * Feeds from the memory of a machine that runs. The hashes are taken of what was read and not of the memory once more: whatever
 * is written between the two, they are those of the bytes that are stored.
 */
import { native, REPORT_DATA_PAGES, REPORT_UNIFORM_PAGES, type ScanOutput } from '../../../native/binding.js';
import type { FirstLookDescription } from '../live/liveDescription.js';
import { LiveFiles } from '../live/liveFiles.js';
import type { Claim, Feed, FeedContext } from './feed.js';
import { RandomFeed } from './randomFeed.js';

export class FirstLookFeed implements Feed {
  readonly output: ScanOutput;
  readonly #feed: RandomFeed;
  readonly #files: LiveFiles;
  readonly #pageSize: number;
  readonly #hashes: Uint8Array;

  constructor({ source, live }: FirstLookDescription, context: FeedContext) {
    this.#feed = new RandomFeed(source, context);
    this.#files = new LiveFiles(live, context.geometry);
    this.#pageSize = context.geometry.pageSize;
    this.#hashes = this.#files.createHashes();
    this.output = this.#feed.output;
  }

  claim(): Claim | undefined {
    return this.#feed.claim();
  }

  submitAhead(claim: Claim, slot: number): void {
    this.#feed.submitAhead(claim, slot);
  }

  scan(claim: Claim, slot: number): number {
    const absentPages = this.#feed.scan(claim, slot);
    const { states, data, words, report } = this.output;
    // The table has zeros for zero pages where nothing is written.
    if (report[REPORT_DATA_PAGES]! + report[REPORT_UNIFORM_PAGES]! === 0) return absentPages;
    const pages = claim.sizeBytes / this.#pageSize;
    native.hashSegment(this.#files.key, states, pages, this.#pageSize, data, words, this.#hashes);
    this.#files.writeHashes(claim.segment, this.#hashes, claim.sizeBytes);
    return absentPages;
  }
}
