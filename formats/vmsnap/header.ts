/** The 64-byte header (SPEC.md, "Header"). */
import { native } from '../../native/binding.js';
import { VmsnapError } from '../../native/errors.js';
import { corrupt } from './corrupt.js';
import {
  FEATURE_ENCRYPTION,
  FEATURE_NAMES,
  FEATURES_READ,
  FORMAT_VERSION,
  FORMAT_VERSION_FIRST,
  HEADER_BYTES,
  HEADER_MAGIC,
  HEADER_TAG_AT,
  HEADER_TAG_BYTES,
  MANIFEST_MAX_BYTES,
} from './layout.js';

export interface Header {
  readonly readVersion: number;
  readonly writeVersion: number;
  readonly alignmentBytes: number;
  readonly compatibleFeatures: bigint;
  readonly incompatibleFeatures: bigint;
  readonly manifestBytes: number;
  readonly manifestCrc: number;
}

export function encodeHeader(header: Header): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  HEADER_MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(header.readVersion, 8);
  bytes.writeUInt16LE(header.writeVersion, 10);
  bytes.writeUInt32LE(header.alignmentBytes, 12);
  bytes.writeBigUInt64LE(header.compatibleFeatures, 16);
  bytes.writeBigUInt64LE(header.incompatibleFeatures, 24);
  bytes.writeUInt32LE(header.manifestBytes, 32);
  bytes.writeUInt32LE(header.manifestCrc, 36);
  bytes.writeUInt32LE(native.crc32c(bytes, 0, 60, 0), 60);
  return bytes;
}

/** @throws CORRUPT (not an image, damaged) or UNSUPPORTED (version or feature too new). */
export function decodeHeader(bytes: Buffer, path: string): Header {
  requireMagic(bytes, path);
  if (bytes.length < HEADER_BYTES) throw corrupt(path, 0, 'truncated in the header');
  if (native.crc32c(bytes, 0, 60, 0) !== bytes.readUInt32LE(60))
    throw corrupt(path, 0, 'header: checksum does not match');
  const header: Header = {
    readVersion: bytes.readUInt16LE(8),
    writeVersion: bytes.readUInt16LE(10),
    alignmentBytes: bytes.readUInt32LE(12),
    compatibleFeatures: bytes.readBigUInt64LE(16),
    incompatibleFeatures: bytes.readBigUInt64LE(24),
    manifestBytes: bytes.readUInt32LE(32),
    manifestCrc: bytes.readUInt32LE(36),
  };
  requireSupported(header, path);
  if (header.alignmentBytes !== 8 && header.alignmentBytes !== 4096) {
    throw corrupt(path, 12, `header: alignment ${header.alignmentBytes} is neither 8 nor 4096`);
  }
  if (header.manifestBytes < 2 || header.manifestBytes > MANIFEST_MAX_BYTES) {
    throw corrupt(
      path,
      32,
      `header: start manifest of ${header.manifestBytes} bytes (allowed: 2 to ${MANIFEST_MAX_BYTES})`,
    );
  }
  const reservedAt = isSealed(header) ? HEADER_TAG_AT + HEADER_TAG_BYTES : HEADER_TAG_AT;
  if (!isZero(bytes, reservedAt, 60)) throw corrupt(path, reservedAt, 'header: reserved bytes are not zero');
  return header;
}

/** Whether the image is encrypted. */
export function isSealed(header: Pick<Header, 'incompatibleFeatures'>): boolean {
  return (header.incompatibleFeatures & FEATURE_ENCRYPTION) !== 0n;
}

/** Puts the tag of an encrypted image into its encoded header, and the checksum right again. */
export function setHeaderTag(headerBytes: Buffer, tag: Uint8Array): void {
  headerBytes.set(tag, HEADER_TAG_AT);
  headerBytes.writeUInt32LE(native.crc32c(headerBytes, 0, 60, 0), 60);
}

function requireMagic(bytes: Buffer, path: string): void {
  const magic = bytes.subarray(0, HEADER_MAGIC.length);
  if (magic.equals(HEADER_MAGIC)) return;
  if (bytes.length === 0) throw new VmsnapError('CORRUPT', `${path} is empty, not a vmsnap image`, { path, offset: 0 });
  const mangled =
    bytes.length > 4 && (bytes[0]! & 0x7f) === 0x09 && bytes.subarray(1, 4).equals(HEADER_MAGIC.subarray(1, 4));
  throw new VmsnapError('CORRUPT', `${path} is not a vmsnap image: its first bytes are not the magic`, {
    path,
    offset: 0,
    hint: mangled
      ? 'the file was copied in text mode: copy it again in binary mode'
      : 'give a file that "vmsnap save" wrote; to save a memory file, use "vmsnap save"',
  });
}

function requireSupported(header: Header, path: string): void {
  if (header.readVersion < FORMAT_VERSION_FIRST) {
    throw new VmsnapError(
      'UNSUPPORTED',
      `${path} is of format version ${header.readVersion}, a draft that was never released`,
      { path, offset: 8, hint: 'save the memory again; the vmsnap that wrote the image can load it' },
    );
  }
  if (header.readVersion > FORMAT_VERSION) {
    throw new VmsnapError(
      'UNSUPPORTED',
      `${path} needs a reader of format version ${header.readVersion}; this one reads up to ${FORMAT_VERSION}`,
      { path, offset: 8, hint: 'use a newer vmsnap' },
    );
  }
  const unknown = header.incompatibleFeatures & ~FEATURES_READ;
  if (unknown === 0n) return;
  throw new VmsnapError(
    'UNSUPPORTED',
    `${path} uses ${featureNames(unknown).join(', ')}, which this vmsnap cannot read`,
    {
      path,
      offset: 24,
      hint: 'use a newer vmsnap',
    },
  );
}

function featureNames(features: bigint): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((features >> BigInt(bit)) & 1n) names.push(FEATURE_NAMES[bit] ?? `feature bit ${bit}`);
  }
  return names;
}

/** True if bytes [start, end) are all zero. */
export function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
}
