/**
 * Opens files that may be named pipes. A plain open of one waits until somebody opens the other end; it would hold up the
 * main thread, and with it every signal and abort.
 */
import { constants, openSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const RETRY_MS = 20;

/** Opens to read. Of a named pipe nothing is waited for here: native.readStream waits for its writer, and can be stopped. */
export function openToRead(path: string): number {
  const isPipe = statSync(path, { throwIfNoEntry: false })?.isFIFO() ?? false;
  return openSync(path, constants.O_RDONLY | (isPipe ? constants.O_NONBLOCK : 0));
}

/** Opens a named pipe or a device to write, once a pipe has a reader. */
export async function openToWrite(path: string, signal: AbortSignal | undefined): Promise<number> {
  for (;;) {
    signal?.throwIfAborted();
    if (!statSync(path).isFIFO()) return openSync(path, constants.O_WRONLY);
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      // No reader yet.
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error;
    }
    await delay(RETRY_MS);
  }
}
