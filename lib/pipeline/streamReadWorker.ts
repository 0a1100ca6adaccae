/** Reads some bytes of a stream on a worker thread: it may have nothing for long, and the main thread must not wait. */
import { native } from '../../native/binding.js';
import { errnoError } from '../../native/errors.js';
import { isAborted, type SharedControl, WORD_ABORT } from './control.js';
import { Aborted } from './mutex.js';

export interface StreamReadJob {
  readonly kind: 'streamRead';
  readonly control: SharedControl;
  readonly fd: number;
  readonly path: string;
  readonly length: number;
  /** Where in the stream the bytes lie, for messages. */
  readonly offset: number;
}

/** @returns fewer bytes than asked for only at the end of the stream. */
export function runStreamReadWorker(job: StreamReadJob): Uint8Array {
  const bytes = new Uint8Array(job.length);
  const got = native.readStream(job.fd, bytes, 0, job.length, job.control.words, WORD_ABORT);
  if (isAborted(job.control)) throw new Aborted();
  if (got < 0) throw errnoError(got, 'read', job.path, job.offset);
  return bytes.subarray(0, got);
}
