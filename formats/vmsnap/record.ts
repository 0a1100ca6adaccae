/** The 64-byte prefix that every record begins with (SPEC.md, "Records"). */
import { native } from '../../native/binding.js';
import { corrupt } from './corrupt.js';
import { isZero } from './header.js';
import {
  KIND_ATTACHMENT,
  KIND_END,
  KIND_INDEX_BLOCK,
  KIND_INDEX_LIST,
  KIND_SEGMENT,
  NO_SEGMENT,
  PAYLOAD_MAX_BYTES,
  PREFIX_BYTES,
  roundUp,
  TABLES_MAX_BYTES,
} from './layout.js';

export interface RecordPrefix {
  readonly kind: number;
  readonly tablesBytes: number;
  readonly payloadBytes: number;
  readonly offset: number;
  readonly subject: number;
  /** -1: no segment record before this one. */
  readonly previousSegment: number;
  /** Prefix CRC of the record before, or the header's CRC. */
  readonly chain: number;
  readonly tablesCrc: number;
  /** This prefix's own CRC. */
  readonly crc: number;
}

const KIND_NAMES = new Map<number, string>([
  [KIND_SEGMENT, 'segment'],
  [KIND_ATTACHMENT, 'attachment'],
  [KIND_INDEX_BLOCK, 'index block'],
  [KIND_END, 'end manifest'],
  [KIND_INDEX_LIST, 'index list'],
]);

export function kindName(kind: number): string {
  return KIND_NAMES.get(kind) ?? `kind 0x${kind.toString(16)}`;
}

/** Encodes into `bytes[at..at+64)`. @returns the prefix's CRC. */
export function encodePrefix(prefix: Omit<RecordPrefix, 'crc'>, binding: bigint, bytes: Buffer, at: number): number {
  bytes.writeUInt32LE(prefix.kind, at);
  bytes.writeUInt32LE(prefix.tablesBytes, at + 4);
  writeU64(bytes, prefix.payloadBytes, at + 8);
  writeU64(bytes, prefix.offset, at + 16);
  bytes.writeBigUInt64LE(binding, at + 24);
  writeU64(bytes, prefix.subject, at + 32);
  if (prefix.previousSegment < 0) bytes.writeBigUInt64LE(NO_SEGMENT, at + 40);
  else writeU64(bytes, prefix.previousSegment, at + 40);
  bytes.writeUInt32LE(prefix.chain, at + 48);
  bytes.writeUInt32LE(0, at + 52);
  bytes.writeUInt32LE(prefix.tablesCrc, at + 56);
  const crc = native.crc32c(bytes, at, 60, 0);
  bytes.writeUInt32LE(crc, at + 60);
  return crc;
}

/** Where a prefix is looked for, and what every prefix of this image must carry. */
export interface RecordPlace {
  readonly path: string;
  readonly offset: number;
  readonly binding: bigint;
  readonly alignmentBytes: number;
}

/** @throws CORRUPT if the bytes are no sound prefix of this image at this offset. */
export function decodePrefix(bytes: Buffer, at: number, place: RecordPlace): RecordPrefix {
  const { path, offset } = place;
  if (bytes.length - at < PREFIX_BYTES) throw corrupt(path, offset, 'truncated in a record prefix');
  const crc = bytes.readUInt32LE(at + 60);
  if (native.crc32c(bytes, at, 60, 0) !== crc) throw corrupt(path, offset, 'record prefix: checksum does not match');
  const kind = bytes.readUInt32LE(at);
  if (!KIND_NAMES.has(kind)) throw corrupt(path, offset, `record of unknown kind 0x${kind.toString(16)}`);
  if (bytes.readBigUInt64LE(at + 24) !== place.binding) {
    throw corrupt(path, offset, `${kindName(kind)} record belongs to another image`);
  }
  const ownOffset = readU64(bytes, at + 16);
  if (ownOffset !== offset) throw corrupt(path, offset, `${kindName(kind)} record was written for offset ${ownOffset}`);
  const previous = bytes.readBigUInt64LE(at + 40);
  const prefix: RecordPrefix = {
    kind,
    tablesBytes: bytes.readUInt32LE(at + 4),
    payloadBytes: readU64(bytes, at + 8),
    offset,
    subject: readU64(bytes, at + 32),
    previousSegment: previous === NO_SEGMENT ? -1 : Number(previous),
    chain: bytes.readUInt32LE(at + 48),
    tablesCrc: bytes.readUInt32LE(at + 56),
    crc,
  };
  if (!isZero(bytes, at + 52, at + 56)) throw corrupt(path, offset, 'record prefix: reserved bytes are not zero');
  const sound =
    prefix.tablesBytes <= TABLES_MAX_BYTES &&
    prefix.payloadBytes <= PAYLOAD_MAX_BYTES &&
    (PREFIX_BYTES + prefix.tablesBytes) % place.alignmentBytes === 0;
  if (!sound) throw corrupt(path, offset, `${kindName(kind)} record: lengths out of range`);
  return prefix;
}

/** Bytes of prefix and tables. */
export function headBytes(prefix: { tablesBytes: number }): number {
  return PREFIX_BYTES + prefix.tablesBytes;
}

/** Bytes of the whole record, with the padding after its payload. */
export function recordBytes(prefix: { tablesBytes: number; payloadBytes: number }, alignmentBytes: number): number {
  return headBytes(prefix) + roundUp(prefix.payloadBytes, alignmentBytes);
}

/** @throws CORRUPT if the tables in `head` (prefix and tables) do not match their CRC in the prefix. */
export function checkTables(head: Buffer, prefix: RecordPrefix, path: string): void {
  if (head.length < headBytes(prefix))
    throw corrupt(path, prefix.offset, `truncated in the tables of a ${kindName(prefix.kind)} record`);
  if (native.crc32c(head, PREFIX_BYTES, prefix.tablesBytes, 0) !== prefix.tablesCrc) {
    throw corrupt(
      path,
      prefix.offset + PREFIX_BYTES,
      `tables of a ${kindName(prefix.kind)} record: checksum does not match`,
    );
  }
}

/** A u64 that a double holds exactly; larger ones become a value that no check accepts. */
export function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

export function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}
