/**
 * An open image: random reads of its memory, its map, its attachments.
 *
 * One page costs one index block, one record head and one chunk, each one range read; the last few of each are kept. A
 * reference costs a head and a chunk more; a page that is the same as the base's costs as much again in the base, which is opened when the first such page is read.
 */
import { decodeAttachmentTables } from '../formats/vmsnap/attachmentRecord.js';
import { corrupt } from '../formats/vmsnap/corrupt.js';
import { type ImageTail, placeIn, readExactly, readIndexBlock } from '../formats/vmsnap/imageFile.js';
import { decodeIndexEntry, type IndexEntry } from '../formats/vmsnap/imageIndex.js';
import {
  ATTACHMENT_PART_BYTES,
  CHUNK_ENTRY_BYTES,
  INDEX_BLOCK_ENTRIES,
  KIND_ATTACHMENT,
  KIND_SEGMENT,
  PREFIX_BYTES,
} from '../formats/vmsnap/layout.js';
import { decodePrefix, headBytes, type RecordPrefix, recordBytes } from '../formats/vmsnap/record.js';
import { chunkRawBytes, type SegmentTables, segmentTablesMaxBytes, targetOf } from '../formats/vmsnap/segmentRecord.js';
import {
  STATE_DATA,
  STATE_NAMES,
  STATE_REFERENCE,
  STATE_SAME_AS_BASE,
  STATE_UNIFORM,
  STATE_ZERO,
} from '../formats/vmsnap/stateMap.js';
import { VmsnapError } from '../native/errors.js';
import { openFileStats } from '../native/fileStats.js';
import { type OpenedImage, openBases, openWholeImage } from './chain.js';
import { type ImageInput, recordsEnd } from './imageInput.js';
import { buildReport } from './inspect.js';
import { LruCache } from './lruCache.js';
import { usage } from './options.js';
import { attachmentChunks } from './pipeline/attachmentDecoder.js';
import { decodeChunk, SegmentDecoder } from './pipeline/segmentDecoder.js';
import type { BaseDirOptions, ChunkInfo, InspectReport, MapRange } from './types.js';

const HEADS_KEPT = 16;
const CHUNKS_KEPT = 32;

/** What is known of one segment after its record head was read. */
interface SegmentHead {
  readonly prefix: RecordPrefix;
  readonly tables: SegmentTables;
  readonly head: Buffer;
  readonly states: Uint8Array;
  readonly words: BigUint64Array;
  /** Of each page: how many pages of its state stand before it. */
  readonly ordinals: Uint16Array;
  /** Offset of each chunk in the file. */
  readonly chunkOffsets: Float64Array;
}

/**
 * Opens an image for reading. The caller closes it. Bases are opened when memory is read that they hold.
 * @throws VmsnapError if it is not a whole, sound image.
 */
export async function openImage(path: string, options: BaseDirOptions = {}): Promise<Image> {
  return new Image(await openWholeImage(path, options), options);
}

export class Image {
  readonly #input: ImageInput;
  readonly #tail: ImageTail;
  readonly #decoder: SegmentDecoder;
  readonly #heads = new LruCache<number, SegmentHead>(HEADS_KEPT);
  readonly #chunks = new LruCache<string, Buffer>(CHUNKS_KEPT);
  readonly #options: BaseDirOptions;
  #block: { number: number; entries: Buffer; entriesAt: number } | undefined;
  /** Undefined until it is needed, and in an image that is whole by itself. */
  #base: Image | undefined;
  #opening: Promise<void> | undefined;
  #open = true;

  /** Use {@link openImage}. */
  constructor({ input, tail }: OpenedImage, options: BaseDirOptions = {}) {
    this.#input = input;
    this.#tail = tail;
    this.#options = options;
    this.#decoder = new SegmentDecoder(tail.geometry, input.head, input.path);
  }

  get path(): string {
    return this.#input.path;
  }

  get regions(): readonly { readonly name: string; readonly gpa: number | undefined; readonly sizeBytes: number }[] {
    return this.#input.head.start.regions.map(({ name, gpa }, i) => ({
      name,
      gpa,
      sizeBytes: this.#tail.geometry.regions[i]!.sizeBytes,
    }));
  }

  get attachments(): readonly { readonly name: string; readonly sizeBytes: number }[] {
    return this.#tail.end.attachments.map(({ name, sizeBytes }) => ({ name, sizeBytes }));
  }

  /** The same as `inspect` gives, without the chain. */
  report(): InspectReport {
    this.#requireOpen();
    return buildReport(this.#input, this.#tail, [], openFileStats(this.#input));
  }

  /**
   * Reads memory.
   * @param region name of a region. @param offset bytes from its start. @param length bytes.
   * @throws USAGE beyond the region, CORRUPT if the image or one of its bases is damaged there, BASE_MISMATCH if a base is
   * needed that cannot be found.
   */
  async read(region: string, offset: number, length: number): Promise<Buffer> {
    this.#requireOpen();
    const number = this.#regionNumber(region);
    const { sizeBytes, firstSegment } = this.#tail.geometry.regions[number]!;
    const sound = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (!sound || offset + length > sizeBytes) {
      throw usage(`region ${region} has ${sizeBytes} bytes; ${length} from offset ${offset} on are not in it`);
    }
    const out = Buffer.alloc(length);
    const { segmentSize } = this.#tail.geometry;
    for (let at = offset; at < offset + length; ) {
      const segment = firstSegment + Math.floor(at / segmentSize);
      const end = Math.min(offset + length, (Math.floor(at / segmentSize) + 1) * segmentSize);
      const from = at % segmentSize;
      if (this.#needsBase(segment, from, end - at)) await this.#openBases();
      this.#readSegment(segment, from, out.subarray(at - offset, end - offset));
      at = end;
    }
    return out;
  }

  /** Whether a part of a segment lies in a base that is not open yet. */
  #needsBase(segment: number, from: number, length: number): boolean {
    if (this.#base !== undefined || this.#input.head.start.base === undefined) return false;
    const head = this.#headOf(segment);
    if (head === undefined) return true;
    const { pageSize } = this.#tail.geometry;
    const states = head.states.subarray(Math.floor(from / pageSize), Math.ceil((from + length) / pageSize));
    return states.includes(STATE_SAME_AS_BASE);
  }

  /** Once, also for two reads at a time; after a failure the next read tries again. */
  async #openBases(): Promise<void> {
    this.#opening ??= openBases(this.#input, this.#options).then((bases) => this.#takeBases(bases));
    try {
      await this.#opening;
    } finally {
      this.#opening = undefined;
    }
    this.#requireOpen();
  }

  #takeBases([nearest, ...rest]: readonly OpenedImage[]): void {
    const base = new Image(nearest!);
    if (rest.length > 0) base.#takeBases(rest);
    this.#base = base;
    // Closed while the bases were being opened.
    if (!this.#open) this.#closeBase();
  }

  #regionNumber(name: string): number {
    const number = this.#input.head.start.regions.findIndex((region) => region.name === name);
    if (number >= 0) return number;
    throw new VmsnapError('NOT_FOUND', `${this.path} has no region "${name}"`, {
      path: this.path,
      hint: `it has ${this.#input.head.start.regions.map((region) => region.name).join(', ')}`,
    });
  }

  /** `out` is zero already. */
  #readSegment(segment: number, from: number, out: Buffer): void {
    const head = this.#headOf(segment);
    if (head === undefined) {
      if (this.#base !== undefined) this.#base.#readSegment(segment, from, out);
      return;
    }
    const { pageSize } = this.#tail.geometry;
    for (let done = 0; done < out.length; ) {
      const page = Math.floor((from + done) / pageSize);
      const start = (from + done) % pageSize;
      const bytes = Math.min(pageSize - start, out.length - done);
      const part = out.subarray(done, done + bytes);
      if (head.states[page] === STATE_SAME_AS_BASE) this.#base!.#readSegment(segment, from + done, part);
      else this.#readPage(head, page, start, part);
      done += bytes;
    }
  }

  #readPage(head: SegmentHead, page: number, start: number, out: Buffer): void {
    const { pageSize, pagesPerChunk } = this.#tail.geometry;
    const ordinal = head.ordinals[page]!;
    if (head.states[page] === STATE_REFERENCE) this.#readTarget(head, ordinal, start, out);
    else if (head.states[page] === STATE_UNIFORM) {
      const word = Buffer.alloc(8);
      word.writeBigUInt64LE(head.words[ordinal]!);
      for (let i = 0; i < out.length; i++) out[i] = word[(start + i) % 8]!;
    } else if (head.states[page] === STATE_DATA) {
      const chunk = this.#chunk(head, Math.floor(ordinal / pagesPerChunk));
      const at = (ordinal % pagesPerChunk) * pageSize + start;
      chunk.copy(out, 0, at, at + out.length);
    }
  }

  #readTarget(head: SegmentHead, reference: number, start: number, out: Buffer): void {
    const { segment, page } = targetOf(head.head, head.tables, reference, this.#tail.geometry.pagesPerSegment);
    const target = this.#headOf(segment);
    if (target?.states[page] !== STATE_DATA) {
      const what = `segment ${head.prefix.subject}: a reference to page ${page} of segment ${segment}, which is no data page`;
      throw corrupt(this.path, head.prefix.offset, what);
    }
    this.#readPage(target, page, start, out);
  }

  #chunk(head: SegmentHead, i: number): Buffer {
    const { prefix, tables } = head;
    return this.#chunks.get(`${prefix.subject}:${i}`, () => {
      const entry = tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i;
      const offset = head.chunkOffsets[i]!;
      const what = `chunk ${i} of segment ${prefix.subject}`;
      const bytes = readExactly(this.#input, offset, head.head.readUInt32LE(entry), what);
      const stored = { bytes, crc: head.head.readUInt32LE(entry + 4) };
      const raw = Buffer.allocUnsafe(chunkRawBytes(i, tables.dataPages, this.#tail.geometry));
      const fault = decodeChunk(this.#decoder.codec, stored, i, tables.chunkSeal, raw);
      if (fault !== undefined) throw corrupt(this.path, offset, `chunk ${i} of segment ${prefix.subject}: ${fault}`);
      return raw;
    });
  }

  #headOf(segment: number): SegmentHead | undefined {
    const entry = this.#entryOf(segment);
    if (entry === undefined) return undefined;
    return this.#heads.get(segment, () => this.#readHead(segment, entry));
  }

  #readHead(segment: number, entry: IndexEntry): SegmentHead {
    const { path } = this;
    const { geometry } = this.#tail;
    const { alignmentBytes } = this.#input.head.header;
    if (entry.headBytes > PREFIX_BYTES + segmentTablesMaxBytes(geometry, alignmentBytes)) {
      throw corrupt(path, entry.offset, `index: the record of segment ${segment} is larger than it can be`);
    }
    const head = readExactly(this.#input, entry.offset, entry.headBytes, `the record of segment ${segment}`);
    const prefix = decodePrefix(head, 0, placeIn(this.#input.head, path, entry.offset));
    const same =
      prefix.kind === KIND_SEGMENT &&
      prefix.subject === segment &&
      prefix.crc === entry.prefixCrc &&
      headBytes(prefix) === entry.headBytes;
    if (!same) throw corrupt(path, entry.offset, `this is not the record of segment ${segment} that the index names`);
    const tables = this.#decoder.decodeTables(head, prefix, geometry.pagesIn(segment));
    const states = this.#decoder.states.slice(0, tables.pageCount);
    const words = this.#decoder.words.slice(0, tables.uniformPages);
    return {
      prefix,
      tables,
      head,
      states,
      words,
      ordinals: ordinalsOf(states),
      chunkOffsets: chunkOffsets(head, prefix, tables),
    };
  }

  #entryOf(segment: number): IndexEntry | undefined {
    const number = Math.floor(segment / INDEX_BLOCK_ENTRIES);
    if (this.#block?.number !== number) {
      const loaded = readIndexBlock(
        this.#input,
        this.#input.head,
        number,
        this.#tail.indexList[number]!,
        this.#tail.geometry.segmentCount,
        recordsEnd(this.#input),
      );
      if (loaded === undefined) return undefined;
      this.#block = { number, ...loaded };
    }
    const entry = decodeIndexEntry(
      this.#block.entries,
      segment % INDEX_BLOCK_ENTRIES,
      this.path,
      this.#block.entriesAt,
    );
    return entry.offset === 0 ? undefined : entry;
  }

  /**
   * Runs of pages of one state, in order, over all regions; neighbours of one state are one run. The map is that of this image
   * alone: what is the same as the base's says so.
   */
  async *map(): AsyncGenerator<MapRange, void, undefined> {
    this.#requireOpen();
    for (const [number, region] of this.#tail.geometry.regions.entries()) {
      const { name } = this.#input.head.start.regions[number]!;
      let run: { offset: number; length: number; state: number } | undefined;
      for (const next of this.#regionRuns(region.firstSegment, region.segmentCount)) {
        if (run !== undefined && run.state === next.state) {
          run.length += next.length;
          continue;
        }
        if (run !== undefined) yield mapRange(name, run);
        run = next;
      }
      if (run !== undefined) yield mapRange(name, run);
    }
  }

  *#regionRuns(
    firstSegment: number,
    segmentCount: number,
  ): Generator<{ offset: number; length: number; state: number }> {
    const { pageSize } = this.#tail.geometry;
    for (let segment = firstSegment; segment < firstSegment + segmentCount; segment++) {
      const place = this.#tail.geometry.placeOf(segment);
      const head = this.#headOf(segment);
      if (head === undefined) {
        const state = this.#input.head.start.base === undefined ? STATE_ZERO : STATE_SAME_AS_BASE;
        yield { offset: place.regionOffset, length: place.sizeBytes, state };
        continue;
      }
      for (let page = 0; page < head.states.length; ) {
        const state = head.states[page]!;
        let end = page + 1;
        while (head.states[end] === state) end++;
        yield { offset: place.regionOffset + page * pageSize, length: (end - page) * pageSize, state };
        page = end;
      }
    }
  }

  /** Every chunk of memory, in the order of the memory. */
  async *chunks(): AsyncGenerator<ChunkInfo, void, undefined> {
    this.#requireOpen();
    const { geometry } = this.#tail;
    for (let segment = 0; segment < geometry.segmentCount; segment++) {
      const head = this.#headOf(segment);
      if (head === undefined) continue;
      const region = this.#input.head.start.regions[geometry.regionOf(segment).number]!.name;
      for (let chunk = 0; chunk < head.tables.chunkCount; chunk++) {
        const entry = head.tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * chunk;
        const rawBytes = chunkRawBytes(chunk, head.tables.dataPages, geometry);
        yield {
          region,
          segment,
          chunk,
          offset: head.chunkOffsets[chunk]!,
          pages: rawBytes / geometry.pageSize,
          rawBytes,
          storedBytes: head.head.readUInt32LE(entry),
          crc: head.head.readUInt32LE(entry + 4),
        };
      }
    }
  }

  /** The bytes of an attachment, a few hundred KiB at a time. */
  async *readAttachment(name: string): AsyncGenerator<Buffer, void, undefined> {
    this.#requireOpen();
    const { attachments } = this.#tail.end;
    const number = attachments.findIndex((attachment) => attachment.name === name);
    if (number < 0) {
      throw new VmsnapError('NOT_FOUND', `${this.path} has no attachment "${name}"`, {
        path: this.path,
        hint:
          attachments.length === 0
            ? 'it has none'
            : `it has ${attachments.map((attachment) => attachment.name).join(', ')}`,
      });
    }
    const { sizeBytes } = attachments[number]!;
    let { offset } = attachments[number]!;
    for (let part = 0; part * ATTACHMENT_PART_BYTES < sizeBytes; part++) {
      const found = this.#readPart(
        number,
        part,
        offset,
        Math.min(ATTACHMENT_PART_BYTES, sizeBytes - part * ATTACHMENT_PART_BYTES),
      );
      yield* found.chunks;
      offset = found.end;
    }
  }

  /** Reads part `part` at `offset`, past index blocks if some stand before it. */
  #readPart(number: number, part: number, offset: number, rawBytes: number): { chunks: Buffer[]; end: number } {
    const { path } = this;
    const { alignmentBytes } = this.#input.head.header;
    const limit = recordsEnd(this.#input);
    for (let at = offset; ; ) {
      const bytes = readExactly(this.#input, at, PREFIX_BYTES, 'an attachment');
      const prefix = decodePrefix(bytes, 0, placeIn(this.#input.head, path, at));
      const end = at + recordBytes(prefix, alignmentBytes);
      const isPart = prefix.kind === KIND_ATTACHMENT && prefix.subject === number;
      if (end > limit || prefix.payloadBytes > ATTACHMENT_PART_BYTES || prefix.tablesBytes > 4096) {
        throw corrupt(path, at, `no part of attachment ${number} where it should be`);
      }
      if (!isPart) {
        at = end;
        continue;
      }
      return {
        chunks: this.#decodePart(readExactly(this.#input, at, end - at, 'an attachment'), prefix, part, rawBytes),
        end,
      };
    }
  }

  #decodePart(record: Buffer, prefix: RecordPrefix, part: number, rawBytes: number): Buffer[] {
    const tables = decodeAttachmentTables(record, prefix, this.#input.head.seal, this.path);
    if (tables.part !== part || tables.rawBytes !== rawBytes) {
      throw corrupt(this.path, prefix.offset, `part ${tables.part} of an attachment where part ${part} should be`);
    }
    return [...attachmentChunks(record, prefix, tables, this.#decoder.codec, this.path)];
  }

  #requireOpen(): void {
    if (!this.#open) throw usage(`${this.path} is closed`);
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#input.close();
    this.#closeBase();
  }

  #closeBase(): void {
    void this.#base?.close();
    this.#base = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function mapRange(region: string, run: { offset: number; length: number; state: number }): MapRange {
  return { region, offset: run.offset, length: run.length, state: STATE_NAMES[run.state]! };
}

function ordinalsOf(states: Uint8Array): Uint16Array {
  const counts = new Uint16Array(STATE_NAMES.length);
  return Uint16Array.from(states, (state) => counts[state]!++);
}

function chunkOffsets(head: Buffer, prefix: RecordPrefix, tables: SegmentTables): Float64Array {
  const offsets = new Float64Array(tables.chunkCount);
  let at = prefix.offset + headBytes(prefix);
  for (let i = 0; i < tables.chunkCount; i++) {
    offsets[i] = at;
    at += head.readUInt32LE(tables.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
  }
  return offsets;
}
