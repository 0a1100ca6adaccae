/**
 * How an encrypted image is sealed (SPEC.md, "Encryption"): AES-256-GCM for what records hold, HMAC-SHA-256 for header and footer,
 * each with a key of its own that HKDF derives from the image's file key.
 *
 * The payload of a record is sealed chunk by chunk, under a seal number that no other record of the image has; the tables hold
 * that number and the chunks' tags, and are themselves sealed when the record has got its place, with its prefix as associated
 * data. So a chunk belongs to its record, and a record to its place in its image. All of it happens where the bytes lie.
 *
 * Keys are KeyObjects: they can be handed to worker threads, and show nothing when they are printed or turned into JSON.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto';
import { VmsnapError } from '../../native/errors.js';
import { discard } from '../garbage.js';
import {
  FOOTER_TAG_AT,
  FOOTER_TAG_BYTES,
  HEADER_BYTES,
  HEADER_TAG_AT,
  HEADER_TAG_BYTES,
  PREFIX_BYTES,
  PREFIX_SEALED_BYTES,
  SEAL_NUMBER_BYTES,
  TAG_BYTES,
} from './layout.js';

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
export const FILE_KEY_BYTES = 32;

/** What is derived from the file key of an image. */
export interface SealKeys {
  readonly header: KeyObject;
  readonly footer: KeyObject;
  /** For the tables of records. */
  readonly tables: KeyObject;
  /** For their payloads. */
  readonly chunks: KeyObject;
}

/** Of an encrypted image; `keys` undefined: it is not opened, so that only its outside can be read. */
export interface Seal {
  readonly keys: SealKeys | undefined;
}

/** How the chunks of one record are sealed. */
export interface ChunkSeal {
  readonly key: KeyObject;
  readonly number: number;
  /** TAG_BYTES of each chunk. */
  readonly tags: Buffer;
}

export function deriveSealKeys(fileKey: Uint8Array): SealKeys {
  const derive = (label: string) =>
    createSecretKey(Buffer.from(hkdfSync('sha256', fileKey, Buffer.alloc(0), `vmsnap ${label}`, FILE_KEY_BYTES)));
  return { header: derive('header'), footer: derive('footer'), tables: derive('tables'), chunks: derive('chunks') };
}

/** The keys of an image that must be open. @throws KEY if it is not. */
export function requireKeys(seal: Seal, path: string): SealKeys {
  if (seal.keys !== undefined) return seal.keys;
  throw new VmsnapError('KEY', `${path} is encrypted, and no key is given`, {
    path,
    hint: 'name one with --identity-file, --passphrase-file, --passphrase-command or --credential',
  });
}

/** Of header and start manifest with its padding; the tag's own place, and what follows it in the header, count as zero. */
export function headerTag(keys: SealKeys, headerAndManifest: Buffer): Buffer {
  const mac = createHmac('sha256', keys.header);
  mac.update(headerAndManifest.subarray(0, HEADER_TAG_AT));
  mac.update(Buffer.alloc(HEADER_BYTES - HEADER_TAG_AT));
  mac.update(headerAndManifest.subarray(HEADER_BYTES));
  return mac.digest().subarray(0, HEADER_TAG_BYTES);
}

export function footerTag(keys: SealKeys, footer: Buffer): Buffer {
  return createHmac('sha256', keys.footer)
    .update(footer.subarray(0, FOOTER_TAG_AT))
    .digest()
    .subarray(0, FOOTER_TAG_BYTES);
}

export function sameTag(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Bytes at the end of the tables: seal number, tags of the chunks, tag of the tables. */
export function sealBytes(chunkCount: number): number {
  return SEAL_NUMBER_BYTES + TAG_BYTES * (chunkCount + 1);
}

/** Seals chunks with numbers under one seal number. One a thread. */
export class ChunkSealer {
  readonly #key: KeyObject;
  readonly #nonce = Buffer.alloc(NONCE_BYTES);

  constructor(keys: SealKeys) {
    this.#key = keys.chunks;
  }

  /** Seals `bytes` where they lie, and writes the tag to `tags[tagAt..]`. */
  seal(bytes: Buffer, sealNumber: number, chunk: number, tags: Buffer, tagAt: number): void {
    writeChunkNonce(this.#nonce, sealNumber, chunk);
    const cipher = createCipheriv(CIPHER, this.#key, this.#nonce);
    const sealed = cipher.update(bytes);
    bytes.set(sealed);
    discard(sealed);
    cipher.final();
    tags.set(cipher.getAuthTag(), tagAt);
  }
}

/** The bytes of chunk `chunk`, or undefined if they are not those that were sealed. */
export function openChunk(seal: ChunkSeal, chunk: number, stored: Uint8Array): Buffer | undefined {
  const nonce = Buffer.alloc(NONCE_BYTES);
  writeChunkNonce(nonce, seal.number, chunk);
  const tag = seal.tags.subarray(TAG_BYTES * chunk, TAG_BYTES * (chunk + 1));
  return open(seal.key, nonce, undefined, stored, tag);
}

function writeChunkNonce(nonce: Buffer, sealNumber: number, chunk: number): void {
  nonce.writeUInt32LE(sealNumber % 2 ** 32, 0);
  nonce.writeUInt32LE(Math.floor(sealNumber / 2 ** 32), 4);
  nonce.writeUInt32LE(chunk, 8);
}

/**
 * Seals the tables of a record whose prefix stands in front of them, finished but for the two checksums at its end. The tables
 * end in {@link sealBytes}, of which all but the last tag are filled in.
 */
export function sealTables(keys: SealKeys, record: Buffer, tablesBytes: number): void {
  const end = PREFIX_BYTES + tablesBytes - TAG_BYTES;
  const tables = record.subarray(PREFIX_BYTES, end);
  const cipher = createCipheriv(CIPHER, keys.tables, tablesNonce(record));
  cipher.setAAD(record.subarray(0, PREFIX_SEALED_BYTES));
  tables.set(cipher.update(tables));
  cipher.final();
  record.set(cipher.getAuthTag(), end);
}

/** Opens them where they lie; the tag's place becomes zero. @returns false if they are not those that were sealed. */
export function openTables(keys: SealKeys, head: Buffer, tablesBytes: number): boolean {
  const end = PREFIX_BYTES + tablesBytes - TAG_BYTES;
  if (end < PREFIX_BYTES) return false;
  const aad = head.subarray(0, PREFIX_SEALED_BYTES);
  const tag = head.subarray(end, end + TAG_BYTES);
  const plain = open(keys.tables, tablesNonce(head), aad, head.subarray(PREFIX_BYTES, end), tag);
  if (plain === undefined) return false;
  head.set(plain, PREFIX_BYTES);
  head.fill(0, end, end + TAG_BYTES);
  return true;
}

/** The record's offset: an image is only ever appended to, so no two have the same. */
function tablesNonce(record: Buffer): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  record.copy(nonce, 0, 16, 24);
  return nonce;
}

function open(
  key: KeyObject,
  nonce: Buffer,
  aad: Buffer | undefined,
  bytes: Uint8Array,
  tag: Uint8Array,
): Buffer | undefined {
  const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  if (aad !== undefined) decipher.setAAD(aad);
  decipher.setAuthTag(tag);
  const plain = decipher.update(bytes);
  try {
    decipher.final();
    return plain;
  } catch {
    return undefined;
  }
}
