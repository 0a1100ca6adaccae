/** Entries of index blocks and of the index list (SPEC.md, "Index block", "Index list record"). */
import { corrupt } from './corrupt.js';
import { isZero } from './header.js';
import { INDEX_ENTRY_BYTES, INDEX_LIST_ENTRY_BYTES, PREFIX_BYTES } from './layout.js';
import { readU64, writeU64 } from './record.js';

export interface IndexEntry {
  /** 0: the segment has no record, it is zero. */
  readonly offset: number;
  readonly headBytes: number;
  readonly payloadBytes: number;
  readonly prefixCrc: number;
  readonly dataPages: number;
  readonly uniformPages: number;
  readonly referencePages: number;
  readonly sameAsBasePages: number;
  readonly absentPages: number;
}

export function encodeIndexEntry(entry: IndexEntry, block: Buffer, slot: number): void {
  const at = slot * INDEX_ENTRY_BYTES;
  writeU64(block, entry.offset, at);
  block.writeUInt32LE(entry.headBytes, at + 8);
  block.writeUInt32LE(entry.payloadBytes, at + 12);
  block.writeUInt32LE(entry.prefixCrc, at + 16);
  block.writeUInt16LE(entry.dataPages, at + 20);
  block.writeUInt16LE(entry.uniformPages, at + 22);
  block.writeUInt16LE(entry.referencePages, at + 24);
  block.writeUInt16LE(entry.sameAsBasePages, at + 26);
  block.writeUInt16LE(entry.absentPages, at + 28);
  block.writeUInt16LE(0, at + 30);
}

/** `blockOffset` is where the block's payload lies in the file, for messages. */
export function decodeIndexEntry(block: Buffer, slot: number, path: string, blockOffset: number): IndexEntry {
  const at = slot * INDEX_ENTRY_BYTES;
  const entry: IndexEntry = {
    offset: readU64(block, at),
    headBytes: block.readUInt32LE(at + 8),
    payloadBytes: block.readUInt32LE(at + 12),
    prefixCrc: block.readUInt32LE(at + 16),
    dataPages: block.readUInt16LE(at + 20),
    uniformPages: block.readUInt16LE(at + 22),
    referencePages: block.readUInt16LE(at + 24),
    sameAsBasePages: block.readUInt16LE(at + 26),
    absentPages: block.readUInt16LE(at + 28),
  };
  const sound =
    entry.offset === 0
      ? isZero(block, at, at + INDEX_ENTRY_BYTES)
      : entry.headBytes >= PREFIX_BYTES && block.readUInt16LE(at + 30) === 0;
  if (!sound) throw corrupt(path, blockOffset + at, 'index entry is not sound');
  return entry;
}

export interface IndexListEntry {
  /** 0: no segment of the block has a record. */
  readonly offset: number;
  readonly prefixCrc: number;
}

export function encodeIndexList(entries: readonly IndexListEntry[]): Buffer {
  const bytes = Buffer.alloc(entries.length * INDEX_LIST_ENTRY_BYTES);
  for (const [i, entry] of entries.entries()) {
    writeU64(bytes, entry.offset, i * INDEX_LIST_ENTRY_BYTES);
    bytes.writeUInt32LE(entry.prefixCrc, i * INDEX_LIST_ENTRY_BYTES + 8);
  }
  return bytes;
}

/** `blockCount` as the geometry demands; `listOffset` is where the payload lies in the file. */
export function decodeIndexList(bytes: Buffer, blockCount: number, path: string, listOffset: number): IndexListEntry[] {
  if (bytes.length !== blockCount * INDEX_LIST_ENTRY_BYTES) {
    throw corrupt(path, listOffset, `index list has ${bytes.length} bytes, not ${blockCount * INDEX_LIST_ENTRY_BYTES}`);
  }
  const entries: IndexListEntry[] = [];
  for (let at = 0; at < bytes.length; at += INDEX_LIST_ENTRY_BYTES) {
    if (!isZero(bytes, at + 12, at + 16))
      throw corrupt(path, listOffset + at, 'index list entry: reserved bytes are not zero');
    entries.push({ offset: readU64(bytes, at), prefixCrc: bytes.readUInt32LE(at + 8) });
  }
  return entries;
}
