/** The footer, the last 96 bytes of an image (SPEC.md, "Footer"), and the image's identity. */
import { native } from '../../native/binding.js';
import { corrupt } from './corrupt.js';
import { isZero } from './header.js';
import { DIGEST_BYTES, FOOTER_BYTES, FOOTER_MAGIC, PREFIX_BYTES } from './layout.js';
import { readU64, writeU64 } from './record.js';

export interface Footer {
  readonly fileBytes: number;
  readonly endOffset: number;
  readonly indexListOffset: number;
  readonly segmentCount: number;
  readonly recordCount: number;
  readonly binding: bigint;
  /** Prefix CRC of the last record. */
  readonly chain: number;
  /** 32 hex digits. */
  readonly identity: string;
}

export function encodeFooter(footer: Footer): Buffer {
  const bytes = Buffer.alloc(FOOTER_BYTES);
  FOOTER_MAGIC.copy(bytes, 0);
  writeU64(bytes, footer.fileBytes, 8);
  writeU64(bytes, footer.endOffset, 16);
  writeU64(bytes, footer.indexListOffset, 24);
  writeU64(bytes, footer.segmentCount, 32);
  writeU64(bytes, footer.recordCount, 40);
  bytes.writeBigUInt64LE(footer.binding, 48);
  bytes.writeUInt32LE(footer.chain, 56);
  bytes.write(footer.identity, 64, 'hex');
  bytes.writeUInt32LE(native.crc32c(bytes, 0, 92, 0), 92);
  return bytes;
}

/** `offset` is where the 96 bytes lie in the file. */
export function decodeFooter(bytes: Buffer, offset: number, binding: bigint, path: string): Footer {
  if (bytes.length < FOOTER_BYTES || !bytes.subarray(0, FOOTER_MAGIC.length).equals(FOOTER_MAGIC)) {
    throw corrupt(path, offset, 'no footer: the image is truncated, or its end is damaged');
  }
  if (native.crc32c(bytes, 0, 92, 0) !== bytes.readUInt32LE(92))
    throw corrupt(path, offset, 'footer: checksum does not match');
  const footer: Footer = {
    fileBytes: readU64(bytes, 8),
    endOffset: readU64(bytes, 16),
    indexListOffset: readU64(bytes, 24),
    segmentCount: readU64(bytes, 32),
    recordCount: readU64(bytes, 40),
    binding: bytes.readBigUInt64LE(48),
    chain: bytes.readUInt32LE(56),
    identity: bytes.toString('hex', 64, 64 + DIGEST_BYTES),
  };
  if (footer.binding !== binding) throw corrupt(path, offset, 'footer belongs to another image');
  if (footer.fileBytes !== offset + FOOTER_BYTES) {
    throw corrupt(
      path,
      offset,
      `footer was written for a file of ${footer.fileBytes} bytes, this one has ${offset + FOOTER_BYTES}`,
    );
  }
  if (!isZero(bytes, 60, 64) || !isZero(bytes, 80, 92))
    throw corrupt(path, offset, 'footer: reserved bytes are not zero');
  return footer;
}

/** XXH3-128 over the four structures that stand for the whole image, as 32 hex digits. Takes whole records. */
export function imageIdentity(headerAndManifest: Buffer, endRecord: Buffer, listRecord: Buffer): string {
  return xxh3Hex(Buffer.concat([headerAndManifest, withoutPadding(endRecord), withoutPadding(listRecord)]));
}

/** Prefix, tables and payload of a record, whose lengths have been checked. */
function withoutPadding(record: Buffer): Buffer {
  return record.subarray(0, PREFIX_BYTES + record.readUInt32LE(4) + readU64(record, 8));
}

export function xxh3Hex(bytes: Uint8Array): string {
  const out = Buffer.alloc(DIGEST_BYTES);
  native.xxh3(bytes, 0, bytes.length, out, 0);
  return out.toString('hex');
}

/** What every record carries: the low 64 bits of XXH3-128 over header and start manifest (SPEC.md, "Binding"). */
export function imageBinding(headerAndManifest: Buffer): bigint {
  const out = Buffer.alloc(DIGEST_BYTES);
  native.xxh3(headerAndManifest, 0, headerAndManifest.length, out, 0);
  return out.readBigUInt64BE(8);
}
