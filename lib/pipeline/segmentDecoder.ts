/**
 * From the bytes of a segment record to its pages: tables, chunks, leaf digests, each checked before it is used.
 *
 * Holds the buffers of one thread (data, states, words), reused from segment to segment; what `decode` returns is
 * valid until the next call. Damage is handed to `onDamage`: a load throws there, a verify notes it and goes on.
 */
import { discard } from '../../formats/garbage.js';
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import type { Geometry } from '../../formats/vmsnap/geometry.js';
import { isZero } from '../../formats/vmsnap/header.js';
import type { ImageHead } from '../../formats/vmsnap/imageFile.js';
import { CHUNK_ENTRY_BYTES, DIGEST_BYTES, LEAF_BYTES } from '../../formats/vmsnap/layout.js';
import { headBytes, type RecordPrefix } from '../../formats/vmsnap/record.js';
import { type ChunkSeal, openChunk, type Seal } from '../../formats/vmsnap/seal.js';
import { chunkRawBytes, decodeSegmentTables, type SegmentTables } from '../../formats/vmsnap/segmentRecord.js';
import { allowedStates, STATE_DATA } from '../../formats/vmsnap/stateMap.js';
import { native } from '../../native/binding.js';
import type { VmsnapError } from '../../native/errors.js';
import { type ChunkCodec, createCodec } from '../codecs.js';

/** One damaged place in a segment record. */
export interface Damage {
  readonly structure: 'chunk' | 'padding' | 'digest' | 'reference';
  readonly error: VmsnapError;
  /** Byte ranges of the segment that are lost. */
  readonly ranges: readonly { readonly offset: number; readonly length: number }[];
}

/** What of an image's head says how its segments are stored. */
export interface DecodedHead {
  readonly start: Pick<ImageHead['start'], 'codec'>;
  readonly header: Pick<ImageHead['header'], 'incompatibleFeatures'>;
  readonly seal: ImageHead['seal'];
}

export class SegmentDecoder {
  readonly states: Uint8Array;
  readonly words: BigUint64Array;
  readonly data: Uint8Array;
  readonly leaves: Uint8Array;
  readonly #geometry: Geometry;
  readonly codec: ChunkCodec;
  readonly #allowedStates: number;
  readonly #seal: Seal | undefined;
  readonly #path: string;

  constructor(geometry: Geometry, head: DecodedHead, path: string) {
    this.#geometry = geometry;
    this.codec = createCodec(head.start.codec);
    this.#allowedStates = allowedStates(head.header.incompatibleFeatures);
    this.#seal = head.seal;
    this.#path = path;
    this.states = new Uint8Array(geometry.pagesPerSegment);
    this.words = new BigUint64Array(geometry.pagesPerSegment);
    this.data = new Uint8Array(geometry.segmentSize);
    this.leaves = new Uint8Array(DIGEST_BYTES * geometry.leavesPerSegment);
  }

  /** Tables of the record whose prefix and tables stand in `head`. `pageCount` undefined: the record says it. */
  decodeTables(head: Buffer, prefix: RecordPrefix, pageCount: number | undefined): SegmentTables {
    return decodeSegmentTables(
      head,
      prefix,
      this.#geometry,
      pageCount,
      this.states,
      this.words,
      this.#allowedStates,
      this.#seal,
      this.#path,
    );
  }

  /**
   * Fills `data` from the payload and checks the leaves. `record` holds the whole record, padding included. Pages that are
   * the same as the base's, and references, are not there: their segment's leaves cannot be checked here.
   */
  decodePayload(record: Buffer, prefix: RecordPrefix, tables: SegmentTables, onDamage: (damage: Damage) => void): void {
    let at = headBytes(prefix);
    let whole = true;
    for (let i = 0; i < tables.chunkCount; i++) {
      const entry = tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i;
      const storedBytes = record.readUInt32LE(entry);
      const start = i * this.#geometry.chunkSize;
      const out = this.data.subarray(start, start + chunkRawBytes(i, tables.dataPages, this.#geometry));
      const stored = { bytes: record.subarray(at, at + storedBytes), crc: record.readUInt32LE(entry + 4) };
      const fault = decodeChunk(this.codec, stored, i, tables.chunkSeal, out);
      if (fault !== undefined) {
        whole = false;
        onDamage({
          structure: 'chunk',
          error: corrupt(this.#path, prefix.offset + at, `chunk ${i} of segment ${prefix.subject}: ${fault}`),
          ranges: chunkRanges(this.states, tables.pageCount, i, this.#geometry.pagesPerChunk, this.#geometry.pageSize),
        });
      }
      at += storedBytes;
    }
    this.checkPadding(record, prefix, onDamage);
    if (whole && tables.sameAsBasePages + tables.referencePages === 0)
      this.#checkLeaves(record, prefix, tables, onDamage);
  }

  checkPadding(record: Buffer, prefix: RecordPrefix, onDamage: (damage: Damage) => void): void {
    const end = headBytes(prefix) + prefix.payloadBytes;
    if (isZero(record, end, record.length)) return;
    onDamage({
      structure: 'padding',
      error: corrupt(this.#path, prefix.offset + end, `padding after segment ${prefix.subject} is not zero`),
      ranges: [],
    });
  }

  #checkLeaves(record: Buffer, prefix: RecordPrefix, tables: SegmentTables, onDamage: (damage: Damage) => void): void {
    const { pageSize } = this.#geometry;
    native.digestSegment(this.states, tables.pageCount, pageSize, this.data, this.words, this.leaves);
    for (let leaf = 0; leaf < tables.leafCount; leaf++) {
      const at = tables.leavesAt + DIGEST_BYTES * leaf;
      const stored = record.subarray(at, at + DIGEST_BYTES);
      if (stored.equals(this.leaves.subarray(DIGEST_BYTES * leaf, DIGEST_BYTES * (leaf + 1)))) continue;
      const offset = leaf * LEAF_BYTES;
      const length = Math.min(LEAF_BYTES, tables.pageCount * pageSize - offset);
      onDamage({
        structure: 'digest',
        error: corrupt(this.#path, prefix.offset + at, `segment ${prefix.subject}: memory does not match its digest`),
        ranges: [{ offset, length }],
      });
    }
  }
}

/** A chunk as it stands in the file. */
export interface StoredChunk {
  readonly bytes: Buffer;
  readonly crc: number;
}

/** Opens chunk number `chunk` of a record if it is sealed, and decompresses it into `out`. @returns what is wrong, or undefined. */
export function decodeChunk(
  codec: ChunkCodec,
  { bytes, crc }: StoredChunk,
  chunk: number,
  seal: ChunkSeal | undefined,
  out: Uint8Array,
): string | undefined {
  if (native.crc32c(bytes, 0, bytes.length, 0) !== crc) return 'checksum does not match';
  if (bytes.length > out.length || bytes.length === 0) return `stored length ${bytes.length} for ${out.length} bytes`;
  const plain = seal === undefined ? bytes : openChunk(seal, chunk, bytes);
  if (plain === undefined) return 'it is not what was sealed here';
  const problem = plain.length < out.length ? codec.decompress(plain, out) : void out.set(plain);
  if (seal !== undefined) discard(plain);
  return problem;
}

/** The byte ranges of the segment whose pages lie in chunk `i`. */
export function chunkRanges(
  states: Uint8Array,
  pageCount: number,
  i: number,
  pagesPerChunk: number,
  pageSize: number,
): { offset: number; length: number }[] {
  const ranges: { offset: number; length: number }[] = [];
  let dataPage = 0;
  for (let page = 0; page < pageCount && dataPage < (i + 1) * pagesPerChunk; page++) {
    if (states[page] !== STATE_DATA) continue;
    if (dataPage++ < i * pagesPerChunk) continue;
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.length === page * pageSize) last.length += pageSize;
    else ranges.push({ offset: page * pageSize, length: pageSize });
  }
  return ranges;
}
