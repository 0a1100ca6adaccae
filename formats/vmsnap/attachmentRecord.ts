/** Tables of an attachment part (SPEC.md, "Attachment record"). */
import { corrupt } from './corrupt.js';
import { isZero } from './header.js';
import {
  ATTACHMENT_CHUNK_BYTES,
  ATTACHMENT_PART_BYTES,
  ATTACHMENT_TABLES_FIXED_BYTES,
  CHUNK_ENTRY_BYTES,
  PREFIX_BYTES,
  roundUp,
} from './layout.js';
import { headBytes, type RecordPrefix, takeTables } from './record.js';
import { type ChunkSeal, type Seal, sealBytes } from './seal.js';

export interface AttachmentTables {
  readonly part: number;
  readonly rawBytes: number;
  readonly chunkCount: number;
  /** Offset of the chunk entries in the record's bytes. */
  readonly chunkEntriesAt: number;
  /** Of an encrypted image; only of a record that was read. */
  readonly chunkSeal?: ChunkSeal | undefined;
}

export function attachmentTablesBytes(rawBytes: number, alignmentBytes: number, isSealed: boolean): number {
  const chunks = Math.ceil(rawBytes / ATTACHMENT_CHUNK_BYTES);
  const seal = isSealed ? sealBytes(chunks) : 0;
  const bytes = PREFIX_BYTES + ATTACHMENT_TABLES_FIXED_BYTES + CHUNK_ENTRY_BYTES * chunks + seal;
  return roundUp(bytes, alignmentBytes) - PREFIX_BYTES;
}

/** Writes the tables at `out[PREFIX_BYTES..]`, chunk entries and seal excepted: the caller fills them in. */
export function encodeAttachmentTables(
  part: number,
  rawBytes: number,
  tablesBytes: number,
  out: Buffer,
): AttachmentTables {
  const chunkCount = Math.ceil(rawBytes / ATTACHMENT_CHUNK_BYTES);
  out.fill(0, PREFIX_BYTES, PREFIX_BYTES + tablesBytes);
  out.writeUInt32LE(part, PREFIX_BYTES);
  out.writeUInt32LE(rawBytes, PREFIX_BYTES + 4);
  out.writeUInt32LE(chunkCount, PREFIX_BYTES + 8);
  return { part, rawBytes, chunkCount, chunkEntriesAt: PREFIX_BYTES + ATTACHMENT_TABLES_FIXED_BYTES };
}

/** Decodes the tables in `head`, which are opened there if the image is encrypted: once. */
export function decodeAttachmentTables(
  head: Buffer,
  prefix: RecordPrefix,
  seal: Seal | undefined,
  path: string,
): AttachmentTables {
  const chunkSeal = takeTables(head, prefix, seal, path);
  const bad = (what: string) => corrupt(path, prefix.offset + PREFIX_BYTES, `attachment ${prefix.subject}: ${what}`);
  if (prefix.tablesBytes < ATTACHMENT_TABLES_FIXED_BYTES) throw bad('tables are too short');
  const part = head.readUInt32LE(PREFIX_BYTES);
  const rawBytes = head.readUInt32LE(PREFIX_BYTES + 4);
  const chunkCount = head.readUInt32LE(PREFIX_BYTES + 8);
  if (rawBytes < 1 || rawBytes > ATTACHMENT_PART_BYTES) throw bad(`part of ${rawBytes} bytes`);
  if (chunkCount !== Math.ceil(rawBytes / ATTACHMENT_CHUNK_BYTES))
    throw bad(`${chunkCount} chunks for ${rawBytes} bytes`);
  const chunkEntriesAt = PREFIX_BYTES + ATTACHMENT_TABLES_FIXED_BYTES;
  const end = chunkEntriesAt + CHUNK_ENTRY_BYTES * chunkCount;
  const tablesEnd = headBytes(prefix) - (chunkSeal === undefined ? 0 : sealBytes(chunkCount));
  if (end > tablesEnd || !isZero(head, end, tablesEnd) || !isZero(head, PREFIX_BYTES + 12, chunkEntriesAt)) {
    throw bad('tables do not add up');
  }
  let stored = 0;
  for (let i = 0; i < chunkCount; i++) stored += head.readUInt32LE(chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
  if (stored !== prefix.payloadBytes) throw bad('chunks do not add up to the payload');
  return { part, rawBytes, chunkCount, chunkEntriesAt, chunkSeal };
}

export function attachmentChunkRawBytes(i: number, rawBytes: number): number {
  return Math.min(ATTACHMENT_CHUNK_BYTES, rawBytes - i * ATTACHMENT_CHUNK_BYTES);
}
