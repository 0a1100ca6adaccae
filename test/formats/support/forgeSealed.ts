/**
 * What somebody can do with an encrypted image who does not have its key: anything, and then put every checksum right.
 *
 * Written against SPEC.md with nothing of the encoders. Records are moved, repeated, left out or taken from another image, and
 * get the offset, the chain and the previous segment that belong to their new place.
 */
import { createHash } from 'node:crypto';
import { native } from '../../../native/binding.js';

const HEADER_BYTES = 64;
const FOOTER_BYTES = 96;
const NO_SEGMENT = 2n ** 64n - 1n;

export interface SealedParts {
  header: Buffer;
  /** With its padding. */
  manifest: Buffer;
  /** Whole records. */
  records: Buffer[];
  footer: Buffer;
}

export function takeSealedApart(image: Buffer): SealedParts {
  const alignment = image.readUInt32LE(12);
  const round = (value: number) => Math.ceil(value / alignment) * alignment;
  const recordsAt = round(HEADER_BYTES + image.readUInt32LE(32));
  const end = image.length - FOOTER_BYTES;
  const records: Buffer[] = [];
  for (let at = recordsAt; at < end; at += records.at(-1)!.length) {
    const head = 64 + image.readUInt32LE(at + 4);
    const length = head + round(Number(image.readBigUInt64LE(at + 8)));
    records.push(Buffer.from(image.subarray(at, at + length)));
  }
  return {
    header: Buffer.from(image.subarray(0, HEADER_BYTES)),
    manifest: Buffer.from(image.subarray(HEADER_BYTES, recordsAt)),
    records,
    footer: Buffer.from(image.subarray(end)),
  };
}

export const kindOf = (record: Buffer): string => record.toString('latin1', 0, 4);

/** Puts it together with every checksum, offset, length and identity right. */
export function putTogether({ header, manifest, records, footer }: SealedParts): Buffer {
  header.writeUInt32LE(crc(manifest), 36);
  header.writeUInt32LE(crc(header.subarray(0, 60)), 60);
  const head = Buffer.concat([header, manifest]);
  const binding = Buffer.alloc(16);
  native.xxh3(head, 0, head.length, binding, 0);
  let offset = head.length;
  let chain = header.readUInt32LE(60);
  let previous = NO_SEGMENT;
  let endOffset = 0;
  let listOffset = 0;
  const placed = records.map((original) => {
    const record = Buffer.from(original);
    const tables = record.readUInt32LE(4);
    const payload = Number(record.readBigUInt64LE(8));
    record.writeBigUInt64LE(BigInt(offset), 16);
    record.writeBigUInt64LE(binding.readBigUInt64BE(8), 24);
    record.writeBigUInt64LE(previous, 40);
    record.writeUInt32LE(chain, 48);
    record.writeUInt32LE(crc(record.subarray(64 + tables, 64 + tables + payload)), 52);
    record.writeUInt32LE(crc(record.subarray(64, 64 + tables)), 56);
    record.writeUInt32LE(crc(record.subarray(0, 60)), 60);
    chain = record.readUInt32LE(60);
    if (kindOf(record) === 'VSEG') previous = record.readBigUInt64LE(32);
    if (kindOf(record) === 'VEND') endOffset = offset;
    if (kindOf(record) === 'VLST') listOffset = offset;
    offset += record.length;
    return record;
  });
  footer.writeBigUInt64LE(BigInt(offset + FOOTER_BYTES), 8);
  footer.writeBigUInt64LE(BigInt(endOffset), 16);
  footer.writeBigUInt64LE(BigInt(listOffset), 24);
  footer.writeBigUInt64LE(BigInt(records.length), 40);
  binding.subarray(8).reverse().copy(footer, 48);
  footer.writeUInt32LE(chain, 56);
  identityOf(head, placed).copy(footer, 64);
  footer.writeUInt32LE(crc(footer.subarray(0, 92)), 92);
  return Buffer.concat([head, ...placed, footer]);
}

/** Only the checksums: each length and offset stays what it was made to be. */
export function withChecksums(image: Buffer): Buffer {
  return putTogether(takeSealedApart(image));
}

function identityOf(head: Buffer, records: readonly Buffer[]): Buffer {
  const hash = createHash('sha256').update(head);
  for (const record of records.filter((each) => ['VEND', 'VLST'].includes(kindOf(each)))) {
    hash.update(record.subarray(0, 64 + record.readUInt32LE(4) + Number(record.readBigUInt64LE(8))));
  }
  return hash.digest().subarray(0, 16);
}

function crc(bytes: Buffer): number {
  return native.crc32c(bytes, 0, bytes.length, 0);
}
