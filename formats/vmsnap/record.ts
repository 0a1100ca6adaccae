/** The 64-byte prefix that every record begins with (SPEC.md, "Records"). */
import { native } from '../../native/binding.js';
import { corrupt } from './corrupt.js';
import {
  ATTACHMENT_CHUNK_COUNT_AT,
  KIND_ATTACHMENT,
  KIND_END,
  KIND_INDEX_BLOCK,
  KIND_INDEX_LIST,
  KIND_SEGMENT,
  NO_SEGMENT,
  PAYLOAD_MAX_BYTES,
  PREFIX_BYTES,
  roundUp,
  SEAL_NUMBER_BYTES,
  SEGMENT_CHUNK_COUNT_AT,
  TABLES_MAX_BYTES,
  TAG_BYTES,
} from './layout.js';
import { type ChunkSeal, openTables, requireKeys, type Seal, type SealKeys, sealTables } from './seal.js';

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
  /** Of the payload as it is stored, in an encrypted image; else 0. */
  readonly payloadCrc: number;
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

/**
 * Writes the prefix of the record that stands in `record`, tables and payload finished. Of an encrypted image, the tables are
 * sealed on the way: they belong to this prefix then. @returns the prefix's CRC.
 */
export function finishRecord(
  prefix: Omit<RecordPrefix, 'tablesCrc' | 'crc'>,
  binding: bigint,
  keys: SealKeys | undefined,
  record: Buffer,
): number {
  record.writeUInt32LE(prefix.kind, 0);
  record.writeUInt32LE(prefix.tablesBytes, 4);
  writeU64(record, prefix.payloadBytes, 8);
  writeU64(record, prefix.offset, 16);
  record.writeBigUInt64LE(binding, 24);
  writeU64(record, prefix.subject, 32);
  if (prefix.previousSegment < 0) record.writeBigUInt64LE(NO_SEGMENT, 40);
  else writeU64(record, prefix.previousSegment, 40);
  record.writeUInt32LE(prefix.chain, 48);
  record.writeUInt32LE(prefix.payloadCrc, 52);
  if (keys !== undefined) sealTables(keys, record, prefix.tablesBytes);
  record.writeUInt32LE(native.crc32c(record, PREFIX_BYTES, prefix.tablesBytes, 0), 56);
  const crc = native.crc32c(record, 0, 60, 0);
  record.writeUInt32LE(crc, 60);
  return crc;
}

/** Where a prefix is looked for, and what every prefix of this image must carry. */
export interface RecordPlace {
  readonly path: string;
  readonly offset: number;
  readonly binding: bigint;
  readonly alignmentBytes: number;
  /** The image is encrypted. */
  readonly isSealed: boolean;
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
    payloadCrc: bytes.readUInt32LE(at + 52),
    tablesCrc: bytes.readUInt32LE(at + 56),
    crc,
  };
  if (!place.isSealed && prefix.payloadCrc !== 0)
    throw corrupt(path, offset, 'record prefix: reserved bytes are not zero');
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

/**
 * Makes the tables in `head` those of a record that is not sealed, once: checks their CRC and, in an encrypted image, opens them
 * where they lie. @returns how the chunks are sealed, undefined if they are not.
 * @throws CORRUPT, and KEY if the image is encrypted and not opened.
 */
export function takeTables(
  head: Buffer,
  prefix: RecordPrefix,
  seal: Seal | undefined,
  path: string,
): ChunkSeal | undefined {
  checkTables(head, prefix, path);
  if (seal === undefined) return undefined;
  const keys = requireKeys(seal, path);
  const bad = (what: string) =>
    corrupt(path, prefix.offset + PREFIX_BYTES, `tables of a ${kindName(prefix.kind)} record: ${what}`);
  if (!openTables(keys, head, prefix.tablesBytes)) throw bad('they are not what was sealed here');
  const chunkCount = chunkCountOf(head, prefix);
  const end = headBytes(prefix) - TAG_BYTES;
  const at = end - TAG_BYTES * chunkCount - SEAL_NUMBER_BYTES;
  if (at < PREFIX_BYTES) throw bad(`no room for the tags of ${chunkCount} chunks`);
  const number = readU64(head, at);
  const tags = Buffer.from(head.subarray(at + SEAL_NUMBER_BYTES, end));
  head.fill(0, at, end);
  return { key: keys.chunks, number, tags };
}

/** The payload of what is no segment and no attachment is one chunk. */
function chunkCountOf(head: Buffer, { kind, tablesBytes }: RecordPrefix): number {
  if (kind !== KIND_SEGMENT && kind !== KIND_ATTACHMENT) return 1;
  const at = PREFIX_BYTES + (kind === KIND_SEGMENT ? SEGMENT_CHUNK_COUNT_AT : ATTACHMENT_CHUNK_COUNT_AT);
  return at + 4 <= PREFIX_BYTES + tablesBytes ? head.readUInt32LE(at) : 0;
}

/** Of a whole record of an encrypted image. @throws CORRUPT if its payload does not match its CRC. */
export function checkPayload(record: Buffer, prefix: RecordPrefix, path: string): void {
  const at = headBytes(prefix);
  if (native.crc32c(record, at, prefix.payloadBytes, 0) === prefix.payloadCrc) return;
  throw corrupt(path, prefix.offset + at, `payload of a ${kindName(prefix.kind)} record: checksum does not match`);
}

/** A u64 that a double holds exactly; larger ones become a value that no check accepts. */
export function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

export function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}
