/**
 * Starts worker threads before it is known what they will do. Their start takes as long as reading the rest of the library and
 * opening the files, and can go on beside it on another core.
 */
import { statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { type AheadWork, startIdleWorkers } from './pipeline/workerPool.js';

/** A file of fewer bytes for each thread is not worth more threads. */
const BYTES_PER_THREAD = 2 ** 22;

/**
 * For a save or a load that follows at once, of the file or named pipe at `path` ("-": standard input). Does nothing if that is
 * neither; finds no fault with anything.
 * @param threads how many the save or load will use; undefined: as many as there are processors, where fewer may be used.
 * @param work what will come, if that is known: its code is then loaded ahead too.
 */
export function warmUp(path: string | undefined, threads: number | undefined, work?: AheadWork): void {
  const inputBytes = path === undefined ? undefined : mostInputBytes(path);
  if (inputBytes === undefined) return;
  const most = Math.min(threads ?? availableParallelism(), availableParallelism());
  startIdleWorkers(Math.min(most, Math.ceil(inputBytes / BYTES_PER_THREAD)), work);
}

/** Undefined: it is none, or cannot be looked at, which who opens it will tell. */
function mostInputBytes(path: string): number | undefined {
  // What a pipe will bring is not known.
  if (path === '-') return Number.POSITIVE_INFINITY;
  try {
    const stats = statSync(path);
    if (stats.isFIFO()) return Number.POSITIVE_INFINITY;
    return stats.isFile() ? stats.size : undefined;
  } catch {
    return undefined;
  }
}
