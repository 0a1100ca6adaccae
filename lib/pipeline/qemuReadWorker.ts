/**
 * Begins a migration stream that comes through a pipe, and reads what follows its RAM: on a worker thread, because the pipe may
 * have nothing for long. The pages between are read by the workers of the save (feeds/qemuStreamFeed.ts).
 */
import { faultError } from '../../formats/qemu/fault.js';
import { native, type QemuHead } from '../../native/binding.js';
import { errnoError } from '../../native/errors.js';
import { isAborted, type SharedControl, WORD_ABORT } from './control.js';
import { Aborted } from './mutex.js';

export interface QemuOpenJob {
  readonly kind: 'qemuOpen';
  readonly control: SharedControl;
  readonly fd: number;
  readonly path: string;
  /** What was read of the stream already. */
  readonly start: Uint8Array;
}

export interface QemuRestJob {
  readonly kind: 'qemuRest';
  readonly control: SharedControl;
  readonly reader: number;
  readonly path: string;
  readonly length: number;
}

/** `reader`: a number that is good in every thread, until it is closed. */
export interface QemuOpened {
  readonly reader: number;
  readonly head: QemuHead;
}

export function runQemuOpenWorker({ control, fd, path, start }: QemuOpenJob): QemuOpened {
  const opened = native.qemuOpen(fd, start, control.words, WORD_ABORT);
  if (isAborted(control)) throw new Aborted();
  if (opened.fault !== undefined) throw faultError(opened.fault, path);
  return { reader: opened.reader, head: opened.head };
}

/** @returns fewer bytes than asked for only at the end of the stream. */
export function runQemuRestWorker({ control, reader, path, length }: QemuRestJob): Uint8Array {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const got = native.qemuReadRest(reader, bytes.subarray(done), control.words, WORD_ABORT);
    if (isAborted(control)) throw new Aborted();
    if (got < 0) throw errnoError(got, 'read', path);
    if (got === 0) break;
    done += got;
  }
  return bytes.subarray(0, done);
}
