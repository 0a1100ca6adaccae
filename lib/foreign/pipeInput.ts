/** The beginning of a pipe, read to find out what it is, and handed on with what comes later. */
import type { MemoryAttachment, MemoryFormat } from '../../formats/memoryFile.js';
import type { RegionManifest } from '../../formats/vmsnap/manifest.js';
import { widenPipe } from '../files/pipeCapacity.js';
import type { SharedControl } from '../pipeline/control.js';
import type { SourceDescription } from '../pipeline/feeds/sourceDescription.js';
import type { Job } from '../pipeline/worker.js';
import { isUndecided, START_BYTES } from './recognise.js';
import { runAlone } from './runAlone.js';

/** The shortest magic: most raw memory is ruled out by these. */
const FIRST_BYTES = 4;

/** What a pipe turned out to be, and how its memory is read. */
export interface PipeSource {
  readonly format: MemoryFormat;
  readonly version: string | undefined;
  readonly machine: { readonly name: string | undefined; readonly uuid: string | undefined };
  readonly pageSize: number;
  /** Its feed may call pages absent. */
  readonly mayHaveAbsent: boolean;
  readonly regions: readonly RegionManifest[];
  readonly attachments: readonly MemoryAttachment[];
  /** Has the bytes of the input that are not used up yet. */
  readonly description: SourceDescription;
  /** What was opened beside the input itself. */
  close?(): void;
}

export class PipeInput {
  readonly fd: number;
  readonly path: string;
  readonly #signal: AbortSignal | undefined;
  #start = Buffer.alloc(0);
  #ended = false;

  constructor(fd: number, path: string, signal: AbortSignal | undefined) {
    this.fd = fd;
    this.path = path;
    this.#signal = signal;
    widenPipe(fd);
  }

  /** All that was read so far. */
  get start(): Buffer {
    return this.#start;
  }

  /** Waits until `sizeBytes` have been read in all, or the pipe has ended. The caller bounds it. @returns {@link start}. */
  async need(sizeBytes: number): Promise<Buffer> {
    const length = sizeBytes - this.#start.length;
    if (length <= 0 || this.#ended) return this.#start;
    const { fd, path } = this;
    const offset = this.#start.length;
    const bytes = await this.run<Uint8Array>((control) => ({ kind: 'streamRead', control, fd, path, length, offset }));
    this.#ended = bytes.length < length;
    this.#start = Buffer.concat([this.#start, bytes]);
    return this.#start;
  }

  /** Runs a job on a worker thread: the pipe may have nothing for long, and the main thread must not wait. */
  run<T>(job: (control: SharedControl) => Job): Promise<T> {
    return runAlone(this.#signal, job);
  }

  /** Reads as much as it takes to tell what it is, and no more: a slow pipe may not give any more for long. */
  async readStart(): Promise<Buffer> {
    const start = await this.need(FIRST_BYTES);
    return isUndecided(start) ? await this.need(START_BYTES) : start;
  }
}
