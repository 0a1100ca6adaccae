/**
 * Tells whether somebody may write a source while it is read.
 *
 * A read lease (fcntl F_SETLEASE) is refused while anyone has the file open or mapped for writing, and is asked back when
 * someone opens it so. That is the only sure sign: a store through a mapping moves no time stamp. Size and mtime are
 * compared as well, because a change of them proves a torn source.
 */
import type { Stats } from 'node:fs';
import { native } from '../../native/binding.js';
import { VmsnapError } from '../../native/errors.js';
import { openFileStats } from '../../native/fileStats.js';
import type { Warning } from '../types.js';
import { findWriters } from './writers.js';

const POLL_MS = 50;
const EAGAIN = 11;

export interface GuardedFile {
  readonly fd: number;
  readonly path: string;
}

export class SourceGuard {
  readonly #files: readonly GuardedFile[];
  readonly #before: readonly Stats[];
  readonly #leased = new Set<GuardedFile>();
  readonly #onWarning: (warning: Warning) => void;
  #timer: NodeJS.Timeout | undefined;
  #mayHaveChanged = false;

  /** `frozen`: the caller vouches for the source; only size and mtime are compared. */
  constructor(files: readonly GuardedFile[], frozen: boolean, onWarning: (warning: Warning) => void) {
    this.#files = files.filter((file, i) => files.findIndex((other) => other.fd === file.fd) === i);
    this.#before = this.#files.map(openFileStats);
    this.#onWarning = onWarning;
    if (frozen) return;
    for (const [i, file] of this.#files.entries()) this.#lease(file, this.#before[i]!);
    if (this.#leased.size === 0) return;
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
    this.#timer.unref();
  }

  #lease(file: GuardedFile, stats: Stats): void {
    if (!stats.isFile()) {
      this.#warn(file, 'it is a device, and whether somebody writes it cannot be told');
      return;
    }
    const result = native.takeReadLease(file.fd);
    if (result === 0) {
      this.#leased.add(file);
      return;
    }
    if (result !== -EAGAIN) {
      this.#warn(
        file,
        'whether somebody writes it cannot be told (no lease is to be had: not its owner, or a network file system)',
      );
      return;
    }
    const pids = findWriters(stats);
    const who = pids.length === 0 ? 'a process that cannot be seen from here' : `process ${pids.join(', ')}`;
    this.#warn(file, `${who} has it open or mapped for writing`);
  }

  #poll(): void {
    for (const file of this.#leased) {
      if (native.readLeaseHeld(file.fd) === 1) continue;
      // Whoever waits to open it goes on at once: a save must not hold up the start of a machine.
      native.releaseLease(file.fd);
      this.#leased.delete(file);
      this.#warn(file, 'it was opened for writing while it was read');
    }
  }

  #warn(file: GuardedFile, why: string): void {
    this.#mayHaveChanged = true;
    this.#onWarning({
      code: 'source-may-change',
      message: `${file.path} may have changed while it was saved: ${why}. If the machine is paused, say so with --frozen`,
    });
  }

  /** Nobody was seen that may write the source, or the caller vouches for it. */
  get holdsStill(): boolean {
    return !this.#mayHaveChanged;
  }

  /**
   * After the last read. @returns whether the source may have changed.
   * @throws SOURCE_CHANGED if it did.
   */
  finish(): boolean {
    this.#poll();
    for (const [i, file] of this.#files.entries()) requireUnchanged(file, this.#before[i]!, openFileStats(file));
    this.close();
    return this.#mayHaveChanged;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const file of this.#leased) native.releaseLease(file.fd);
    this.#leased.clear();
  }
}

function requireUnchanged(file: GuardedFile, before: Stats, after: Stats): void {
  if (!before.isFile()) return;
  if (before.size === after.size && before.mtimeMs === after.mtimeMs) return;
  const what =
    before.size === after.size ? 'was written' : `changed its size from ${before.size} to ${after.size} bytes`;
  throw new VmsnapError(
    'SOURCE_CHANGED',
    `${file.path} ${what} while it was read: what was read is no state it ever had`,
    {
      path: file.path,
      hint: 'nothing was saved; pause the machine and save again',
    },
  );
}
