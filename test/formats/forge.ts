/**
 * Takes an image apart and puts it together again with every checksum right, so that of a changed image it is the check
 * behind the checksums that has to refuse it.
 *
 * Written against SPEC.md with nothing of the encoders, because it must be able to write what they never would. Offsets,
 * chain, previous segments, binding, index, footer and identity are filled in anew, unless a record or the footer
 * says otherwise; a wrong value given there is sealed like a right one.
 */
import { native } from '../../native/binding.js';

const HEADER_BYTES = 64;
const PREFIX_BYTES = 64;
const FOOTER_BYTES = 96;
const INDEX_BLOCK_ENTRIES = 4096;
const INDEX_ENTRY_BYTES = 32;
const LIST_ENTRY_BYTES = 16;
const NO_SEGMENT = 2n ** 64n - 1n;

export type Kind = 'VSEG' | 'VATT' | 'VIDX' | 'VEND' | 'VLST';

export interface ForgedRecord {
  kind: Kind | string;
  subject: bigint;
  tables: Buffer;
  payload: Buffer;
  /** Take the payload as it is, although it names offsets (index blocks, index list, end manifest). */
  asIs?: boolean;
  /** Leave the CRC of the payload in the tables as it is (the same kinds). */
  keepPayloadCrc?: boolean;
  /** Bytes after the payload instead of zeros up to the alignment. */
  padding?: Buffer;
  /** Last change to the prefix, before its CRC is taken. */
  editPrefix?: (prefix: Buffer) => void;
}

/** The parts of an image, to be changed at will. */
export interface ForgedImage {
  /** 64 bytes; length and CRC of the manifest are filled in, unless `keepManifestFields`. */
  header: Buffer;
  keepManifestFields?: boolean;
  startManifest: Buffer;
  /** Bytes after the start manifest instead of zeros. */
  startPadding?: Buffer;
  records: ForgedRecord[];
  /** Last change to the footer, before its CRC is taken. */
  editFooter?: (footer: Buffer) => void;
}

export function takeApart(image: Buffer): ForgedImage {
  const alignment = image.readUInt32LE(12);
  const manifestBytes = image.readUInt32LE(32);
  const forged: ForgedImage = {
    header: Buffer.from(image.subarray(0, HEADER_BYTES)),
    startManifest: Buffer.from(image.subarray(HEADER_BYTES, HEADER_BYTES + manifestBytes)),
    records: [],
  };
  const end = image.length - FOOTER_BYTES;
  for (let at = roundUp(HEADER_BYTES + manifestBytes, alignment); at < end; ) {
    const tablesAt = at + PREFIX_BYTES;
    const payloadAt = tablesAt + image.readUInt32LE(at + 4);
    const payloadEnd = payloadAt + Number(image.readBigUInt64LE(at + 8));
    forged.records.push({
      kind: image.toString('latin1', at, at + 4),
      subject: image.readBigUInt64LE(at + 32),
      tables: Buffer.from(image.subarray(tablesAt, payloadAt)),
      payload: Buffer.from(image.subarray(payloadAt, payloadEnd)),
    });
    at = roundUp(payloadEnd, alignment);
  }
  return forged;
}

/** A changed copy of an image. */
export function forge(image: Buffer, change: (forged: ForgedImage) => void): Buffer {
  const forged = takeApart(image);
  change(forged);
  return seal(forged);
}

export function seal(image: ForgedImage): Buffer {
  return new Sealer(image).seal();
}

/** Changes the start manifest as an object. */
export function editStart(image: ForgedImage, change: (manifest: Json) => void): void {
  image.startManifest = editJson(image.startManifest, change);
}

/** Changes the end manifest as an object. Offsets of attachments are then taken as they are. */
export function editEnd(image: ForgedImage, change: (manifest: Json) => void): void {
  const record = recordOf(image, 'VEND');
  record.payload = editJson(record.payload, change);
}

// biome-ignore lint/suspicious/noExplicitAny: hostile JSON has no type
export type Json = any;

function editJson(bytes: Buffer, change: (value: Json) => void): Buffer {
  const value = JSON.parse(bytes.toString('utf8')) as Json;
  change(value);
  return Buffer.from(JSON.stringify(value), 'utf8');
}

/** The `n`th record of a kind. */
export function recordOf(image: ForgedImage, kind: Kind, n = 0): ForgedRecord {
  const found = image.records.filter((record) => record.kind === kind)[n];
  if (found === undefined) throw new Error(`the image has no record ${n} of kind ${kind}`);
  return found;
}

/** Where the parts of a segment record's tables begin, and its counts. */
export function segmentLayout(record: ForgedRecord) {
  const [mapBytes, uniform, references, data, chunks, leaves] = [0, 4, 8, 12, 16, 20].map((at) =>
    record.tables.readUInt32LE(at),
  ) as [number, number, number, number, number, number];
  const wordsAt = 24 + 16 * leaves;
  const referencesAt = wordsAt + 8 * uniform;
  const chunksAt = referencesAt + 8 * references;
  const mapAt = chunksAt + 8 * chunks;
  return { mapBytes, uniform, references, data, chunks, leaves, leavesAt: 24, wordsAt, referencesAt, chunksAt, mapAt };
}

/** Pages of one state in the state map of a segment record. */
function pagesOfState(record: ForgedRecord, wanted: number): number {
  const { mapAt, mapBytes } = segmentLayout(record);
  let pages = 0;
  let value = 0;
  let shift = 0;
  for (const byte of record.tables.subarray(mapAt, mapAt + mapBytes)) {
    value |= (byte & 0x7f) << shift;
    shift += 7;
    if (byte & 0x80) continue;
    if ((value & 15) === wanted) pages += (value >>> 4) + 1;
    value = 0;
    shift = 0;
  }
  return pages;
}

/** Gives a segment record another state map; the counts and the padding follow, the rest stays. */
export function replaceStateMap(record: ForgedRecord, map: Buffer, alignment: number): void {
  const { mapAt } = segmentLayout(record);
  const bytes = roundUp(PREFIX_BYTES + mapAt + map.length, alignment) - PREFIX_BYTES;
  const tables = Buffer.alloc(bytes);
  record.tables.copy(tables, 0, 0, mapAt);
  map.copy(tables, mapAt);
  tables.writeUInt32LE(map.length, 0);
  record.tables = tables;
}

/** Puts other stored bytes in the place of one chunk of a segment or attachment record. */
export function replaceChunk(record: ForgedRecord, chunk: number, stored: Buffer): void {
  const entriesAt = record.kind === 'VATT' ? 16 : segmentLayout(record).chunksAt;
  const entry = entriesAt + 8 * chunk;
  let at = 0;
  for (let i = 0; i < chunk; i++) at += record.tables.readUInt32LE(entriesAt + 8 * i);
  const before = record.tables.readUInt32LE(entry);
  record.payload = Buffer.concat([record.payload.subarray(0, at), stored, record.payload.subarray(at + before)]);
  record.tables.writeUInt32LE(stored.length, entry);
  record.tables.writeUInt32LE(native.crc32c(stored, 0, stored.length, 0), entry + 4);
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

export function crcOf(bytes: Uint8Array): number {
  return native.crc32c(bytes, 0, bytes.length, 0);
}

export function xxh3Of(bytes: Uint8Array): Buffer {
  const out = Buffer.alloc(16);
  native.xxh3(bytes, 0, bytes.length, out, 0);
  return out;
}

interface Placed {
  readonly record: ForgedRecord;
  readonly offset: number;
  readonly crc: number;
  readonly bytes: Buffer;
  /** Prefix, tables and payload. */
  readonly unpadded: Buffer;
}

class Sealer {
  readonly #image: ForgedImage;
  readonly #alignment: number;
  readonly #parts: Buffer[] = [];
  readonly #placed: Placed[] = [];
  #offset = 0;

  constructor(image: ForgedImage) {
    this.#image = image;
    this.#alignment = image.header.readUInt32LE(12) === 4096 ? 4096 : 8;
  }

  seal(): Buffer {
    const head = this.#head();
    const binding = xxh3Of(head).readBigUInt64BE(8);
    this.#push(head);
    let chain = head.readUInt32LE(60);
    let previous = NO_SEGMENT;
    for (const record of this.#image.records) {
      this.#fillIn(record);
      chain = this.#place(record, binding, chain, previous);
      if (record.kind === 'VSEG') previous = record.subject;
    }
    this.#push(this.#footer(head, binding, chain));
    return Buffer.concat(this.#parts);
  }

  #push(bytes: Buffer): void {
    this.#parts.push(bytes);
    this.#offset += bytes.length;
  }

  #head(): Buffer {
    const { header, startManifest, startPadding, keepManifestFields } = this.#image;
    const length = roundUp(HEADER_BYTES + startManifest.length, this.#alignment);
    const padding = startPadding ?? Buffer.alloc(length - HEADER_BYTES - startManifest.length);
    const manifest = Buffer.concat([startManifest, padding]);
    const sealed = Buffer.from(header);
    if (keepManifestFields !== true) {
      sealed.writeUInt32LE(startManifest.length, 32);
      sealed.writeUInt32LE(crcOf(manifest), 36);
    }
    sealed.writeUInt32LE(crcOf(sealed.subarray(0, 60)), 60);
    return Buffer.concat([sealed, manifest]);
  }

  /** Makes what names other records name them where they stand now. */
  #fillIn(record: ForgedRecord): void {
    if (record.asIs !== true) {
      if (record.kind === 'VIDX') record.payload = this.#indexBlock(record);
      if (record.kind === 'VLST') record.payload = this.#indexList(record);
      if (record.kind === 'VEND') record.payload = this.#endManifest(record);
    }
    const isCounted = record.kind === 'VIDX' || record.kind === 'VLST' || record.kind === 'VEND';
    if (isCounted && record.keepPayloadCrc !== true) record.tables.writeUInt32LE(crcOf(record.payload), 4);
  }

  get #hasReferences(): boolean {
    return (this.#image.header.readBigUInt64LE(24) & 1n) !== 0n;
  }

  get #hasBase(): boolean {
    return (this.#image.header.readBigUInt64LE(24) & 2n) !== 0n;
  }

  get #hasAbsent(): boolean {
    return (this.#image.header.readBigUInt64LE(24) & 16n) !== 0n;
  }

  #indexBlock(record: ForgedRecord): Buffer {
    const first = Number(record.subject) * INDEX_BLOCK_ENTRIES;
    const block = Buffer.alloc(record.payload.length);
    for (const placed of this.#placed.filter(({ record: { kind } }) => kind === 'VSEG')) {
      const at = (Number(placed.record.subject) - first) * INDEX_ENTRY_BYTES;
      if (at < 0 || at >= block.length) continue;
      const { tables, payload } = placed.record;
      block.writeBigUInt64LE(BigInt(placed.offset), at);
      block.writeUInt32LE(PREFIX_BYTES + tables.length, at + 8);
      block.writeUInt32LE(payload.length, at + 12);
      block.writeUInt32LE(placed.crc, at + 16);
      block.writeUInt16LE(tables.readUInt32LE(12) & 0xffff, at + 20);
      block.writeUInt16LE(tables.readUInt32LE(4) & 0xffff, at + 22);
      if (this.#hasReferences) block.writeUInt16LE(tables.readUInt32LE(8) & 0xffff, at + 24);
      if (this.#hasBase) block.writeUInt16LE(pagesOfState(placed.record, 4) & 0xffff, at + 26);
      if (this.#hasAbsent) block.writeUInt16LE(pagesOfState(placed.record, 6) & 0xffff, at + 28);
    }
    return block;
  }

  #indexList(record: ForgedRecord): Buffer {
    const list = Buffer.alloc(record.payload.length);
    for (const placed of this.#placed.filter(({ record: { kind } }) => kind === 'VIDX')) {
      const at = Number(placed.record.subject) * LIST_ENTRY_BYTES;
      if (at + LIST_ENTRY_BYTES > list.length) continue;
      list.writeBigUInt64LE(BigInt(placed.offset), at);
      list.writeUInt32LE(placed.crc, at + 8);
    }
    return list;
  }

  /** Only offsets of attachments: what else a test has written there stays. */
  #endManifest(record: ForgedRecord): Buffer {
    return editJson(record.payload, (manifest) => {
      if (!Array.isArray(manifest?.attachments)) return;
      for (const [number, attachment] of manifest.attachments.entries()) {
        const part = this.#placed.find(({ record: r }) => r.kind === 'VATT' && r.subject === BigInt(number));
        if (part !== undefined && typeof attachment?.offset === 'number') attachment.offset = part.offset;
      }
    });
  }

  #place(record: ForgedRecord, binding: bigint, chain: number, previous: bigint): number {
    const { tables, payload } = record;
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.write(record.kind, 0, 'latin1');
    prefix.writeUInt32LE(tables.length, 4);
    prefix.writeBigUInt64LE(BigInt(payload.length), 8);
    prefix.writeBigUInt64LE(BigInt(this.#offset), 16);
    prefix.writeBigUInt64LE(binding, 24);
    prefix.writeBigUInt64LE(record.subject, 32);
    prefix.writeBigUInt64LE(previous, 40);
    prefix.writeUInt32LE(chain, 48);
    prefix.writeUInt32LE(crcOf(tables), 56);
    record.editPrefix?.(prefix);
    const crc = crcOf(prefix.subarray(0, 60));
    prefix.writeUInt32LE(crc, 60);
    const unpadded = Buffer.concat([prefix, tables, payload]);
    const padding = record.padding ?? Buffer.alloc(roundUp(unpadded.length, this.#alignment) - unpadded.length);
    const bytes = Buffer.concat([unpadded, padding]);
    this.#placed.push({ record, offset: this.#offset, crc, bytes, unpadded });
    this.#push(bytes);
    return crc;
  }

  #footer(head: Buffer, binding: bigint, chain: number): Buffer {
    const last = (kind: Kind) => this.#placed.findLast(({ record }) => record.kind === kind);
    const [end, list] = [last('VEND'), last('VLST')];
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.write('89564d53454e440a', 0, 'hex');
    footer.writeBigUInt64LE(BigInt(this.#offset + FOOTER_BYTES), 8);
    footer.writeBigUInt64LE(BigInt(end?.offset ?? 0), 16);
    footer.writeBigUInt64LE(BigInt(list?.offset ?? 0), 24);
    footer.writeBigUInt64LE(BigInt(this.#segmentCount(end?.record)), 32);
    footer.writeBigUInt64LE(BigInt(this.#placed.length), 40);
    footer.writeBigUInt64LE(binding, 48);
    footer.writeUInt32LE(chain, 56);
    const empty = Buffer.alloc(0);
    xxh3Of(Buffer.concat([head, end?.unpadded ?? empty, list?.unpadded ?? empty])).copy(footer, 64);
    this.#image.editFooter?.(footer);
    footer.writeUInt32LE(crcOf(footer.subarray(0, 92)), 92);
    return footer;
  }

  /** As far as the manifests say it. */
  #segmentCount(end: ForgedRecord | undefined): number {
    try {
      const { segmentSize } = JSON.parse(this.#image.startManifest.toString()) as Json;
      const { regions } = JSON.parse(end!.payload.toString()) as Json;
      const count = regions.reduce((sum: number, r: Json) => sum + Math.ceil(r.sizeBytes / segmentSize), 0);
      return Number.isSafeInteger(count) ? count : 0;
    } catch {
      return 0;
    }
  }
}
