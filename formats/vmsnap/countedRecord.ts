/** Records of kind index block, end manifest and index list: one checked payload (SPEC.md, "Index block"). */
import { native } from '../../native/binding.js';
import { corrupt } from './corrupt.js';
import { isZero } from './header.js';
import { COUNTED_TABLES_BYTES, KIND_INDEX_BLOCK, PREFIX_BYTES, roundUp } from './layout.js';
import { checkTables, encodePrefix, headBytes, kindName, type RecordPrefix, recordBytes } from './record.js';

export interface CountedRecordInput {
  readonly kind: number;
  readonly offset: number;
  readonly subject: number;
  readonly previousSegment: number;
  readonly chain: number;
  readonly entryCount: number;
  readonly payload: Uint8Array;
}

/** @returns the whole record, and its prefix's CRC. */
export function encodeCountedRecord(
  input: CountedRecordInput,
  binding: bigint,
  alignmentBytes: number,
): { bytes: Buffer; crc: number } {
  const tablesBytes = roundUp(PREFIX_BYTES + COUNTED_TABLES_BYTES, alignmentBytes) - PREFIX_BYTES;
  const lengths = { tablesBytes, payloadBytes: input.payload.length };
  const bytes = Buffer.alloc(recordBytes(lengths, alignmentBytes));
  bytes.writeUInt32LE(input.entryCount, PREFIX_BYTES);
  bytes.writeUInt32LE(native.crc32c(input.payload, 0, input.payload.length, 0), PREFIX_BYTES + 4);
  bytes.set(input.payload, headBytes(lengths));
  const tablesCrc = native.crc32c(bytes, PREFIX_BYTES, tablesBytes, 0);
  const crc = encodePrefix({ ...input, ...lengths, tablesCrc }, binding, bytes, 0);
  return { bytes, crc };
}

/** @throws CORRUPT if tables, payload or padding of the whole record in `bytes` are not sound. */
export function decodeCountedRecord(
  bytes: Buffer,
  prefix: RecordPrefix,
  path: string,
): { entryCount: number; payload: Buffer } {
  checkTables(bytes, prefix, path);
  const head = headBytes(prefix);
  const name = kindName(prefix.kind);
  if (prefix.tablesBytes < COUNTED_TABLES_BYTES || !isZero(bytes, PREFIX_BYTES + COUNTED_TABLES_BYTES, head)) {
    throw corrupt(path, prefix.offset + PREFIX_BYTES, `tables of the ${name} are not sound`);
  }
  if (prefix.kind !== KIND_INDEX_BLOCK && prefix.subject !== 0) {
    throw corrupt(path, prefix.offset, `${name} has the subject ${prefix.subject}, not 0`);
  }
  if (bytes.length < head + prefix.payloadBytes) throw corrupt(path, prefix.offset, `truncated in the ${name}`);
  const payload = bytes.subarray(head, head + prefix.payloadBytes);
  if (native.crc32c(payload, 0, payload.length, 0) !== bytes.readUInt32LE(PREFIX_BYTES + 4)) {
    throw corrupt(path, prefix.offset + head, `${name}: checksum does not match`);
  }
  if (!isZero(bytes, head + prefix.payloadBytes, bytes.length)) {
    throw corrupt(path, prefix.offset + head + prefix.payloadBytes, `padding after the ${name} is not zero`);
  }
  return { entryCount: bytes.readUInt32LE(PREFIX_BYTES), payload };
}
