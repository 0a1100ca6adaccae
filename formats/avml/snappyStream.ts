/**
 * The Snappy framing format (google/snappy, framing_format.txt): chunks of up to 64 KiB, each with the CRC-32C of its contents.
 *
 * A chunk: one byte type, three bytes length (little endian), and so many bytes. 0xff: stream identifier, always first. 0x00: compressed, 0x01: not
 * compressed; both begin with the masked CRC of the contents. 0x80 to 0xfe are passed over, 0x02 to 0x7f are not known.
 */
import { native } from '../../native/binding.js';
import type { VmsnapError } from '../../native/errors.js';
import { damaged, hex, readAll } from '../foreignFile.js';
import { snappyLength, uncompressSnappy } from '../snappyBlock.js';
import { AVML_FORMAT } from './avmlFormat.js';

const CONTENTS_MAX_BYTES = 65_536;
const CRC_BYTES = 4;
/** 32 + n + n / 6 bytes are the most that Snappy makes of n. */
const BODY_MAX_BYTES = CRC_BYTES + 32 + CONTENTS_MAX_BYTES + Math.ceil(CONTENTS_MAX_BYTES / 6);
const HEADER_BYTES = 4;
const VARINT_MAX_BYTES = 5;
const PEEK_BYTES = HEADER_BYTES + CRC_BYTES + VARINT_MAX_BYTES;

const COMPRESSED = 0x00;
const UNCOMPRESSED = 0x01;
const SKIPPABLE = 0x80;
const IDENTIFIER = 0xff;
const IDENTIFIER_BODY = 'sNaPpY';

export interface StreamPlace {
  /** Where the stream begins in the file, and its bytes there. */
  readonly offset: number;
  readonly streamBytes: number;
  /** What it holds. */
  readonly memoryBytes: number;
}

interface Chunk {
  /** Where its body begins, and its bytes. */
  readonly bodyAt: number;
  readonly bodyBytes: number;
  readonly isCompressed: boolean;
  /** 0: it holds nothing. */
  readonly contentBytes: number;
}

export class SnappyStream {
  readonly #file: { readonly fd: number; readonly path: string };
  readonly #place: StreamPlace;
  readonly #peeked = Buffer.alloc(PEEK_BYTES);
  readonly #body = Buffer.alloc(BODY_MAX_BYTES);
  /** The next chunk: where it is in the file, and which offset of the contents it begins at. */
  #at = 0;
  #contentAt = 0;

  constructor(file: { readonly fd: number; readonly path: string }, place: StreamPlace) {
    this.#file = file;
    this.#place = place;
    this.#rewind();
  }

  /** Fills `into` with the contents from `offset` on, which are within `memoryBytes`. */
  read(offset: number, into: Uint8Array): void {
    if (offset < this.#contentAt) this.#rewind();
    const end = offset + into.length;
    let done = offset;
    while (done < end) {
      const chunk = this.#peek();
      const { contentBytes } = chunk;
      const chunkEnd = this.#contentAt + contentBytes;
      if (chunkEnd > done) {
        const contents = this.#contents(chunk);
        const to = Math.min(chunkEnd, end);
        into.set(contents.subarray(done - this.#contentAt, to - this.#contentAt), done - offset);
        done = to;
        // A stretch may end within a chunk, where the next one goes on.
        if (to < chunkEnd) return;
      }
      this.#pass(chunk);
    }
    if (this.#contentAt === this.#place.memoryBytes) this.#expectEnd();
  }

  #rewind(): void {
    this.#at = this.#place.offset;
    this.#contentAt = 0;
  }

  #pass({ bodyAt, bodyBytes, contentBytes }: Chunk): void {
    this.#at = bodyAt + bodyBytes;
    this.#contentAt += contentBytes;
  }

  #expectEnd(): void {
    const end = this.#place.offset + this.#place.streamBytes;
    while (this.#at < end) this.#pass(this.#peek());
  }

  /** Looks at the chunk that comes next. */
  #peek(): Chunk {
    const end = this.#place.offset + this.#place.streamBytes;
    const left = end - this.#at;
    if (left < HEADER_BYTES) {
      throw this.#damage(`a block's stream ends after ${this.#contentAt} of ${this.#place.memoryBytes} bytes`);
    }
    const peeked = this.#peeked.subarray(0, Math.min(left, PEEK_BYTES));
    readAll(this.#file, this.#at, peeked);
    const type = peeked[0]!;
    const bodyBytes = peeked.readUIntLE(1, 3);
    if (HEADER_BYTES + bodyBytes > left)
      throw this.#damage(`a chunk of ${bodyBytes} bytes, where its block has ${left} left`);
    const isFirst = this.#at === this.#place.offset;
    if (isFirst && type !== IDENTIFIER) {
      throw this.#damage(`a chunk of the type ${hex(type)}, and the stream identifier (0xff) was expected`);
    }
    const contentBytes = this.#contentBytes(type, bodyBytes, peeked);
    if (this.#contentAt + contentBytes > this.#place.memoryBytes) {
      throw this.#damage(`a block's stream holds more than its ${this.#place.memoryBytes} bytes`);
    }
    return { bodyAt: this.#at + HEADER_BYTES, bodyBytes, isCompressed: type === COMPRESSED, contentBytes };
  }

  #contentBytes(type: number, bodyBytes: number, peeked: Buffer): number {
    if (type === IDENTIFIER) {
      const body = peeked.toString('latin1', HEADER_BYTES, HEADER_BYTES + IDENTIFIER_BODY.length);
      if (bodyBytes === IDENTIFIER_BODY.length && body === IDENTIFIER_BODY) return 0;
      throw this.#damage('the stream identifier is not "sNaPpY", as was expected');
    }
    if (type >= SKIPPABLE) return 0;
    if (type !== COMPRESSED && type !== UNCOMPRESSED) throw this.#damage(`a chunk of the unknown type ${hex(type)}`);
    if (bodyBytes < CRC_BYTES + 1)
      throw this.#damage(`a chunk with a body of ${bodyBytes} bytes, and 5 or more were expected`);
    const contentBytes =
      type === UNCOMPRESSED ? bodyBytes - CRC_BYTES : snappyLength(peeked.subarray(HEADER_BYTES + CRC_BYTES));
    if (
      contentBytes === undefined ||
      contentBytes === 0 ||
      contentBytes > CONTENTS_MAX_BYTES ||
      bodyBytes > BODY_MAX_BYTES
    ) {
      throw this.#damage(
        `a chunk that holds ${contentBytes ?? 'no number of'} bytes, and 1 to ${CONTENTS_MAX_BYTES} were expected`,
      );
    }
    return contentBytes;
  }

  #contents({ bodyAt, bodyBytes, isCompressed, contentBytes }: Chunk): Uint8Array {
    const body = this.#body.subarray(0, bodyBytes);
    readAll(this.#file, bodyAt, body);
    const stored = body.subarray(CRC_BYTES);
    const contents = isCompressed ? uncompressSnappy(stored, contentBytes) : stored;
    if (typeof contents === 'string') throw this.#damage(`a compressed chunk: ${contents}`);
    const crc = native.crc32c(contents, 0, contents.length, 0);
    const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
    if (masked !== body.readUInt32LE(0)) {
      throw this.#damage(
        `the checksum of a chunk is ${hex(body.readUInt32LE(0))}, and its contents have ${hex(masked)}`,
      );
    }
    return contents;
  }

  #damage(what: string): VmsnapError {
    return damaged(AVML_FORMAT, this.#file.path, this.#at, what);
  }
}
