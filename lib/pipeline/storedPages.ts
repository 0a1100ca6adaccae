/**
 * Data pages of an image, looked up by number: what references name. One index block, one record head and one chunk a page,
 * each kept for the pages that follow: duplicates come in runs, so that most of them lie in the chunk of the one before.
 *
 * One a thread; the chunks of all images of a chain share one allowance.
 */
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { placeIn, readExactly, readIndexBlock } from '../../formats/vmsnap/imageFile.js';
import { decodeIndexEntry, type IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import { CHUNK_ENTRY_BYTES, INDEX_BLOCK_ENTRIES, MIB, PREFIX_BYTES } from '../../formats/vmsnap/layout.js';
import { decodePrefix } from '../../formats/vmsnap/record.js';
import {
  chunkRawBytes,
  decodeSegmentTables,
  type PageNumber,
  type SegmentTables,
  segmentTablesMaxBytes,
} from '../../formats/vmsnap/segmentRecord.js';
import { STATE_DATA, STATE_NAMES } from '../../formats/vmsnap/stateMap.js';
import { type ChunkCodec, createCodec } from '../codecs.js';
import { LruCache } from '../lruCache.js';
import { type Link, readImageRange } from './link.js';
import { entryMismatch, matchesEntry, requireCounts } from './matchEntry.js';
import { decodeChunk } from './segmentDecoder.js';

/** Decoded chunks that one thread keeps; one in any case. */
export const CHUNK_CACHE_BYTES = 8 * MIB;
const HEADS = 32;

/** Decoded chunks, those used last. Images of one chain may have chunks of different sizes. */
export class ChunkCache {
  /** In the order of their use. */
  readonly #chunks = new Map<string, Uint8Array>();
  #bytes = 0;

  /** The chunk of that name, put into a buffer of `sizeBytes` by `fill` if it is not kept; valid until the next call. */
  get(name: string, sizeBytes: number, fill: (buffer: Uint8Array) => void): Uint8Array {
    let buffer = this.#chunks.get(name);
    if (buffer !== undefined) {
      this.#chunks.delete(name);
    } else {
      buffer = this.#bufferOf(sizeBytes);
      fill(buffer);
      this.#bytes += sizeBytes;
    }
    this.#chunks.set(name, buffer);
    return buffer;
  }

  /** Makes room by giving up what was not used for longest; one of the right size serves again. */
  #bufferOf(sizeBytes: number): Uint8Array {
    let spare: Uint8Array | undefined;
    while (this.#chunks.size > 0 && this.#bytes + sizeBytes > CHUNK_CACHE_BYTES) {
      const [oldest, buffer] = this.#chunks.entries().next().value!;
      this.#chunks.delete(oldest);
      this.#bytes -= buffer.length;
      if (buffer.length === sizeBytes) spare = buffer;
    }
    return spare ?? new Uint8Array(sizeBytes);
  }
}

interface Head {
  readonly offset: number;
  readonly bytes: Buffer;
  readonly tables: SegmentTables;
  /** Of each page: its number among the data pages, or -1. */
  readonly ordinals: Int16Array;
  readonly states: Uint8Array;
  /** Where each chunk begins in the file. */
  readonly chunkOffsets: Float64Array;
}

export class StoredPages {
  /** Since it was last set to 0. */
  bytesRead = 0;
  readonly #link: Link;
  readonly #codec: ChunkCodec;
  readonly #chunks: ChunkCache;
  readonly #heads = new LruCache<number, Head>(HEADS);
  readonly #states: Uint8Array;
  readonly #words: BigUint64Array;
  readonly #stored: Buffer;
  #block: { number: number; loaded: ReturnType<typeof readIndexBlock> } | undefined;

  constructor(link: Link, chunks: ChunkCache) {
    this.#link = link;
    this.#chunks = chunks;
    this.#codec = createCodec(link.head.start.codec);
    this.#states = new Uint8Array(link.geometry.pagesPerSegment);
    this.#words = new BigUint64Array(link.geometry.pagesPerSegment);
    this.#stored = Buffer.alloc(link.geometry.chunkSize);
  }

  /**
   * The bytes of a data page and of those behind it, up to `count` pages in all, as far as they lie side by side in one chunk;
   * valid until the next call. @throws CORRUPT if there is no such page.
   */
  pages({ segment, page }: PageNumber, count: number): Uint8Array {
    const { path, geometry } = this.#link;
    const { pageSize, pagesPerChunk, chunkSize } = geometry;
    const entry = this.#entryOf(segment);
    if (entry === undefined) throw corrupt(path, 0, `there is a reference to segment ${segment}, which has no record`);
    const head = this.#heads.get(segment, () => this.#readHead(segment, entry));
    if (head.states[page] !== STATE_DATA) {
      const state = STATE_NAMES[head.states[page]!];
      const what = `segment ${segment}: there is a reference to page ${page}, which is no data page but ${state}`;
      throw corrupt(path, head.offset, what);
    }
    const ordinal = head.ordinals[page]!;
    const number = Math.floor(ordinal / pagesPerChunk);
    const first = ordinal % pagesPerChunk;
    const most = Math.min(count, pagesPerChunk - first);
    let found = 1;
    while (found < most && head.states[page + found] === STATE_DATA) found++;
    const name = `${path}:${segment}:${number}`;
    const chunk = this.#chunks.get(name, chunkSize, (buffer) => this.#readChunk(head, segment, number, buffer));
    return chunk.subarray(first * pageSize, (first + found) * pageSize);
  }

  #readChunk(head: Head, segment: number, number: number, into: Uint8Array): void {
    const { path, geometry } = this.#link;
    const entryAt = head.tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * number;
    const offset = head.chunkOffsets[number]!;
    const length = head.bytes.readUInt32LE(entryAt);
    const what = `chunk ${number} of segment ${segment}`;
    const raw = into.subarray(0, chunkRawBytes(number, head.tables.dataPages, geometry));
    if (length > raw.length) throw corrupt(path, offset, `${what}: stored length ${length} for ${raw.length} bytes`);
    const stored = readImageRange(this.#link, offset, length, what, this.#stored);
    const crc = head.bytes.readUInt32LE(entryAt + 4);
    const fault = decodeChunk(this.#codec, { bytes: stored, crc }, number, head.tables.chunkSeal, raw);
    if (fault !== undefined) throw corrupt(path, offset, `${what}: ${fault}`);
    this.bytesRead += length;
  }

  #readHead(segment: number, entry: IndexEntry): Head {
    const { path, geometry, head, allowedStates } = this.#link;
    const { alignmentBytes } = head.header;
    if (entry.headBytes > PREFIX_BYTES + segmentTablesMaxBytes(geometry, alignmentBytes))
      throw corrupt(path, entry.offset, `index: the record of segment ${segment} is larger than it can be`);
    const bytes = readExactly(this.#link, entry.offset, entry.headBytes, `the record of segment ${segment}`);
    const prefix = decodePrefix(bytes, 0, placeIn(head, path, entry.offset));
    if (!matchesEntry(prefix, segment, entry)) throw entryMismatch(path, segment, entry.offset);
    const pages = geometry.pagesIn(segment);
    const tables = decodeSegmentTables(
      bytes,
      prefix,
      geometry,
      pages,
      this.#states,
      this.#words,
      allowedStates,
      head.seal,
      path,
    );
    requireCounts(tables, entry, segment, prefix, path);
    this.bytesRead += bytes.length;
    const ordinals = new Int16Array(tables.pageCount).fill(-1);
    let ordinal = 0;
    for (let page = 0; page < tables.pageCount; page++)
      if (this.#states[page] === STATE_DATA) ordinals[page] = ordinal++;
    const states = this.#states.slice(0, tables.pageCount);
    return { offset: entry.offset, bytes, tables, ordinals, states, chunkOffsets: chunkOffsets(bytes, tables, entry) };
  }

  #entryOf(segment: number): IndexEntry | undefined {
    const { path, geometry, head, indexList, recordsEnd } = this.#link;
    const number = Math.floor(segment / INDEX_BLOCK_ENTRIES);
    if (this.#block?.number !== number) {
      const place = { offset: indexList[number * 2]!, prefixCrc: indexList[number * 2 + 1]! };
      const loaded = readIndexBlock(this.#link, head, number, place, geometry.segmentCount, recordsEnd);
      this.#block = { number, loaded };
    }
    const { loaded } = this.#block;
    if (loaded === undefined) return undefined;
    const entry = decodeIndexEntry(loaded.entries, segment % INDEX_BLOCK_ENTRIES, path, loaded.entriesAt);
    return entry.offset === 0 ? undefined : entry;
  }
}

function chunkOffsets(head: Buffer, tables: SegmentTables, entry: IndexEntry): Float64Array {
  const offsets = new Float64Array(tables.chunkCount);
  let at = entry.offset + entry.headBytes;
  for (let i = 0; i < tables.chunkCount; i++) {
    offsets[i] = at;
    at += head.readUInt32LE(tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
  }
  return offsets;
}
