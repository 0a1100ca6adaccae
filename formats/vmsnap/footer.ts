/** The footer, the last 96 bytes of an image (SPEC.md, "Footer"), and the image's identity. */
import { createHash } from 'node:crypto';
import { native } from '../../native/binding.js';
import { corrupt } from './corrupt.js';
import { isZero } from './header.js';
import { DIGEST_BYTES, FOOTER_BYTES, FOOTER_MAGIC, FOOTER_TAG_AT, FOOTER_TAG_BYTES, PREFIX_BYTES } from './layout.js';
import { readU64, writeU64 } from './record.js';
import { footerTag, type Seal, type SealKeys, sameTag } from './seal.js';

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

/** `keys`: of an encrypted image. */
export function encodeFooter(footer: Footer, keys?: SealKeys): Buffer {
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
  if (keys !== undefined) bytes.set(footerTag(keys, bytes), FOOTER_TAG_AT);
  bytes.writeUInt32LE(native.crc32c(bytes, 0, 92, 0), 92);
  return bytes;
}

/** `offset` is where the 96 bytes lie in the file; `seal` that of an encrypted image. */
export function decodeFooter(
  bytes: Buffer,
  offset: number,
  { binding, seal }: { readonly binding: bigint; readonly seal: Seal | undefined },
  path: string,
): Footer {
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
  const reserved = seal === undefined ? FOOTER_TAG_BYTES : 0;
  if (!isZero(bytes, 60, 64) || !isZero(bytes, FOOTER_TAG_AT, FOOTER_TAG_AT + reserved))
    throw corrupt(path, offset, 'footer: reserved bytes are not zero');
  if (seal?.keys !== undefined) {
    const tag = bytes.subarray(FOOTER_TAG_AT, FOOTER_TAG_AT + FOOTER_TAG_BYTES);
    if (!sameTag(tag, footerTag(seal.keys, bytes)))
      throw corrupt(path, offset, 'footer: it is not the one that was sealed');
  }
  return footer;
}

/**
 * Of the four structures that stand for the whole image, as 32 hex digits: XXH3-128, and of an encrypted image, whose base nobody
 * must be able to replace, the first half of SHA-256. Takes whole records.
 */
export function imageIdentity(
  headerAndManifest: Buffer,
  endRecord: Buffer,
  listRecord: Buffer,
  isEncrypted: boolean,
): string {
  const bytes = Buffer.concat([headerAndManifest, withoutPadding(endRecord), withoutPadding(listRecord)]);
  if (!isEncrypted) return xxh3Hex(bytes);
  return createHash('sha256').update(bytes).digest().toString('hex', 0, DIGEST_BYTES);
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
