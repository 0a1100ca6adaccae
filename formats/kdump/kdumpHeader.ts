/**
 * Header and sub header of a kdump-compressed file (makedumpfile's diskdump_mod.h; QEMU's dump.h), versions 5 and 6, little endian.
 *
 * Fields of type long and struct timeval have other sizes on 32-bit machines, and nothing says which it is. The block size and the size
 * of the sub header (in blocks) of the one lie where the other has the microseconds of its time, in 64 bits: there the upper half is 0.
 *
 * Blocks of the file: header, sub header, bitmap 1 (memory exists), bitmap 2 (page is stored); then a descriptor for each stored page,
 * and the pages.
 */
import { type DumpBytes, damagedDump, unsupportedDump } from './dumpBytes.js';

export const KDUMP_MAGIC = Buffer.from('KDUMP   ', 'latin1');
export const DESCRIPTOR_BYTES = 24;

/** In `status`, and in the flags of a page. */
export const FLAG_ZLIB = 1;
export const FLAG_LZO = 2;
export const FLAG_SNAPPY = 4;
export const FLAG_ZSTD = 0x20;
const STATUS_INCOMPLETE = 8;

export const HINT_OTHER_CODEC = 'write it again with "makedumpfile -c", or dump the machine in the format kdump-zlib';
const HEADER_BYTES = 464;
const SUB_HEADER_BYTES = 104;
const BLOCK_MIN_BYTES = 4096;
export const BLOCK_MAX_BYTES = 65_536;
/** 64 TiB in pages of 4 KiB; two bitmaps of 2 GiB are gone through then. */
export const PAGES_MAX = 2 ** 34;

export interface KdumpHeader {
  readonly version: number;
  readonly bits: 64 | 32;
  /** A page, and the unit of the file. */
  readonly blockBytes: number;
  readonly status: number;
  readonly dumpLevel: number;
  readonly cpuCount: number;
  readonly system: { readonly kernel: string; readonly architecture: string };
  /** Page frames that the bitmaps tell of. */
  readonly frameCount: number;
  readonly bitmapAt: number;
  /** Of one of the two. */
  readonly bitmapBytes: number;
  readonly descriptorsAt: number;
  readonly vmcoreinfo: Part;
  readonly notes: Part;
  readonly eraseinfo: Part;
}

/** A part of the dump; one of 0 bytes is not there. */
export interface Part {
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Where the fields lie: `tail` in the header (status and what follows), the others in the sub header. */
interface Layout {
  readonly bits: 64 | 32;
  readonly tail: number;
  readonly long: 8 | 4;
  readonly dumpLevel: number;
  readonly split: number;
  readonly vmcoreinfo: number;
  readonly notes: number;
  readonly eraseinfo: number;
  readonly frameCount: number;
}

const LAYOUT_64: Layout = {
  bits: 64,
  tail: 424,
  long: 8,
  dumpLevel: 8,
  split: 12,
  vmcoreinfo: 32,
  notes: 48,
  eraseinfo: 64,
  frameCount: 96,
};
const LAYOUT_32: Layout = {
  bits: 32,
  tail: 412,
  long: 4,
  dumpLevel: 4,
  split: 8,
  vmcoreinfo: 20,
  notes: 32,
  eraseinfo: 44,
  frameCount: 72,
};

/** Offsets from Layout.tail. */
const STATUS = 0;
const BLOCK_SIZE = 4;
const SUB_HEADER_BLOCKS = 8;
const BITMAP_BLOCKS = 12;
const FRAME_COUNT_32 = 16;
const CPU_COUNT = 36;

export function readKdumpHeader(dump: DumpBytes): KdumpHeader {
  const header = Buffer.alloc(HEADER_BYTES);
  readWithin(dump, 0, header, 'the header');
  if (!KDUMP_MAGIC.equals(header.subarray(0, KDUMP_MAGIC.length))) {
    throw unsupportedDump(
      dump,
      0,
      'it holds something else than a dump that begins with "KDUMP"',
      'unflatten it with "makedumpfile -R", and save what comes out',
    );
  }
  const version = checkVersion(dump, header);
  const layout = layoutOf(dump, header);
  const { tail } = layout;
  const blockBytes = header.readUInt32LE(tail + BLOCK_SIZE);
  const subHeaderBlocks = header.readUInt32LE(tail + SUB_HEADER_BLOCKS);
  const subHeader = Buffer.alloc(SUB_HEADER_BYTES);
  if (subHeaderBlocks * blockBytes < SUB_HEADER_BYTES) {
    throw damagedDump(
      dump,
      tail + SUB_HEADER_BLOCKS,
      `a sub header of ${subHeaderBlocks} blocks, and 1 or more were expected`,
    );
  }
  readWithin(dump, blockBytes, subHeader, 'the sub header');
  const status = header.readUInt32LE(tail + STATUS);
  checkWhole(dump, layout, status, subHeader, blockBytes);
  const frameCount =
    version >= 6 ? Number(subHeader.readBigUInt64LE(layout.frameCount)) : header.readUInt32LE(tail + FRAME_COUNT_32);
  const bitmapBlocks = header.readUInt32LE(tail + BITMAP_BLOCKS);
  const bitmapAt = (1 + subHeaderBlocks) * blockBytes;
  const bitmapBytes = (bitmapBlocks / 2) * blockBytes;
  checkBitmaps(dump, { frameCount, bitmapBlocks, bitmapAt, bitmapBytes, at: tail + BITMAP_BLOCKS });
  return {
    version,
    bits: layout.bits,
    blockBytes,
    status,
    dumpLevel: subHeader.readUInt32LE(layout.dumpLevel),
    cpuCount: header.readUInt32LE(tail + CPU_COUNT),
    system: systemOf(header),
    frameCount,
    bitmapAt,
    bitmapBytes,
    descriptorsAt: bitmapAt + 2 * bitmapBytes,
    vmcoreinfo: partAt(dump, layout, subHeader, blockBytes, layout.vmcoreinfo, 'VMCOREINFO'),
    notes: partAt(dump, layout, subHeader, blockBytes, layout.notes, 'the notes'),
    eraseinfo: partAt(dump, layout, subHeader, blockBytes, layout.eraseinfo, 'the erase information'),
  };
}

function checkVersion(dump: DumpBytes, header: Buffer): number {
  const version = header.readUInt32LE(8);
  if (version === 5 || version === 6) return version;
  const isBigEndian = header.readUInt32BE(8) <= 6;
  const what = isBigEndian ? 'it is big endian' : `its version is ${version}, and 5 or 6 was expected`;
  throw unsupportedDump(
    dump,
    8,
    what,
    'write it again with a makedumpfile of version 1.5 or later, on a little endian machine',
  );
}

function layoutOf(dump: DumpBytes, header: Buffer): Layout {
  for (const layout of [LAYOUT_32, LAYOUT_64]) {
    const hasSubHeader = header.readUInt32LE(layout.tail + SUB_HEADER_BLOCKS) > 0;
    if (isBlockSize(header.readUInt32LE(layout.tail + BLOCK_SIZE)) && (hasSubHeader || layout.bits === 64))
      return layout;
  }
  const at = LAYOUT_64.tail + BLOCK_SIZE;
  throw damagedDump(
    dump,
    at,
    `its block size is ${header.readUInt32LE(at)}, and a power of two from ${BLOCK_MIN_BYTES} to ${BLOCK_MAX_BYTES} was expected`,
  );
}

function isBlockSize(bytes: number): boolean {
  return bytes >= BLOCK_MIN_BYTES && bytes <= BLOCK_MAX_BYTES && (bytes & (bytes - 1)) === 0;
}

function checkWhole(dump: DumpBytes, layout: Layout, status: number, subHeader: Buffer, blockBytes: number): void {
  if ((status & STATUS_INCOMPLETE) !== 0) {
    throw damagedDump(dump, layout.tail, 'it is marked incomplete: whoever wrote it had no room for all pages');
  }
  if (subHeader.readUInt32LE(layout.split) !== 0) {
    throw unsupportedDump(
      dump,
      blockBytes + layout.split,
      'it is one part of a split dump',
      'put the parts together with "makedumpfile --reassemble", and save the result',
    );
  }
  if ((status & FLAG_LZO) !== 0) {
    throw unsupportedDump(dump, layout.tail, 'its pages are compressed with LZO', HINT_OTHER_CODEC);
  }
}

interface Bitmaps {
  readonly frameCount: number;
  readonly bitmapBlocks: number;
  readonly bitmapAt: number;
  readonly bitmapBytes: number;
  readonly at: number;
}

/** Nothing is allocated for what the header says before the file is known to be as long. */
function checkBitmaps(dump: DumpBytes, { frameCount, bitmapBlocks, bitmapAt, bitmapBytes, at }: Bitmaps): void {
  if (frameCount === 0 || bitmapBlocks % 2 !== 0 || bitmapBytes * 8 < frameCount) {
    throw damagedDump(
      dump,
      at,
      `${bitmapBlocks} blocks of bitmap do not fit the ${frameCount} page frames that it says it has`,
    );
  }
  if (bitmapAt + 2 * bitmapBytes > dump.sizeBytes) {
    throw damagedDump(
      dump,
      at,
      `its bitmaps end at offset ${bitmapAt + 2 * bitmapBytes}, and the dump has ${dump.sizeBytes} bytes`,
    );
  }
  if (frameCount > PAGES_MAX) {
    throw unsupportedDump(dump, at, `${frameCount} page frames, and at most ${PAGES_MAX} are read`, 'dump less memory');
  }
}

function partAt(
  dump: DumpBytes,
  { long }: Layout,
  subHeader: Buffer,
  blockBytes: number,
  at: number,
  name: string,
): Part {
  const offset = Number(subHeader.readBigUInt64LE(at));
  const sizeBytes = long === 8 ? Number(subHeader.readBigUInt64LE(at + 8)) : subHeader.readUInt32LE(at + 8);
  if (offset === 0 || sizeBytes === 0) return { offset: 0, sizeBytes: 0 };
  if (offset + sizeBytes > dump.sizeBytes) {
    throw damagedDump(
      dump,
      blockBytes + at,
      `${name} of ${sizeBytes} bytes at offset ${offset}, and the dump has ${dump.sizeBytes} bytes`,
    );
  }
  return { offset, sizeBytes };
}

export function readWithin(dump: DumpBytes, offset: number, into: Uint8Array, name: string): void {
  if (offset + into.length > dump.sizeBytes) {
    throw damagedDump(dump, Math.min(offset, dump.sizeBytes), `it ends within ${name}, after ${dump.sizeBytes} bytes`);
  }
  dump.read(offset, into);
}

/** struct new_utsname: six strings of 65 bytes. */
function systemOf(header: Buffer): KdumpHeader['system'] {
  const word = (i: number) => {
    const text = header.toString('latin1', 12 + 65 * i, 12 + 65 * (i + 1));
    return text.replace(/\0.*$/s, '').replace(/[^\x20-\x7e]/g, '?');
  };
  return { kernel: `${word(0)} ${word(2)}`.trim(), architecture: word(4) };
}
