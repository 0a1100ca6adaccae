/** Header, prefix, index entry and footer: what is encoded is decoded again, and no flip of a bit is believed. */
import test from 'ava';
import fc from 'fast-check';
import { decodeFooter, encodeFooter, type Footer } from '../../formats/vmsnap/footer.js';
import { decodeHeader, encodeHeader, type Header } from '../../formats/vmsnap/header.js';
import {
  decodeIndexEntry,
  decodeIndexList,
  encodeIndexEntry,
  encodeIndexList,
} from '../../formats/vmsnap/imageIndex.js';
import { KIND_SEGMENT } from '../../formats/vmsnap/layout.js';
import { decodePrefix, finishRecord, type RecordPrefix } from '../../formats/vmsnap/record.js';
import { VmsnapError } from '../../lib/index.js';
import { native } from '../../native/binding.js';

const u16 = fc.integer({ min: 0, max: 2 ** 16 - 1 });
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const u53 = fc.integer({ min: 0, max: 2 ** 53 - 1 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const digest = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('hex'));

/** Every single bit flipped: `decode` must throw CORRUPT. */
function everyFlipIsCorrupt(bytes: Buffer, decode: (bytes: Buffer) => unknown): string[] {
  const taken: string[] = [];
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const copy = Buffer.from(bytes);
    copy[bit >> 3]! ^= 1 << (bit & 7);
    try {
      decode(copy);
      taken.push(`bit ${bit}`);
    } catch (error) {
      if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') taken.push(`bit ${bit}: ${error}`);
    }
  }
  return taken;
}

const headers: fc.Arbitrary<Header> = fc.record({
  readVersion: fc.constant(1),
  writeVersion: u16,
  alignmentBytes: fc.constantFrom(8, 4096),
  compatibleFeatures: u64,
  incompatibleFeatures: fc.constant(0n),
  manifestBytes: fc.integer({ min: 2, max: 2 ** 24 }),
  manifestCrc: u32,
});

test('header', (t) => {
  fc.assert(fc.property(headers, (header) => void t.deepEqual(decodeHeader(encodeHeader(header), 'i'), header)));
  const [header] = fc.sample(headers, { numRuns: 1, seed: 1 });
  t.deepEqual(
    everyFlipIsCorrupt(encodeHeader(header!), (bytes) => decodeHeader(bytes, 'i')),
    [],
  );
});

const prefixes: fc.Arbitrary<Omit<RecordPrefix, 'tablesCrc' | 'crc'>> = fc.record({
  kind: fc.constant(KIND_SEGMENT),
  tablesBytes: fc.integer({ min: 0, max: 64 }).map((n) => n * 8),
  payloadBytes: fc.integer({ min: 0, max: 128 * 2 ** 20 }),
  offset: u53,
  subject: u53,
  previousSegment: fc.oneof(fc.constant(-1), u32),
  chain: u32,
  payloadCrc: fc.constant(0),
});

test('record prefix', (t) => {
  const encode = (prefix: Omit<RecordPrefix, 'tablesCrc' | 'crc'>, binding: bigint) => {
    const bytes = Buffer.alloc(64 + prefix.tablesBytes, 0xee);
    const crc = finishRecord(prefix, binding, undefined, bytes);
    return { bytes, crc, tablesCrc: native.crc32c(bytes, 64, prefix.tablesBytes, 0) };
  };
  fc.assert(
    fc.property(prefixes, u64, (prefix, binding) => {
      const { bytes, ...crcs } = encode(prefix, binding);
      const place = { path: 'i', offset: prefix.offset, binding, alignmentBytes: 8, isSealed: false };
      t.deepEqual(decodePrefix(bytes, 0, place), { ...prefix, ...crcs });
      const elsewhere = { ...place, offset: prefix.offset + 8 };
      t.throws(() => decodePrefix(bytes, 0, elsewhere), { instanceOf: VmsnapError });
      const other = { ...place, binding: binding ^ 1n };
      t.throws(() => decodePrefix(bytes, 0, other), { instanceOf: VmsnapError });
    }),
  );
  const [prefix] = fc.sample(prefixes, { numRuns: 1, seed: 1 });
  const place = { path: 'i', offset: prefix!.offset, binding: 5n, alignmentBytes: 8, isSealed: false };
  t.deepEqual(
    everyFlipIsCorrupt(encode(prefix!, 5n).bytes.subarray(0, 64), (bytes) => decodePrefix(bytes, 0, place)),
    [],
  );
});

const footers: fc.Arbitrary<Footer> = fc.record({
  fileBytes: u53.map((n) => Math.max(n, 96)),
  endOffset: u53,
  indexListOffset: u53,
  segmentCount: u53,
  recordCount: u53,
  binding: u64,
  chain: u32,
  identity: digest,
});

test('footer', (t) => {
  const decode = (bytes: Buffer, footer: Footer) =>
    decodeFooter(bytes, footer.fileBytes - 96, { binding: footer.binding, seal: undefined }, 'i');
  fc.assert(fc.property(footers, (footer) => void t.deepEqual(decode(encodeFooter(footer), footer), footer)));
  const [footer] = fc.sample(footers, { numRuns: 1, seed: 1 });
  t.deepEqual(
    everyFlipIsCorrupt(encodeFooter(footer!), (bytes) => decode(bytes, footer!)),
    [],
  );
});

const entries = fc.record({
  offset: u53.map((n) => Math.max(n, 1)),
  headBytes: u32.map((n) => Math.max(n, 64)),
  payloadBytes: u32,
  prefixCrc: u32,
  dataPages: u16,
  uniformPages: u16,
  referencePages: u16,
  sameAsBasePages: u16,
  absentPages: u16,
});

test('index entries and index list', (t) => {
  fc.assert(
    fc.property(entries, fc.integer({ min: 0, max: 3 }), (entry, slot) => {
      const block = Buffer.alloc(128, 0xee);
      encodeIndexEntry(entry, block, slot);
      t.deepEqual(decodeIndexEntry(block, slot, 'i', 0), entry);
    }),
  );
  fc.assert(
    fc.property(fc.array(fc.record({ offset: u53, prefixCrc: u32 }), { maxLength: 5 }), (list) => {
      const bytes = encodeIndexList(list);
      t.deepEqual(decodeIndexList(bytes, list.length, 'i', 0), list);
      t.throws(() => decodeIndexList(bytes, list.length + 1, 'i', 0), { instanceOf: VmsnapError });
    }),
  );
});
