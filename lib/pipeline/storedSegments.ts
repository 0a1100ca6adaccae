/**
 * Reads back what a save with overriding records has stored of a segment, to make one record of it and of what has changed
 * since (feeds/qemuStreamFeed.ts). The earlier record no longer counts then, so its part of the memory digest is taken out.
 */
import type { Geometry } from '../../formats/vmsnap/geometry.js';
import { readExactly } from '../../formats/vmsnap/imageFile.js';
import type { IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import { DIGEST_BYTES, FEATURE_ABSENT, MIB, PREFIX_BYTES } from '../../formats/vmsnap/layout.js';
import { decodePrefix, recordBytes } from '../../formats/vmsnap/record.js';
import { STATE_ABSENT } from '../../formats/vmsnap/stateMap.js';
import { native } from '../../native/binding.js';
import type { CodecSettings } from '../codecs.js';
import type { CommitLine, OutputDescription } from './commitLine.js';
import type { Claim, StoredSegments } from './feeds/feed.js';
import { SegmentDecoder } from './segmentDecoder.js';

export class RecordsReadBack implements StoredSegments {
  readonly #line: CommitLine;
  readonly #output: OutputDescription;
  readonly #geometry: Geometry;
  readonly #takePlaced: () => void;
  readonly #sums: BigUint64Array;
  readonly #decoder: SegmentDecoder;
  readonly #expanded: Uint8Array;
  #record: Buffer = Buffer.alloc(0);

  /** `sums`: the worker's own, two words a region; `takePlaced` as in CommitLine.announce. */
  constructor(
    line: CommitLine,
    output: OutputDescription,
    geometry: Geometry,
    codec: CodecSettings,
    sums: BigUint64Array,
    takePlaced: () => void,
  ) {
    this.#line = line;
    this.#output = output;
    this.#geometry = geometry;
    this.#sums = sums;
    this.#takePlaced = takePlaced;
    const { keys } = output;
    const seal = keys && { keys };
    const head = { start: { codec }, header: { incompatibleFeatures: FEATURE_ABSENT }, seal };
    this.#decoder = new SegmentDecoder(geometry, head, output.path);
    this.#expanded = new Uint8Array(geometry.segmentSize);
  }

  fillIn(claim: Claim, earlierSequence: number, into: Uint8Array, isThere: Uint8Array): void {
    const entry = this.#line.waitForStored(earlierSequence, claim.segment, this.#takePlaced);
    if (entry === undefined) {
      // Without a record all of it was zero, and `into` is.
      isThere.fill(1);
      return;
    }
    const { pageSize } = this.#geometry;
    this.#decode(claim, entry);
    const { states } = this.#decoder;
    for (let page = isThere.indexOf(0); page >= 0; page = isThere.indexOf(0, page + 1)) {
      if (states[page] === STATE_ABSENT) continue;
      const at = page * pageSize;
      into.set(this.#expanded.subarray(at, at + pageSize), at);
      isThere[page] = 1;
    }
  }

  takeOut(claim: Claim, earlierSequence: number): void {
    const entry = this.#line.waitForStored(earlierSequence, claim.segment, this.#takePlaced);
    if (entry === undefined) return;
    const { record, tables } = this.#readTables(claim, entry, entry.headBytes);
    this.#takeOutLeaves(claim, record, tables);
  }

  #decode(claim: Claim, entry: IndexEntry): void {
    const { alignmentBytes } = this.#output;
    const lengths = { tablesBytes: entry.headBytes - PREFIX_BYTES, payloadBytes: entry.payloadBytes };
    const { record, prefix, tables } = this.#readTables(claim, entry, recordBytes(lengths, alignmentBytes));
    this.#decoder.decodePayload(record, prefix, tables, ({ error }) => {
      throw error;
    });
    const { states, data, words } = this.#decoder;
    const { pageSize } = this.#geometry;
    native.expandSegment(states, claim.sizeBytes / pageSize, pageSize, data, words, this.#expanded);
    this.#takeOutLeaves(claim, record, tables);
  }

  /** Reads `length` bytes of a record, at least its head. */
  #readTables(claim: Claim, entry: IndexEntry, length: number) {
    const { path, binding, alignmentBytes, keys } = this.#output;
    if (this.#record.length < length) this.#record = Buffer.alloc(length);
    const record = readExactly(this.#output, entry.offset, length, 'a record', this.#record.subarray(0, length));
    const prefix = decodePrefix(record, 0, {
      path,
      offset: entry.offset,
      binding,
      alignmentBytes,
      isSealed: keys !== undefined,
    });
    const tables = this.#decoder.decodeTables(record, prefix, claim.sizeBytes / this.#geometry.pageSize);
    return { record, prefix, tables };
  }

  #takeOutLeaves(
    { region, regionOffset }: Claim,
    record: Buffer,
    { leavesAt, leafCount }: { readonly leavesAt: number; readonly leafCount: number },
  ): void {
    const leaves = record.subarray(leavesAt, leavesAt + DIGEST_BYTES * leafCount);
    const part = new BigUint64Array(2);
    native.addLeaves(region, regionOffset / MIB, leaves, leafCount, part);
    const sum = this.#sums.subarray(region * 2, region * 2 + 2);
    const left = BigInt.asUintN(128, sum[0]! + (sum[1]! << 64n) - part[0]! - (part[1]! << 64n));
    sum[0] = BigInt.asUintN(64, left);
    sum[1] = left >> 64n;
  }
}
