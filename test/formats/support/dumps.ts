/**
 * Makes files in the formats of dumps, with the layout as their sources define it and nothing of the readers. Every field can be
 * made wrong: `edit` gets the bytes before they are written.
 */
import { deflateSync } from 'node:zlib';
import { compressSync } from 'snappy';
import zstd from 'zstd-napi';
import { native } from '../../../native/binding.js';

export interface Load {
  readonly physical: number;
  readonly virtual?: number;
  readonly bytes: Buffer;
  /** More than there are bytes: the rest is a hole. */
  readonly memoryBytes?: number;
  /** Where the bytes of another one lie, instead of bytes of its own. */
  readonly sharesWith?: number;
}

export interface ElfOptions {
  readonly bits?: 64 | 32;
  /** Bytes between headers and memory, so that nothing is aligned. */
  readonly shift?: number;
  readonly notes?: Buffer;
  /** Program headers that say nothing, before the others. */
  readonly emptyHeaders?: number;
}

export function makeElf(loads: readonly Load[], options: ElfOptions = {}): Buffer {
  const { bits = 64, shift = 0, notes = elfNotes([]), emptyHeaders = 0 } = options;
  const wide = bits === 64;
  const headerBytes = wide ? 64 : 52;
  const entryBytes = wide ? 56 : 32;
  const sectionBytes = wide ? 64 : 40;
  const count = emptyHeaders + 1 + loads.length;
  const header = Buffer.alloc(headerBytes + sectionBytes);
  header.write('\x7fELF', 'latin1');
  header.set([wide ? 2 : 1, 1, 1], 4);
  header.writeUInt16LE(4, 16);
  header.writeUInt16LE(wide ? 62 : 3, 18);
  header.writeUInt32LE(1, 20);
  const writeWord = (to: Buffer, value: number, at: number) =>
    wide ? to.writeBigUInt64LE(BigInt(value), at) : to.writeUInt32LE(value, at);
  writeWord(header, header.length, wide ? 32 : 28);
  writeWord(header, headerBytes, wide ? 40 : 32);
  // QEMU's own: the size of a pointer.
  header.writeUInt16LE(wide ? 8 : 4, wide ? 52 : 40);
  header.writeUInt16LE(entryBytes, wide ? 54 : 42);
  header.writeUInt16LE(Math.min(count, 0xffff), wide ? 56 : 44);
  header.writeUInt16LE(sectionBytes, wide ? 58 : 46);
  header.writeUInt16LE(1, wide ? 60 : 48);
  if (count >= 0xffff) header.writeUInt32LE(count, headerBytes + (wide ? 44 : 28));
  const table = Buffer.alloc(count * entryBytes);
  const notesAt = header.length + table.length;
  let at = notesAt + notes.length + shift;
  const write = (i: number, type: number, fields: [number, number, number, number, number]) => {
    const entry = table.subarray(i * entryBytes, (i + 1) * entryBytes);
    entry.writeUInt32LE(type, 0);
    const places = wide ? [8, 16, 24, 32, 40] : [4, 8, 12, 16, 20];
    for (const [k, value] of fields.entries()) writeWord(entry, value, places[k]!);
  };
  write(emptyHeaders, 4, [notesAt, 0, 0, notes.length, notes.length]);
  const offsets: number[] = [];
  for (const [i, load] of loads.entries()) {
    const { physical, virtual = 0, bytes, memoryBytes = bytes.length, sharesWith } = load;
    const shared = sharesWith === undefined ? undefined : loads[sharesWith]!;
    const offset = shared === undefined ? at : offsets[sharesWith!]! + physical - shared.physical;
    offsets.push(offset);
    write(emptyHeaders + 1 + i, 1, [offset, virtual, physical, bytes.length, memoryBytes]);
    if (shared === undefined) at += bytes.length;
  }
  const own = loads.filter(({ sharesWith }) => sharesWith === undefined).map(({ bytes }) => bytes);
  return Buffer.concat([header, table, notes, Buffer.alloc(shift, 0xee), ...own]);
}

export function elfNotes(notes: readonly { name: string; type: number; contents: Buffer }[]): Buffer {
  const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  return Buffer.concat(
    notes.map(({ name, type, contents }) => {
      const nameBytes = Buffer.from(`${name}\0`, 'latin1');
      const header = Buffer.alloc(12);
      header.writeUInt32LE(nameBytes.length, 0);
      header.writeUInt32LE(contents.length, 4);
      header.writeUInt32LE(type, 8);
      return Buffer.concat([header, padded(nameBytes), padded(contents)]);
    }),
  );
}

export interface Range {
  readonly start: number | bigint;
  readonly bytes: Buffer;
}

function rangeHeader(magic: number, version: number, { start, bytes }: Range): Buffer {
  const header = Buffer.alloc(32);
  header.writeUInt32LE(magic, 0);
  header.writeUInt32LE(version, 4);
  header.writeBigUInt64LE(BigInt(start), 8);
  header.writeBigUInt64LE(BigInt(start) + BigInt(bytes.length) - 1n, 16);
  return header;
}

export function makeLime(ranges: readonly Range[]): Buffer {
  return Buffer.concat(ranges.flatMap((range) => [rangeHeader(0x4c694d45, 1, range), range.bytes]));
}

export function makeAvml(blocks: readonly Range[]): Buffer {
  return Buffer.concat(
    blocks.flatMap((block) => {
      const stream = snappyFrames(block.bytes);
      const trailer = Buffer.alloc(8);
      trailer.writeBigUInt64LE(BigInt(stream.length));
      return [rangeHeader(0x4c4d5641, 2, block), stream, trailer];
    }),
  );
}

/** Each chunk compressed if that is shorter, and one that is to be passed over. */
export function snappyFrames(bytes: Buffer): Buffer {
  const chunk = (type: number, body: Buffer) => {
    const header = Buffer.alloc(4);
    header.writeUInt32LE(type + body.length * 256);
    return Buffer.concat([header, body]);
  };
  const chunks = [chunk(0xff, Buffer.from('sNaPpY', 'latin1')), chunk(0xfe, Buffer.alloc(3))];
  for (let at = 0; at < bytes.length; at += 65_536) {
    const piece = bytes.subarray(at, at + 65_536);
    const compressed = compressSync(piece);
    const crc = native.crc32c(piece, 0, piece.length, 0);
    const masked = Buffer.alloc(4);
    masked.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
    const isShorter = compressed.length < piece.length;
    chunks.push(chunk(isShorter ? 0 : 1, Buffer.concat([masked, isShorter ? compressed : piece])));
  }
  return Buffer.concat(chunks);
}

export type PageCodec = 'none' | 'zlib' | 'snappy' | 'zstd' | 'lzo';
const CODEC_FLAGS: Readonly<Record<PageCodec, number>> = { none: 0, zlib: 1, lzo: 2, snappy: 4, zstd: 0x20 };

export interface KdumpOptions {
  readonly version?: number;
  readonly bits?: 64 | 32;
  readonly codec?: PageCodec;
  readonly blockBytes?: number;
  readonly dumpLevel?: number;
  readonly status?: number;
  readonly split?: number;
  readonly notes?: Buffer;
  readonly vmcoreinfo?: Buffer;
  /** Set bits behind the last page frame. */
  readonly dirtyPadding?: boolean;
}

/** `pages[i]`: contents of page frame i, 'excluded', or undefined: no memory. All zero pages share one. */
export function makeKdump(pages: readonly (Buffer | 'excluded' | undefined)[], options: KdumpOptions = {}): Buffer {
  const { version = 6, bits = 64, codec = 'zlib', blockBytes = 4096, notes, vmcoreinfo } = options;
  const wide = bits === 64;
  const bitmapBlocks = Math.ceil(Math.ceil(pages.length / 8) / blockBytes);
  const parts = Buffer.concat([notes ?? Buffer.alloc(0), vmcoreinfo ?? Buffer.alloc(0)]);
  const subBlocks = 1 + Math.ceil(parts.length / blockBytes);
  const header = Buffer.alloc((1 + subBlocks) * blockBytes);
  header.write('KDUMP   ', 'latin1');
  header.writeUInt32LE(version, 8);
  for (const [i, word] of ['Linux', 'host', '6.1.0-test', '#1', wide ? 'x86_64' : 'i686'].entries()) {
    header.write(word, 12 + 65 * i, 'latin1');
  }
  const tail = wide ? 424 : 412;
  const fields = [
    options.status ?? CODEC_FLAGS[codec],
    blockBytes,
    subBlocks,
    2 * bitmapBlocks,
    pages.length,
    0,
    0,
    0,
    0,
    3,
  ];
  for (const [i, value] of fields.entries()) header.writeUInt32LE(value, tail + 4 * i);
  const sub = header.subarray(blockBytes);
  const at = wide
    ? { level: 8, split: 12, vmcoreinfo: 32, notes: 48, frames: 96 }
    : { level: 4, split: 8, vmcoreinfo: 20, notes: 32, frames: 72 };
  sub.writeUInt32LE(options.dumpLevel ?? 0, at.level);
  sub.writeUInt32LE(options.split ?? 0, at.split);
  if (version >= 6) sub.writeBigUInt64LE(BigInt(pages.length), at.frames);
  const partsAt = 2 * blockBytes;
  header.set(parts, partsAt);
  const describe = (place: number, offset: number, size: number) => {
    sub.writeBigUInt64LE(BigInt(offset), place);
    if (wide) sub.writeBigUInt64LE(BigInt(size), place + 8);
    else sub.writeUInt32LE(size, place + 8);
  };
  if (notes !== undefined) describe(at.notes, partsAt, notes.length);
  if (vmcoreinfo !== undefined) describe(at.vmcoreinfo, partsAt + (notes?.length ?? 0), vmcoreinfo.length);

  const bitmaps = Buffer.alloc(2 * bitmapBlocks * blockBytes);
  const half = bitmaps.length / 2;
  const set = (bitmap: number, page: number) => (bitmaps[bitmap * half + (page >> 3)]! |= 1 << (page & 7));
  const stored: Buffer[] = [];
  for (const [i, page] of pages.entries()) {
    if (page === undefined) continue;
    set(0, i);
    if (page === 'excluded') continue;
    set(1, i);
    stored.push(page);
  }
  if (options.dirtyPadding === true) {
    for (let i = pages.length; i < half * 8; i++) {
      set(0, i);
      set(1, i);
    }
  }
  const descriptors = Buffer.alloc(24 * stored.length);
  const data: Buffer[] = [];
  let offset = header.length + bitmaps.length + descriptors.length;
  let zeroAt: { offset: number; size: number; flags: number } | undefined;
  for (const [i, page] of stored.entries()) {
    const isZero = page.every((byte) => byte === 0);
    const compressed = compress(codec, page);
    const body = compressed.length < page.length ? compressed : page;
    const flags = body === page ? 0 : CODEC_FLAGS[codec];
    const shared = isZero ? zeroAt : undefined;
    const place = shared ?? { offset, size: body.length, flags };
    descriptors.writeBigUInt64LE(BigInt(place.offset), 24 * i);
    descriptors.writeUInt32LE(place.size, 24 * i + 8);
    descriptors.writeUInt32LE(place.flags, 24 * i + 12);
    if (shared !== undefined) continue;
    data.push(body);
    if (isZero) zeroAt = place;
    offset += body.length;
  }
  return Buffer.concat([header, bitmaps, descriptors, ...data]);
}

function compress(codec: PageCodec, page: Buffer): Buffer {
  if (codec === 'zlib') return deflateSync(page);
  if (codec === 'snappy') return compressSync(page);
  if (codec === 'zstd') return Buffer.from(zstd.compress(page));
  // What LZO makes of it does not matter: nothing here can read it.
  if (codec === 'lzo') return page.subarray(0, page.length / 2);
  return page;
}

export interface FlatRecord {
  readonly offset: number | bigint;
  readonly bytes: Buffer;
  /** What the record says instead of the length of its bytes. */
  readonly size?: bigint;
}

/** The dump cut into records of these sizes, in turn. */
export function flatRecords(dump: Buffer, sizes: readonly number[]): FlatRecord[] {
  const records: FlatRecord[] = [];
  for (let at = 0, i = 0; at < dump.length; i++) {
    const bytes = dump.subarray(at, at + sizes[i % sizes.length]!);
    records.push({ offset: at, bytes });
    at += bytes.length;
  }
  return records;
}

export const FLAT_END: FlatRecord = { offset: -1n, bytes: Buffer.alloc(0), size: -1n };

/** With an end mark if `records` ends with one. */
export function makeFlattened(records: readonly FlatRecord[]): Buffer {
  const header = Buffer.alloc(4096);
  header.write('makedumpfile', 'latin1');
  header.writeBigInt64BE(1n, 16);
  header.writeBigInt64BE(1n, 24);
  const parts = records.flatMap(({ offset, bytes, size }) => {
    const head = Buffer.alloc(16);
    head.writeBigInt64BE(BigInt(offset), 0);
    head.writeBigInt64BE(size ?? BigInt(bytes.length), 8);
    return [head, bytes];
  });
  return Buffer.concat([header, ...parts]);
}
