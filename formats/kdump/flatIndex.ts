/**
 * The flattened format: a dump that went through a pipe, as records of bytes and where they belong. One pass over the headers
 * of the records makes an index, in a spill file.
 *
 * File: 4096 bytes that begin with "makedumpfile" and NULs up to 16, be64 type 1, be64 version 1; then records of be64 offset, be64
 * size and so many bytes; at the end one with offset and size -1. Records may come in any order and more than once: the last one
 * wins, as with `makedumpfile -R`, and what none of them covers is zero.
 *
 * The index: records go into runs of up to 256 Ki, each sorted and free of overlaps; where records overlap, the run is parted
 * between them in time. A later run wins over an earlier one. In memory stays, for every 256 records of a run, where the first of them begins.
 */

import { closeSync, writeSync } from 'node:fs';
import { wrapSystemError } from '../../native/errors.js';
import { damaged, type ForeignFile, notSupported } from '../foreignFile.js';
import { shared } from '../ranges/rangePages.js';
import { readUpTo } from '../readUpTo.js';
import { createSpillFile } from '../spillFile.js';
import type { FlatRecords } from './flattenedBytes.js';

export const FLAT_MAGIC = Buffer.from('makedumpfile\0\0\0\0', 'latin1');
export const FLAT_FORMAT = 'flattened kdump';
export const FLAT_HEADER_BYTES = 4096;

/** Offset in the dump, offset in the file, bytes: a record of the index. */
export const RECORD_NUMBERS = 3;
export const RECORD_BYTES = RECORD_NUMBERS * Float64Array.BYTES_PER_ELEMENT;
export const BLOCK_RECORDS = 256;
/** First record in the spill file, count, first fence: a run. */
export const RUN_NUMBERS = 3;

const RECORD_HEADER_BYTES = 16;
const RUN_RECORDS = 256 * 1024;
/** Dumps have 1 or a few for each 256 Ki records. Each may cost a thread 6 KiB. */
const RUNS_MAX = 1024;
/** QEMU takes one for 16 KiB, so this is a dump of 256 GiB; the index has 384 MiB then. */
const RECORDS_MAX = 2 ** 24;
const END_MARK = -1n;
const HINT = 'unflatten it with "makedumpfile -R DUMP < FILE", and save the DUMP';

/** @returns the index, whose spill file the caller closes. */
export function indexFlattened(file: ForeignFile): FlatRecords {
  checkHeader(file);
  const { fd: spillFd } = createSpillFile();
  try {
    const index = new FlatIndex(file, spillFd);
    readRecords(file, index);
    return index.finish();
  } catch (error) {
    closeSync(spillFd);
    throw error;
  }
}

function checkHeader(file: ForeignFile): void {
  const header = Buffer.alloc(32);
  if (file.sizeBytes < FLAT_HEADER_BYTES || readUpTo(file, 0, header) < header.length) {
    throw damaged(
      FLAT_FORMAT,
      file.path,
      file.sizeBytes,
      `the file ends within its header of ${FLAT_HEADER_BYTES} bytes`,
    );
  }
  const [type, version] = [header.readBigInt64BE(16), header.readBigInt64BE(24)];
  if (type !== 1n || version !== 1n) {
    throw notSupported(FLAT_FORMAT, file.path, 16, `type ${type}, version ${version}, and 1, 1 were expected`, HINT);
  }
}

function readRecords(file: ForeignFile, index: FlatIndex): void {
  const header = Buffer.alloc(RECORD_HEADER_BYTES);
  let at = FLAT_HEADER_BYTES;
  for (;;) {
    if (readUpTo(file, at, header) < header.length) {
      throw damaged(FLAT_FORMAT, file.path, at, 'the file ends without an end mark: it is not whole');
    }
    const offset = header.readBigInt64BE(0);
    const size = header.readBigInt64BE(8);
    if (offset === END_MARK && size === END_MARK) return;
    if (offset < 0n || size <= 0n || offset + size > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw damaged(FLAT_FORMAT, file.path, at, `a record of ${size} bytes for offset ${offset}, which no dump has`);
    }
    const from = at + RECORD_HEADER_BYTES;
    at = from + Number(size);
    if (at > file.sizeBytes) {
      throw damaged(
        FLAT_FORMAT,
        file.path,
        from,
        `a record of ${size} bytes, where the file has only ${file.sizeBytes - from}`,
      );
    }
    index.add(Number(offset), from, Number(size));
  }
}

class FlatIndex {
  readonly #file: ForeignFile;
  readonly #spillFd: number;
  /** The run that is being filled, in the order of the file. */
  readonly #records = new Float64Array(RUN_RECORDS * RECORD_NUMBERS);
  readonly #runs: number[] = [];
  readonly #fences: number[] = [];
  #count = 0;
  #written = 0;
  #sizeBytes = 0;

  constructor(file: ForeignFile, spillFd: number) {
    this.#file = file;
    this.#spillFd = spillFd;
  }

  add(offset: number, fileOffset: number, bytes: number): void {
    if (this.#count === RUN_RECORDS) this.#writeRuns();
    if (this.#written + this.#count === RECORDS_MAX) {
      throw notSupported(FLAT_FORMAT, this.#file.path, fileOffset, `more than ${RECORDS_MAX} records`, HINT);
    }
    const at = this.#count++ * RECORD_NUMBERS;
    this.#records[at] = offset;
    this.#records[at + 1] = fileOffset;
    this.#records[at + 2] = bytes;
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + bytes);
  }

  finish(): FlatRecords {
    this.#writeRuns();
    const runs = shared(this.#runs.length);
    runs.set(this.#runs);
    const fences = shared(this.#fences.length);
    fences.set(this.#fences);
    const { fd, path } = this.#file;
    return { fd, path, spillFd: this.#spillFd, sizeBytes: this.#sizeBytes, runs, fences };
  }

  #writeRuns(): void {
    if (this.#count > 0) this.#writeRun(0, this.#count);
    this.#count = 0;
  }

  #writeRun(from: number, to: number): void {
    const sorted = new Uint32Array(to - from);
    for (let i = 0; i < sorted.length; i++) sorted[i] = from + i;
    const records = this.#records;
    sorted.sort((a, b) => records[a * RECORD_NUMBERS]! - records[b * RECORD_NUMBERS]!);
    if (this.#overlaps(sorted)) {
      const middle = Math.floor((from + to) / 2);
      this.#writeRun(from, middle);
      this.#writeRun(middle, to);
      return;
    }
    if (this.#runs.length === RUNS_MAX * RUN_NUMBERS) {
      const at = records[from * RECORD_NUMBERS + 1]!;
      throw notSupported(FLAT_FORMAT, this.#file.path, at, 'its records overlap more often than any dump needs', HINT);
    }
    this.#runs.push(this.#written, sorted.length, this.#fences.length);
    this.#spill(sorted);
  }

  #overlaps(sorted: Uint32Array): boolean {
    let end = 0;
    for (const record of sorted) {
      const offset = this.#records[record * RECORD_NUMBERS]!;
      if (offset < end) return true;
      end = offset + this.#records[record * RECORD_NUMBERS + 2]!;
    }
    return false;
  }

  #spill(sorted: Uint32Array): void {
    const out = new Float64Array(sorted.length * RECORD_NUMBERS);
    for (const [i, record] of sorted.entries()) {
      if (i % BLOCK_RECORDS === 0) this.#fences.push(this.#records[record * RECORD_NUMBERS]!);
      for (let k = 0; k < RECORD_NUMBERS; k++)
        out[i * RECORD_NUMBERS + k] = this.#records[record * RECORD_NUMBERS + k]!;
    }
    const bytes = new Uint8Array(out.buffer);
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(this.#spillFd, bytes, done, bytes.length - done, this.#written * RECORD_BYTES + done);
      }
    } catch (error) {
      throw wrapSystemError(error, 'write the index of', this.#file.path);
    }
    this.#written += sorted.length;
  }
}
