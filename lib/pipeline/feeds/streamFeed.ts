/** Feeds from a pipe or the like, which one worker at a time reads: regions end to end, no structure, no holes. */
import type { Geometry } from '../../../formats/vmsnap/geometry.js';
import { native, type ScanOutput } from '../../../native/binding.js';
import { errnoError, VmsnapError } from '../../../native/errors.js';
import { isAborted, NUMBER_INPUT_OFFSET, NUMBER_INPUT_STATE, STAT_READ_BYTES, WORD_ABORT } from '../control.js';
import { Aborted } from '../mutex.js';
import { type Claim, createScanOutput, type Feed, type FeedContext } from './feed.js';
import type { StreamDescription } from './sourceDescription.js';
import { notWholePages } from './sourceFiles.js';

/** NUMBER_INPUT_STATE once the stream has ended. */
const ENDED = 1;

export class StreamFeed implements Feed {
  readonly output: ScanOutput;
  readonly #source: StreamDescription;
  readonly #context: FeedContext;
  readonly #geometry: Geometry;
  readonly #input: Uint8Array;

  constructor(source: StreamDescription, context: FeedContext) {
    this.#source = source;
    this.#context = context;
    this.#geometry = context.geometry;
    this.#input = new Uint8Array(context.geometry.segmentSize);
    this.output = createScanOutput(context.geometry);
  }

  /** Reads the next segment into this worker's input buffer. */
  claim(): Claim | undefined {
    const { claims, control } = this.#context;
    const segment = claims.nextSegment;
    if (control.numbers[NUMBER_INPUT_STATE] === ENDED) return undefined;
    if (segment >= this.#geometry.segmentCount) return this.#expectEnd();
    const claim = claims.take(segment);
    const got = this.#read(this.#input, claim.sizeBytes);
    claims.nextSegment = segment + 1;
    if (got === claim.sizeBytes) return claim;
    control.numbers[NUMBER_INPUT_STATE] = ENDED;
    this.#requireEndHere(claim, got);
    if (got > 0) return { ...claim, sizeBytes: got };
    // The stream ended at a segment boundary: the claim was for nothing.
    claims.takeBack(claim);
    return undefined;
  }

  submitAhead(): void {
    // Nothing of a stream can be reached by a device.
  }

  scan({ regionOffset, sizeBytes }: Claim): number {
    this.#context.scanner.scanMemory(this.#input, 0, sizeBytes, this.output, regionOffset / this.#geometry.pageSize);
    return 0;
  }

  /** The stream has ended with `got` bytes of a claim. */
  #requireEndHere(claim: Claim, got: number): void {
    const { path, openEnded } = this.#source;
    const { pageSize, regions } = this.#geometry;
    const before = regions.slice(0, claim.region).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const total = before + claim.regionOffset + got;
    if (!openEnded || claim.region !== regions.length - 1) throw this.#shortStream(total);
    if (got % pageSize !== 0) throw notWholePages(path, total, pageSize);
    if (total === 0) throw new VmsnapError('USAGE', `${path} is empty: there is no memory to save`, { path });
  }

  #expectEnd(): undefined {
    this.#context.control.numbers[NUMBER_INPUT_STATE] = ENDED;
    if (this.#read(new Uint8Array(1), 1) === 0) return undefined;
    const { path } = this.#source;
    throw new VmsnapError(
      'USAGE',
      `${path} goes on after the ${this.#geometry.totalBytes} bytes that the regions take`,
      {
        path,
        hint: 'check the sizes of --region',
      },
    );
  }

  /** What was read to find out what this is comes first. @returns less than `length` only at the end. */
  #read(into: Uint8Array, length: number): number {
    const { numbers, words } = this.#context.control;
    const { fd, path, prefix } = this.#source;
    const known = prefix.subarray(numbers[NUMBER_INPUT_OFFSET]!).subarray(0, length);
    into.set(known);
    numbers[NUMBER_INPUT_OFFSET]! += known.length;
    const got = native.readStream(fd, into, known.length, length - known.length, words, WORD_ABORT);
    if (isAborted(this.#context.control)) throw new Aborted();
    if (got < 0) throw errnoError(got, 'read', path);
    this.#context.stats[STAT_READ_BYTES]! += known.length + got;
    return known.length + got;
  }

  #shortStream(total: number): VmsnapError {
    const { path } = this.#source;
    return new VmsnapError(
      'USAGE',
      `${path} ends after ${total} bytes, before the ${this.#geometry.totalBytes} that the regions take`,
      { path, offset: total, hint: 'check the sizes of --region' },
    );
  }
}
