/**
 * Makes the checksums of a changed image right again, as far as its structures can still be followed, so that a fuzzer gets behind
 * them. Unlike forge.ts it takes whatever comes: what does not hold together stays as it is. In an encrypted image that is what lies
 * outside of the seals: nobody gets behind those without the keys.
 */
import { createHash } from 'node:crypto';
import { native } from '../../native/binding.js';
import { xxh3Of } from '../formats/forge.js';

const HEADER_BYTES = 64;
const PREFIX_BYTES = 64;
const FOOTER_BYTES = 96;
const CHUNK_ENTRY_BYTES = 8;
const INDEX_BLOCK_ENTRIES = 4096;
const INDEX_ENTRY_BYTES = 32;
const LIST_ENTRY_BYTES = 16;
const NO_SEGMENT = 2n ** 64n - 1n;
const RECORDS_MAX = 10_000;
const FEATURE_ENCRYPTION = 8;
const IDENTITY_BYTES = 16;

interface Met {
  readonly kind: string;
  readonly subject: bigint;
  readonly at: number;
  readonly end: number;
  readonly crc: number;
}

export function repairChecksums(image: Buffer): void {
  if (image.length < HEADER_BYTES + FOOTER_BYTES) return;
  const alignment = image.readUInt32LE(12) === 4096 ? 4096 : 8;
  const headBytes = roundUp(HEADER_BYTES + image.readUInt32LE(32), alignment);
  if (headBytes > image.length - FOOTER_BYTES) return;
  image.writeUInt32LE(crcOf(image, HEADER_BYTES, headBytes), 36);
  image.writeUInt32LE(crcOf(image, 0, 60), 60);
  const head = image.subarray(0, headBytes);
  const binding = xxh3Of(head).readBigUInt64BE(8);
  const end = image.length - FOOTER_BYTES;
  const met: Met[] = [];
  const isSealed = (image.readUInt32LE(24) & FEATURE_ENCRYPTION) !== 0;
  let chain = image.readUInt32LE(60);
  let previous = NO_SEGMENT;
  for (let at = headBytes; at + PREFIX_BYTES <= end && met.length < RECORDS_MAX; ) {
    const record = repairRecord(image, at, end, met, { binding, chain, previous, isSealed });
    if (record === undefined) break;
    met.push(record);
    chain = record.crc;
    if (record.kind === 'VSEG') previous = record.subject;
    at = roundUp(record.end, alignment);
  }
  repairFooter(image, head, { binding, chain, isSealed }, met);
}

function repairRecord(
  image: Buffer,
  at: number,
  end: number,
  met: readonly Met[],
  links: { binding: bigint; chain: number; previous: bigint; isSealed: boolean },
): Met | undefined {
  const tablesEnd = at + PREFIX_BYTES + image.readUInt32LE(at + 4);
  const recordEnd = tablesEnd + Number(image.readBigUInt64LE(at + 8));
  if (tablesEnd > end || recordEnd > end) return undefined;
  const kind = image.toString('latin1', at, at + 4);
  const subject = image.readBigUInt64LE(at + 32);
  if (links.isSealed) image.writeUInt32LE(crcOf(image, tablesEnd, recordEnd), at + 52);
  else repairInside(image, kind, subject, { at, tablesEnd, recordEnd }, met);
  image.writeBigUInt64LE(BigInt(at), at + 16);
  image.writeBigUInt64LE(links.binding, at + 24);
  image.writeBigUInt64LE(links.previous, at + 40);
  image.writeUInt32LE(links.chain, at + 48);
  image.writeUInt32LE(crcOf(image, at + PREFIX_BYTES, tablesEnd), at + 56);
  const crc = crcOf(image, at, at + 60);
  image.writeUInt32LE(crc, at + 60);
  return { kind, subject, at, end: recordEnd, crc };
}

function repairInside(
  image: Buffer,
  kind: string,
  subject: bigint,
  { at, tablesEnd, recordEnd }: { at: number; tablesEnd: number; recordEnd: number },
  met: readonly Met[],
): void {
  if (kind === 'VIDX') repairIndexBlock(image, tablesEnd, recordEnd, subject, met);
  if (kind === 'VLST') repairIndexList(image, tablesEnd, recordEnd, met);
  if (kind === 'VSEG') repairChunks(image, at, tablesEnd, recordEnd, false);
  else if (kind === 'VATT') repairChunks(image, at, tablesEnd, recordEnd, true);
  else if (tablesEnd - at - PREFIX_BYTES >= 8)
    image.writeUInt32LE(crcOf(image, tablesEnd, recordEnd), at + PREFIX_BYTES + 4);
}

/** Where the tables say that the chunks are, their CRCs. */
function repairChunks(image: Buffer, at: number, tablesEnd: number, end: number, isAttachment: boolean): void {
  const tables = at + PREFIX_BYTES;
  if (tables + 24 > tablesEnd) return;
  const word = (offset: number) => image.readUInt32LE(tables + offset);
  // Segment: map bytes, uniform, references, data, chunks, leaves; leaves, words and references stand before the chunks.
  const [count, entriesAt] = isAttachment
    ? [word(8), tables + 16]
    : [word(16), tables + 24 + 16 * word(20) + 8 * word(4) + 8 * word(8)];
  let chunk = tablesEnd;
  for (let i = 0; i < count && i < RECORDS_MAX; i++) {
    const entry = entriesAt + CHUNK_ENTRY_BYTES * i;
    if (entry + CHUNK_ENTRY_BYTES > tablesEnd) return;
    const next = chunk + image.readUInt32LE(entry);
    if (next > end) return;
    image.writeUInt32LE(crcOf(image, chunk, next), entry + 4);
    chunk = next;
  }
}

function repairIndexBlock(image: Buffer, from: number, to: number, block: bigint, met: readonly Met[]): void {
  for (const { kind, subject, at, crc } of met) {
    if (kind !== 'VSEG') continue;
    const entry = from + Number(subject - block * BigInt(INDEX_BLOCK_ENTRIES)) * INDEX_ENTRY_BYTES;
    if (entry < from || entry + INDEX_ENTRY_BYTES > to) continue;
    image.writeBigUInt64LE(BigInt(at), entry);
    image.writeUInt32LE(crc, entry + 16);
  }
}

function repairIndexList(image: Buffer, from: number, to: number, met: readonly Met[]): void {
  for (const { kind, subject, at, crc } of met) {
    const entry = from + Number(subject) * LIST_ENTRY_BYTES;
    if (kind !== 'VIDX' || entry < from || entry + LIST_ENTRY_BYTES > to) continue;
    image.writeBigUInt64LE(BigInt(at), entry);
    image.writeUInt32LE(crc, entry + 8);
  }
}

function repairFooter(
  image: Buffer,
  head: Buffer,
  { binding, chain, isSealed }: { binding: bigint; chain: number; isSealed: boolean },
  met: readonly Met[],
): void {
  const footer = image.subarray(image.length - FOOTER_BYTES);
  const last = (kind: string) => met.findLast((record) => record.kind === kind);
  const [manifest, list] = [last('VEND'), last('VLST')];
  footer.writeBigUInt64LE(BigInt(image.length), 8);
  footer.writeBigUInt64LE(BigInt(manifest?.at ?? 0), 16);
  footer.writeBigUInt64LE(BigInt(list?.at ?? 0), 24);
  footer.writeBigUInt64LE(BigInt(met.length), 40);
  footer.writeBigUInt64LE(binding, 48);
  footer.writeUInt32LE(chain, 56);
  const bytesOf = (record: Met | undefined) =>
    record === undefined ? Buffer.alloc(0) : image.subarray(record.at, record.end);
  const named = Buffer.concat([head, bytesOf(manifest), bytesOf(list)]);
  const identity = isSealed ? createHash('sha256').update(named).digest() : xxh3Of(named);
  identity.copy(footer, 64, 0, IDENTITY_BYTES);
  footer.writeUInt32LE(crcOf(footer, 0, 92), 92);
}

const crcOf = (bytes: Buffer, from: number, to: number) => native.crc32c(bytes, from, to - from, 0);
const roundUp = (value: number, step: number) => Math.ceil(value / step) * step;
