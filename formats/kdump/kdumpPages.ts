/**
 * Pages of a kdump file: from the bits of a stretch follows which of its pages are stored, from their number before it where their
 * descriptors lie, and from those where their bytes are. Bytes that lie together are read at once.
 *
 * A page that is not stored is absent. Zero pages share one stored page: once that has been seen, they are not read again.
 */
import type { VmsnapError } from '../../native/errors.js';
import { bitsAmong, hasBit } from '../bitCount.js';
import type { PageFinder, PageSource, StretchExtents } from '../memoryFile.js';
import { RANK_FRAMES } from './bitmaps.js';
import { type DumpBytes, type DumpPlace, damagedDump, openDumpBytes, unsupportedDump } from './dumpBytes.js';
import {
  BLOCK_MAX_BYTES,
  DESCRIPTOR_BYTES,
  FLAG_LZO,
  FLAG_SNAPPY,
  FLAG_ZLIB,
  FLAG_ZSTD,
  HINT_OTHER_CODEC,
} from './kdumpHeader.js';
import { PageCodecs } from './pageCodecs.js';

export const KDUMP_PAGES = 'kdump';

const READ_BYTES = 2 ** 20;
const NOT_SEEN = -1;
const ZERO_PAGE = new Uint8Array(BLOCK_MAX_BYTES);

export interface KdumpPages extends PageSource {
  readonly kind: typeof KDUMP_PAGES;
  readonly place: DumpPlace;
  readonly pageSize: number;
  /** First page frame of each region. */
  readonly firstFrames: Float64Array;
  /** Stored pages before frame i * RANK_FRAMES. */
  readonly ranks: Float64Array;
  /** Bitmap 2. */
  readonly bitmapAt: number;
  readonly descriptorsAt: number;
  /** Where page data may begin: behind the descriptors. */
  readonly dataAt: number;
}

/** The descriptors of the stored pages of a stretch. */
class Descriptors {
  bytes = Buffer.alloc(0);

  /** Makes room for so many and gives it. */
  room(count: number): Buffer {
    if (this.bytes.length < count * DESCRIPTOR_BYTES) this.bytes = Buffer.alloc(count * DESCRIPTOR_BYTES);
    return this.bytes.subarray(0, count * DESCRIPTOR_BYTES);
  }

  offset(i: number): number {
    const at = i * DESCRIPTOR_BYTES;
    return this.bytes.readUInt32LE(at) + 2 ** 32 * this.bytes.readUInt32LE(at + 4);
  }

  size(i: number): number {
    return this.bytes.readUInt32LE(i * DESCRIPTOR_BYTES + 8);
  }

  flags(i: number): number {
    return this.bytes.readUInt32LE(i * DESCRIPTOR_BYTES + 12);
  }
}

export class KdumpFinder implements PageFinder {
  readonly #pages: KdumpPages;
  readonly #dump: DumpBytes;
  readonly #codecs = new PageCodecs();
  readonly #descriptors = new Descriptors();
  readonly #data = Buffer.alloc(READ_BYTES);
  #dataFrom = 0;
  #dataEnd = 0;
  #zeroPageAt = NOT_SEEN;

  constructor(pages: KdumpPages) {
    this.#pages = pages;
    this.#dump = openDumpBytes(pages.place);
  }

  /** All pages of a region are stored or absent; only those that are stored as zero pages could be left out. */
  nextUsed(_region: number, from: number): number {
    return from;
  }

  find(
    region: number,
    offset: number,
    sizeBytes: number,
    _extents: StretchExtents,
    into: Uint8Array,
    absent: Uint8Array,
  ): 'bytes' {
    const { pageSize, firstFrames, ranks, bitmapAt, descriptorsAt } = this.#pages;
    const firstFrame = firstFrames[region]! + offset / pageSize;
    const pageCount = sizeBytes / pageSize;
    const rankFrame = firstFrame - (firstFrame % RANK_FRAMES);
    const bits = Buffer.alloc(Math.ceil((firstFrame - rankFrame + pageCount) / 8));
    this.#dump.read(bitmapAt + rankFrame / 8, bits);
    const before = firstFrame - rankFrame;
    const rank = bitsAmong(bits, before);
    const stored = bitsAmong(bits, before + pageCount) - rank;
    const tableAt = descriptorsAt + (ranks[rankFrame / RANK_FRAMES]! + rank) * DESCRIPTOR_BYTES;
    this.#dump.read(tableAt, this.#descriptors.room(stored));
    this.#dataEnd = 0;
    let descriptor = 0;
    for (let page = 0; page < pageCount; page++) {
      const bytes = into.subarray(page * pageSize, (page + 1) * pageSize);
      if (hasBit(bits, before + page)) this.#readPage(tableAt, descriptor++, stored, bytes);
      else {
        bytes.fill(0);
        absent[page] = 1;
      }
    }
    return 'bytes';
  }

  #readPage(tableAt: number, i: number, count: number, page: Uint8Array): void {
    const offset = this.#descriptors.offset(i);
    this.#check(tableAt + i * DESCRIPTOR_BYTES, i);
    if (offset === this.#zeroPageAt) {
      page.fill(0);
      return;
    }
    if (offset < this.#dataFrom || offset + this.#descriptors.size(i) > this.#dataEnd) this.#load(i, count);
    const stored = this.#data.subarray(offset - this.#dataFrom, offset - this.#dataFrom + this.#descriptors.size(i));
    const flags = this.#descriptors.flags(i);
    if (flags === 0) page.set(stored);
    else {
      const wrong = this.#codecs.decompress(flags, stored, page);
      if (wrong !== undefined)
        throw damagedDump(this.#dump, offset, `a compressed page cannot be decompressed: ${wrong}`);
    }
    if (isZero(page)) this.#zeroPageAt = offset;
  }

  #check(at: number, i: number): void {
    const { pageSize, dataAt } = this.#pages;
    const offset = this.#descriptors.offset(i);
    const size = this.#descriptors.size(i);
    const flags = this.#descriptors.flags(i);
    if (flags === FLAG_LZO) throw unsupportedDump(this.#dump, at, 'a page is compressed with LZO', HINT_OTHER_CODEC);
    if (flags !== 0 && flags !== FLAG_ZLIB && flags !== FLAG_SNAPPY && flags !== FLAG_ZSTD) {
      throw this.#damage(at + 12, `a page has the flags 0x${flags.toString(16)}, and one codec or none was expected`);
    }
    if (size === 0 || size > pageSize || (flags === 0 && size !== pageSize)) {
      throw this.#damage(at + 8, `a page of ${size} bytes, and ${flags === 0 ? '' : '1 to '}${pageSize} were expected`);
    }
    if (offset < dataAt || offset + size > this.#dump.sizeBytes) {
      throw this.#damage(
        at,
        `a page of ${size} bytes at offset ${offset}, and pages lie from ${dataAt} to ${this.#dump.sizeBytes}`,
      );
    }
  }

  /** Reads the bytes of page i, and of those after it as long as they go on where it ends. */
  #load(i: number, count: number): void {
    const from = this.#descriptors.offset(i);
    let end = from + this.#descriptors.size(i);
    for (let next = i + 1; next < count; next++) {
      const offset = this.#descriptors.offset(next);
      if (offset === this.#zeroPageAt) continue;
      const nextEnd = offset + this.#descriptors.size(next);
      if (offset !== end || nextEnd > this.#dump.sizeBytes || nextEnd - from > READ_BYTES) break;
      end = nextEnd;
    }
    this.#dump.read(from, this.#data.subarray(0, end - from));
    this.#dataFrom = from;
    this.#dataEnd = end;
  }

  #damage(at: number, what: string): VmsnapError {
    return damagedDump(this.#dump, at, what);
  }
}

function isZero(page: Uint8Array): boolean {
  if (page[0] !== 0 || page[page.length - 1] !== 0) return false;
  return Buffer.compare(page, ZERO_PAGE.subarray(0, page.length)) === 0;
}
