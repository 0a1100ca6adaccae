/** The chunks of an attachment part, decompressed and checked. */
import {
  type AttachmentTables,
  attachmentChunkRawBytes,
  decodeAttachmentTables,
} from '../../formats/vmsnap/attachmentRecord.js';
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { isZero } from '../../formats/vmsnap/header.js';
import { CHUNK_ENTRY_BYTES } from '../../formats/vmsnap/layout.js';
import { checkTables, headBytes, type RecordPrefix } from '../../formats/vmsnap/record.js';
import type { SegmentDecoder } from './segmentDecoder.js';

/** Checks the tables of a part whose whole record stands in `record`. */
export function readAttachmentTables(record: Buffer, prefix: RecordPrefix, path: string): AttachmentTables {
  checkTables(record, prefix, path);
  return decodeAttachmentTables(record, prefix, path);
}

/** @throws CORRUPT for a chunk that is not sound, or padding that is not zero. */
export function* attachmentChunks(
  record: Buffer,
  prefix: RecordPrefix,
  tables: AttachmentTables,
  decoder: SegmentDecoder,
  path: string,
): Generator<Buffer, void, undefined> {
  let at = headBytes(prefix);
  for (let i = 0; i < tables.chunkCount; i++) {
    const entry = tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i;
    const stored = record.subarray(at, at + record.readUInt32LE(entry));
    const raw = Buffer.allocUnsafe(attachmentChunkRawBytes(i, tables.rawBytes));
    const fault = decoder.decodeChunk(stored, record.readUInt32LE(entry + 4), raw);
    if (fault !== undefined) {
      const what = `attachment ${prefix.subject}, part ${tables.part}, chunk ${i}: ${fault}`;
      throw corrupt(path, prefix.offset + at, what);
    }
    yield raw;
    at += stored.length;
  }
  if (!isZero(record, at, record.length)) {
    throw corrupt(path, prefix.offset + at, 'padding after an attachment is not zero');
  }
}
