/**
 * One side of a comparison, as a worker thread reads it: an image with the images below it, or raw memory. Either way a
 * segment comes as states, compacted data pages and uniform words.
 *
 * Each thread has sides of its own, buffers and index blocks included, so nothing here needs a lock.
 */
import { Geometry } from '../../formats/vmsnap/geometry.js';
import { INDEX_BLOCK_ENTRIES, INDEX_ENTRY_BYTES } from '../../formats/vmsnap/layout.js';
import { STATE_DATA, STATE_UNIFORM } from '../../formats/vmsnap/stateMap.js';
import {
  native,
  REPORT_DATA_PAGES,
  REPORT_READ_BYTES,
  REPORT_UNIFORM_PAGES,
  type ScanOutput,
} from '../../native/binding.js';
import { ChainDecoder, type StoredChunks } from './chainDecoder.js';
import { type ChainEntries, ChainIndex } from './chainIndex.js';
import { createScanOutput } from './feeds/feed.js';
import { createReader, type MemoryReader } from './feeds/memoryReader.js';
import type { RandomDescription } from './feeds/sourceDescription.js';
import { type LinkDescription, rebuildLink } from './link.js';

export type SideDescription =
  | {
      readonly kind: 'image';
      /** The image, then the images below it, nearest first. */
      readonly links: readonly LinkDescription[];
      /** Of each of them. */
      readonly identities: readonly string[];
    }
  | {
      readonly kind: 'memory';
      readonly source: RandomDescription;
      /** Sizes of its regions. */
      readonly regionSizes: readonly number[];
      readonly pageSize: number;
      readonly segmentSize: number;
    };

/** Some pages in their scanned form. */
export interface SegmentParts {
  readonly states: Uint8Array;
  readonly data: Uint8Array;
  readonly words: BigUint64Array;
}

/** A segment of which it is known where it is, but of which nothing need have been read. */
export interface FoundSegment {
  /** Segments of the same name are the same stored bytes. Undefined: nothing can be said without reading. */
  readonly storedAs: string | undefined;
  /** The states of its pages, alone. */
  states(): Uint8Array;
  /** Of a segment that one record of an image holds: its chunks. */
  chunks(): StoredChunks | undefined;
  /** Valid until the next segment is found. With `wanted`, only data pages at which it is "data" are sure to be there. */
  read(wanted?: Uint8Array): SegmentParts;
}

export interface MemorySide {
  readonly pageSize: number;
  readonly segmentSize: number;
  /** Bytes that were read so far. */
  readonly readBytes: number;
  /** The first offset of a region in [from, to) that may hold anything but zeros, or `to`. */
  skipZeros(region: number, from: number, to: number): number;
  /** The segment that holds the byte at `offset` of a region. */
  find(region: number, offset: number): FoundSegment;
}

export function openSide(description: SideDescription): MemorySide {
  return description.kind === 'image' ? new ImageSide(description) : new RawSide(description);
}

const NO_DATA = new Uint8Array(0);
const NO_WORDS = new BigUint64Array(0);

class ImageSide implements MemorySide {
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly #geometry: Geometry;
  readonly #index: ChainIndex;
  readonly #decoder: ChainDecoder;
  readonly #identities: readonly string[];
  readonly #zeros: Uint8Array;
  #found: { readonly segment: number; readonly place: FoundSegment } | undefined;

  constructor({ links, identities }: Extract<SideDescription, { kind: 'image' }>) {
    // Index blocks of its own: threads look segments up at any time, not only under the claim lock.
    const rebuilt = links.map((link) =>
      rebuildLink({
        ...link,
        indexBlock: new Uint8Array(INDEX_BLOCK_ENTRIES * INDEX_ENTRY_BYTES),
        indexState: new Float64Array(2),
      }),
    );
    this.#geometry = rebuilt[0]!.geometry;
    this.pageSize = this.#geometry.pageSize;
    this.segmentSize = this.#geometry.segmentSize;
    this.#index = new ChainIndex(rebuilt);
    this.#decoder = new ChainDecoder(rebuilt, this.#geometry);
    this.#identities = identities;
    this.#zeros = new Uint8Array(this.#geometry.pagesPerSegment);
  }

  get readBytes(): number {
    return this.#decoder.bytesRead;
  }

  skipZeros(region: number, from: number, to: number): number {
    const { firstSegment } = this.#geometry.regions[region]!;
    const first = firstSegment + Math.floor(from / this.segmentSize);
    const end = firstSegment + Math.ceil(to / this.segmentSize);
    const next = this.#index.nextRecord(first, end);
    return Math.min(to, Math.max(from, (next - firstSegment) * this.segmentSize));
  }

  find(region: number, offset: number): FoundSegment {
    const segment = this.#geometry.regions[region]!.firstSegment + Math.floor(offset / this.segmentSize);
    // The other side may have smaller segments and so ask for the same one again.
    if (this.#found?.segment === segment) return this.#found.place;
    const place = this.#place(segment);
    this.#found = { segment, place };
    return place;
  }

  #place(segment: number): FoundSegment {
    const pageCount = this.#geometry.pagesIn(segment);
    const entries = this.#index.entriesOf(segment);
    if (entries === undefined) {
      const states = this.#zeros.subarray(0, pageCount);
      const zeros = { states, data: NO_DATA, words: NO_WORDS };
      return { storedAs: undefined, states: () => states, chunks: () => undefined, read: () => zeros };
    }
    let resolved = false;
    let decoded = false;
    const resolve = () => {
      if (!resolved) this.#decoder.resolve(segment, pageCount, entries);
      resolved = true;
      return this.#decoder.states.subarray(0, pageCount);
    };
    return {
      storedAs: this.#nameOf(entries),
      states: resolve,
      chunks: () => {
        resolve();
        return this.#decoder.storedChunks;
      },
      read: (wanted) => {
        const states = resolve();
        if (!decoded) this.#decoder.decode(wanted);
        decoded = wanted === undefined;
        return { states, data: this.#decoder.data, words: this.#decoder.words };
      },
    };
  }

  /** Where a single record holds the whole segment, which image it belongs to and where in it it lies. */
  #nameOf(entries: ChainEntries): string | undefined {
    const last = entries.length - 1;
    const entry = entries[last];
    const isAlone = entry !== undefined && entry.sameAsBasePages === 0 && entries.indexOf(entry) === last;
    const above = entries.slice(0, last).some((other) => other !== undefined);
    return isAlone && !above ? `${this.#identities[last]}:${entry.offset}` : undefined;
  }
}

class RawSide implements MemorySide {
  readonly pageSize: number;
  readonly segmentSize: number;
  readBytes = 0;
  readonly #geometry: Geometry;
  readonly #reader: MemoryReader;
  readonly #output: ScanOutput;
  #found: { readonly region: number; readonly from: number; readonly place: FoundSegment } | undefined;

  constructor(description: Extract<SideDescription, { kind: 'memory' }>) {
    const { source, regionSizes, pageSize, segmentSize } = description;
    this.pageSize = pageSize;
    this.segmentSize = segmentSize;
    this.#geometry = new Geometry(pageSize, segmentSize, pageSize, regionSizes);
    const scanner = new native.SegmentScanner({ detector: 'auto', pageSize, segmentSize });
    this.#reader = createReader(source, scanner, this.#geometry);
    this.#output = createScanOutput(this.#geometry);
  }

  skipZeros(region: number, from: number, to: number): number {
    return this.#reader.nextUsed(region, from, to);
  }

  find(region: number, offset: number): FoundSegment {
    const from = Math.floor(offset / this.segmentSize) * this.segmentSize;
    if (this.#found?.region === region && this.#found.from === from) return this.#found.place;
    let parts: SegmentParts | undefined;
    const read = () => {
      parts ??= this.#scan(region, from);
      return parts;
    };
    const place = { storedAs: undefined, states: () => read().states, chunks: () => undefined, read };
    this.#found = { region, from, place };
    return place;
  }

  #scan(region: number, from: number): SegmentParts {
    const length = Math.min(this.segmentSize, this.#geometry.regions[region]!.sizeBytes - from);
    this.#reader.scan(region, from, length, this.#output);
    const { report, states, data, words } = this.#output;
    this.readBytes += report[REPORT_READ_BYTES]!;
    return {
      states: states.subarray(0, length / this.pageSize),
      data: data.subarray(0, report[REPORT_DATA_PAGES]! * this.pageSize),
      words: words.subarray(0, report[REPORT_UNIFORM_PAGES]!),
    };
  }
}

/** The pages of a segment from byte `from` on, `length` bytes of them: views into the same arrays. */
export function sliceParts(parts: SegmentParts, from: number, length: number, pageSize: number): SegmentParts {
  const first = from / pageSize;
  const end = first + length / pageSize;
  if (first === 0 && end === parts.states.length) return parts;
  let data = 0;
  let words = 0;
  for (let page = 0; page < first; page++) {
    if (parts.states[page] === STATE_DATA) data++;
    else if (parts.states[page] === STATE_UNIFORM) words++;
  }
  return {
    states: parts.states.subarray(first, end),
    data: parts.data.subarray(data * pageSize),
    words: parts.words.subarray(words),
  };
}

/** Cuts the pages of a segment into smaller ones: a half of a data page is a data page. */
export class PageSplitter {
  readonly #factor: number;
  readonly #states: Uint8Array;
  readonly #words: BigUint64Array;

  /** `from` and `to`: page sizes, the first a multiple of the second. `maxBytes`: of what is split at once. */
  constructor(from: number, to: number, maxBytes: number) {
    this.#factor = from / to;
    const pages = this.#factor === 1 ? 0 : maxBytes / to;
    this.#states = new Uint8Array(pages);
    this.#words = new BigUint64Array(pages);
  }

  split(parts: SegmentParts): SegmentParts {
    if (this.#factor === 1) return parts;
    let uniform = 0;
    for (const [page, state] of parts.states.entries()) {
      this.#states.fill(state, page * this.#factor, (page + 1) * this.#factor);
      if (state !== STATE_UNIFORM) continue;
      this.#words.fill(parts.words[uniform]!, uniform * this.#factor, (uniform + 1) * this.#factor);
      uniform++;
    }
    return {
      states: this.#states.subarray(0, parts.states.length * this.#factor),
      data: parts.data,
      words: this.#words.subarray(0, uniform * this.#factor),
    };
  }
}
