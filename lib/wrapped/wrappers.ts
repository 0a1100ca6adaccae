/**
 * The compressed files that a source may be, told by content. A magic alone could stand in memory: each beginning is looked at
 * as closely as its format allows, and what fails later says how raw memory is saved.
 */
import { crc32, gunzipSync, constants as zlibConstants } from 'node:zlib';
import { createZstdReader } from '../pipeline/unzstdWorker.js';
import { byProgram } from './programUnwrapping.js';
import { onThread } from './threadUnwrapping.js';
import type { StartUnwrapping } from './unwrapping.js';

export type WrapperKind = 'gzip' | 'zstd' | 'xz' | 'bzip2' | 'lzop' | 'lz4';

export interface Wrapper {
  readonly kind: WrapperKind;
  /** Every such file begins with it. */
  readonly magic: Uint8Array;
  /** `start`: the first 4 KiB of the file, or all there is. */
  is(start: Buffer): boolean;
  readonly start: StartUnwrapping;
}

const INFLATED_MAX_BYTES = 64 * 1024 * 1024;
const ZSTD_SNIFF_BYTES = 128 * 1024;

export const WRAPPERS: readonly Wrapper[] = [
  { kind: 'gzip', magic: bytes('1f8b08'), is: isGzip, start: onThread('gunzip') },
  { kind: 'zstd', magic: bytes('28b52ffd'), is: isZstd, start: onThread('unzstd') },
  { kind: 'xz', magic: bytes('fd377a585a00'), is: isXz, start: byProgram({ name: 'xz', debianPackage: 'xz-utils' }) },
  {
    kind: 'bzip2',
    magic: bytes('425a68'),
    is: isBzip2,
    start: byProgram({ name: 'bzip2', debianPackage: 'bzip2', complainsSilently: true }),
  },
  {
    kind: 'lzop',
    magic: bytes('894c5a4f000d0a1a0a'),
    is: isLzop,
    start: byProgram({ name: 'lzop', debianPackage: 'lzop' }),
  },
  { kind: 'lz4', magic: bytes('04224d18'), is: isLz4, start: byProgram({ name: 'lz4', debianPackage: 'lz4' }) },
];

export function wrapperOf(start: Buffer): Wrapper | undefined {
  return WRAPPERS.find((wrapper) => wrapper.is(start));
}

export function wrapperNamed(kind: WrapperKind): Wrapper {
  return WRAPPERS.find((wrapper) => wrapper.kind === kind)!;
}

function bytes(hex: string): Uint8Array {
  return Buffer.from(hex, 'hex');
}

/** RFC 1952; the beginning must inflate. */
function isGzip(start: Buffer): boolean {
  const hasMagic =
    start.length > 18 && start[0] === 0x1f && start[1] === 0x8b && start[2] === 8 && (start[3]! & 0xe0) === 0;
  if (!hasMagic) return false;
  try {
    gunzipSync(start, { finishFlush: zlibConstants.Z_SYNC_FLUSH, maxOutputLength: INFLATED_MAX_BYTES });
    return true;
  } catch {
    return false;
  }
}

/** RFC 8878; the beginning must decompress. A window that is too large is found out later. */
function isZstd(start: Buffer): boolean {
  if (!begins(start, '28b52ffd')) return false;
  try {
    createZstdReader().decompressStream(Buffer.alloc(ZSTD_SNIFF_BYTES), start);
    return true;
  } catch (error) {
    return /memory/i.test((error as Error).message);
  }
}

/** The .xz format, 2.1.1: magic, stream flags, their CRC-32. */
function isXz(start: Buffer): boolean {
  return start.length >= 12 && begins(start, 'fd377a585a00') && crc32(start.subarray(6, 8)) === start.readUInt32LE(8);
}

/** "BZh", block size, and the magic of the first block or of the end. */
function isBzip2(start: Buffer): boolean {
  const level = start[3] ?? 0;
  if (start.length < 14 || !begins(start, '425a68') || level < 0x31 || level > 0x39) return false;
  return ['314159265359', '177245385090'].includes(start.toString('hex', 4, 10));
}

/** The magic of nine bytes. */
function isLzop(start: Buffer): boolean {
  return begins(start, '894c5a4f000d0a1a0a');
}

/** The frame format of LZ4: magic, version 1, reserved bits, a block size that there is. */
function isLz4(start: Buffer): boolean {
  if (start.length < 7 || !begins(start, '04224d18')) return false;
  const [flags, block] = [start[4]!, start[5]!];
  return flags >> 6 === 1 && (flags & 0x02) === 0 && (block & 0x8f) === 0 && block >> 4 >= 4;
}

function begins(start: Buffer, magic: string): boolean {
  return start.toString('hex', 0, magic.length / 2) === magic;
}
