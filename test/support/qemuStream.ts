/** Forges QEMU migration streams, sound and broken ones, from parts. Big endian, as everything in them. */

import { closeSync } from 'node:fs';
import type { MemoryFile } from '../../formats/memoryFile.js';
import { indexedQemuMemory, indexQemuStream, type QemuFile } from '../../formats/qemu/openStream.js';
import { createSpillFile } from '../../formats/spillFile.js';

export const PAGE = 4096;

/** Opens a stream as `save` does, on this thread. */
export function openQemuStream(file: QemuFile, offset = 0): MemoryFile {
  const table = createSpillFile();
  try {
    const indexed = indexQemuStream(file, offset, table, {
      abort: new Int32Array(1),
      abortIndex: 0,
      onStep: () => {},
    });
    return indexedQemuMemory(file, indexed, table);
  } catch (error) {
    closeSync(table.fd);
    throw error;
  }
}
export const RAM_SECTION = 2;
const MAPPED_HEADER_BYTES = 28;

export interface ForgedBlock {
  readonly id: string;
  readonly sizeBytes: number | bigint;
  /** What stands behind the size: an address, a mapped-ram header. */
  readonly extra?: Buffer;
}

export const u8 = (value: number) => Buffer.from([value]);
export const u16 = (value: number) => Buffer.from([value >> 8, value & 0xff]);
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
const short = (text: string) => Buffer.concat([u8(text.length), Buffer.from(text)]);

export const magic = (version = 3) => Buffer.concat([Buffer.from('QEVM'), u32(version)]);

export function configuration(machine: string, ...subsections: Buffer[]): Buffer {
  return Buffer.concat([u8(7), u32(machine.length), Buffer.from(machine), ...subsections]);
}

export function subsection(name: string, body: Buffer): Buffer {
  return Buffer.concat([u8(5), short(name), u32(1), body]);
}

export function capabilities(...names: string[]): Buffer {
  return subsection('configuration/capabilities', Buffer.concat([u32(names.length), ...names.map(short)]));
}

export const command = (number: number, data: Buffer = Buffer.alloc(0)) =>
  Buffer.concat([u8(8), u16(number), u16(data.length), data]);

export const footer = (section = RAM_SECTION) => Buffer.concat([u8(0x7e), u32(section)]);
export const word = (address: number | bigint, flags: number) => u64(BigInt(address) | BigInt(flags));
export const eos = () => word(0, 0x10);

/** The beginning of a section with its name: type 1 (start) or 4 (full). */
export function named(type: number, id: string, section: number, instance = 0, version = 4): Buffer {
  return Buffer.concat([u8(type), u32(section), short(id), u32(instance), u32(version)]);
}

export function blockList(blocks: readonly ForgedBlock[], totalBytes?: number | bigint): Buffer {
  const total = totalBytes ?? blocks.reduce((sum, { sizeBytes }) => sum + BigInt(sizeBytes), 0n);
  const entries = blocks.map(({ id, sizeBytes, extra }) =>
    Buffer.concat([short(id), u64(sizeBytes), extra ?? Buffer.alloc(0)]),
  );
  return Buffer.concat([word(total, 0x04), ...entries]);
}

/** The RAM section's first part. */
export function ramStart(blocks: readonly ForgedBlock[], totalBytes?: number | bigint): Buffer {
  return Buffer.concat([named(1, 'ram', RAM_SECTION), blockList(blocks, totalBytes), eos(), footer()]);
}

/** `id` undefined: the block of the record before. */
export function page(id: string | undefined, address: number | bigint, bytes: Uint8Array): Buffer {
  return Buffer.concat([
    word(address, id === undefined ? 0x28 : 0x08),
    id === undefined ? u8(0).subarray(1) : short(id),
    bytes,
  ]);
}

export function zeroPage(id: string | undefined, address: number, fill = 0): Buffer {
  return Buffer.concat([
    word(address, id === undefined ? 0x22 : 0x02),
    id === undefined ? u8(0).subarray(1) : short(id),
    u8(fill),
  ]);
}

export function ramPart(...records: Buffer[]): Buffer {
  return Buffer.concat([u8(2), u32(RAM_SECTION), ...records, eos(), footer()]);
}

export function ramEnd(...records: Buffer[]): Buffer {
  return Buffer.concat([u8(3), u32(RAM_SECTION), ...records, eos(), footer()]);
}

/** The state of a device, the end mark, and a description. */
export function tail(): Buffer {
  const json = Buffer.from('{"configuration": {}, "devices": []}');
  return Buffer.concat([named(4, 'timer', 0), Buffer.alloc(24, 7), footer(0), u8(0), u8(6), u32(json.length), json]);
}

/** A page that tells where it belongs. */
export function filledPage(seed: number): Buffer {
  const bytes = Buffer.alloc(PAGE);
  for (let at = 0; at < PAGE; at += 8) bytes.writeUInt32LE((seed * 2654435761 + at) >>> 0, at);
  return bytes;
}

/** A stream with footers of a q35 machine. */
export function stream(blocks: readonly ForgedBlock[], ...parts: Buffer[]): Buffer {
  return Buffer.concat([magic(), configuration('pc-q35-10.0'), ramStart(blocks), ...parts, ramEnd(), tail()]);
}

/** The header of a block of a mapped-ram file. */
export function mappedHeader(
  bitmapOffset: number | bigint,
  pagesOffset: number | bigint,
  version = 1,
  pageSize: number | bigint = PAGE,
): Buffer {
  return Buffer.concat([u32(version), u64(pageSize), u64(bitmapOffset), u64(pagesOffset)]);
}

const MAPPED_ALIGNMENT = 2 ** 20;

/**
 * A mapped-ram stream of one RAM block, "pc.ram", as it stands in a file from `offset` on: all places in it count from the
 * beginning of the file. Zero pages are not set, and stale bytes stand in the place of the first.
 */
export function mappedRamStream(memory: Buffer, offset: number): Buffer {
  const pages = memory.length / PAGE;
  const bitmap = Buffer.alloc(Math.ceil(pages / 64) * 8);
  const body = Buffer.from(memory);
  const zero = Buffer.alloc(PAGE);
  let isStale = false;
  for (let i = 0; i < pages; i++) {
    const isZero = body.subarray(i * PAGE, (i + 1) * PAGE).equals(zero);
    if (!isZero) bitmap[i >> 3]! |= 1 << (i & 7);
    else if (!isStale) body.fill('stale', i * PAGE, (i + 1) * PAGE);
    isStale ||= isZero;
  }
  const before = Buffer.concat([
    ...[magic(), configuration('pc-q35-10.0', capabilities('mapped-ram')), named(1, 'ram', RAM_SECTION)],
    ...[word(memory.length, 0x04), short('pc.ram'), u64(memory.length)],
  ]);
  const bitmapAt = offset + before.length + MAPPED_HEADER_BYTES;
  const pagesAt = Math.ceil((bitmapAt + bitmap.length) / MAPPED_ALIGNMENT) * MAPPED_ALIGNMENT;
  const gap = Buffer.alloc(pagesAt - bitmapAt - bitmap.length);
  const header = mappedHeader(bitmapAt, pagesAt);
  return Buffer.concat([before, header, bitmap, gap, body, eos(), footer(), ramPart(), ramEnd(), tail()]);
}
