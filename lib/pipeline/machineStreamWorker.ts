/** Waits for QEMU to connect with its migration stream, and puts a small stream into a file: on a worker thread. */
import { writeSync } from 'node:fs';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError, wrapSystemError } from '../../native/errors.js';
import { isAborted, type SharedControl, WORD_ABORT } from './control.js';
import { Aborted } from './mutex.js';

const BUFFER_BYTES = 2 ** 20;

export interface AcceptJob {
  readonly kind: 'accept';
  readonly control: SharedControl;
  /** A socket that listens. */
  readonly fd: number;
  readonly path: string;
}

export interface SpoolJob {
  readonly kind: 'spool';
  readonly control: SharedControl;
  readonly fd: number;
  readonly path: string;
  readonly into: { readonly fd: number; readonly path: string };
  readonly maxBytes: number;
}

/** @returns the descriptor of the connection. */
export function runAcceptWorker({ control, fd, path }: AcceptJob): number {
  const connection = native.acceptUnix(fd, control.words, WORD_ABORT);
  if (isAborted(control)) throw new Aborted();
  if (connection < 0) throw errnoError(connection, 'accept a connection on', path);
  return connection;
}

/** @returns how many bytes came. */
export function runSpoolWorker({ control, fd, path, into, maxBytes }: SpoolJob): number {
  const buffer = new Uint8Array(BUFFER_BYTES);
  for (let total = 0; ; ) {
    const got = native.readStream(fd, buffer, 0, buffer.length, control.words, WORD_ABORT);
    if (isAborted(control)) throw new Aborted();
    if (got < 0) throw errnoError(got, 'read', path);
    total += got;
    if (total > maxBytes) throw tooLong(path, maxBytes);
    writeAll(into, buffer.subarray(0, got));
    if (got < buffer.length) return total;
  }
}

function writeAll(into: SpoolJob['into'], bytes: Uint8Array): void {
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(into.fd, bytes, done);
  } catch (error) {
    throw wrapSystemError(error, 'write the temporary file', into.path);
  }
}

function tooLong(path: string, maxBytes: number): VmsnapError {
  return new VmsnapError(
    'UNSUPPORTED',
    `${path} sends more than ${maxBytes} bytes: QEMU puts memory into its stream that it was to leave out`,
    { path, hint: 'QEMU leaves out memory-backend-file objects with share=on and a file name of their own' },
  );
}
