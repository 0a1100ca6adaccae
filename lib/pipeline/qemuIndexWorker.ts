/** Finds the pages of a migration stream in a file: on a worker thread, because that takes as long as reading the file. */
import { type IndexedStream, indexQemuStream, type QemuFile } from '../../formats/qemu/openStream.js';
import type { SpillFile } from '../../formats/spillFile.js';
import { isAborted, type SharedControl, STAT_DONE_BYTES, statsOf, WORD_ABORT } from './control.js';
import { Aborted } from './mutex.js';

export interface QemuIndexJob {
  readonly kind: 'qemuIndex';
  readonly control: SharedControl;
  readonly file: QemuFile;
  /** Where the stream begins. */
  readonly offset: number;
  readonly table: SpillFile;
}

export function runQemuIndexWorker({ control, file, offset, table }: QemuIndexJob): IndexedStream {
  const stats = statsOf(control, 0);
  try {
    return indexQemuStream(file, offset, table, {
      abort: control.words,
      abortIndex: WORD_ABORT,
      onStep: (at) => {
        stats[STAT_DONE_BYTES] = at - offset;
        if (isAborted(control)) throw new Aborted();
      },
    });
  } catch (error) {
    throw isAborted(control) ? new Aborted() : error;
  }
}
