/**
 * A compressed file whose contents come through a pipe, from a thread or from another program, while the savers read.
 *
 * The end of the pipe is not the end of the contents if what writes into it has failed. So who has read it to its end asks
 * `finish`, and who has failed over what came asks `cause`.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError, wrapSystemError } from '../../native/errors.js';
import { PIPE_BYTES } from '../files/pipeCapacity.js';
import { createControl } from '../pipeline/control.js';
import { Aborted } from '../pipeline/mutex.js';
import { runJobs } from '../pipeline/workerPool.js';

const SKIP_BYTES = 1024 * 1024;
/** What failed has closed its end of the pipe already, and is about to say why. */
const CAUSE_LIMIT_MS = 1000;
/** Failures that contents which end too early may lead to. */
const CONTENT_CODES = ['CORRUPT', 'UNSUPPORTED', 'USAGE', 'FAILED'];

/** The file to decompress, from `offset` on. */
export interface WrappedFile {
  readonly fd: number;
  readonly path: string;
  readonly offset: number;
}

/** What writes the contents into a pipe: takes both descriptors and closes them. */
export type StartUnwrapping = (
  path: string,
  inputFd: number,
  outputFd: number,
) => {
  /** Resolves when all is written, rejects if the file is damaged. */
  readonly done: Promise<void>;
  /** Ends it at once; `done` is then of no interest. */
  stop(): void;
};

export class Unwrapping {
  /** Read end of the pipe. */
  readonly fd: number;
  readonly #path: string;
  readonly #done: Promise<void>;
  readonly #stop: () => void;
  #open = true;

  private constructor(fd: number, path: string, { done, stop }: ReturnType<StartUnwrapping>) {
    this.fd = fd;
    this.#path = path;
    this.#done = done;
    this.#stop = stop;
    // Nobody may be waiting when it fails.
    done.catch(() => {});
  }

  static start(file: WrappedFile, start: StartUnwrapping): Unwrapping {
    const inputFd = reopen(file);
    const pipe = native.pipe(PIPE_BYTES);
    if (typeof pipe === 'number') {
      closeSync(inputFd);
      throw errnoError(pipe, 'open a pipe for', file.path);
    }
    const [readFd, writeFd] = pipe;
    try {
      return new Unwrapping(readFd, file.path, start(file.path, inputFd, writeFd));
    } catch (error) {
      closeSync(readFd);
      throw error;
    }
  }

  /** All that was wanted has been read. @throws if that was not the end of sound contents. */
  async finish(): Promise<void> {
    const control = createControl(1);
    const rest = { kind: 'streamRead', control, fd: this.fd, path: this.#path, length: SKIP_BYTES, offset: 0 } as const;
    // What nobody wanted is decompressed all the same: the file is checked to its end.
    for (let got = SKIP_BYTES; got === SKIP_BYTES; ) {
      const [bytes] = await runJobs<Uint8Array>([rest], control);
      got = bytes!.length;
    }
    await this.#done;
  }

  /** Why reading failed: `error`, or what made the contents end too early. */
  async cause(error: unknown): Promise<unknown> {
    const isOfContents = error instanceof VmsnapError && CONTENT_CODES.includes(error.code);
    if (!isOfContents) return error;
    const reason = this.#done.then(
      () => error,
      (cause: unknown) => (cause instanceof Aborted ? error : cause),
    );
    return await Promise.race([reason, delay(CAUSE_LIMIT_MS, error, { ref: false })]);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#stop();
    closeSync(this.fd);
  }
}

/** A descriptor of its own, with a position of its own: the other one is closed whenever its owner likes. */
function reopen({ fd, path, offset }: WrappedFile): number {
  let own: number;
  try {
    own = openSync(`/proc/self/fd/${fd}`, 'r');
  } catch (error) {
    throw wrapSystemError(error, 'open the source', path);
  }
  try {
    const buffer = Buffer.alloc(Math.min(SKIP_BYTES, offset));
    for (let at = 0; at < offset; ) {
      const got = readSync(own, buffer, 0, Math.min(buffer.length, offset - at), null);
      if (got === 0) break;
      at += got;
    }
    return own;
  } catch (error) {
    closeSync(own);
    throw wrapSystemError(error, 'read', path);
  }
}
