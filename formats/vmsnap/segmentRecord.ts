/**
 * Tables of a segment record (SPEC.md, "Segment record").
 *
 * Encoding goes straight into the worker's output buffer, behind room for the prefix; decoding gives views into the
 * bytes that were read, without copies.
 */
import { corrupt, unsupported } from './corrupt.js';
import { type Geometry, leavesIn } from './geometry.js';
import { isZero } from './header.js';
import {
  CHUNK_ENTRY_BYTES,
  DIGEST_BYTES,
  PREFIX_BYTES,
  REFERENCE_BYTES,
  roundUp,
  SEGMENT_TABLES_FIXED_BYTES,
  WORD_BYTES,
} from './layout.js';
import { headBytes, type RecordPrefix, takeTables } from './record.js';
import { type ChunkSeal, type Seal, sealBytes } from './seal.js';
import {
  decodeStateMap,
  encodeStateMap,
  STATE_ABSENT,
  STATE_DATA,
  STATE_REFERENCE,
  STATE_SAME_AS_BASE,
  STATE_UNIFORM,
  stateMapMaxBytes,
} from './stateMap.js';

/** Upper bound of the tables of any segment of this geometry, padding included. */
export function segmentTablesMaxBytes(geometry: Geometry, alignmentBytes: number): number {
  const bytes =
    SEGMENT_TABLES_FIXED_BYTES +
    DIGEST_BYTES * geometry.leavesPerSegment +
    WORD_BYTES * geometry.pagesPerSegment +
    CHUNK_ENTRY_BYTES * geometry.chunksFor(geometry.pagesPerSegment) +
    stateMapMaxBytes(geometry.pagesPerSegment) +
    sealBytes(geometry.chunksFor(geometry.pagesPerSegment));
  return roundUp(PREFIX_BYTES + bytes, alignmentBytes) - PREFIX_BYTES;
}

export interface SegmentTablesInput {
  readonly states: Uint8Array;
  readonly pageCount: number;
  readonly dataPages: number;
  readonly uniformPages: number;
  readonly words: BigUint64Array;
  /** Pages of STATE_REFERENCE, and the global page number of the target of each, in page order. */
  readonly referencePages: number;
  readonly references: BigUint64Array;
  readonly leaves: Uint8Array;
  readonly leafCount: number;
}

export interface SegmentTablesPlan {
  /** Where the chunk entries stand in `out`: the caller fills them in, before the record is finished (record.ts). */
  readonly chunkEntriesAt: number;
  readonly chunkCount: number;
  readonly tablesBytes: number;
  /** Where the seal of an encrypted image stands: its number, then a tag for each chunk, which the caller fills in as well. */
  readonly sealAt: number;
}

/**
 * Writes all but the chunk entries and the seal at `out[PREFIX_BYTES..]`. The tables' length is final, so the payload may follow.
 */
export function encodeSegmentTables(
  input: SegmentTablesInput,
  geometry: Geometry,
  alignmentBytes: number,
  isSealed: boolean,
  out: Buffer,
): SegmentTablesPlan {
  const chunkCount = geometry.chunksFor(input.dataPages);
  const leavesAt = PREFIX_BYTES + SEGMENT_TABLES_FIXED_BYTES;
  const wordsAt = leavesAt + DIGEST_BYTES * input.leafCount;
  const referencesAt = wordsAt + WORD_BYTES * input.uniformPages;
  const chunkEntriesAt = referencesAt + REFERENCE_BYTES * input.referencePages;
  const mapAt = chunkEntriesAt + CHUNK_ENTRY_BYTES * chunkCount;
  const mapBytes = encodeStateMap(input.states, input.pageCount, out, mapAt);
  const seal = isSealed ? sealBytes(chunkCount) : 0;
  const end = roundUp(mapAt + mapBytes + seal, alignmentBytes);
  out.fill(0, mapAt + mapBytes, end);
  out.writeUInt32LE(mapBytes, PREFIX_BYTES);
  out.writeUInt32LE(input.uniformPages, PREFIX_BYTES + 4);
  out.writeUInt32LE(input.referencePages, PREFIX_BYTES + 8);
  out.writeUInt32LE(input.dataPages, PREFIX_BYTES + 12);
  out.writeUInt32LE(chunkCount, PREFIX_BYTES + 16);
  out.writeUInt32LE(input.leafCount, PREFIX_BYTES + 20);
  out.set(input.leaves.subarray(0, DIGEST_BYTES * input.leafCount), leavesAt);
  for (let i = 0; i < input.uniformPages; i++) out.writeBigUInt64LE(input.words[i]!, wordsAt + WORD_BYTES * i);
  for (let i = 0; i < input.referencePages; i++)
    out.writeBigUInt64LE(input.references[i]!, referencesAt + REFERENCE_BYTES * i);
  return { chunkEntriesAt, chunkCount, tablesBytes: end - PREFIX_BYTES, sealAt: end - seal };
}

/** A decoded segment record head. `states` and `words` are the caller's reused arrays. */
export interface SegmentTables {
  readonly pageCount: number;
  readonly dataPages: number;
  readonly uniformPages: number;
  readonly referencePages: number;
  readonly sameAsBasePages: number;
  readonly absentPages: number;
  readonly chunkCount: number;
  readonly leafCount: number;
  /** Offsets into the head's bytes. */
  readonly leavesAt: number;
  readonly referencesAt: number;
  readonly chunkEntriesAt: number;
  /** Of an encrypted image. */
  readonly chunkSeal: ChunkSeal | undefined;
}

/**
 * Decodes and checks the tables in `head`, which are opened there if the image is encrypted: once. `segmentPages` is the number of pages the
 * segment has, or undefined in the open-ended last region of a stream, where the map says it. `allowed`: the states that
 * the image may have (stateMap.ts, allowedStates).
 */
export function decodeSegmentTables(
  head: Buffer,
  prefix: RecordPrefix,
  geometry: Geometry,
  segmentPages: number | undefined,
  states: Uint8Array,
  words: BigUint64Array,
  allowed: number,
  seal: Seal | undefined,
  path: string,
): SegmentTables {
  const chunkSeal = takeTables(head, prefix, seal, path);
  const bad = (what: string) => corrupt(path, prefix.offset + PREFIX_BYTES, `segment ${prefix.subject}: ${what}`);
  if (prefix.tablesBytes < SEGMENT_TABLES_FIXED_BYTES) throw bad('tables are too short');
  const mapBytes = head.readUInt32LE(PREFIX_BYTES);
  const uniformPages = head.readUInt32LE(PREFIX_BYTES + 4);
  const referencePages = head.readUInt32LE(PREFIX_BYTES + 8);
  const dataPages = head.readUInt32LE(PREFIX_BYTES + 12);
  const chunkCount = head.readUInt32LE(PREFIX_BYTES + 16);
  const leafCount = head.readUInt32LE(PREFIX_BYTES + 20);
  if (referencePages !== 0 && ((allowed >>> STATE_REFERENCE) & 1) === 0)
    throw unsupported(path, prefix.offset, `segment ${prefix.subject} holds references`);
  if (dataPages + uniformPages + referencePages > geometry.pagesPerSegment) throw bad('more pages than a segment has');
  if (chunkCount !== geometry.chunksFor(dataPages)) throw bad(`${chunkCount} chunks for ${dataPages} data pages`);
  if (leafCount > geometry.leavesPerSegment) throw bad('more leaves than a segment has');
  const leavesAt = PREFIX_BYTES + SEGMENT_TABLES_FIXED_BYTES;
  const wordsAt = leavesAt + DIGEST_BYTES * leafCount;
  const referencesAt = wordsAt + WORD_BYTES * uniformPages;
  const chunkEntriesAt = referencesAt + REFERENCE_BYTES * referencePages;
  const mapAt = chunkEntriesAt + CHUNK_ENTRY_BYTES * chunkCount;
  const end = headBytes(prefix) - (chunkSeal === undefined ? 0 : sealBytes(chunkCount));
  if (mapAt + mapBytes > end || !isZero(head, mapAt + mapBytes, end)) throw bad('tables do not add up');
  const pageCount = decodeStateMap(head, mapAt, mapAt + mapBytes, states, allowed, path, prefix.offset);
  if (segmentPages !== undefined && pageCount !== segmentPages)
    throw bad(`state map of ${pageCount} pages, not ${segmentPages}`);
  if (leafCount !== leavesIn(pageCount * geometry.pageSize)) throw bad(`${leafCount} leaves for ${pageCount} pages`);
  const counts = countStates(states, pageCount);
  requireCounts(counts, dataPages, uniformPages, referencePages, bad);
  for (let i = 0; i < uniformPages; i++) {
    const at = wordsAt + WORD_BYTES * i;
    if (isZero(head, at, at + WORD_BYTES)) throw bad('a uniform page of the word 0');
    words[i] = head.readBigUInt64LE(at);
  }
  if (referencePages > 0) requireTargets(head, referencesAt, prefix.subject, states, pageCount, geometry, bad);
  if (storedBytes(head, chunkEntriesAt, chunkCount) !== prefix.payloadBytes)
    throw bad('chunks do not add up to the payload');
  const { sameAsBase: sameAsBasePages, absent: absentPages } = counts;
  const pages = { pageCount, dataPages, uniformPages, referencePages, sameAsBasePages, absentPages };
  return { ...pages, chunkCount, leafCount, leavesAt, referencesAt, chunkEntriesAt, chunkSeal };
}

/** Pages that the record says are zero. */
export function zeroPagesOf(tables: SegmentTables): number {
  const { pageCount, dataPages, uniformPages, referencePages, sameAsBasePages, absentPages } = tables;
  return pageCount - dataPages - uniformPages - referencePages - sameAsBasePages - absentPages;
}

/** The page that the `i`-th reference of a record names. */
export function targetOf(head: Buffer, tables: SegmentTables, i: number, pagesPerSegment: number): PageNumber {
  return splitPageNumber(head, tables.referencesAt + REFERENCE_BYTES * i, pagesPerSegment);
}

/** A global page number, taken apart. */
export interface PageNumber {
  readonly segment: number;
  /** In the segment. */
  readonly page: number;
}

function splitPageNumber(head: Buffer, at: number, pagesPerSegment: number): PageNumber {
  // Below 2^53 in any image: what is not is beyond its memory all the same.
  const number = head.readUInt32LE(at + 4) * 2 ** 32 + head.readUInt32LE(at);
  const segment = Math.floor(number / pagesPerSegment);
  return { segment, page: number - segment * pagesPerSegment };
}

/** References point backwards, into the memory; within the segment, to its own data pages. */
function requireTargets(
  head: Buffer,
  referencesAt: number,
  own: number,
  states: Uint8Array,
  pageCount: number,
  geometry: Geometry,
  bad: (what: string) => Error,
): void {
  let at = referencesAt;
  for (let page = states.indexOf(STATE_REFERENCE); page >= 0 && page < pageCount; ) {
    const target = splitPageNumber(head, at, geometry.pagesPerSegment);
    if (target.segment > own || (target.segment === own && target.page >= page))
      throw bad(`the reference of page ${page} does not point backwards`);
    if (target.segment === own && states[target.page] !== STATE_DATA)
      throw bad(`the reference of page ${page} is to page ${target.page}, which is no data page`);
    if (target.segment < own && target.page >= geometry.pagesIn(target.segment))
      throw bad(`the reference of page ${page} points beyond its region`);
    at += REFERENCE_BYTES;
    page = states.indexOf(STATE_REFERENCE, page + 1);
  }
}

function requireCounts(
  counts: StateCounts,
  dataPages: number,
  uniformPages: number,
  referencePages: number,
  bad: (what: string) => Error,
): void {
  if (counts.reference !== referencePages)
    throw bad(`state map has ${counts.reference} references, not ${referencePages}`);
  if (counts.data !== dataPages) throw bad(`state map has ${counts.data} data pages, not ${dataPages}`);
  if (counts.uniform !== uniformPages) throw bad(`state map has ${counts.uniform} uniform pages, not ${uniformPages}`);
}

interface StateCounts {
  readonly data: number;
  readonly uniform: number;
  readonly reference: number;
  readonly sameAsBase: number;
  readonly absent: number;
}

function countStates(states: Uint8Array, pageCount: number): StateCounts {
  let data = 0;
  let uniform = 0;
  let reference = 0;
  let sameAsBase = 0;
  let absent = 0;
  for (let page = 0; page < pageCount; page++) {
    const state = states[page]!;
    if (state === STATE_DATA) data++;
    else if (state === STATE_UNIFORM) uniform++;
    else if (state === STATE_REFERENCE) reference++;
    else if (state === STATE_SAME_AS_BASE) sameAsBase++;
    else if (state === STATE_ABSENT) absent++;
  }
  return { data, uniform, reference, sameAsBase, absent };
}

function storedBytes(head: Buffer, chunkEntriesAt: number, chunkCount: number): number {
  let sum = 0;
  for (let i = 0; i < chunkCount; i++) sum += head.readUInt32LE(chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
  return sum;
}

/** Raw length of chunk `i` of the chunks that hold `dataPages` pages together. */
export function chunkRawBytes(
  i: number,
  dataPages: number,
  geometry: Pick<Geometry, 'pagesPerChunk' | 'pageSize'>,
): number {
  return Math.min(geometry.pagesPerChunk, dataPages - i * geometry.pagesPerChunk) * geometry.pageSize;
}
