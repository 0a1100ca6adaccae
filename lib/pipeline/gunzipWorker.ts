/**
 * Inflates a gzip stream through zlib-sync into a pipe, from which the savers read it like any other stream.
 *
 * zlib-sync inflates one member and ignores what follows it, and a truncated stream is no error to it (it reports 0
 * until the stream's end, then 1). So the input is handed over such that the end is exact: the last byte of the file comes
 * alone, and an end before it means that another member follows, or garbage. Where the member ended is found by its
 * trailer, the CRC-32 and length of what came out, both of which are known here.
 */
import { closeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import zlibSync from 'zlib-sync';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError } from '../../native/errors.js';
import { isAborted, type SharedControl, WORD_ABORT } from './control.js';
import { Aborted } from './mutex.js';

/** Each member's Inflate holds its largest output, 8 MiB at worst; a file of more members than this is not for zlib-sync. */
const MEMBERS_MAX = 32;
const READ_BYTES = 256 * 1024;
/** Inflates to 1,032 times as much at most, and zlib-sync holds all of it at once: 8 MiB. */
const PIECE_BYTES = 8 * 1024;
const OUTPUT_STEP_BYTES = 256 * 1024;
const GZIP_WINDOW_BITS = 31;
const STREAM_END = 1;
const TRAILER_BYTES = 8;

export interface GunzipJob {
  readonly kind: 'gunzip';
  readonly control: SharedControl;
  readonly inputFd: number;
  readonly inputPath: string;
  /** Write end of a pipe; closed by this worker, also when it fails. */
  readonly outputFd: number;
}

export function runGunzipWorker(job: GunzipJob): void {
  try {
    new GunzipWorker(job).run();
  } finally {
    closeSync(job.outputFd);
  }
}

class GunzipWorker {
  readonly #job: GunzipJob;
  readonly #block = Buffer.alloc(READ_BYTES);
  /** Read and not yet inflated. While more may come it keeps at least one byte. */
  #pending: Buffer = Buffer.alloc(0);
  #ended = false;
  #offset = 0;
  #members = 0;

  constructor(job: GunzipJob) {
    this.#job = job;
  }

  run(): void {
    do this.#inflateMember();
    while (this.#moreMembers());
  }

  #inflateMember(): void {
    const member = this.#newMember();
    for (let piece = this.#nextPiece(); piece !== undefined; piece = this.#nextPiece()) {
      if (!member.push(piece)) continue;
      if (this.#atEnd()) return;
      this.#pending = Buffer.concat([this.#afterTrailer(member, piece), this.#pending]);
      return;
    }
    throw this.#fail('is cut off: the gzip stream has no end', 'get a whole copy of the file');
  }

  /** Skips padding, zero bytes, as gzip itself does. */
  #moreMembers(): boolean {
    for (;;) {
      this.#fill();
      const start = this.#pending.findIndex((byte) => byte !== 0);
      if (start >= 0) {
        this.#pending = this.#pending.subarray(start);
        return true;
      }
      this.#pending = Buffer.alloc(0);
      if (this.#ended) return false;
    }
  }

  /** Up to PIECE_BYTES. The last byte of the file always comes alone, so a member that ends before it is seen to. */
  #nextPiece(): Buffer | undefined {
    this.#fill();
    const length = Math.min(PIECE_BYTES, Math.max(1, this.#pending.length - 1));
    if (this.#pending.length === 0) return undefined;
    const piece = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    return piece;
  }

  #atEnd(): boolean {
    this.#fill();
    return this.#ended && this.#pending.length === 0;
  }

  #fill(): void {
    if (this.#ended || this.#pending.length > 1) return;
    const got = native.readStream(this.#job.inputFd, this.#block, 0, READ_BYTES, this.#job.control.words, WORD_ABORT);
    if (isAborted(this.#job.control)) throw new Aborted();
    if (got < 0) throw errnoError(got, 'read', this.#job.inputPath, this.#offset);
    this.#offset += got;
    this.#ended = got < READ_BYTES;
    this.#pending = Buffer.concat([this.#pending, this.#block.subarray(0, got)]);
  }

  #newMember(): Member {
    this.#members++;
    if (this.#members > MEMBERS_MAX) {
      throw this.#fail('has too many gzip members', `use "gunzip -c ${this.#job.inputPath} | vmsnap save - IMAGE"`);
    }
    return new Member(
      (bytes) => this.#write(bytes),
      (message) => this.#fail(message),
    );
  }

  /** What follows the member that ended somewhere in `piece`. */
  #afterTrailer(member: Member, piece: Buffer): Buffer {
    const window = Buffer.concat([member.tailBefore, piece]);
    const at = window.indexOf(member.trailer());
    if (at < 0) throw this.#fail('has a damaged gzip trailer');
    return window.subarray(at + TRAILER_BYTES);
  }

  #write(bytes: Buffer): void {
    const result = native.writeStream(this.#job.outputFd, bytes, 0, bytes.length, this.#job.control.words, WORD_ABORT);
    if (result !== 0) throw new Aborted();
  }

  #fail(what: string, hint = 'test it with "gzip -t"'): VmsnapError {
    const path = this.#job.inputPath;
    return new VmsnapError('CORRUPT', `${path} ${what}`, { path, offset: this.#offset, hint });
  }
}

/**
 * Newer Nodes abort the process when the garbage collector runs zlib-sync's destructor (it takes a cleanup hook away from an
 * environment that is not entered then; seen on 24). There an Inflate stays until its thread ends, which is after this job;
 * MEMBERS_MAX bounds what they hold together. Node 20 collects them as ever.
 */
const retained: zlibSync.Inflate[] = [];
const mustRetain = Number(process.versions.node.split('.')[0]) > 20;

function createInflate(): zlibSync.Inflate {
  const inflate = new zlibSync.Inflate({ windowBits: GZIP_WINDOW_BITS, chunkSize: OUTPUT_STEP_BYTES });
  if (mustRetain) retained.push(inflate);
  return inflate;
}

/** One gzip member. */
class Member {
  readonly #inflate = createInflate();
  readonly #write: (bytes: Buffer) => void;
  readonly #fail: (what: string) => VmsnapError;
  #crc = 0;
  #length = 0;
  /** The last bytes before the piece pushed last: a trailer may begin in them. */
  tailBefore: Buffer = Buffer.alloc(0);
  #tail: Buffer = Buffer.alloc(0);

  constructor(write: (bytes: Buffer) => void, fail: (what: string) => VmsnapError) {
    this.#write = write;
    this.#fail = fail;
  }

  /** @returns true when the member has ended. Only Buffers ever reach zlib-sync: anything else aborts the process. */
  push(bytes: Buffer): boolean {
    this.tailBefore = this.#tail;
    this.#tail = Buffer.concat([this.#tail, bytes.subarray(-TRAILER_BYTES)]).subarray(-TRAILER_BYTES);
    this.#inflate.push(bytes, zlibSync.Z_SYNC_FLUSH);
    const { err, msg, result } = this.#inflate;
    if (err < 0 && err !== zlibSync.Z_BUF_ERROR)
      throw this.#fail(`is no sound gzip file: ${msg ?? `zlib error ${err}`}`);
    const out = result as Buffer | null;
    if (out !== null && out.length > 0) {
      this.#crc = crc32(out, this.#crc);
      this.#length += out.length;
      this.#write(out);
    }
    return err === STREAM_END;
  }

  /** The 8 bytes that end this member (RFC 1952, 2.3.1). */
  trailer(): Buffer {
    const bytes = Buffer.alloc(TRAILER_BYTES);
    bytes.writeUInt32LE(this.#crc, 0);
    bytes.writeUInt32LE(this.#length % 2 ** 32, 4);
    return bytes;
  }
}
