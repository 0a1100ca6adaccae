/**
 * One pass over both bitmaps of a kdump file: which memory there is, how much of it is stored, and, for every 32 Ki page frames, how
 * many stored pages come before: with that table a page's descriptor is found by counting at most 4 KiB of bits.
 *
 * A stored page that bitmap 1 does not know is damage. Bits behind the last page frame are not looked at: nothing depends on them.
 */

import { bitsIn } from '../bitCount.js';
import { FOREIGN_REGIONS_MAX } from '../foreignFile.js';
import { shared } from '../ranges/rangePages.js';
import { type DumpBytes, damagedDump } from './dumpBytes.js';
import { type FrameRun, FrameRuns } from './frameRuns.js';
import type { KdumpHeader } from './kdumpHeader.js';

export const RANK_FRAMES = 32_768;

const WINDOW_BYTES = 2 ** 20;
const WORD_FRAMES = 32;

export interface BitmapFacts {
  readonly runs: readonly FrameRun[];
  /** Stored pages before frame i * RANK_FRAMES. */
  readonly ranks: Float64Array;
  readonly storedPages: number;
  readonly memoryPages: number;
}

export function readBitmaps(dump: DumpBytes, header: KdumpHeader): BitmapFacts {
  return new BitmapPass(dump, header).run();
}

class BitmapPass {
  readonly #dump: DumpBytes;
  readonly #header: KdumpHeader;
  readonly #runs = new FrameRuns(FOREIGN_REGIONS_MAX);
  readonly #ranks: Float64Array;
  #storedPages = 0;
  #memoryPages = 0;
  /** First frame of the run that is not at its end yet. */
  #runFirst = -1;

  constructor(dump: DumpBytes, header: KdumpHeader) {
    this.#dump = dump;
    this.#header = header;
    this.#ranks = shared(Math.ceil(header.frameCount / RANK_FRAMES));
  }

  run(): BitmapFacts {
    const { frameCount, bitmapAt, bitmapBytes } = this.#header;
    const usedBytes = Math.ceil(frameCount / WORD_FRAMES) * 4;
    // Both have whole blocks, so whole words.
    const known = new Uint8Array(Math.min(WINDOW_BYTES, usedBytes));
    const stored = new Uint8Array(known.length);
    for (let at = 0; at < usedBytes; at += WINDOW_BYTES) {
      const bytes = Math.min(WINDOW_BYTES, usedBytes - at);
      this.#dump.read(bitmapAt + at, known.subarray(0, bytes));
      this.#dump.read(bitmapAt + bitmapBytes + at, stored.subarray(0, bytes));
      this.#take(at * 8, new Uint32Array(known.buffer, 0, bytes / 4), new Uint32Array(stored.buffer, 0, bytes / 4));
    }
    if (this.#runFirst >= 0) this.#runs.add(this.#runFirst, frameCount);
    return {
      runs: this.#runs.runs,
      ranks: this.#ranks,
      storedPages: this.#storedPages,
      memoryPages: this.#memoryPages,
    };
  }

  #take(firstFrame: number, known: Uint32Array, stored: Uint32Array): void {
    const { frameCount } = this.#header;
    for (let i = 0; i < known.length; i++) {
      const frame = firstFrame + i * WORD_FRAMES;
      const left = frameCount - frame;
      const mask = left >= WORD_FRAMES ? -1 : (1 << left) - 1;
      const knownBits = known[i]! & mask;
      const storedBits = stored[i]! & mask;
      if (frame % RANK_FRAMES === 0) this.#ranks[frame / RANK_FRAMES] = this.#storedPages;
      if ((storedBits & ~knownBits) !== 0) throw this.#notKnown(frame, storedBits & ~knownBits);
      this.#storedPages += bitsIn(storedBits);
      this.#memoryPages += bitsIn(knownBits);
      const goesOn = this.#runFirst >= 0 ? knownBits === -1 : knownBits === 0;
      if (!goesOn) this.#takeBits(frame, Math.min(WORD_FRAMES, left), knownBits);
    }
  }

  #takeBits(frame: number, count: number, bits: number): void {
    for (let bit = 0; bit < count; bit++) {
      const isSet = (bits & (1 << bit)) !== 0;
      if (isSet && this.#runFirst < 0) this.#runFirst = frame + bit;
      if (!isSet && this.#runFirst >= 0) {
        this.#runs.add(this.#runFirst, frame + bit);
        this.#runFirst = -1;
      }
    }
  }

  #notKnown(frame: number, bits: number): Error {
    const first = frame + 31 - Math.clz32(bits & -bits);
    const at = this.#header.bitmapAt + this.#header.bitmapBytes + Math.floor(first / 8);
    return damagedDump(this.#dump, at, `page frame ${first} is stored, and bitmap 1 says that there is no such memory`);
  }
}
