/**
 * Feeds from a migration stream that comes through a pipe (native/qemu/segment_reader.h).
 *
 * The worker that has the claim lock takes the pages of one segment, as they come, until one of another segment comes. So
 * segments come in the order of the stream, and of a machine that ran meanwhile they come again: then what is stored of the
 * segment already is read back, and a whole new record is made of both. At the end, segments of which nothing came are
 * claimed too: they are absent.
 */
import { faultError } from '../../../formats/qemu/fault.js';
import { STATE_ABSENT, STATE_ZERO } from '../../../formats/vmsnap/stateMap.js';
import {
  native,
  QEMU_FAULT,
  QEMU_FILLED_BYTES,
  QEMU_FILLED_EARLIER,
  QEMU_FILLED_GOT_PAGES,
  QEMU_FILLED_LENGTH,
  QEMU_FILLED_OFFSET,
  QEMU_FILLED_REGION,
  QEMU_PAGE_NOT_SENT,
  QEMU_RAM_ENDED,
  REPORT_ZERO_PAGES,
  type ScanOutput,
} from '../../../native/binding.js';
import { VmsnapError } from '../../../native/errors.js';
import { isAborted, NUMBER_INPUT_STATE, STAT_READ_BYTES, WORD_ABORT } from '../control.js';
import { Aborted } from '../mutex.js';
import { type Claim, createScanOutput, type Feed, type FeedContext } from './feed.js';
import type { QemuStreamDescription } from './sourceDescription.js';

/** NUMBER_INPUT_STATE: 0 at first. */
const PLANNED = 1;
const RAM_ENDED = 2;

export class QemuStreamFeed implements Feed {
  readonly output: ScanOutput;
  readonly #source: QemuStreamDescription;
  readonly #context: FeedContext;
  readonly #input: Uint8Array;
  /** What came of each page of the present segment. */
  readonly #map: Uint8Array;
  readonly #filled = new Float64Array(QEMU_FILLED_LENGTH);

  constructor(source: QemuStreamDescription, context: FeedContext) {
    this.#source = source;
    this.#context = context;
    this.#input = new Uint8Array(context.geometry.segmentSize);
    this.#map = new Uint8Array(context.geometry.pagesPerSegment);
    this.output = createScanOutput(context.geometry);
  }

  claim(): Claim | undefined {
    const { numbers, words } = this.#context.control;
    if (numbers[NUMBER_INPUT_STATE] === 0) this.#plan();
    if (numbers[NUMBER_INPUT_STATE] === RAM_ENDED) return this.#claimUnseen();
    const { reader, path } = this.#source;
    const next = native.qemuFill(reader, this.#input, this.#map, this.#filled, words, WORD_ABORT);
    if (isAborted(this.#context.control)) throw new Aborted();
    if (next === QEMU_FAULT) throw faultError(native.qemuFault(reader), path);
    if (next === QEMU_RAM_ENDED) {
      numbers[NUMBER_INPUT_STATE] = RAM_ENDED;
      this.#context.claims.nextSegment = 0;
      return this.#claimUnseen();
    }
    return this.#claimFilled();
  }

  submitAhead(): void {
    // Nothing of a stream can be reached by a device.
  }

  scan(claim: Claim): number {
    const { scanner, geometry, stored } = this.#context;
    const map = this.#map.subarray(0, claim.sizeBytes / geometry.pageSize);
    // Pages that did not come this time are what they were.
    if (claim.earlierSequence !== undefined) stored!.fillIn(claim, claim.earlierSequence, this.#input, map);
    scanner.scanMemory(this.#input, 0, claim.sizeBytes, this.output, claim.regionOffset / geometry.pageSize);
    const { states, report } = this.output;
    let absent = 0;
    for (let page = map.indexOf(QEMU_PAGE_NOT_SENT); page >= 0; page = map.indexOf(QEMU_PAGE_NOT_SENT, page + 1)) {
      if (states[page] !== STATE_ZERO) throw new VmsnapError('FAILED', `page ${page} was not sent, and has contents`);
      states[page] = STATE_ABSENT;
      absent++;
    }
    report[REPORT_ZERO_PAGES]! -= absent;
    return absent;
  }

  #plan(): void {
    const { geometry, control } = this.#context;
    const { reader, path, parts } = this.#source;
    if (!native.qemuPlan(reader, new Float64Array(parts), geometry.segmentSize)) {
      throw new VmsnapError('UNSUPPORTED', `the memory in ${path} has more segments than can be kept track of`, {
        path,
        hint: 'use larger segments (--segment-size)',
      });
    }
    control.numbers[NUMBER_INPUT_STATE] = PLANNED;
  }

  #claimFilled(): Claim {
    const { geometry, claims, stats, stored } = this.#context;
    const region = geometry.regions[this.#filled[QEMU_FILLED_REGION]!]!;
    const segment = region.firstSegment + this.#filled[QEMU_FILLED_OFFSET]! / geometry.segmentSize;
    const earlier = this.#filled[QEMU_FILLED_EARLIER]!;
    if (stored === undefined && segment < claims.nextSegment) throw this.#outOfOrder();
    claims.nextSegment = segment + 1;
    stats[STAT_READ_BYTES]! += this.#filled[QEMU_FILLED_GOT_PAGES]! * geometry.pageSize;
    // Each fill is a claim, so their numbers are the same.
    const earlierSequence = earlier < 0 ? undefined : earlier;
    return { ...claims.take(segment), earlierSequence, sizeBytes: this.#filled[QEMU_FILLED_BYTES]! };
  }

  /** After the end of RAM, `nextSegment` counts once more from the beginning. */
  #claimUnseen(): Claim | undefined {
    const { claims, geometry, stored } = this.#context;
    const segment = native.qemuNextUnseen(this.#source.reader, claims.nextSegment);
    if (segment >= geometry.segmentCount) return undefined;
    if (stored === undefined) throw this.#outOfOrder();
    claims.nextSegment = segment + 1;
    this.#input.fill(0);
    this.#map.fill(QEMU_PAGE_NOT_SENT);
    return claims.take(segment);
  }

  #outOfOrder(): VmsnapError {
    const { path } = this.#source;
    return new VmsnapError(
      'UNSUPPORTED',
      `the machine in ${path} ran while it was sent: its pages come out of order, and an image that goes into a pipe cannot be changed`,
      { path, hint: 'save to a file, or pause the machine before it is migrated' },
    );
  }
}
