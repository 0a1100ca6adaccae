/**
 * Makes a migration stream again from its head, its pages and its tail (openStream.ts), for `qemu -incoming`.
 *
 * The head ends behind the list of RAM blocks. What follows are one part of the RAM section with a record for each page, zero
 * pages too (the receiving machine may have put something there, such as its ROMs), the end of the section, and the tail.
 */
import { VmsnapError } from '../../native/errors.js';
import { blockNameOf } from './ramRegions.js';
import { QEMU_PAGE_BYTES } from './streamPages.js';

const FLAG_ZERO = 0x02;
const FLAG_PAGE = 0x08;
const FLAG_EOS = 0x10;
const FLAG_CONTINUE = 0x20;
const SECTION_START = 1;
const SECTION_PART = 2;
const SECTION_END = 3;
const SECTION_SUBSECTION = 5;
const SECTION_CONFIGURATION = 7;
const SECTION_COMMAND = 8;
const SECTION_FOOTER = 0x7e;
const FOOTER_BYTES = 5;

const BUFFER_BYTES = 256 * 1024;
const ZERO_PAGE = Buffer.alloc(QEMU_PAGE_BYTES);

/** Writes into `sink`, which takes the bytes before it returns: the array is used again. */
export class QemuStreamWriter {
  readonly #sink: (bytes: Uint8Array) => void;
  readonly #sectionId: number;
  readonly #hasFooters: boolean;
  readonly #buffer = Buffer.alloc(BUFFER_BYTES);
  #used = 0;
  #block = '';

  /** @throws CORRUPT if `head` is no "qemu-head" attachment. */
  constructor(head: Uint8Array, sink: (bytes: Uint8Array) => void) {
    this.#sink = sink;
    const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
    this.#sectionId = ramSectionId(bytes);
    this.#hasFooters = bytes.length > FOOTER_BYTES && bytes[bytes.length - FOOTER_BYTES] === SECTION_FOOTER;
    sink(head);
    this.#section(SECTION_PART);
  }

  /** Whole pages of a region, in any order of regions and offsets. */
  pages(region: { readonly name: string; readonly blockOffset: number }, offset: number, bytes: Uint8Array): void {
    const pages = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const block = blockNameOf(region);
    for (let at = 0; at < pages.length; at += QEMU_PAGE_BYTES) {
      const isZero = pages.compare(ZERO_PAGE, 0, QEMU_PAGE_BYTES, at, at + QEMU_PAGE_BYTES) === 0;
      this.#word(region.blockOffset + offset + at, isZero ? FLAG_ZERO : FLAG_PAGE, block);
      if (isZero) this.#buffer[this.#used++] = 0;
      else this.#used += pages.copy(this.#buffer, this.#used, at, at + QEMU_PAGE_BYTES);
    }
  }

  /** Ends RAM; the caller sends the tail behind it. */
  endRam(): void {
    this.#endSection();
    this.#section(SECTION_END);
    this.#endSection();
    this.#flush();
  }

  #word(address: number, flags: number, block: string): void {
    const name = Buffer.from(block);
    this.#require(8 + 1 + name.length + QEMU_PAGE_BYTES);
    const same = block === this.#block;
    this.#buffer.writeBigUInt64BE(BigInt(address) | BigInt(same ? flags | FLAG_CONTINUE : flags), this.#used);
    this.#used += 8;
    if (same) return;
    this.#block = block;
    this.#buffer[this.#used++] = name.length;
    this.#used += name.copy(this.#buffer, this.#used);
  }

  #section(type: number): void {
    this.#require(FOOTER_BYTES);
    this.#buffer[this.#used++] = type;
    this.#used = this.#buffer.writeUInt32BE(this.#sectionId, this.#used);
  }

  #endSection(): void {
    this.#require(8);
    this.#used = this.#buffer.writeBigUInt64BE(BigInt(FLAG_EOS), this.#used);
    if (this.#hasFooters) this.#section(SECTION_FOOTER);
  }

  #require(bytes: number): void {
    if (this.#used + bytes > this.#buffer.length) this.#flush();
  }

  #flush(): void {
    this.#sink(this.#buffer.subarray(0, this.#used));
    this.#used = 0;
  }
}

/** The number of the RAM section, which the parts after the head repeat. */
function ramSectionId(head: Buffer): number {
  const broken = () =>
    new VmsnapError('CORRUPT', 'the attachment "qemu-head" is no beginning of a migration stream', {
      hint: 'was the image made from a QEMU migration stream?',
    });
  try {
    let at = 8;
    for (;;) {
      const type = head.readUInt8(at);
      if (type === SECTION_START) return head.readUInt32BE(at + 1);
      if (type === SECTION_COMMAND) at += 5 + head.readUInt16BE(at + 3);
      else if (type === SECTION_CONFIGURATION) at = configurationEnd(head, at);
      else throw broken();
    }
  } catch (error) {
    throw error instanceof RangeError ? broken() : error;
  }
}

function configurationEnd(head: Buffer, start: number): number {
  let at = start + 5 + head.readUInt32BE(start + 1);
  while (head.readUInt8(at) === SECTION_SUBSECTION) {
    const nameBytes = head.readUInt8(at + 1);
    const name = head.toString('latin1', at + 2, at + 2 + nameBytes);
    at += 2 + nameBytes + 4;
    if (name.endsWith('/target-page-bits')) at += 4;
    else if (name.endsWith('/uuid')) at += 16;
    else at = capabilitiesEnd(head, at);
  }
  return at;
}

function capabilitiesEnd(head: Buffer, start: number): number {
  let at = start + 4;
  for (let left = head.readUInt32BE(start); left > 0; left--) at += 1 + head.readUInt8(at);
  return at;
}
