/**
 * Writes images record by record through the commit line, as a save does, for what a save of raw memory never writes: pages
 * that are absent, and segments that have several records, in any order.
 */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { encodeFooter, imageBinding, imageIdentity } from '../../../formats/vmsnap/footer.js';
import { Geometry, leavesIn } from '../../../formats/vmsnap/geometry.js';
import { encodeHeader, setHeaderTag } from '../../../formats/vmsnap/header.js';
import { encodeIndexList } from '../../../formats/vmsnap/imageIndex.js';
import {
  alignmentOf,
  CHUNK_ENTRY_BYTES,
  FEATURE_ABSENT,
  FEATURE_ENCRYPTION,
  FEATURE_OVERRIDING,
  FOOTER_BYTES,
  FORMAT_VERSION,
  HEADER_BYTES,
  KIND_END,
  KIND_INDEX_LIST,
  MIB,
  roundUp,
} from '../../../formats/vmsnap/layout.js';
import { encodeEndManifest, encodeStartManifest, type StartManifest } from '../../../formats/vmsnap/manifest.js';
import { memoryDigest, sumHex } from '../../../formats/vmsnap/memoryDigest.js';
import { headBytes, recordBytes } from '../../../formats/vmsnap/record.js';
import { headerTag } from '../../../formats/vmsnap/seal.js';
import { chunkRawBytes, encodeSegmentTables } from '../../../formats/vmsnap/segmentRecord.js';
import { STATE_ABSENT } from '../../../formats/vmsnap/stateMap.js';
import { bound, type CodecSettings, createCodec } from '../../../lib/codecs.js';
import type { NewSeal } from '../../../lib/encryption/createSeal.js';
import { CommitLine, createCommitShared, writeAt } from '../../../lib/pipeline/commitLine.js';
import {
  createControl,
  NUMBER_CHUNKS,
  NUMBER_CHUNKS_RAW,
  NUMBER_CHUNKS_STORED,
  NUMBER_OUTPUT_OFFSET,
  NUMBER_OUTPUT_RECORDS,
  NUMBER_PAGES_ABSENT,
  NUMBER_PAGES_DATA,
  NUMBER_PAGES_UNIFORM,
} from '../../../lib/pipeline/control.js';
import { PayloadSealing } from '../../../lib/pipeline/payloadSealing.js';
import { outputBufferBytes } from '../../../lib/pipeline/saveWorker.js';
import {
  native,
  REPORT_DATA_PAGES,
  REPORT_LENGTH,
  REPORT_UNIFORM_PAGES,
  type ScanOutput,
} from '../../../native/binding.js';
import { KIB, PAGE } from '../../lib/support/memory.js';

export interface RecordImageOptions {
  readonly regions: readonly { readonly name: string; readonly gpa: number; readonly sizeBytes: number }[];
  readonly codec?: CodecSettings;
  readonly mayHaveAbsent?: boolean;
  readonly overriding?: boolean;
  /** Of an encrypted image. */
  readonly seal?: NewSeal | undefined;
}

const SEGMENT_BYTES = MIB;
const CHUNK_BYTES = 16 * KIB;

export class RecordImage {
  readonly geometry: Geometry;
  readonly #path: string;
  readonly #fd: number;
  readonly #head: Buffer;
  readonly #codec: CodecSettings;
  readonly #alignmentBytes: number;
  readonly #control = createControl(1);
  readonly #buffer: Buffer;
  readonly #scanned: ScanOutput;
  readonly #scanner;
  readonly #leaves = new Map<number, Uint8Array>();
  readonly line: CommitLine;
  readonly #overriding: boolean;
  readonly #seal: NewSeal | undefined;
  readonly #sealing: PayloadSealing | undefined;
  #sequence = 0;

  constructor(path: string, options: RecordImageOptions) {
    const { regions, codec = { name: 'zlib', level: 1 }, mayHaveAbsent = false, overriding = false, seal } = options;
    this.#path = path;
    this.#overriding = overriding;
    this.#seal = seal;
    this.#sealing = seal && new PayloadSealing(seal.keys, this.#control);
    this.#codec = codec;
    this.#alignmentBytes = alignmentOf(codec.name);
    const sizes = regions.map(({ sizeBytes }) => sizeBytes);
    this.geometry = new Geometry(PAGE, SEGMENT_BYTES, CHUNK_BYTES, sizes);
    const features =
      (mayHaveAbsent ? FEATURE_ABSENT : 0n) |
      (overriding ? FEATURE_OVERRIDING : 0n) |
      (seal === undefined ? 0n : FEATURE_ENCRYPTION);
    this.#head = encodeHead(options, codec, features, this.#alignmentBytes);
    writeFileSync(path, '');
    this.#fd = openSync(path, 'r+');
    const binding = imageBinding(this.#head);
    const place = { fd: this.#fd, path, isStream: false };
    const output = { ...place, binding, alignmentBytes: this.#alignmentBytes, keys: seal?.keys };
    const bufferBytes = outputBufferBytes(this.geometry, this.#alignmentBytes);
    const { indexBlockCount, segmentCount } = this.geometry;
    const segments = overriding ? segmentCount : undefined;
    const shared = createCommitShared(this.#control, output, indexBlockCount, 1, bufferBytes, 4, segments);
    this.#buffer = Buffer.from(shared.buffers[0]!.buffer);
    this.line = new CommitLine(shared);
    this.line.start(this.#head.length, this.#head.readUInt32LE(60));
    this.line.write(this.#head, 0);
    this.#scanner = new native.SegmentScanner({ detector: 'auto', pageSize: PAGE, segmentSize: SEGMENT_BYTES });
    this.#scanned = {
      data: new Uint8Array(SEGMENT_BYTES),
      states: new Uint8Array(this.geometry.pagesPerSegment),
      words: new BigUint64Array(this.geometry.pagesPerSegment),
      leaves: new Uint8Array(16 * this.geometry.leavesPerSegment),
      report: new Float64Array(REPORT_LENGTH),
    };
  }

  /** Stores a segment, which has these bytes from now on. `absent`: pages of it, zero in `memory`. */
  put(segment: number, memory: Uint8Array, absent: readonly number[] = []): void {
    const { states, words, leaves, report } = this.#scanned;
    const pageCount = memory.length / PAGE;
    this.#scanner.scanMemory(memory, 0, memory.length, this.#scanned, 0);
    for (const page of absent) states[page] = STATE_ABSENT;
    const [dataPages, uniformPages] = [report[REPORT_DATA_PAGES]!, report[REPORT_UNIFORM_PAGES]!];
    const leafCount = leavesIn(memory.length);
    const references = { referencePages: 0, references: new BigUint64Array(0) };
    const input = { states, pageCount, dataPages, uniformPages, words, ...references, leaves, leafCount };
    const plan = encodeSegmentTables(
      input,
      this.geometry,
      this.#alignmentBytes,
      this.#seal !== undefined,
      this.#buffer,
    );
    this.#sealing?.begin(this.#buffer, plan.sealAt);
    const stored = this.#storeChunks(plan, dataPages);
    const lengths = { tablesBytes: plan.tablesBytes, payloadBytes: stored.payloadBytes };
    const bytes = recordBytes(lengths, this.#alignmentBytes);
    const payloadAt = headBytes(lengths);
    this.#buffer.fill(0, payloadAt + lengths.payloadBytes, bytes);
    const sequence = this.#sequence++;
    const finished = {
      segment,
      ...lengths,
      payloadCrc: this.#seal === undefined ? 0 : native.crc32c(this.#buffer, payloadAt, lengths.payloadBytes, 0),
      dataPages,
      uniformPages,
      referencePages: 0,
      sameAsBasePages: 0,
      zeroPages: pageCount - dataPages - uniformPages - absent.length,
      absentPages: absent.length,
      chunks: plan.chunkCount,
      rawChunks: stored.rawChunks,
      buffer: 0,
    };
    this.line.announce(sequence, finished, () => {});
    const offset = this.line.takePlace(sequence)!;
    writeAt({ fd: this.#fd, path: this.#path }, this.#buffer, bytes, offset);
    if (this.#overriding) this.line.noteWritten(segment, offset);
    this.#leaves.set(segment, leaves.slice(0, 16 * leafCount));
  }

  #storeChunks(plan: { chunkCount: number; chunkEntriesAt: number; tablesBytes: number }, dataPages: number) {
    const codec = createCodec(this.#codec);
    let at = headBytes(plan);
    let rawChunks = 0;
    for (let i = 0; i < plan.chunkCount; i++) {
      const rawBytes = chunkRawBytes(i, dataPages, this.geometry);
      const raw = this.#scanned.data.subarray(i * CHUNK_BYTES, i * CHUNK_BYTES + rawBytes);
      let stored = codec.compress(raw, this.#buffer.subarray(at, at + bound(rawBytes)));
      if (stored === 0) {
        this.#buffer.set(raw, at);
        stored = rawBytes;
      }
      if (stored === rawBytes) rawChunks++;
      this.#sealing?.seal(i, at, stored);
      this.#buffer.writeUInt32LE(stored, plan.chunkEntriesAt + CHUNK_ENTRY_BYTES * i);
      this.#buffer.writeUInt32LE(
        native.crc32c(this.#buffer, at, stored, 0),
        plan.chunkEntriesAt + CHUNK_ENTRY_BYTES * i + 4,
      );
      at += stored;
    }
    return { payloadBytes: at - headBytes(plan), rawChunks };
  }

  finish(): { readonly identity: string; readonly digest: string } {
    const numbers = this.#control.numbers;
    const indexList = this.line.finishIndex(this.geometry.segmentCount);
    const sums = this.#sums();
    const regions = this.geometry.regions.map(({ sizeBytes }, i) => ({ sizeBytes, sum: sumHex(sums, i) }));
    const [data, uniform, absent] = [NUMBER_PAGES_DATA, NUMBER_PAGES_UNIFORM, NUMBER_PAGES_ABSENT].map(
      (number) => numbers[number]!,
    ) as [number, number, number];
    const zero = this.geometry.totalBytes / PAGE - data - uniform - absent;
    const digest = memoryDigest(regions);
    const [count, stored, raw] = [NUMBER_CHUNKS, NUMBER_CHUNKS_STORED, NUMBER_CHUNKS_RAW].map(
      (number) => numbers[number]!,
    ) as [number, number, number];
    const end = this.line.append(
      KIND_END,
      0,
      1,
      encodeEndManifest({
        regions,
        digest,
        pages: { zero, data, uniform, reference: 0, sameAsBase: 0, absent },
        chunks: { count, stored, raw },
        source: { mayHaveChanged: false },
        attachments: [],
      }),
    );
    const list = this.line.append(KIND_INDEX_LIST, 0, indexList.length, encodeIndexList(indexList));
    const offset = numbers[NUMBER_OUTPUT_OFFSET]!;
    const identity = imageIdentity(this.#head, end.bytes, list.bytes, this.#seal !== undefined);
    const parts = {
      fileBytes: offset + FOOTER_BYTES,
      endOffset: end.offset,
      indexListOffset: list.offset,
      segmentCount: this.geometry.segmentCount,
      recordCount: numbers[NUMBER_OUTPUT_RECORDS]!,
      binding: imageBinding(this.#head),
      chain: list.crc,
      identity,
    };
    const footer = encodeFooter(parts, this.#seal?.keys);
    this.line.write(footer, offset);
    this.#scanner.close();
    closeSync(this.#fd);
    return { identity, digest };
  }

  #sums(): BigUint64Array {
    const sums = new BigUint64Array(2 * this.geometry.regions.length);
    for (const [segment, leaves] of this.#leaves) {
      const { region, regionOffset } = this.geometry.placeOf(segment);
      native.addLeaves(
        region,
        regionOffset / MIB,
        leaves,
        leaves.length / 16,
        sums.subarray(2 * region, 2 * region + 2),
      );
    }
    return sums;
  }
}

function encodeHead(
  { regions, seal }: RecordImageOptions,
  codec: CodecSettings,
  incompatibleFeatures: bigint,
  alignmentBytes: number,
): Buffer {
  const start: StartManifest = {
    tool: 'vmsnap test',
    createdAt: '2023-11-14T22:13:20Z',
    pageSize: PAGE,
    segmentSize: SEGMENT_BYTES,
    chunkSize: CHUNK_BYTES,
    codec,
    machine: { name: undefined, uuid: undefined },
    labels: new Map(),
    source: { kind: 'test', name: undefined },
    base: undefined,
    encryption: seal && { wrappedKey: seal.wrappedKey },
    regions,
  };
  const json = encodeStartManifest(start);
  const bytes = Buffer.alloc(roundUp(HEADER_BYTES + json.length, alignmentBytes));
  json.copy(bytes, HEADER_BYTES);
  const manifestCrc = native.crc32c(bytes, HEADER_BYTES, bytes.length - HEADER_BYTES, 0);
  const versions = { readVersion: FORMAT_VERSION, writeVersion: FORMAT_VERSION, compatibleFeatures: 0n };
  const header = { ...versions, alignmentBytes, incompatibleFeatures, manifestBytes: json.length, manifestCrc };
  encodeHeader(header).copy(bytes);
  if (seal !== undefined) setHeaderTag(bytes, headerTag(seal.keys, bytes));
  return bytes;
}
