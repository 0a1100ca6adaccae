/** Records of kind index block, end manifest and index list: one checked payload (SPEC.md, "Index block"). */
import { native } from '../../native/binding.js';
import { corrupt } from './corrupt.js';
import { isZero } from './header.js';
import { COUNTED_TABLES_BYTES, KIND_INDEX_BLOCK, PREFIX_BYTES, roundUp, SEAL_NUMBER_BYTES } from './layout.js';
import { finishRecord, headBytes, kindName, type RecordPrefix, recordBytes, takeTables, writeU64 } from './record.js';
import { ChunkSealer, openChunk, type Seal, type SealKeys, sealBytes } from './seal.js';

export interface CountedRecordInput {
  readonly kind: number;
  readonly offset: number;
  readonly subject: number;
  readonly previousSegment: number;
  readonly chain: number;
  readonly entryCount: number;
  readonly payload: Uint8Array;
}

/** What seals the records of an encrypted image. */
export interface RecordSealing {
  readonly keys: SealKeys;
  /** Of no other record of the image. */
  readonly number: number;
}

/** @returns the whole record, and its prefix's CRC. */
export function encodeCountedRecord(
  input: CountedRecordInput,
  binding: bigint,
  alignmentBytes: number,
  sealing?: RecordSealing,
): { bytes: Buffer; crc: number } {
  const plainBytes = COUNTED_TABLES_BYTES + (sealing === undefined ? 0 : sealBytes(1));
  const tablesBytes = roundUp(PREFIX_BYTES + plainBytes, alignmentBytes) - PREFIX_BYTES;
  const lengths = { tablesBytes, payloadBytes: input.payload.length };
  const bytes = Buffer.alloc(recordBytes(lengths, alignmentBytes));
  const head = headBytes(lengths);
  const payload = bytes.subarray(head, head + input.payload.length);
  payload.set(input.payload);
  if (sealing !== undefined) {
    const at = head - sealBytes(1);
    writeU64(bytes, sealing.number, at);
    new ChunkSealer(sealing.keys).seal(payload, sealing.number, 0, bytes, at + SEAL_NUMBER_BYTES);
  }
  const payloadCrc = native.crc32c(payload, 0, payload.length, 0);
  bytes.writeUInt32LE(input.entryCount, PREFIX_BYTES);
  bytes.writeUInt32LE(payloadCrc, PREFIX_BYTES + 4);
  const prefix = { ...input, ...lengths, payloadCrc: sealing === undefined ? 0 : payloadCrc };
  return { bytes, crc: finishRecord(prefix, binding, sealing?.keys, bytes) };
}

/**
 * `record`: the whole record, which stays as it is. @throws CORRUPT if tables, payload or padding are not sound; KEY if the image
 * is encrypted and not opened.
 */
export function decodeCountedRecord(
  record: Buffer,
  prefix: RecordPrefix,
  seal: Seal | undefined,
  path: string,
): { entryCount: number; payload: Buffer } {
  const head = headBytes(prefix);
  const name = kindName(prefix.kind);
  // Tables are opened where they lie.
  const tables = seal === undefined ? record : Buffer.from(record.subarray(0, head));
  const chunkSeal = takeTables(tables, prefix, seal, path);
  if (prefix.tablesBytes < COUNTED_TABLES_BYTES || !isZero(tables, PREFIX_BYTES + COUNTED_TABLES_BYTES, head)) {
    throw corrupt(path, prefix.offset + PREFIX_BYTES, `tables of the ${name} are not sound`);
  }
  if (prefix.kind !== KIND_INDEX_BLOCK && prefix.subject !== 0) {
    throw corrupt(path, prefix.offset, `${name} has the subject ${prefix.subject}, not 0`);
  }
  if (record.length < head + prefix.payloadBytes) throw corrupt(path, prefix.offset, `truncated in the ${name}`);
  const stored = record.subarray(head, head + prefix.payloadBytes);
  const crc = native.crc32c(stored, 0, stored.length, 0);
  if (crc !== tables.readUInt32LE(PREFIX_BYTES + 4) || (seal !== undefined && crc !== prefix.payloadCrc)) {
    throw corrupt(path, prefix.offset + head, `${name}: checksum does not match`);
  }
  if (!isZero(record, head + prefix.payloadBytes, record.length)) {
    throw corrupt(path, prefix.offset + head + prefix.payloadBytes, `padding after the ${name} is not zero`);
  }
  const payload = chunkSeal === undefined ? stored : openChunk(chunkSeal, 0, stored);
  if (payload === undefined) throw corrupt(path, prefix.offset + head, `${name}: it is not what was sealed here`);
  return { entryCount: tables.readUInt32LE(PREFIX_BYTES), payload };
}
