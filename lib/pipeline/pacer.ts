/**
 * The ceiling on what is written a second: one schedule for all threads of a save or a load.
 *
 * A shared word holds the time at which all that was let through so far would be written at the allowed rate. Whoever wants to
 * write books its bytes behind that, and waits until no more than a burst of them lies ahead of the clock. So in any stretch
 * of time no more is written than rate x time + an eighth of a second's worth, and one piece a thread, which may have been let
 * through and not be written yet. Time in which nothing is written is not saved up.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isAborted, type SharedControl, WORD_ABORT } from './control.js';
import { Aborted } from './mutex.js';

const BURST_SECONDS = 1 / 8;
const PIECE_MOST_BYTES = 256 * 1024;
const PIECE_STEP_BYTES = 4096;
const NANOSECONDS = 1e9;
/** How soon the main thread, whose waiting nothing ends, sees that the work was stopped. */
const LOOK_MS = 50;

export interface PacerShared {
  readonly bytesPerSecond: number;
  /** One word: nanoseconds of the monotonic clock, which all threads share. */
  readonly bookedUntil: BigInt64Array;
}

export function createPacerShared(bytesPerSecond: number): PacerShared {
  return { bytesPerSecond, bookedUntil: new BigInt64Array(new SharedArrayBuffer(8)) };
}

export class Pacer {
  /** What should be written at once: no more than the burst, in whole blocks. */
  readonly pieceBytes: number;
  readonly #shared: PacerShared;
  readonly #control: SharedControl;

  /** @returns undefined: there is no ceiling. */
  static of(control: SharedControl): Pacer | undefined {
    return control.pacer && new Pacer(control.pacer, control);
  }

  private constructor(shared: PacerShared, control: SharedControl) {
    this.#shared = shared;
    this.#control = control;
    const burst = shared.bytesPerSecond * BURST_SECONDS;
    const whole = Math.floor(burst / PIECE_STEP_BYTES) * PIECE_STEP_BYTES;
    this.pieceBytes = Math.max(PIECE_STEP_BYTES, Math.min(whole, PIECE_MOST_BYTES));
  }

  /** Waits, in a worker thread, until so many bytes may be written. @throws Aborted */
  take(bytes: number): void {
    const until = this.#book(bytes);
    for (let ms = msUntil(until); ms > 0; ms = msUntil(until)) {
      this.#requireGoingOn();
      Atomics.wait(this.#control.words, WORD_ABORT, 0, ms);
    }
    this.#requireGoingOn();
  }

  /** The same without blocking the thread. */
  async takeSoon(bytes: number): Promise<void> {
    const until = this.#book(bytes);
    for (let ms = msUntil(until); ms > 0; ms = msUntil(until)) {
      this.#requireGoingOn();
      await delay(Math.min(ms, LOOK_MS));
    }
    this.#requireGoingOn();
  }

  /** @returns when so many bytes more may be written. */
  #book(bytes: number): bigint {
    const { bytesPerSecond, bookedUntil } = this.#shared;
    const lasts = BigInt(Math.ceil((bytes / bytesPerSecond) * NANOSECONDS));
    for (;;) {
      const before = Atomics.load(bookedUntil, 0);
      const ahead = before - process.hrtime.bigint();
      const after = (ahead > 0n ? before : before - ahead) + lasts;
      if (Atomics.compareExchange(bookedUntil, 0, before, after) === before)
        return after - BigInt(BURST_SECONDS * NANOSECONDS);
    }
  }

  #requireGoingOn(): void {
    if (isAborted(this.#control)) throw new Aborted();
  }
}

function msUntil(time: bigint): number {
  return Number(time - process.hrtime.bigint()) / 1e6;
}
