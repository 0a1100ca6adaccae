/**
 * A lock between worker threads in one word of shared memory (0 free, 1 held, 2 held and waited for).
 *
 * Held for microseconds, except around a read from or a write to a stream. Waiting ends with {@link Aborted} when the
 * abort word is set, so a thread that died with the lock held does not hang the others.
 */
export class Aborted extends Error {
  override readonly name = 'Aborted';
}

const ABORT_POLL_MS = 100;

export function lock(words: Int32Array, index: number, abortIndex: number): void {
  if (Atomics.compareExchange(words, index, 0, 1) === 0) return;
  while (Atomics.exchange(words, index, 2) !== 0) {
    if (Atomics.load(words, abortIndex) !== 0) throw new Aborted();
    Atomics.wait(words, index, 2, ABORT_POLL_MS);
  }
}

export function tryLock(words: Int32Array, index: number): boolean {
  return Atomics.compareExchange(words, index, 0, 1) === 0;
}

export function unlock(words: Int32Array, index: number): void {
  if (Atomics.exchange(words, index, 0) === 2) Atomics.notify(words, index, 1);
}

/** Waits until `words[index]` is no longer `value`. */
export function waitWhile(words: Int32Array, index: number, value: number, abortIndex: number): void {
  while (Atomics.load(words, index) === value) {
    if (Atomics.load(words, abortIndex) !== 0) throw new Aborted();
    Atomics.wait(words, index, value, ABORT_POLL_MS);
  }
}
