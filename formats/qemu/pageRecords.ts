/**
 * Records of pages in the RAM section of a migration stream: a word of address and flags, the name of the RAM block where it is
 * not that of the record before, and 4096 bytes of page or, for a zero page, one byte.
 *
 * Zero pages are told too: the receiving machine may have put something there, such as its ROMs.
 */
import { QEMU_PAGE_BYTES } from './streamPages.js';

const FLAG_ZERO = 0x02;
const FLAG_PAGE = 0x08;
export const FLAG_EOS = 0x10;
const FLAG_CONTINUE = 0x20;

const WORD_BYTES = 8;
const NAME_MAX_BYTES = 255;
const ZERO_PAGE = Buffer.alloc(QEMU_PAGE_BYTES);

/** A stretch of memory as part of a RAM block. */
export interface BlockPlace {
  /** Name of the block. */
  readonly block: string;
  /** Of the first byte of the stretch. */
  readonly blockOffset: number;
}

/** Bytes that the records of so many pages take at most. */
export function recordsMaxBytes(pages: number): number {
  return 1 + NAME_MAX_BYTES + pages * (WORD_BYTES + QEMU_PAGE_BYTES);
}

/** Pages of zeros whose records fit into so many bytes. */
export function zeroPagesIn(sizeBytes: number): number {
  return Math.floor((sizeBytes - 1 - NAME_MAX_BYTES) / (WORD_BYTES + 1));
}

/** Writes the records of whole pages into `out`, the first one with the name of its block. @returns the bytes they take. */
export function encodePages({ block, blockOffset }: BlockPlace, pages: Buffer, out: Buffer): number {
  let used = 0;
  for (let at = 0; at < pages.length; at += QEMU_PAGE_BYTES) {
    const isZero = pages.compare(ZERO_PAGE, 0, QEMU_PAGE_BYTES, at, at + QEMU_PAGE_BYTES) === 0;
    used = encodeWord(at === 0 ? block : undefined, blockOffset + at, isZero ? FLAG_ZERO : FLAG_PAGE, out, used);
    if (isZero) out[used++] = 0;
    else used += pages.copy(out, used, at, at + QEMU_PAGE_BYTES);
  }
  return used;
}

/** The same for pages of zeros. */
export function encodeZeroPages({ block, blockOffset }: BlockPlace, pageCount: number, out: Buffer): number {
  let used = 0;
  for (let page = 0; page < pageCount; page++) {
    const address = blockOffset + page * QEMU_PAGE_BYTES;
    used = encodeWord(page === 0 ? block : undefined, address, FLAG_ZERO, out, used);
    out[used++] = 0;
  }
  return used;
}

/** `block` undefined: that of the record before. */
function encodeWord(block: string | undefined, address: number, flags: number, out: Buffer, at: number): number {
  // Two words of 32 bits, since a BigInt for each page is slow; an address is a multiple of the page.
  out.writeUInt32BE(Math.floor(address / 2 ** 32), at);
  out.writeUInt32BE((address % 2 ** 32) + (block === undefined ? flags + FLAG_CONTINUE : flags), at + 4);
  if (block === undefined) return at + WORD_BYTES;
  const nameAt = at + WORD_BYTES + 1;
  const nameBytes = out.write(block, nameAt);
  out[nameAt - 1] = nameBytes;
  return nameAt + nameBytes;
}
