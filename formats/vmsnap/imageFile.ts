/**
 * Reads the structures of an image that lies in a file: head (header and start manifest) from its beginning, tail
 * (footer, end manifest, index list) from its end, index blocks and record heads in between, each one range read.
 *
 * Works on a file descriptor that the caller owns, from any thread. Nothing read is believed before its CRC is checked,
 * and nothing is allocated that SPEC.md's limits and the file's length do not allow.
 */

import { native } from '../../native/binding.js';
import { openFileStats } from '../../native/fileStats.js';
import { readUpTo } from '../readUpTo.js';
import { corrupt, unsupported } from './corrupt.js';
import { decodeCountedRecord } from './countedRecord.js';
import { decodeFooter, type Footer, imageBinding, imageIdentity } from './footer.js';
import type { Geometry } from './geometry.js';
import { decodeHeader, type Header, isSealed, isZero } from './header.js';
import { decodeIndexList, type IndexListEntry } from './imageIndex.js';
import {
  alignmentOf,
  FEATURE_BASE,
  FEATURE_OVERRIDING,
  FEATURE_REFERENCES,
  FOOTER_BYTES,
  HEADER_BYTES,
  HEADER_TAG_AT,
  HEADER_TAG_BYTES,
  INDEX_BLOCK_ENTRIES,
  INDEX_ENTRY_BYTES,
  KIND_END,
  KIND_INDEX_BLOCK,
  KIND_INDEX_LIST,
  MANIFEST_MAX_BYTES,
  OVERRIDING_SEGMENTS_MAX,
  PREFIX_BYTES,
  roundUp,
} from './layout.js';
import {
  decodeEndManifest,
  decodeStartManifest,
  type EndManifest,
  imageGeometry,
  type StartManifest,
} from './manifest.js';
import { memoryDigest } from './memoryDigest.js';
import {
  checkPayload,
  checkTables,
  decodePrefix,
  headBytes,
  kindName,
  type RecordPlace,
  type RecordPrefix,
  recordBytes,
} from './record.js';
import { headerTag, type Seal, type SealKeys, sameTag } from './seal.js';

export interface ImageFd {
  readonly fd: number;
  readonly path: string;
}

/** What a reader knows after the beginning of an image. */
export interface ImageHead {
  readonly header: Header;
  readonly headerCrc: number;
  readonly start: StartManifest;
  readonly binding: bigint;
  /** Header and start manifest with its padding, as they stand in the file. */
  readonly bytes: Buffer;
  /** Of an encrypted image. */
  readonly seal: Seal | undefined;
}

/** What a reader knows after the end of an image. */
export interface ImageTail {
  readonly footer: Footer;
  readonly end: EndManifest;
  readonly geometry: Geometry;
  readonly indexList: readonly IndexListEntry[];
}

/** Reads exactly [offset, offset + length). @throws CORRUPT "truncated" if the file ends before. */
export function readExactly(file: ImageFd, offset: number, length: number, what: string, into?: Buffer): Buffer {
  const bytes = into === undefined ? Buffer.allocUnsafe(length) : into.subarray(0, length);
  const got = readUpTo(file, offset, bytes);
  if (got < length) throw corrupt(file.path, offset + got, `truncated in ${what}`);
  return bytes;
}

export function readHead(file: ImageFd): ImageHead {
  const headerBytes = Buffer.alloc(HEADER_BYTES);
  const got = readUpTo(file, 0, headerBytes);
  const header = decodeHeader(headerBytes.subarray(0, got), file.path);
  const padded = startManifestEnd(header) - HEADER_BYTES;
  return decodeHead(header, headerBytes, readExactly(file, HEADER_BYTES, padded, 'the start manifest'), file.path);
}

/** Where the first record stands. */
export function startManifestEnd(header: Header): number {
  return roundUp(HEADER_BYTES + header.manifestBytes, header.alignmentBytes);
}

/** `manifestBytes`: the start manifest with its padding. */
export function decodeHead(header: Header, headerBytes: Buffer, manifestBytes: Buffer, path: string): ImageHead {
  if (native.crc32c(manifestBytes, 0, manifestBytes.length, 0) !== header.manifestCrc) {
    throw corrupt(path, HEADER_BYTES, 'start manifest: checksum does not match');
  }
  if (!isZero(manifestBytes, header.manifestBytes, manifestBytes.length)) {
    throw corrupt(path, HEADER_BYTES + header.manifestBytes, 'padding after the start manifest is not zero');
  }
  const start = decodeStartManifest(manifestBytes.subarray(0, header.manifestBytes), path, HEADER_BYTES);
  if (header.alignmentBytes !== alignmentOf(start.codec.name)) {
    throw corrupt(path, 12, `header: alignment ${header.alignmentBytes} with the codec ${start.codec.name}`);
  }
  const mayHaveBase = (header.incompatibleFeatures & FEATURE_BASE) !== 0n;
  if (start.base !== undefined && !mayHaveBase) {
    throw unsupported(path, HEADER_BYTES, 'start manifest: it names a base, but the header has no feature "base"');
  }
  if (start.base === undefined && mayHaveBase) {
    throw corrupt(path, HEADER_BYTES, 'start manifest: the header has the feature "base", but no base is named');
  }
  if (mayOverride(header)) requireOverridable(start, path);
  if (mayRefer(header)) requireReferable(header, start, path);
  if (start.encryption !== undefined && !isSealed(header)) {
    throw unsupported(path, HEADER_BYTES, 'start manifest: it has a key, but the header has no feature "encryption"');
  }
  if (start.encryption === undefined && isSealed(header)) {
    throw corrupt(path, HEADER_BYTES, 'start manifest: the header has the feature "encryption", but there is no key');
  }
  const bytes = Buffer.concat([headerBytes, manifestBytes]);
  const seal = isSealed(header) ? { keys: undefined } : undefined;
  return { header, headerCrc: headerBytes.readUInt32LE(60), start, binding: imageBinding(bytes), bytes, seal };
}

/** The head of an encrypted image that is opened by these keys. @throws CORRUPT if it is not what was sealed. */
export function openHead(head: ImageHead, keys: SealKeys, path: string): ImageHead {
  const tag = head.bytes.subarray(HEADER_TAG_AT, HEADER_TAG_AT + HEADER_TAG_BYTES);
  if (!sameTag(tag, headerTag(keys, head.bytes)))
    throw corrupt(path, HEADER_TAG_AT, 'header or start manifest are not what was sealed');
  return { ...head, seal: { keys } };
}

/** Where a record of this image is looked for. */
export function placeIn({ binding, header, seal }: ImageHead, path: string, offset: number): RecordPlace {
  return { path, offset, binding, alignmentBytes: header.alignmentBytes, isSealed: seal !== undefined };
}

/** Whether segments may have several records. */
export function mayOverride(header: Pick<Header, 'incompatibleFeatures'>): boolean {
  return (header.incompatibleFeatures & FEATURE_OVERRIDING) !== 0n;
}

/** Whether pages may be references. */
export function mayRefer(header: Pick<Header, 'incompatibleFeatures'>): boolean {
  return (header.incompatibleFeatures & FEATURE_REFERENCES) !== 0n;
}

/** What a reference names must have a place that is known at once, and one record. */
function requireReferable(header: Header, start: StartManifest, path: string): void {
  if (start.regions.at(-1)!.sizeBytes === undefined)
    throw corrupt(path, HEADER_BYTES, 'start manifest: with references, every region has a size');
  if (mayOverride(header)) throw corrupt(path, 24, 'header: references and overriding records exclude each other');
}

/** Readers hold something of each segment: how many there are must be known at once, and not too many. */
function requireOverridable(start: StartManifest, path: string): void {
  if (start.regions.at(-1)!.sizeBytes === undefined)
    throw corrupt(path, HEADER_BYTES, 'start manifest: with overriding records, every region has a size');
  const { segmentCount } = imageGeometry(start, undefined);
  if (segmentCount <= OVERRIDING_SEGMENTS_MAX) return;
  const what = `${segmentCount} segments, with overriding records at most ${OVERRIDING_SEGMENTS_MAX}`;
  throw corrupt(path, HEADER_BYTES, `start manifest: ${what}`);
}

/** @throws CORRUPT, and KEY if the image is encrypted and not opened. */
export function readTail(file: ImageFd, head: ImageHead): ImageTail {
  const { footer, footerOffset, endRecord, listRecord } = readTailRecords(file, head);
  return decodeTail(head, footer, footerOffset, endRecord, listRecord, file.path);
}

/** The footer of an encrypted image that is not opened; what it points to has been checked as far as that goes without a key. */
export function readSealedFooter(file: ImageFd, head: ImageHead): Footer {
  const { footer, footerOffset, endRecord, listRecord } = readTailRecords(file, head);
  for (const { prefix, bytes } of [endRecord, listRecord]) checkSealed(bytes, prefix, file.path);
  requireTail(head, footer, footerOffset, endRecord, listRecord, file.path);
  return footer;
}

/** What can be told of a whole record without a key. @throws CORRUPT. */
export function checkSealed(record: Buffer, prefix: RecordPrefix, path: string): void {
  checkTables(record, prefix, path);
  checkPayload(record, prefix, path);
  const end = headBytes(prefix) + prefix.payloadBytes;
  if (!isZero(record, end, record.length))
    throw corrupt(path, prefix.offset + end, `padding after the ${kindName(prefix.kind)} is not zero`);
}

function readTailRecords(file: ImageFd, head: ImageHead) {
  const fileBytes = openFileStats(file).size;
  const footerOffset = fileBytes - FOOTER_BYTES;
  if (footerOffset < startManifestEnd(head.header)) throw corrupt(file.path, fileBytes, 'truncated: no footer');
  const footerBytes = readExactly(file, footerOffset, FOOTER_BYTES, 'the footer');
  const footer = decodeFooter(footerBytes, footerOffset, head, file.path);
  const endRecord = readCountedRecord(file, head, footer.endOffset, KIND_END, footerOffset);
  const listRecord = readCountedRecord(file, head, footer.indexListOffset, KIND_INDEX_LIST, footerOffset);
  return { footer, footerOffset, endRecord, listRecord };
}

export interface WholeRecord {
  readonly prefix: RecordPrefix;
  readonly bytes: Buffer;
}

/** Puts the tail together from its three structures and checks them against each other. */
export function decodeTail(
  head: ImageHead,
  footer: Footer,
  footerOffset: number,
  endRecord: WholeRecord,
  listRecord: WholeRecord,
  path: string,
): ImageTail {
  const counted = decodeCountedRecord(endRecord.bytes, endRecord.prefix, head.seal, path);
  if (counted.entryCount !== 1) throw corrupt(path, endRecord.prefix.offset, 'end manifest: wrong number of entries');
  const end = decodeEndManifest(counted.payload, head.start, path, endRecord.prefix.offset);
  const geometry = imageGeometry(head.start, end);
  if (end.digest !== memoryDigest(end.regions)) {
    throw corrupt(path, endRecord.prefix.offset, 'end manifest: the memory digest does not follow from the regions');
  }
  const list = decodeCountedRecord(listRecord.bytes, listRecord.prefix, head.seal, path);
  const indexList = decodeIndexList(list.payload, geometry.indexBlockCount, path, listRecord.prefix.offset);
  if (list.entryCount !== indexList.length)
    throw corrupt(path, listRecord.prefix.offset, 'index list: wrong number of entries');
  requireTail(head, footer, footerOffset, endRecord, listRecord, path);
  if (footer.segmentCount !== geometry.segmentCount)
    throw corrupt(path, footerOffset, 'footer: wrong number of segments');
  return { footer, end, geometry, indexList };
}

/** The end of the image holds together: its structures adjoin, and the identity is theirs. */
export function requireTail(
  head: ImageHead,
  footer: Footer,
  footerOffset: number,
  endRecord: WholeRecord,
  listRecord: WholeRecord,
  path: string,
): void {
  const { alignmentBytes } = head.header;
  const adjacent =
    endRecord.prefix.offset + recordBytes(endRecord.prefix, alignmentBytes) === listRecord.prefix.offset &&
    listRecord.prefix.offset + recordBytes(listRecord.prefix, alignmentBytes) === footerOffset &&
    footer.endOffset === endRecord.prefix.offset &&
    footer.indexListOffset === listRecord.prefix.offset &&
    footer.chain === listRecord.prefix.crc &&
    listRecord.prefix.chain === endRecord.prefix.crc;
  if (!adjacent) throw corrupt(path, footerOffset, 'end manifest, index list and footer do not follow one another');
  if (footer.identity === imageIdentity(head.bytes, endRecord.bytes, listRecord.bytes, head.seal !== undefined)) return;
  throw corrupt(path, footerOffset, 'footer: the identity does not match the image');
}

/** Reads a whole record of one of the kinds that have one checked payload. It must end at or before `limit`. */
export function readCountedRecord(
  file: ImageFd,
  head: ImageHead,
  offset: number,
  kind: number,
  limit: number,
): WholeRecord {
  const { alignmentBytes } = head.header;
  if (offset % alignmentBytes !== 0 || offset + PREFIX_BYTES > limit) {
    throw corrupt(file.path, offset, `no place for the ${kindName(kind)}`);
  }
  const prefixBytes = readExactly(file, offset, PREFIX_BYTES, `the ${kindName(kind)}`);
  const prefix = decodePrefix(prefixBytes, 0, placeIn(head, file.path, offset));
  if (prefix.kind !== kind)
    throw corrupt(file.path, offset, `${kindName(prefix.kind)} record where the ${kindName(kind)} should be`);
  requireCountedSize(prefix, file.path);
  const length = recordBytes(prefix, alignmentBytes);
  if (offset + length > limit) throw corrupt(file.path, offset, `the ${kindName(kind)} is longer than the file`);
  return { prefix, bytes: readExactly(file, offset, length, `the ${kindName(kind)}`) };
}

export function requireCountedSize(prefix: RecordPrefix, path: string): void {
  const max = prefix.kind === KIND_INDEX_BLOCK ? INDEX_BLOCK_ENTRIES * INDEX_ENTRY_BYTES : MANIFEST_MAX_BYTES;
  if (prefix.payloadBytes <= max && prefix.tablesBytes <= 4096) return;
  throw corrupt(path, prefix.offset, `${kindName(prefix.kind)} of ${prefix.payloadBytes} bytes (allowed: ${max})`);
}

/** An index block's entries, or undefined if the list says that none of its segments has a record. */
export function readIndexBlock(
  file: ImageFd,
  head: ImageHead,
  block: number,
  place: IndexListEntry,
  segmentCount: number,
  limit: number,
): { entries: Buffer; entriesAt: number } | undefined {
  if (place.offset === 0) return undefined;
  const record = readCountedRecord(file, head, place.offset, KIND_INDEX_BLOCK, limit);
  if (record.prefix.crc !== place.prefixCrc || record.prefix.subject !== block) {
    throw corrupt(file.path, place.offset, `index block ${block} is not the one that the index list names`);
  }
  const { payload, entryCount } = decodeCountedRecord(record.bytes, record.prefix, head.seal, file.path);
  requireEntryCount(block, entryCount, payload.length, segmentCount, file.path, place.offset);
  return { entries: payload, entriesAt: place.offset + PREFIX_BYTES + record.prefix.tablesBytes };
}

export function requireEntryCount(
  block: number,
  entryCount: number,
  payloadBytes: number,
  segmentCount: number,
  path: string,
  offset: number,
): void {
  const expected = Math.min(INDEX_BLOCK_ENTRIES, segmentCount - block * INDEX_BLOCK_ENTRIES);
  if (entryCount === expected && payloadBytes === expected * INDEX_ENTRY_BYTES) return;
  throw corrupt(path, offset, `index block ${block} has ${entryCount} entries, not ${expected}`);
}
