/**
 * A segment put together from the images of a chain, top to bottom.
 *
 * First the tables of each record of the segment, until no page is "same as base" any more: then every page's state is
 * known, who holds it, and its place among the data pages. Then the chunks: only those that hold a page that is needed are
 * read and decompressed, straight to their place where all their pages are needed and stay together, else through one
 * chunk's worth of scratch space. So every byte is decompressed at most once, and no image costs more than its own share.
 *
 * References are filled in last, and are data pages then: from elsewhere in the image that holds them (storedPages.ts), or,
 * faster, from where its memory has been brought back to already (WholeSegmentRecord).
 *
 * Holds the buffers of one thread, reused from segment to segment. What is damaged is thrown as CORRUPT with the name of the
 * file it is in.
 */
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { placeIn } from '../../formats/vmsnap/imageFile.js';
import type { IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import {
  CHUNK_ENTRY_BYTES,
  type CodecName,
  DIGEST_BYTES,
  LEAF_BYTES,
  PREFIX_BYTES,
} from '../../formats/vmsnap/layout.js';
import { decodePrefix, headBytes, type RecordPrefix } from '../../formats/vmsnap/record.js';
import {
  decodeSegmentTables,
  type PageNumber,
  type SegmentTables,
  segmentTablesMaxBytes,
  targetOf,
} from '../../formats/vmsnap/segmentRecord.js';
import {
  STATE_ABSENT,
  STATE_DATA,
  STATE_REFERENCE,
  STATE_SAME_AS_BASE,
  STATE_UNIFORM,
  STATE_ZERO,
} from '../../formats/vmsnap/stateMap.js';
import { native } from '../../native/binding.js';
import { VmsnapError } from '../../native/errors.js';
import { type ChunkCodec, createCodec } from '../codecs.js';
import type { ChainEntries } from './chainIndex.js';
import { type Link, readImageRange } from './link.js';
import { entryMismatch, matchesEntry, requireCounts } from './matchEntry.js';
import type { Damage } from './segmentDecoder.js';
import { chunkRanges, decodeChunk } from './segmentDecoder.js';
import { ChunkCache, StoredPages } from './storedPages.js';

/** The record that one image has of the segment at hand. */
interface Layer {
  readonly path: string;
  readonly codec: ChunkCodec;
  readonly link: Link | undefined;
  readonly bringPages: WholeSegmentRecord['bringPages'];
  readonly prefix: RecordPrefix;
  /** Prefix and tables; of a record that is in memory, all of it. */
  readonly head: Buffer;
  readonly isWhole: boolean;
  readonly tables: SegmentTables;
  readonly states: Uint8Array;
  readonly words: BigUint64Array;
  readonly chunkSize: number;
  readonly pageSize: number;
}

/** Reused buffers for the record of the image at one depth. */
interface LayerBuffers {
  readonly head: Buffer;
  readonly states: Uint8Array;
  readonly words: BigUint64Array;
}

/** A record that stands whole in memory, its tables decoded. */
export interface WholeSegmentRecord {
  readonly path: string;
  readonly prefix: RecordPrefix;
  readonly record: Buffer;
  readonly tables: SegmentTables;
  readonly states: Uint8Array;
  readonly words: BigUint64Array;
  readonly codec: ChunkCodec;
  readonly chunkSize: number;
  /** Its image, in which its references can be looked up; undefined: they cannot be. */
  readonly link: Link | undefined;
  /** Brings pages from one on that a reference names, if they can be had without the image. @returns whether they could. */
  readonly bringPages: ((first: PageNumber, into: Uint8Array) => boolean) | undefined;
}

/** What is done with a chunk that is needed, from its stored bytes. @returns what is wrong with it, or undefined. */
type TakeChunk = (layer: Layer, chunk: number, stored: Buffer) => string | undefined;

/** How the data pages of a segment are stored that one record holds alone. */
export interface StoredChunks {
  readonly link: Link;
  /** As the record has them: a reference is one here, and in no chunk. */
  readonly states: Uint8Array;
  readonly chunkSize: number;
  readonly pagesPerChunk: number;
  /** Of the first chunk, in the file; the others follow. */
  readonly offset: number;
  /** Stored bytes of each chunk, and the CRC-32C of them. */
  readonly lengths: readonly number[];
  readonly crcs: readonly number[];
}

const NOBODY = 255;
const NOT_NEEDED = -1;

export class ChainDecoder {
  /** Of the whole segment, as a scan gives them. */
  readonly states: Uint8Array;
  readonly words: BigUint64Array;
  readonly data: Uint8Array;
  readonly leaves: Uint8Array;
  dataPages = 0;
  uniformPages = 0;
  /** Contents unknown: read as zero. */
  absentPages = 0;
  /** Once each, whatever was looked up for references. */
  chunksDecoded = 0;
  bytesRead = 0;
  readonly #links: readonly Link[];
  readonly #pageSize: number;
  readonly #pagesPerSegment: number;
  readonly #buffers: LayerBuffers[] = [];
  readonly #codecs = new Map<CodecName, ChunkCodec>();
  readonly #layers: Layer[] = [];
  /** Of each page: which of the layers holds it. */
  readonly #owners: Uint8Array;
  /** Of each data page: its place among them. */
  readonly #places: Int32Array;
  /** The same of the segment that is compared. */
  readonly #otherPlaces: Int32Array;
  /** Of each data page of one layer: where it goes, or NOT_NEEDED. */
  readonly #targets: Int32Array;
  readonly #pageWords: Uint32Array;
  /** Pages that are references, rising, and of each page that is one its number among those of its record. */
  readonly #references: number[] = [];
  readonly #referenceOrdinals: Uint16Array;
  readonly #storedPages = new Map<Link, StoredPages>();
  readonly #chunkCache = new ChunkCache();
  #payload: Buffer | undefined;
  #scratch: Uint8Array | undefined;
  #pageCount = 0;

  /** `links`: the images whose records are read, top first; all have the same pages and segments. */
  constructor(links: readonly Link[], geometry: { pageSize: number; segmentSize: number; leavesPerSegment: number }) {
    this.#links = links;
    this.#pageSize = geometry.pageSize;
    this.#pagesPerSegment = geometry.segmentSize / geometry.pageSize;
    this.states = new Uint8Array(this.#pagesPerSegment);
    this.words = new BigUint64Array(this.#pagesPerSegment);
    this.data = new Uint8Array(geometry.segmentSize);
    this.leaves = new Uint8Array(DIGEST_BYTES * geometry.leavesPerSegment);
    this.#owners = new Uint8Array(this.#pagesPerSegment);
    this.#places = new Int32Array(this.#pagesPerSegment);
    this.#otherPlaces = new Int32Array(this.#pagesPerSegment);
    this.#targets = new Int32Array(this.#pagesPerSegment);
    this.#pageWords = new Uint32Array(2 * this.#pagesPerSegment);
    this.#referenceOrdinals = new Uint16Array(this.#pagesPerSegment);
  }

  /**
   * Finds out the state of every page. `entries[i]` is what `links[i]` has of the segment; `top` is a record of an
   * image above them, if there is one.
   */
  resolve(
    segment: number,
    pageCount: number,
    entries: ChainEntries | undefined,
    top?: WholeSegmentRecord | undefined,
  ): void {
    this.#pageCount = pageCount;
    this.#layers.length = 0;
    this.states.fill(STATE_SAME_AS_BASE, 0, pageCount);
    this.#owners.fill(NOBODY, 0, pageCount);
    let open = pageCount;
    if (top !== undefined) open = this.#addLayer(wholeLayer(top, this.#pageSize), open);
    for (let i = 0; open > 0 && entries !== undefined && i < entries.length; i++) {
      const entry = entries[i];
      if (entry !== undefined) open = this.#addLayer(this.#readLayer(i, segment, pageCount, entry), open);
    }
    this.#settle();
  }

  /** Takes over the states of the pages that are still open. @returns how many stay open. */
  #addLayer(layer: Layer, open: number): number {
    const number = this.#layers.push(layer) - 1;
    const { states } = this;
    if (open === this.#pageCount) {
      states.set(layer.states.subarray(0, open));
      this.#owners.fill(number, 0, open);
      return layer.tables.sameAsBasePages;
    }
    let left = open;
    for (let page = 0; page < this.#pageCount; page++) {
      if (states[page] !== STATE_SAME_AS_BASE) continue;
      const state = layer.states[page]!;
      if (state === STATE_SAME_AS_BASE) continue;
      states[page] = state;
      this.#owners[page] = number;
      left--;
    }
    return left;
  }

  /** Below the last image there is nothing: what is open is zero. Counts pages, and collects the uniform words. */
  #settle(): void {
    this.#references.length = 0;
    for (const [number, layer] of this.#layers.entries()) {
      this.#collectWords(layer, number);
      this.#collectReferences(layer, number);
    }
    const words = new Uint32Array(this.words.buffer);
    let data = 0;
    let uniform = 0;
    let absent = 0;
    for (let page = 0; page < this.#pageCount; page++) {
      const state = this.states[page]!;
      if (state === STATE_DATA) {
        this.#places[page] = data++;
      } else if (state === STATE_REFERENCE) {
        this.#references.push(page);
        this.states[page] = STATE_DATA;
        this.#places[page] = data++;
      } else if (state === STATE_UNIFORM) {
        words[2 * uniform] = this.#pageWords[2 * page]!;
        words[2 * uniform + 1] = this.#pageWords[2 * page + 1]!;
        uniform++;
      } else if (state === STATE_SAME_AS_BASE) {
        this.states[page] = STATE_ZERO;
      } else if (state === STATE_ABSENT) {
        absent++;
      }
    }
    this.dataPages = data;
    this.uniformPages = uniform;
    this.absentPages = absent;
  }

  #collectWords(layer: Layer, number: number): void {
    if (layer.tables.uniformPages === 0) return;
    const words = new Uint32Array(layer.words.buffer, layer.words.byteOffset, 2 * layer.words.length);
    let ordinal = 0;
    for (let page = 0; page < this.#pageCount; page++) {
      if (layer.states[page] !== STATE_UNIFORM) continue;
      if (this.#owners[page] === number) {
        this.#pageWords[2 * page] = words[2 * ordinal]!;
        this.#pageWords[2 * page + 1] = words[2 * ordinal + 1]!;
      }
      ordinal++;
    }
  }

  #collectReferences(layer: Layer, number: number): void {
    if (layer.tables.referencePages === 0) return;
    let ordinal = 0;
    for (let page = 0; page < this.#pageCount; page++) {
      if (layer.states[page] !== STATE_REFERENCE) continue;
      if (this.#owners[page] === number) this.#referenceOrdinals[page] = ordinal;
      ordinal++;
    }
  }

  #readLayer(i: number, segment: number, pageCount: number, entry: IndexEntry): Layer {
    const link = this.#links[i]!;
    const { path, geometry } = link;
    const buffers = this.#buffersFor(i);
    const end = entry.offset + entry.headBytes + entry.payloadBytes;
    if (entry.headBytes > buffers.head.length || entry.payloadBytes > geometry.segmentSize || end > link.recordsEnd) {
      throw corrupt(path, entry.offset, `index: the record of segment ${segment} has no place in the file`);
    }
    const what = `the record of segment ${segment}`;
    const head = readImageRange(link, entry.offset, entry.headBytes, what, buffers.head);
    this.bytesRead += head.length;
    const prefix = decodePrefix(head, 0, placeIn(link.head, path, entry.offset));
    if (!matchesEntry(prefix, segment, entry)) throw entryMismatch(path, segment, entry.offset);
    const { states, words } = buffers;
    const { seal } = link.head;
    const allowed = link.allowedStates;
    const tables = decodeSegmentTables(head, prefix, geometry, pageCount, states, words, allowed, seal, path);
    requireCounts(tables, entry, segment, prefix, path);
    return {
      path,
      codec: this.#codecFor(link),
      link,
      bringPages: undefined,
      prefix,
      head,
      isWhole: false,
      tables,
      states,
      words,
      chunkSize: geometry.chunkSize,
      pageSize: geometry.pageSize,
    };
  }

  #buffersFor(i: number): LayerBuffers {
    const known = this.#buffers[i];
    if (known !== undefined) return known;
    const { geometry, head } = this.#links[i]!;
    const made = {
      head: Buffer.alloc(PREFIX_BYTES + segmentTablesMaxBytes(geometry, head.header.alignmentBytes)),
      states: new Uint8Array(this.#pagesPerSegment),
      words: new BigUint64Array(this.#pagesPerSegment),
    };
    this.#buffers[i] = made;
    return made;
  }

  #codecFor(link: Link): ChunkCodec {
    const { codec } = link.head.start;
    const known = this.#codecs.get(codec.name);
    if (known !== undefined) return known;
    const made = createCodec(codec);
    this.#codecs.set(codec.name, made);
    return made;
  }

  /**
   * Fills `data`, whose pages stand in order as `states` says. With `wanted`, only pages at which it is "data" are sure to
   * be there. @returns false if something was damaged and `onDamage` has not thrown.
   */
  decode(wanted?: Uint8Array, onDamage?: (damage: Damage) => void): boolean {
    let whole = true;
    for (const [number, layer] of this.#layers.entries()) {
      if (!this.#aim(layer, number, this.#places, wanted)) continue;
      whole = this.#decodeLayer(layer, this.#placeChunk, onDamage) && whole;
    }
    return this.#decodeReferences(wanted, whole, onDamage) && whole;
  }

  /** `isWhole`: all data pages that were wanted are there. */
  #decodeReferences(
    wanted: Uint8Array | undefined,
    isWhole: boolean,
    onDamage: ((damage: Damage) => void) | undefined,
  ): boolean {
    const size = this.#pageSize;
    const lost = new Map<string, { error: VmsnapError; ranges: { offset: number; length: number }[] }>();
    const ownAreThere = isWhole && wanted === undefined;
    for (let i = 0; i < this.#references.length; ) {
      const page = this.#references[i]!;
      const count = this.#runLength(i);
      i += count;
      if (wanted !== undefined && !wanted.subarray(page, page + count).includes(STATE_DATA)) continue;
      try {
        this.#fillRun(page, count, ownAreThere);
      } catch (error) {
        if (onDamage === undefined || !(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
        const known = lost.get(error.message) ?? { error, ranges: [] };
        lost.set(error.message, known);
        known.ranges.push({ offset: page * size, length: count * size });
      }
    }
    for (const { error, ranges } of lost.values()) onDamage!({ structure: 'reference', error, ranges });
    return lost.size === 0;
  }

  /** How many references from the `i`-th on follow each other, in the segment and in what they name. */
  #runLength(i: number): number {
    const page = this.#references[i]!;
    const owner = this.#owners[page];
    const { segment, page: target } = this.#targetOf(page);
    let count = 1;
    while (i + count < this.#references.length) {
      const next = this.#references[i + count]!;
      if (next !== page + count || this.#owners[next] !== owner) break;
      const nextTarget = this.#targetOf(next);
      if (nextTarget.segment !== segment || nextTarget.page !== target + count) break;
      count++;
    }
    return count;
  }

  #fillRun(page: number, count: number, ownAreThere: boolean): void {
    const size = this.#pageSize;
    const place = this.#places[page]!;
    const layer = this.#layers[this.#owners[page]!]!;
    const target = this.#targetOf(page);
    const into = this.data.subarray(place * size, (place + count) * size);
    if (target.segment !== layer.prefix.subject) {
      if (layer.bringPages?.(target, into) === true) return;
    } else if (ownAreThere) {
      for (let i = 0; i < count; i++) {
        if (this.#owners[target.page + i] !== this.#owners[page]) {
          this.#copyRun(layer, { ...target, page: target.page + i }, into.subarray(i * size, (i + 1) * size));
        } else {
          const from = this.#places[target.page + i]! * size;
          this.data.copyWithin((place + i) * size, from, from + size);
        }
      }
      return;
    }
    this.#copyRun(layer, target, into);
  }

  #copyRun(layer: Layer, target: PageNumber, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const page = target.page + done / this.#pageSize;
      const found = this.#lookUp(layer, { ...target, page }, (into.length - done) / this.#pageSize);
      into.set(found, done);
      done += found.length;
    }
  }

  /** Up to `count` pages, through the index of the image: as many as lie side by side (StoredPages). */
  #lookUp({ link, path, prefix }: Layer, first: PageNumber, count: number): Uint8Array {
    if (link === undefined)
      throw corrupt(path, prefix.offset, `segment ${prefix.subject}: the page of a reference is not at hand`);
    const pages = this.#storedPagesOf(link);
    const found = pages.pages(first, count);
    this.bytesRead += pages.bytesRead;
    pages.bytesRead = 0;
    return found;
  }

  #targetOf(page: number): PageNumber {
    const { head, tables } = this.#layers[this.#owners[page]!]!;
    return targetOf(head, tables, this.#referenceOrdinals[page]!, this.#pagesPerSegment);
  }

  #storedPagesOf(link: Link): StoredPages {
    const known = this.#storedPages.get(link);
    if (known !== undefined) return known;
    const made = new StoredPages(link, this.#chunkCache);
    this.#storedPages.set(link, made);
    return made;
  }

  /**
   * Instead of {@link decode}: holds the data pages of another segment, in its scanned form, against those at the same places.
   * `same[i]` becomes 1 where the i-th of them is the same, byte for byte, and else stays as it is. `data` of this is not filled.
   */
  matchData(states: Uint8Array, data: Uint8Array, same: Uint8Array): void {
    let ordinal = 0;
    for (let page = 0; page < this.#pageCount; page++) {
      this.#otherPlaces[page] = states[page] === STATE_DATA ? ordinal++ : NOT_NEEDED;
    }
    const match: TakeChunk = (layer, chunk, stored) => {
      const { first, pages } = this.#pagesOfChunk(layer, chunk);
      const fault = this.#decodeToScratch(layer, chunk, stored);
      if (fault !== undefined) return fault;
      native.matchPages(this.#scratch!, this.#pageSize, this.#targets, first, pages, data, same);
      return undefined;
    };
    for (const [number, layer] of this.#layers.entries()) {
      if (this.#aim(layer, number, this.#otherPlaces, states)) this.#decodeLayer(layer, match, undefined);
    }
    this.#matchReferences(states, data, same);
  }

  /** Runs of references at once: most duplicates come in runs. */
  #matchReferences(states: Uint8Array, data: Uint8Array, same: Uint8Array): void {
    const size = this.#pageSize;
    for (let i = 0; i < this.#references.length; ) {
      const first = this.#references[i]!;
      const count = this.#runLength(i);
      i += count;
      const target = this.#targetOf(first);
      const layer = this.#layers[this.#owners[first]!]!;
      for (let done = 0; done < count; ) {
        const page = first + done;
        if (states[page] !== STATE_DATA) {
          done++;
          continue;
        }
        const found = this.#lookUp(layer, { ...target, page: target.page + done }, count - done);
        native.matchPages(found, size, this.#otherPlaces, page, found.length / size, data, same);
        done += found.length / size;
      }
    }
  }

  /** Sets #targets for a layer from the `places` of its pages. @returns whether anything of it is needed. */
  #aim(layer: Layer, number: number, places: Int32Array, wanted: Uint8Array | undefined): boolean {
    if (layer.tables.dataPages === 0) return false;
    let ordinal = 0;
    let needed = false;
    for (let page = 0; page < this.#pageCount; page++) {
      if (layer.states[page] !== STATE_DATA) continue;
      const isNeeded = this.#owners[page] === number && (wanted === undefined || wanted[page] === STATE_DATA);
      this.#targets[ordinal++] = isNeeded ? places[page]! : NOT_NEEDED;
      needed ||= isNeeded;
    }
    return needed;
  }

  #decodeLayer(layer: Layer, take: TakeChunk, onDamage: ((damage: Damage) => void) | undefined): boolean {
    const { tables, head, prefix } = layer;
    let at = headBytes(prefix);
    let whole = true;
    for (let chunk = 0; chunk < tables.chunkCount; ) {
      if (!this.#isNeeded(layer, chunk)) {
        at += storedBytesOf(layer, chunk);
        chunk++;
        continue;
      }
      // Neighbouring chunks that are needed are read at once.
      let end = chunk;
      let length = 0;
      while (end < tables.chunkCount && this.#isNeeded(layer, end)) length += storedBytesOf(layer, end++);
      const stored = layer.isWhole ? head.subarray(at, at + length) : this.#readPayload(layer, at, length);
      let start = 0;
      for (; chunk < end; chunk++) {
        const bytes = stored.subarray(start, start + storedBytesOf(layer, chunk));
        const fault = take(layer, chunk, bytes);
        if (fault !== undefined) whole = this.#damaged(layer, chunk, at + start, fault, onDamage);
        start += bytes.length;
      }
      at += length;
    }
    return whole;
  }

  #damaged(
    layer: Layer,
    chunk: number,
    at: number,
    fault: string,
    onDamage: ((damage: Damage) => void) | undefined,
  ): false {
    const { path, prefix, states, tables, chunkSize, pageSize } = layer;
    const error = corrupt(path, prefix.offset + at, `chunk ${chunk} of segment ${prefix.subject}: ${fault}`);
    if (onDamage === undefined) throw error;
    const ranges = chunkRanges(states, tables.pageCount, chunk, chunkSize / pageSize, pageSize);
    onDamage({ structure: 'chunk', error, ranges: this.#ownedRanges(this.#layers.indexOf(layer), ranges) });
    return false;
  }

  /** Of the pages in `ranges`, those that this layer holds: others are in a record above it. */
  #ownedRanges(number: number, ranges: readonly { offset: number; length: number }[]): Damage['ranges'] {
    const owned: { offset: number; length: number }[] = [];
    for (const { offset, length } of ranges) {
      for (let at = offset; at < offset + length; at += this.#pageSize) {
        if (this.#owners[at / this.#pageSize] !== number) continue;
        const last = owned.at(-1);
        if (last !== undefined && last.offset + last.length === at) last.length += this.#pageSize;
        else owned.push({ offset: at, length: this.#pageSize });
      }
    }
    return owned;
  }

  #isNeeded({ chunkSize, tables }: Layer, chunk: number): boolean {
    const pagesPerChunk = chunkSize / this.#pageSize;
    const end = Math.min(tables.dataPages, (chunk + 1) * pagesPerChunk);
    for (let i = chunk * pagesPerChunk; i < end; i++) if (this.#targets[i] !== NOT_NEEDED) return true;
    return false;
  }

  #readPayload(layer: Layer, at: number, length: number): Buffer {
    this.#payload ??= Buffer.alloc(this.data.length);
    const what = `segment ${layer.prefix.subject}`;
    this.bytesRead += length;
    return readImageRange(layer.link!, layer.prefix.offset + at, length, what, this.#payload);
  }

  #pagesOfChunk({ chunkSize, tables }: Layer, chunk: number): { first: number; pages: number } {
    const pagesPerChunk = chunkSize / this.#pageSize;
    const first = chunk * pagesPerChunk;
    return { first, pages: Math.min(pagesPerChunk, tables.dataPages - first) };
  }

  /** Fills its part of `data`. */
  readonly #placeChunk: TakeChunk = (layer, chunk, stored) => {
    const pageSize = this.#pageSize;
    const { first, pages } = this.#pagesOfChunk(layer, chunk);
    if (this.#staysTogether(first, pages)) {
      const start = this.#targets[first]! * pageSize;
      return this.#decodeChunk(layer, chunk, stored, this.data.subarray(start, start + pages * pageSize));
    }
    const fault = this.#decodeToScratch(layer, chunk, stored);
    if (fault === undefined) native.scatterPages(this.#scratch!, pageSize, this.#targets, first, pages, this.data);
    return fault;
  };

  #decodeToScratch(layer: Layer, chunk: number, stored: Buffer): string | undefined {
    const { chunkSize } = layer;
    const rawBytes = this.#pagesOfChunk(layer, chunk).pages * this.#pageSize;
    if (this.#scratch === undefined || this.#scratch.length < chunkSize) this.#scratch = new Uint8Array(chunkSize);
    return this.#decodeChunk(layer, chunk, stored, this.#scratch.subarray(0, rawBytes));
  }

  #decodeChunk(layer: Layer, chunk: number, stored: Buffer, out: Uint8Array): string | undefined {
    const crc = layer.head.readUInt32LE(layer.tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * chunk + 4);
    this.chunksDecoded++;
    return decodeChunk(layer.codec, { bytes: stored, crc }, chunk, layer.tables.chunkSeal, out);
  }

  #staysTogether(first: number, pages: number): boolean {
    const start = this.#targets[first]!;
    if (start === NOT_NEEDED) return false;
    for (let i = 1; i < pages; i++) if (this.#targets[first + i] !== start + i) return false;
    return true;
  }

  /** After {@link resolve}; undefined if several records hold the segment, or none. */
  get storedChunks(): StoredChunks | undefined {
    const [layer, ...others] = this.#layers;
    if (layer?.link === undefined || others.length > 0) return undefined;
    const { link, prefix, head, tables, states, chunkSize, pageSize } = layer;
    // Sealed bytes tell nothing.
    if (tables.sameAsBasePages > 0 || tables.chunkSeal !== undefined) return undefined;
    const entries = Array.from({ length: tables.chunkCount }, (_, i) => tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
    return {
      link,
      states: states.subarray(0, this.#pageCount),
      chunkSize,
      pagesPerChunk: chunkSize / pageSize,
      offset: prefix.offset + headBytes(prefix),
      lengths: entries.map((at) => head.readUInt32LE(at)),
      crcs: entries.map((at) => head.readUInt32LE(at + 4)),
    };
  }

  /** Takes the leaf digests of the decoded segment and holds them against those of its topmost record. */
  checkLeaves(onDamage?: (damage: Damage) => void): void {
    native.digestSegment(this.states, this.#pageCount, this.#pageSize, this.data, this.words, this.leaves);
    const [layer] = this.#layers;
    if (layer === undefined) return;
    const { head, tables, prefix, path } = layer;
    for (let leaf = 0; leaf < tables.leafCount; leaf++) {
      const at = tables.leavesAt + DIGEST_BYTES * leaf;
      const own = this.leaves.subarray(DIGEST_BYTES * leaf, DIGEST_BYTES * (leaf + 1));
      if (head.subarray(at, at + DIGEST_BYTES).equals(own)) continue;
      const offset = leaf * LEAF_BYTES;
      const length = Math.min(LEAF_BYTES, this.#pageCount * this.#pageSize - offset);
      const what = `segment ${prefix.subject}: memory does not match its digest`;
      const error = corrupt(path, prefix.offset + at, what);
      if (onDamage === undefined) throw error;
      onDamage({ structure: 'digest', error, ranges: [{ offset, length }] });
    }
  }
}

function wholeLayer(top: WholeSegmentRecord, pageSize: number): Layer {
  const { path, codec, link, bringPages, prefix, record, tables, states, words, chunkSize } = top;
  return {
    path,
    codec,
    link,
    bringPages,
    prefix,
    head: record,
    isWhole: true,
    tables,
    states,
    words,
    chunkSize,
    pageSize,
  };
}

function storedBytesOf({ head, tables }: Layer, chunk: number): number {
  return head.readUInt32LE(tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * chunk);
}
