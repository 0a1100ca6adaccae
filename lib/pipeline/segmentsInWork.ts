/**
 * Which segment each thread of a load is bringing back, so that one that needs a page of an earlier segment, for a reference to
 * it, can wait until that is written.
 *
 * Segments are claimed rising, and are noted under the claim lock: whoever has claimed one sees all earlier ones that are not
 * done. Everybody waits for smaller numbers only, so the smallest waits for nobody.
 */
import { Aborted } from './mutex.js';

const NONE = -1;

export function createSegmentsInWork(threads: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(threads * 4)).fill(NONE);
}

export class SegmentsInWork {
  readonly #segments: Int32Array;
  readonly #worker: number;

  constructor(segments: Int32Array, worker: number) {
    this.#segments = segments;
    this.#worker = worker;
  }

  /** Under the claim lock. The last of 2^32 segments is never waited for. */
  begin(segment: number): void {
    Atomics.store(this.#segments, this.#worker, segment | 0);
  }

  /** Before the next claim. */
  end(): void {
    Atomics.store(this.#segments, this.#worker, NONE);
    Atomics.notify(this.#segments, this.#worker);
  }

  /** Waits until nobody is at `segment`, which must be smaller than the caller's own. */
  waitFor(segment: number, isAborted: () => boolean): void {
    const value = segment | 0;
    for (let worker = 0; worker < this.#segments.length; worker++) {
      while (Atomics.load(this.#segments, worker) === value) {
        if (isAborted()) throw new Aborted();
        Atomics.wait(this.#segments, worker, value, 100);
      }
    }
  }
}
