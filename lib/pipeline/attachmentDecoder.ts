/** The chunks of an attachment part, decompressed and checked. */
import { type AttachmentTables, attachmentChunkRawBytes } from '../../formats/vmsnap/attachmentRecord.js';
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { isZero } from '../../formats/vmsnap/header.js';
import { CHUNK_ENTRY_BYTES } from '../../formats/vmsnap/layout.js';
import { headBytes, type RecordPrefix } from '../../formats/vmsnap/record.js';
import type { ChunkCodec } from '../codecs.js';
import { decodeChunk } from './segmentDecoder.js';

/** @throws CORRUPT for a chunk that is not sound, or padding that is not zero. */
export function* attachmentChunks(
  record: Buffer,
  prefix: RecordPrefix,
  tables: AttachmentTables,
  codec: ChunkCodec,
  path: string,
): Generator<Buffer, void, undefined> {
  let at = headBytes(prefix);
  for (let i = 0; i < tables.chunkCount; i++) {
    const entry = tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i;
    const bytes = record.subarray(at, at + record.readUInt32LE(entry));
    const raw = Buffer.allocUnsafe(attachmentChunkRawBytes(i, tables.rawBytes));
    const fault = decodeChunk(codec, { bytes, crc: record.readUInt32LE(entry + 4) }, i, tables.chunkSeal, raw);
    if (fault !== undefined) {
      const what = `attachment ${prefix.subject}, part ${tables.part}, chunk ${i}: ${fault}`;
      throw corrupt(path, prefix.offset + at, what);
    }
    yield raw;
    at += bytes.length;
  }
  if (!isZero(record, at, record.length)) {
    throw corrupt(path, prefix.offset + at, 'padding after an attachment is not zero');
  }
}
