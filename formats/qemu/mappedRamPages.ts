/**
 * Where the pages of a mapped-ram file lie: each at a fixed place, if its bit is set.
 *
 * A clear bit is a zero page, whatever stale bytes the file may have in its place. A set bit whose page lies in a hole is
 * zeros too. No page is absent. Bits are those of little endian words, as x86, ARM and RISC-V hosts write them.
 */
import { readSync } from 'node:fs';
import type { QemuBlock } from '../../native/binding.js';
import { wrapSystemError } from '../../native/errors.js';
import { bitsAmong } from '../bitCount.js';
import {
  addExtent,
  type KnownPages,
  NO_FILE,
  type PageFinder,
  type PageSource,
  type SourceExtent,
  type StretchExtents,
} from '../memoryFile.js';
import { corruptStream } from './fault.js';
import { QEMU_PAGE_BYTES } from './streamPages.js';

/** Bytes of a bitmap that are read at a time to find the next page that is used: of 128 MiB of memory. */
const AHEAD_BYTES = 4096;
/** That are read at a time to count pages. */
const COUNT_BYTES = 2 ** 20;

export interface MappedRamPages extends PageSource {
  readonly kind: 'qemu-mapped-ram';
  readonly fd: number;
  readonly path: string;
  /** Of each region: where its bits begin (byte offset and number of the bit from there) and its pages. */
  readonly regions: readonly {
    readonly bitmapOffset: number;
    readonly firstPage: number;
    readonly pagesOffset: number;
  }[];
  readonly longExtents: readonly SourceExtent[];
}

export class MappedRamFinder implements PageFinder {
  readonly #pages: MappedRamPages;
  #bits = new Uint8Array(AHEAD_BYTES + 1);

  constructor(pages: MappedRamPages) {
    this.#pages = pages;
  }

  nextUsed(region: number, from: number, end: number): number {
    const endPage = end / QEMU_PAGE_BYTES;
    for (let page = from / QEMU_PAGE_BYTES; page < endPage; ) {
      const count = Math.min(8 * AHEAD_BYTES, endPage - page);
      const shift = this.#read(region, page, count);
      for (let bit = shift; bit < shift + count; bit++) {
        const byte = this.#bits[bit >> 3]!;
        if (byte === 0) bit |= 7;
        else if ((byte >> (bit & 7)) & 1) return (page + bit - shift) * QEMU_PAGE_BYTES;
      }
      page += count;
    }
    return end;
  }

  find(region: number, offset: number, sizeBytes: number, extents: StretchExtents): 'extents' {
    const count = sizeBytes / QEMU_PAGE_BYTES;
    const shift = this.#read(region, offset / QEMU_PAGE_BYTES, count);
    const { fd, regions } = this.#pages;
    const { pagesOffset, firstPage } = regions[region]!;
    const start = pagesOffset + firstPage * QEMU_PAGE_BYTES + offset;
    for (let i = 0; i < count; i++) {
      const bit = shift + i;
      const isSet = ((this.#bits[bit >> 3]! >> (bit & 7)) & 1) === 1;
      addExtent(extents, isSet ? fd : NO_FILE, start + i * QEMU_PAGE_BYTES, QEMU_PAGE_BYTES);
    }
    return 'extents';
  }

  /** Reads the bits of `count` pages into #bits. @returns the number of the first one there, 0 to 7. */
  #read(region: number, page: number, count: number): number {
    const { fd, path, regions } = this.#pages;
    const { bitmapOffset, firstPage } = regions[region]!;
    const first = firstPage + page;
    const shift = first % 8;
    const bytes = Math.ceil((shift + count) / 8);
    if (this.#bits.length < bytes) this.#bits = new Uint8Array(bytes);
    readBitmap(fd, path, this.#bits.subarray(0, bytes), bitmapOffset + (first - shift) / 8);
    return shift;
  }
}

/** Bits behind the last page of a block belong to no page. @throws CORRUPT where one is set. */
export function checkBitmapEnd(fd: number, path: string, bitmapOffset: number, pageCount: number): void {
  const tailBits = pageCount % 64;
  if (tailBits === 0) return;
  const word = new Uint8Array(8);
  const at = bitmapOffset + Math.floor(pageCount / 64) * 8;
  readBitmap(fd, path, word, at);
  for (let bit = tailBits; bit < 64; bit++) {
    if ((word[bit >> 3]! >> (bit & 7)) & 1)
      throw corruptStream(path, at, `a bitmap with a page beyond the ${pageCount} of its RAM block, expected zeros`);
  }
}

/** By the bitmaps of these blocks. */
export function countMappedPages(
  { fd, path }: { readonly fd: number; readonly path: string },
  blocks: readonly QemuBlock[],
): KnownPages {
  const bytes = new Uint8Array(COUNT_BYTES);
  let total = 0;
  let stored = 0;
  for (const { bitmapOffset, usedBytes } of blocks) {
    const pageCount = usedBytes / QEMU_PAGE_BYTES;
    total += pageCount;
    for (let page = 0; page < pageCount; page += 8 * COUNT_BYTES) {
      const count = Math.min(8 * COUNT_BYTES, pageCount - page);
      const part = bytes.subarray(0, Math.ceil(count / 8));
      readBitmap(fd, path, part, bitmapOffset + page / 8);
      stored += bitsAmong(part, count);
    }
  }
  return { stored, zero: total - stored, absent: 0 };
}

function readBitmap(fd: number, path: string, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    let got: number;
    try {
      got = readSync(fd, bytes, done, bytes.length - done, position + done);
    } catch (error) {
      throw wrapSystemError(error, 'read', path);
    }
    if (got === 0) throw corruptStream(path, position + done, 'the file ends where a bitmap was expected');
    done += got;
  }
}
