/** Stores attachments behind the segment records: parts of 4 MiB, in chunks (SPEC.md, "Attachment record"). */

import { closeSync, constants, openSync } from 'node:fs';
import type { MemoryAttachment } from '../formats/memoryFile.js';
import { readUpTo } from '../formats/readUpTo.js';
import {
  attachmentChunkRawBytes,
  attachmentTablesBytes,
  encodeAttachmentTables,
} from '../formats/vmsnap/attachmentRecord.js';
import {
  ATTACHMENT_CHUNK_BYTES,
  ATTACHMENT_PART_BYTES,
  CHUNK_ENTRY_BYTES,
  KIND_ATTACHMENT,
  PREFIX_BYTES,
} from '../formats/vmsnap/layout.js';
import type { AttachmentManifest } from '../formats/vmsnap/manifest.js';
import { recordBytes } from '../formats/vmsnap/record.js';
import { sealBytes } from '../formats/vmsnap/seal.js';
import { native } from '../native/binding.js';
import { VmsnapError, withSystemErrors } from '../native/errors.js';
import { openFileStats } from '../native/fileStats.js';
import { bound, type CodecSettings, createCodec } from './codecs.js';
import type { CommitLine, OutputDescription } from './pipeline/commitLine.js';
import type { SharedControl } from './pipeline/control.js';
import { sourceTruncated } from './pipeline/feeds/sourceFiles.js';
import { PayloadSealing } from './pipeline/payloadSealing.js';
import type { AttachmentOption } from './types.js';

/** Bytes that are to become an attachment. */
export interface AttachmentInput {
  readonly name: string;
  /** Fills `into` with the bytes that come next. @returns fewer than fit only at the end. */
  read(into: Buffer): number | Promise<number>;
}

export interface OpenedAttachment extends AttachmentInput {
  readonly fd: number;
  readonly path: string;
}

/** Opens all of them before anything is written, so that a missing one costs nothing. */
export function openAttachments(options: readonly AttachmentOption[]): OpenedAttachment[] {
  const opened: OpenedAttachment[] = [];
  try {
    for (const { name, file } of options) {
      const fd = withSystemErrors('open the attachment', file, () => openSync(file, constants.O_RDONLY));
      opened.push(fileAttachment(name, fd, file));
      if (!openFileStats({ fd, path: file }).isFile())
        throw new VmsnapError('USAGE', `the attachment ${file} is no regular file`, { path: file });
    }
    return opened;
  } catch (error) {
    closeAttachments(opened);
    throw error;
  }
}

function fileAttachment(name: string, fd: number, path: string): OpenedAttachment {
  let offset = 0;
  const read = (into: Buffer) => {
    const got = readUpTo({ fd, path }, offset, into);
    offset += got;
    return got;
  };
  return { name, fd, path, read };
}

/**
 * Parts of a memory file of another tool as attachments, each read range by range. The file stays the caller's to close.
 * @throws USAGE for a name that the caller gave to another attachment.
 */
export function memoryAttachments(
  parts: readonly MemoryAttachment[],
  taken: readonly AttachmentOption[],
): AttachmentInput[] {
  const clash = parts.find(({ name }) => taken.some((option) => option.name === name));
  if (clash !== undefined) {
    throw new VmsnapError('USAGE', `the source brings an attachment named "${clash.name}" itself`, {
      hint: 'give the other one another name (--attach NAME=FILE)',
    });
  }
  return parts.map(memoryAttachment);
}

function memoryAttachment(part: MemoryAttachment): AttachmentInput {
  if ('read' in part) return part;
  let done = 0;
  const read = (into: Buffer) => {
    const got = 'bytes' in part ? copyFrom(part.bytes, done, into) : readRange(part, done, into);
    done += got;
    return got;
  };
  return { name: part.name, read };
}

function copyFrom(bytes: Uint8Array, from: number, into: Buffer): number {
  const part = bytes.subarray(from, from + into.length);
  into.set(part);
  return part.length;
}

function readRange(part: Extract<MemoryAttachment, { fd: number }>, from: number, into: Buffer): number {
  const wanted = Math.min(into.length, part.sizeBytes - from);
  const got = readUpTo(part, part.offset + from, into.subarray(0, wanted));
  if (got < wanted) throw sourceTruncated(part.path, part.offset + from + got);
  return got;
}

export function closeAttachments(opened: readonly OpenedAttachment[]): void {
  for (const { fd } of opened) closeSync(fd);
}

/** What of the output says how attachments are stored. */
interface AttachmentOutput extends Pick<OutputDescription, 'alignmentBytes' | 'keys'> {
  readonly control: SharedControl;
}

export async function storeAttachments(
  inputs: readonly AttachmentInput[],
  line: CommitLine,
  codecSettings: CodecSettings,
  { alignmentBytes, keys, control }: AttachmentOutput,
  signal: AbortSignal | undefined,
): Promise<AttachmentManifest[]> {
  const codec = createCodec(codecSettings);
  const raw = Buffer.allocUnsafe(inputs.length === 0 ? 0 : ATTACHMENT_PART_BYTES);
  const sealing = keys && new PayloadSealing(keys, control);
  const tablesMax = attachmentTablesBytes(ATTACHMENT_PART_BYTES, alignmentBytes, keys !== undefined);
  const out = Buffer.alloc(
    PREFIX_BYTES + tablesMax + ATTACHMENT_PART_BYTES + bound(ATTACHMENT_CHUNK_BYTES) + alignmentBytes,
  );
  const manifests: AttachmentManifest[] = [];
  for (const [number, attachment] of inputs.entries()) {
    let sizeBytes = 0;
    let offset = 0;
    for (let part = 0; ; part++) {
      signal?.throwIfAborted();
      const got = await attachment.read(raw);
      if (got === 0) break;
      const at = storePart(number, part, raw.subarray(0, got), codec, line, alignmentBytes, sealing, out);
      await line.flush();
      if (part === 0) offset = at;
      sizeBytes += got;
      if (got < raw.length) break;
      // Lets signals and progress through between parts.
      await new Promise(setImmediate);
    }
    manifests.push({ name: attachment.name, sizeBytes, offset });
  }
  return manifests;
}

function storePart(
  number: number,
  part: number,
  raw: Buffer,
  codec: ReturnType<typeof createCodec>,
  line: CommitLine,
  alignmentBytes: number,
  sealing: PayloadSealing | undefined,
  out: Buffer,
): number {
  const tablesBytes = attachmentTablesBytes(raw.length, alignmentBytes, sealing !== undefined);
  const tables = encodeAttachmentTables(part, raw.length, tablesBytes, out);
  const payloadAt = PREFIX_BYTES + tablesBytes;
  sealing?.begin(out, payloadAt - sealBytes(tables.chunkCount));
  let at = payloadAt;
  for (let i = 0; i < tables.chunkCount; i++) {
    const start = i * ATTACHMENT_CHUNK_BYTES;
    const chunk = raw.subarray(start, start + attachmentChunkRawBytes(i, raw.length));
    let stored = codec.compress(chunk, out.subarray(at, at + bound(chunk.length)));
    if (stored === 0) {
      chunk.copy(out, at);
      stored = chunk.length;
    }
    sealing?.seal(i, at, stored);
    out.writeUInt32LE(stored, tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
    out.writeUInt32LE(native.crc32c(out, at, stored, 0), tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i + 4);
    at += stored;
  }
  const lengths = { tablesBytes, payloadBytes: at - payloadAt };
  out.fill(0, at, recordBytes(lengths, alignmentBytes));
  const payloadCrc = sealing === undefined ? 0 : native.crc32c(out, payloadAt, lengths.payloadBytes, 0);
  return line.appendPrefixed(KIND_ATTACHMENT, number, { ...lengths, payloadCrc }, out);
}
