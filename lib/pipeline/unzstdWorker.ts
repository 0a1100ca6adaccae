/**
 * Decompresses a zstd file, of one frame or several, into a pipe, from which the savers read it like any other stream.
 *
 * Frames with windows beyond 128 MiB ("zstd --ultra --long=28" and more) are refused, as the zstd program does unless told
 * otherwise: that is what bounds the memory.
 */
import { closeSync } from 'node:fs';
import zstd from 'zstd-napi/binding.js';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError } from '../../native/errors.js';
import { isAborted, type SharedControl, WORD_ABORT } from './control.js';
import { Aborted } from './mutex.js';

const READ_BYTES = 256 * 1024;
const OUTPUT_BYTES = 256 * 1024;
const WINDOW_LOG_MAX = 27;

export interface UnzstdJob {
  readonly kind: 'unzstd';
  readonly control: SharedControl;
  readonly inputFd: number;
  readonly inputPath: string;
  /** Write end of a pipe; closed by this worker, also when it fails. */
  readonly outputFd: number;
}

export function runUnzstdWorker(job: UnzstdJob): void {
  try {
    decompress(job);
  } finally {
    closeSync(job.outputFd);
  }
}

function decompress(job: UnzstdJob): void {
  const context = createZstdReader();
  const [input, output] = [Buffer.alloc(READ_BYTES), Buffer.alloc(OUTPUT_BYTES)];
  let offset = 0;
  // Whether a frame has begun and not ended.
  let inFrame = true;
  for (let got = read(job, input, offset); got > 0; got = read(job, input, offset)) {
    for (let at = 0, more = true; at < got || more; ) {
      // Where nothing is left to be read and all has come out, another call would ask for the next frame.
      if (at === got && !inFrame) break;
      const [left, produced, consumed] = step(job, context, output, input.subarray(at, got), offset + at);
      at += consumed;
      inFrame = left !== 0;
      more = produced === output.length;
      write(job, output, produced);
    }
    offset += got;
  }
  if (inFrame) throw unsound(job, offset, 'is cut off: its last zstd frame has no end', 'get a whole copy of the file');
}

export function createZstdReader(): zstd.DCtx {
  const context = new zstd.DCtx();
  context.setParameter(zstd.DParameter.windowLogMax, WINDOW_LOG_MAX);
  return context;
}

function step(job: UnzstdJob, context: zstd.DCtx, output: Buffer, input: Buffer, offset: number) {
  try {
    return context.decompressStream(output, input);
  } catch (error) {
    const { message } = error as Error;
    if (/memory/i.test(message)) {
      throw new VmsnapError('UNSUPPORTED', `${job.inputPath} was compressed with a window of more than 128 MiB`, {
        path: job.inputPath,
        offset,
        hint: `use "zstd -dc --long=31 ${job.inputPath} | vmsnap save - IMAGE"`,
      });
    }
    throw unsound(job, offset, `is no sound zstd file, near offset ${offset}: ${message}`, 'test it with "zstd -t"');
  }
}

function read({ inputFd, inputPath, control }: UnzstdJob, into: Buffer, offset: number): number {
  const got = native.readStream(inputFd, into, 0, into.length, control.words, WORD_ABORT);
  if (isAborted(control)) throw new Aborted();
  if (got < 0) throw errnoError(got, 'read', inputPath, offset);
  return got;
}

/** A reader that is gone has a reason of its own. */
function write({ outputFd, control }: UnzstdJob, bytes: Buffer, length: number): void {
  if (length === 0) return;
  if (native.writeStream(outputFd, bytes, 0, length, control.words, WORD_ABORT) !== 0) throw new Aborted();
}

function unsound({ inputPath }: UnzstdJob, offset: number, what: string, hint: string): VmsnapError {
  return new VmsnapError('CORRUPT', `${inputPath} ${what}`, { path: inputPath, offset, hint });
}
