/**
 * What a save of a running machine keeps between its passes, in files without a name, so that it takes no memory:
 *
 * - the table, a row for each segment: the keyed hashes of its blocks as they were stored (zeros, and so a hole, where memory is
 *   zero), then a byte for each page, 1 where it has changed since;
 * - the copied pages of segments that have changed, those of a segment side by side. Beside an encrypted image they are not
 *   left in the clear either: a key that is nowhere but in memory covers them (AES-256-CTR, each place written once).
 *
 * Per segment there is one number in shared memory, which says what became of it.
 */
import { createCipheriv, randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync } from 'node:fs';
import { createSpillFile, type SpillFile } from '../../../formats/spillFile.js';
import type { Geometry } from '../../../formats/vmsnap/geometry.js';
import { readExactly } from '../../../formats/vmsnap/imageFile.js';
import { BLOCK_HASH_BYTES, HASH_KEY_BYTES, HASHED_BLOCK_BYTES, native } from '../../../native/binding.js';
import { errnoError, withSystemErrors } from '../../../native/errors.js';
import { asBuffer } from '../commitLine.js';

/** What `found` says of a segment; else its changed pages are copied, from page `found - FOUND_COPIED` of the copies on. */
export const FOUND_UNCHANGED = 0;
/** It has changed, and there was no room for a copy. */
export const FOUND_NO_ROOM = -1;
export const FOUND_COPIED = 1;

const CIPHER = 'aes-256-ctr';
const CIPHER_KEY_BYTES = 32;
const CIPHER_BLOCK_BYTES = 16;

const COUNTER_NEXT_SEGMENT = 0;
const COUNTER_COPIED_PAGES = 1;

/** Passed to every thread. */
export interface LiveShared {
  readonly key: Uint8Array;
  readonly table: SpillFile;
  readonly copies: SpillFile;
  /** Of the copies; undefined: they are in the clear. */
  readonly copiesKey: Uint8Array | undefined;
  /** Pages that may be copied. */
  readonly copiesMost: number;
  readonly found: Int32Array;
  readonly counters: Int32Array;
}

/** Page numbers of the copies are 32 bits. */
const COPIES_MOST = 0x7fff_fff0;

/** @param folder where the files are made. @param copiesMostBytes what the copied pages may take. @param isSecret they are covered. */
export function createLiveShared(
  folder: string,
  geometry: Geometry,
  copiesMostBytes: number,
  isSecret = false,
): LiveShared {
  const table = createSpillFile(folder);
  try {
    withSystemErrors('make a temporary file', table.path, () =>
      ftruncateSync(table.fd, rowBytes(geometry) * geometry.segmentCount),
    );
    return {
      key: randomBytes(HASH_KEY_BYTES),
      table,
      copies: createSpillFile(folder),
      copiesKey: isSecret ? randomBytes(CIPHER_KEY_BYTES) : undefined,
      copiesMost: Math.min(COPIES_MOST, Math.floor(copiesMostBytes / geometry.pageSize)),
      found: new Int32Array(new SharedArrayBuffer(4 * geometry.segmentCount)),
      counters: new Int32Array(new SharedArrayBuffer(8)),
    };
  } catch (error) {
    closeSync(table.fd);
    throw error;
  }
}

export function closeLiveShared({ table, copies }: LiveShared): void {
  closeSync(table.fd);
  closeSync(copies.fd);
}

export function copiedPages({ counters }: LiveShared): number {
  return Atomics.load(counters, COUNTER_COPIED_PAGES);
}

function hashesBytes(geometry: Geometry): number {
  return (geometry.segmentSize / HASHED_BLOCK_BYTES) * BLOCK_HASH_BYTES;
}

function rowBytes(geometry: Geometry): number {
  return hashesBytes(geometry) + geometry.pagesPerSegment;
}

/** One a thread. */
export class LiveFiles {
  readonly #shared: LiveShared;
  readonly #geometry: Geometry;
  readonly #rowBytes: number;
  readonly #hashesBytes: number;

  constructor(shared: LiveShared, geometry: Geometry) {
    this.#shared = shared;
    this.#geometry = geometry;
    this.#rowBytes = rowBytes(geometry);
    this.#hashesBytes = hashesBytes(geometry);
  }

  createHashes(): Uint8Array {
    return new Uint8Array(this.#hashesBytes);
  }

  get key(): Uint8Array {
    return this.#shared.key;
  }

  /** The next segment that no thread has looked at for changes. */
  takeSegment(): number | undefined {
    const segment = Atomics.add(this.#shared.counters, COUNTER_NEXT_SEGMENT, 1);
    return segment < this.#geometry.segmentCount ? segment : undefined;
  }

  writeHashes(segment: number, hashes: Uint8Array, sizeBytes: number): void {
    const { fd, path } = this.#shared.table;
    const offset = segment * this.#rowBytes;
    const result = native.writeBytes(fd, offset, hashes, 0, (sizeBytes / HASHED_BLOCK_BYTES) * BLOCK_HASH_BYTES);
    if (result !== 0) throw errnoError(result, 'write to', path, offset);
  }

  readHashes(segment: number, into: Uint8Array): void {
    const offset = segment * this.#rowBytes;
    readExactly(this.#shared.table, offset, this.#hashesBytes, 'the table of hashes', asBuffer(into));
  }

  found(segment: number): number {
    return this.#shared.found[segment]!;
  }

  /**
   * Copies the changed pages of a segment, which stand in `pages`, if there is room; whether or not, the segment is marked.
   * @returns whether there was.
   */
  keepChanges(segment: number, changed: Uint8Array, pages: Uint8Array, pageCount: number): boolean {
    const first = this.#takeRoom(pageCount);
    const isKept = first !== undefined && this.#write(segment, changed, pages, pageCount, first);
    this.#shared.found[segment] = isKept ? FOUND_COPIED + first : FOUND_NO_ROOM;
    return isKept;
  }

  #takeRoom(pageCount: number): number | undefined {
    const { counters, copiesMost } = this.#shared;
    for (;;) {
      const used = Atomics.load(counters, COUNTER_COPIED_PAGES);
      if (used + pageCount > copiesMost) return undefined;
      if (Atomics.compareExchange(counters, COUNTER_COPIED_PAGES, used, used + pageCount) === used) return used;
    }
  }

  /** A file system that is full, or a limit, is no reason to fail: the segment is stored at once then. */
  #write(segment: number, changed: Uint8Array, pages: Uint8Array, pageCount: number, first: number): boolean {
    const { table, copies } = this.#shared;
    const { pageSize } = this.#geometry;
    const mapAt = segment * this.#rowBytes + this.#hashesBytes;
    const bytes = this.#cover(first * pageSize, pages.subarray(0, pageCount * pageSize));
    return (
      native.writeBytes(copies.fd, first * pageSize, bytes, 0, bytes.length) === 0 &&
      native.writeBytes(table.fd, mapAt, changed, 0, changed.length) === 0
    );
  }

  /** There and back: what lies at an offset of the copies. */
  #cover(offset: number, bytes: Uint8Array): Uint8Array {
    const { copiesKey } = this.#shared;
    if (copiesKey === undefined) return bytes;
    const counter = Buffer.alloc(CIPHER_BLOCK_BYTES);
    counter.writeBigUInt64BE(BigInt(offset / CIPHER_BLOCK_BYTES), CIPHER_BLOCK_BYTES - 8);
    return createCipheriv(CIPHER, copiesKey, counter).update(bytes);
  }

  /** Puts the copied pages of a segment to their places in `into` and sets `isThere` to 1 for each, else to 0. */
  readChanges(segment: number, into: Uint8Array, isThere: Uint8Array): void {
    const { table, copies } = this.#shared;
    const { pageSize } = this.#geometry;
    const mapAt = segment * this.#rowBytes + this.#hashesBytes;
    readExactly(table, mapAt, isThere.length, 'the table of changes', asBuffer(isThere));
    let offset = (this.found(segment) - FOUND_COPIED) * pageSize;
    for (let page = isThere.indexOf(1); page >= 0; ) {
      // Neighbours lie side by side in both.
      let end = page + 1;
      while (end < isThere.length && isThere[end] === 1) end++;
      const bytes = asBuffer(into.subarray(page * pageSize, end * pageSize));
      readExactly(copies, offset, bytes.length, 'the changed pages', bytes);
      if (this.#shared.copiesKey !== undefined) bytes.set(this.#cover(offset, bytes));
      offset += bytes.length;
      page = isThere.indexOf(1, end);
    }
  }
}
