/**
 * The damaged samples: what is done to which valid sample, and what a reader must say.
 *
 * `broken` ones have checksums that no longer match; all others are sealed again, so that only the check behind the
 * checksums can refuse them.
 */
import { deflateSync } from 'node:zlib';
import zstd from 'zstd-napi';
import {
  editEnd,
  editStart,
  type ForgedImage,
  forge,
  type Json,
  recordOf,
  replaceChunk,
  replaceStateMap,
  seal,
  segmentLayout,
  takeApart,
} from '../formats/forge.js';
import { putTogether, type SealedParts, takeSealedApart } from '../formats/support/forgeSealed.js';

/** Where a load takes the image from. */
export type LoadSource = 'file' | 'pipe' | 'both';

export type DamageCode = 'CORRUPT' | 'UNSUPPORTED' | 'BASE_MISMATCH' | 'KEY';

export interface DamagedSample {
  readonly name: string;
  readonly base: string;
  readonly make: (valid: Buffer, others: ReadonlyMap<string, Buffer>) => Buffer;
  /** What every reader says where it reads the damaged part; default CORRUPT. */
  readonly code?: DamageCode;
  /**
   * Loads that do not meet the damage and succeed, with the right memory: from a file a load goes by the index and looks
   * neither at the order of the records nor at attachments; from a pipe it does not look into the index.
   */
  readonly passes?: LoadSource;
}

const ALIGNMENT = 8;
const FIRST_RECORD = (valid: Buffer) => 64 + Math.ceil(valid.readUInt32LE(32) / 8) * 8;

/** Image with every checksum right. */
const sealed =
  (change: (image: ForgedImage) => void): DamagedSample['make'] =>
  (valid) =>
    forge(valid, change);

/** One bit changed, checksums left. */
const flip =
  (where: (valid: Buffer) => number): DamagedSample['make'] =>
  (valid) => {
    const copy = Buffer.from(valid);
    copy[where(valid)]! ^= 0x10;
    return copy;
  };

/** Offset of the `n`th record of a kind. */
function offsetOf(valid: Buffer, kind: string, n = 0): number {
  let at = FIRST_RECORD(valid);
  for (let seen = 0; ; ) {
    const tables = valid.readUInt32LE(at + 4);
    const payload = Number(valid.readBigUInt64LE(at + 8));
    if (valid.toString('latin1', at, at + 4) === kind && seen++ === n) return at;
    at += 64 + tables + Math.ceil(payload / 8) * 8;
  }
}

const payloadOf = (valid: Buffer, kind: string, n = 0) => {
  const at = offsetOf(valid, kind, n);
  return at + 64 + valid.readUInt32LE(at + 4);
};

const broken: DamagedSample[] = [
  { name: 'truncated-in-footer', base: 'zstd', make: (valid) => valid.subarray(0, valid.length - 40) },
  {
    name: 'truncated-in-record',
    base: 'zstd',
    make: (valid) => valid.subarray(0, payloadOf(valid, 'VSEG') + 5),
  },
  { name: 'truncated-in-header', base: 'zstd', make: (valid) => valid.subarray(0, 30) },
  { name: 'bytes-behind-footer', base: 'zstd', make: (valid) => Buffer.concat([valid, Buffer.from('more')]) },
  { name: 'flip-magic', base: 'zstd', make: flip(() => 1) },
  { name: 'flip-header', base: 'zstd', make: flip(() => 16) },
  { name: 'flip-start-manifest', base: 'zstd', make: flip(() => 80) },
  { name: 'flip-segment-prefix', base: 'zstd', make: flip((valid) => offsetOf(valid, 'VSEG') + 17) },
  { name: 'flip-segment-tables', base: 'zstd', make: flip((valid) => offsetOf(valid, 'VSEG') + 64 + 24) },
  { name: 'flip-chunk', base: 'zstd', make: flip((valid) => payloadOf(valid, 'VSEG') + 20) },
  { name: 'flip-attachment', base: 'zstd', make: flip((valid) => payloadOf(valid, 'VATT') + 20), passes: 'file' },
  { name: 'flip-index-block', base: 'zstd', make: flip((valid) => payloadOf(valid, 'VIDX') + 2) },
  { name: 'flip-end-manifest', base: 'zstd', make: flip((valid) => payloadOf(valid, 'VEND') + 30) },
  { name: 'flip-index-list', base: 'zstd', make: flip((valid) => payloadOf(valid, 'VLST') + 1) },
  { name: 'flip-footer', base: 'zstd', make: flip((valid) => valid.length - 20) },
  {
    name: 'text-mode',
    base: 'zstd',
    make: (valid) => Buffer.from(valid.toString('latin1').replace(/\r\n/g, '\n'), 'latin1'),
  },
];

const header: DamagedSample[] = [
  {
    name: 'future-read-version',
    base: 'zstd',
    // Also for readers of the next versions.
    make: sealed((image) => void image.header.writeUInt16LE(0xffff, 8)),
    code: 'UNSUPPORTED',
  },
  {
    name: 'version-0',
    base: 'zstd',
    make: sealed((image) => {
      image.header.writeUInt16LE(0, 8);
      image.header.writeUInt16LE(0, 10);
    }),
    code: 'UNSUPPORTED',
  },
  {
    name: 'unknown-incompatible-feature',
    base: 'zstd',
    make: sealed((image) => void image.header.writeBigUInt64LE(1n << 40n, 24)),
    code: 'UNSUPPORTED',
  },
  {
    name: 'reserved-incompatible-feature',
    base: 'zstd',
    make: sealed((image) => void image.header.writeBigUInt64LE(1n << 63n, 24)),
    code: 'UNSUPPORTED',
  },
  { name: 'header-reserved-bytes', base: 'zstd', make: sealed((image) => void image.header.writeUInt8(1, 45)) },
  { name: 'alignment-0', base: 'zstd', make: sealed((image) => void image.header.writeUInt32LE(0, 12)) },
  {
    name: 'huge-start-manifest',
    base: 'zstd',
    make: sealed((image) => {
      image.keepManifestFields = true;
      image.header.writeUInt32LE(0xffff_fff0, 32);
    }),
  },
  {
    name: 'start-manifest-longer-than-file',
    base: 'zstd',
    make: sealed((image) => {
      image.keepManifestFields = true;
      image.header.writeUInt32LE(16 * 1024 * 1024, 32);
    }),
  },
  {
    name: 'start-manifest-padding',
    base: 'zstd',
    make: sealed((image) => {
      while (image.startManifest.length % 8 !== 4) editStart(image, (manifest) => void (manifest.tool += ' '));
      image.startPadding = Buffer.from([0, 0, 0, 1]);
    }),
  },
];

const start = (name: string, change: (manifest: Json) => void, more: Partial<DamagedSample> = {}): DamagedSample => ({
  name: `start-${name}`,
  base: 'zstd',
  make: sealed((image) => editStart(image, change)),
  ...more,
});

const startText = (name: string, text: string): DamagedSample => ({
  name: `start-${name}`,
  base: 'zstd',
  make: sealed((image) => {
    image.startManifest = Buffer.from(text, 'latin1');
  }),
});

const region = (fields: Json) => (manifest: Json) => void Object.assign(manifest.regions[0], fields);

const startManifests: DamagedSample[] = [
  startText('no-json', '{"tool":'),
  startText('array', '[]'),
  startText('null', 'null'),
  startText('no-utf-8', '{"tool":"\xff\xfe"}'),
  startText('proto', '{"__proto__":{"pageSize":4096,"segmentSize":1048576,"chunkSize":16384,"regions":[]}}'),
  startText('deep', `${'['.repeat(2000)}${']'.repeat(2000)}`),
  start('page-size-string', (m) => void (m.pageSize = '4096')),
  start('page-size-0', (m) => void (m.pageSize = 0)),
  start('page-size-3000', (m) => void (m.pageSize = 3000)),
  start('page-size-huge', (m) => void (m.pageSize = 2 ** 40)),
  start('segment-size-huge', (m) => void (m.segmentSize = 2 ** 40)),
  start('segment-size-0', (m) => void (m.segmentSize = 0)),
  start('chunk-size-huge', (m) => void (m.chunkSize = 2 ** 31)),
  start('chunk-larger-than-segment', (m) => void (m.chunkSize = 2 * 2 ** 20)),
  start('unknown-codec', (m) => void (m.codec = { name: 'lz77' }), { code: 'UNSUPPORTED' }),
  start('codec-array', (m) => void (m.codec = ['zstd'])),
  start('codec-of-another-alignment', (m) => void (m.codec = { name: 'none' })),
  start('labels-of-numbers', (m) => void (m.labels = { a: 1 })),
  start('machine-string', (m) => void (m.machine = 'vm')),
  start('no-regions', (m) => void (m.regions = [])),
  start('regions-object', (m) => void (m.regions = { length: 1 })),
  start('region-size-negative', region({ sizeBytes: -4096 })),
  start('region-size-0', region({ sizeBytes: 0 })),
  start('region-size-odd', region({ sizeBytes: 4097 })),
  start('region-size-null', region({ sizeBytes: null })),
  start('region-size-fraction', region({ sizeBytes: 4096.5 })),
  start('region-size-huge', region({ sizeBytes: 2 ** 53 - 4096 })),
  start('region-gpa-unaligned', region({ gpa: 100 })),
  start('region-gpa-null', region({ gpa: null })),
  start('region-gpa-beyond', region({ gpa: 2 ** 53 })),
  start('region-name-empty', region({ name: '' })),
  start('region-name-control', region({ name: 'ram\n' })),
  start('region-name-long', region({ name: 'r'.repeat(256) })),
  start('region-name-surrogate', region({ name: '\ud800' })),
  start('regions-overlap', (m) => void m.regions.push({ name: 'other', gpa: 4096, sizeBytes: 4096 })),
  start('regions-of-one-name', (m) => void m.regions.push({ ...m.regions[0], gpa: 2 ** 40 })),
  start('open-size-not-last', (m) => {
    m.regions.unshift({ name: 'open', gpa: 2 ** 40 });
  }),
];

const end = (name: string, change: (manifest: Json) => void, more: Partial<DamagedSample> = {}): DamagedSample => ({
  name: `end-${name}`,
  base: 'zstd',
  make: sealed((image) => editEnd(image, change)),
  ...more,
});

const attachments = (name: string, names: readonly string[]) =>
  end(`attachment-${name}`, (m) => {
    const offset = m.attachments[0].offset as number;
    m.attachments = names.map((n, i) => ({
      ...m.attachments[0],
      name: n,
      offset,
      sizeBytes: i === 0 ? m.attachments[0].sizeBytes : 0,
    }));
  });

const endManifests: DamagedSample[] = [
  attachments('outside', ['../evil']),
  attachments('absolute', ['/etc/passwd']),
  attachments('dot-dot', ['..']),
  attachments('nul', ['a\0b']),
  attachments('empty-name', ['']),
  attachments('surrogate', ['\udfff']),
  attachments('twice', ['machine.txt', 'machine.txt']),
  end('attachment-size-wrong', (m) => void (m.attachments[0].sizeBytes += 1), { passes: 'both' }),
  end('attachment-size-huge', (m) => void (m.attachments[0].sizeBytes = 2 ** 53 - 1), { passes: 'both' }),
  end('attachment-unnamed', (m) => void (m.attachments = []), { passes: 'both' }),
  end('attachments-proto', (m) => void (m.attachments = { __proto__: [] })),
  end('region-size-huge', (m) => void (m.regions[0].sizeBytes = 2 ** 53 - 4096)),
  end('region-size-other', (m) => void (m.regions[0].sizeBytes += 4096)),
  end('region-missing', (m) => void (m.regions = [])),
  end('sum-wrong', (m) => void (m.regions[0].sum = '0'.repeat(32))),
  end('sum-no-hex', (m) => void (m.regions[0].sum = 'g'.repeat(32))),
  end('digest-wrong', (m) => void (m.digest = 'f'.repeat(32))),
  end('pages-do-not-add-up', (m) => void (m.pages.zero += 1)),
  end(
    'pages-swapped',
    (m) => {
      m.pages.data += 1;
      m.pages.zero -= 1;
    },
    { passes: 'both' },
  ),
  end('pages-negative', (m) => void (m.pages.zero = -1)),
  end('chunks-wrong', (m) => void (m.chunks.count += 1), { passes: 'both' }),
  end('source-string', (m) => void (m.source.mayHaveChanged = 'no')),
];

const record = (
  name: string,
  change: (image: ForgedImage) => void,
  more: Partial<DamagedSample> = {},
): DamagedSample => ({
  name: `record-${name}`,
  base: 'zstd',
  make: sealed(change),
  ...more,
});

const prefix = (
  name: string,
  kind: 'VSEG' | 'VEND' | 'VLST' | 'VIDX' | 'VATT',
  edit: (prefix: Buffer) => void,
  more: Partial<DamagedSample> = {},
) => record(name, (image) => void (recordOf(image, kind).editPrefix = edit), more);

const swap = (image: ForgedImage, a: number, b: number) => {
  [image.records[a], image.records[b]] = [image.records[b]!, image.records[a]!];
};

const records: DamagedSample[] = [
  record('spliced', (image) => void (recordOf(image, 'VSEG').editPrefix = (p) => void p.writeBigUInt64LE(0x1234n, 24))),
  prefix('chain-wrong', 'VIDX', (p) => void p.writeUInt32LE(0x1234, 48), { passes: 'file' }),
  prefix('offset-wrong', 'VSEG', (p) => void p.writeBigUInt64LE(8n, 16)),
  prefix('previous-wrong', 'VIDX', (p) => void p.writeBigUInt64LE(0n, 40), { passes: 'file' }),
  prefix('reserved-bytes', 'VSEG', (p) => void p.writeUInt8(1, 53)),
  prefix('unknown-kind', 'VSEG', (p) => void p.write('VNEW', 0, 'latin1')),
  prefix('tables-huge', 'VSEG', (p) => void p.writeUInt32LE(0xffff_fff8, 4)),
  prefix('payload-huge', 'VSEG', (p) => void p.writeBigUInt64LE(2n ** 62n, 8)),
  prefix('payload-beyond-file', 'VSEG', (p) => void p.writeBigUInt64LE(1024n * 1024n, 8)),
  prefix('segment-beyond-memory', 'VSEG', (p) => void p.writeBigUInt64LE(2n ** 40n, 32)),
  prefix('attachment-payload-huge', 'VATT', (p) => void p.writeBigUInt64LE(100n * 2n ** 20n, 8), { passes: 'file' }),
  prefix('end-subject', 'VEND', (p) => void p.writeBigUInt64LE(1n, 32)),
  prefix('list-subject', 'VLST', (p) => void p.writeBigUInt64LE(7n, 32)),
  record('duplicated', (image) => void image.records.splice(1, 0, { ...recordOf(image, 'VSEG') }), { passes: 'file' }),
  record('reordered', (image) => swap(image, 0, 1), { passes: 'file' }),
  record('missing', (image) => void image.records.splice(0, 1)),
  record(
    'end-manifest-twice',
    (image) => {
      const at = image.records.indexOf(recordOf(image, 'VEND'));
      image.records.splice(at, 0, { ...image.records[at]! });
    },
    { passes: 'file' },
  ),
  record('segment-after-end-manifest', (image) => {
    const at = image.records.indexOf(recordOf(image, 'VEND'));
    image.records.splice(at + 1, 0, image.records.shift()!);
  }),
  record('index-list-before-end-manifest', (image) => swap(image, image.records.length - 2, image.records.length - 1)),
  record('no-index-list', (image) => void image.records.pop()),
  record('padding', (image) => {
    const segment = image.records.find(({ kind, payload }) => kind === 'VSEG' && payload.length % ALIGNMENT !== 0)!;
    segment.padding = Buffer.alloc(ALIGNMENT - (segment.payload.length % ALIGNMENT), 1);
  }),
  {
    name: 'record-of-another-image',
    base: 'zstd',
    make: (valid, others) => {
      const own = takeApart(valid);
      const other = others.get('zlib')!;
      const binding = other.readBigUInt64LE(offsetOf(other, 'VSEG') + 24);
      recordOf(own, 'VSEG').editPrefix = (p) => void p.writeBigUInt64LE(binding, 24);
      return seal(own);
    },
  },
];

const segment = (
  name: string,
  change: (image: ForgedImage) => void,
  more: Partial<DamagedSample> = {},
): DamagedSample => ({
  name: `segment-${name}`,
  base: 'zstd',
  make: sealed(change),
  ...more,
});

const count = (name: string, at: number, value: number, more: Partial<DamagedSample> = {}) =>
  segment(name, (image) => void recordOf(image, 'VSEG').tables.writeUInt32LE(value, at), more);

/** The state map of the first segment, changed. */
const map = (name: string, change: (map: Buffer) => Buffer, more: Partial<DamagedSample> = {}) =>
  segment(
    `map-${name}`,
    (image) => {
      const first = recordOf(image, 'VSEG');
      const { mapAt, mapBytes } = segmentLayout(first);
      replaceStateMap(first, change(Buffer.from(first.tables.subarray(mapAt, mapAt + mapBytes))), ALIGNMENT);
    },
    more,
  );

const unknownStates = [3, 4, 5, 6, 7, 8, 11, 15].map((state) =>
  map(
    `state-${state}`,
    (bytes) => {
      bytes[0] = (bytes[0]! & 0xf0) | state;
      return bytes;
    },
    { code: 'UNSUPPORTED' },
  ),
);

const segments: DamagedSample[] = [
  ...unknownStates,
  map('empty', () => Buffer.alloc(0)),
  map('short', (bytes) => bytes.subarray(0, bytes.length - 3)),
  map('cut-off', (bytes) => Buffer.concat([bytes, Buffer.from([0x80])])),
  map('too-long', (bytes) => Buffer.concat([bytes, Buffer.from([0x01])])),
  map('superfluous-byte', (bytes) => Buffer.concat([Buffer.from([bytes[0]! | 0x80, 0]), bytes.subarray(1)])),
  map('split-run', (bytes) => Buffer.concat([Buffer.from([bytes[0]! - 16, bytes[0]! & 15]), bytes.subarray(1)])),
  map('four-byte-run', (bytes) => Buffer.concat([Buffer.from([0x81, 0x80, 0x80, 0x01]), bytes.subarray(1)])),
  count('map-length-huge', 0, 0xffff_ffff),
  count('uniform-count-huge', 4, 0xffff_ffff),
  count('references', 8, 1, { code: 'UNSUPPORTED' }),
  count('data-count-huge', 12, 0xffff_ffff),
  count('data-count-wrong', 12, 5),
  count('chunk-count-huge', 16, 0xffff_ffff),
  count('leaf-count-huge', 20, 0xffff_ffff),
  count('leaf-count-0', 20, 0),
  segment('leaf-wrong', (image) => void (recordOf(image, 'VSEG').tables[24]! ^= 1)),
  segment('uniform-word-0', (image) => {
    const first = recordOf(image, 'VSEG');
    first.tables.writeBigUInt64LE(0n, segmentLayout(first).wordsAt);
  }),
  segment('tables-end-not-zero', (image) => {
    const first = recordOf(image, 'VSEG');
    first.tables = Buffer.concat([first.tables, Buffer.from([0, 0, 0, 0, 0, 0, 0, 1])]);
  }),
  segment('tables-too-short', (image) => void (recordOf(image, 'VSEG').tables = Buffer.alloc(16))),
];

const chunk = (name: string, make: (stored: Buffer) => Buffer, base = 'zstd'): DamagedSample => ({
  name: `chunk-${name}`,
  base,
  make: sealed((image) => {
    const first = recordOf(image, 'VSEG');
    const stored = first.payload.subarray(0, first.tables.readUInt32LE(segmentLayout(first).chunksAt));
    replaceChunk(first, 0, make(Buffer.from(stored)));
  }),
});

const CHUNK_BYTES = 16 * 1024;

const chunks: DamagedSample[] = [
  chunk('no-frame', (stored) => stored.fill(0x55)),
  chunk('empty', () => Buffer.alloc(0)),
  chunk('longer-than-raw', () => Buffer.alloc(4096 + 8, 1), 'stored-chunk'),
  chunk('decompresses-to-more', () => zstd.compress(Buffer.alloc(64 * 2 ** 20))),
  chunk('decompresses-to-less', () => zstd.compress(Buffer.alloc(4096))),
  chunk('two-frames', (stored) => Buffer.concat([stored, zstd.compress(Buffer.alloc(0))])),
  chunk('half-frames', () => {
    const half = zstd.compress(Buffer.alloc(CHUNK_BYTES / 2, 'x'));
    return Buffer.concat([half, half]);
  }),
  chunk('skippable-frame', (stored) => Buffer.concat([Buffer.from('502a4d1800000000', 'hex'), stored])),
  chunk('frame-content-size-wrong', (stored) => {
    const descriptor = stored[4]!;
    const at = descriptor & 0x20 ? 5 : 6;
    stored[at]! ^= 1;
    return stored;
  }),
  chunk('frame-cut-off', (stored) => stored.subarray(0, stored.length - 3)),
  chunk('frame-last-byte', (stored) => {
    stored[stored.length - 1]! ^= 1;
    return stored;
  }),
  chunk('other-memory', () => zstd.compress(Buffer.alloc(CHUNK_BYTES, 'other'))),
  chunk('zlib-longer', () => deflateSync(Buffer.alloc(2 ** 20)), 'zlib'),
  chunk('zlib-shorter', () => deflateSync(Buffer.alloc(4096)), 'zlib'),
  chunk('zlib-more-behind', (stored) => Buffer.concat([stored, Buffer.from('x')]), 'zlib'),
  chunk(
    'zlib-adler',
    (stored) => {
      stored[stored.length - 1]! ^= 1;
      return stored;
    },
    'zlib',
  ),
];

/** Changes the payload of an index structure and seals it as it is then. */
const index = (
  name: string,
  kind: 'VIDX' | 'VLST',
  change: (payload: Buffer, image: Buffer) => void,
  more: Partial<DamagedSample> = {},
): DamagedSample => ({
  name: `index-${name}`,
  base: 'zstd',
  make: (valid) =>
    forge(valid, (image) => {
      const found = recordOf(image, kind);
      change(found.payload, valid);
      found.asIs = true;
    }),
  passes: 'pipe',
  ...more,
});

const indexes: DamagedSample[] = [
  index('points-outside', 'VIDX', (payload) => void payload.writeBigUInt64LE(2n ** 40n, 0)),
  index('points-beyond-2-53', 'VIDX', (payload) => void payload.writeBigUInt64LE(2n ** 63n + 1n, 0)),
  index('points-at-header', 'VIDX', (payload) => void payload.writeBigUInt64LE(8n, 0)),
  index('points-at-other-segment', 'VIDX', (payload) => void payload.copy(payload, 0, 64, 96)),
  index(
    'points-at-itself',
    'VIDX',
    (payload, image) => void payload.writeBigUInt64LE(BigInt(offsetOf(image, 'VIDX')), 0),
  ),
  index('head-length-0', 'VIDX', (payload) => void payload.writeUInt32LE(0, 8)),
  index('head-length-huge', 'VIDX', (payload) => void payload.writeUInt32LE(0xffff_fff8, 8)),
  index('payload-length-huge', 'VIDX', (payload) => void payload.writeUInt32LE(0xffff_fff8, 12)),
  index('prefix-crc-wrong', 'VIDX', (payload) => void payload.writeUInt32LE(1, 16)),
  index('data-count-wrong', 'VIDX', (payload) => void payload.writeUInt16LE(99, 20)),
  index('reference-count', 'VIDX', (payload) => void payload.writeUInt16LE(1, 24)),
  index('reserved-bytes', 'VIDX', (payload) => void payload.writeUInt16LE(1, 30)),
  index('record-unnamed', 'VIDX', (payload) => void payload.fill(0, 0, 32)),
  index('hole-with-counts', 'VIDX', (payload) => void payload.writeUInt16LE(1, 32 + 20)),
  index('names-zero-segment', 'VIDX', (payload) => void payload.copy(payload, 32, 0, 32)),
  index('list-points-outside', 'VLST', (payload) => void payload.writeBigUInt64LE(2n ** 50n, 0)),
  index(
    'list-points-at-end-manifest',
    'VLST',
    (payload, image) => void payload.writeBigUInt64LE(BigInt(offsetOf(image, 'VEND')), 0),
  ),
  index('list-crc-wrong', 'VLST', (payload) => void payload.writeUInt32LE(1, 8)),
  index('list-reserved-bytes', 'VLST', (payload) => void payload.writeUInt32LE(1, 12)),
  index('list-without-block', 'VLST', (payload) => void payload.fill(0)),
  {
    name: 'index-list-too-long',
    base: 'zstd',
    make: sealed((image) => {
      const list = recordOf(image, 'VLST');
      list.payload = Buffer.concat([list.payload, Buffer.alloc(16)]);
      list.tables.writeUInt32LE(2, 0);
    }),
  },
  {
    name: 'index-entry-count-wrong',
    base: 'zstd',
    make: sealed((image) => void recordOf(image, 'VIDX').tables.writeUInt32LE(4096, 0)),
    passes: 'pipe',
  },
  {
    name: 'index-payload-crc-wrong',
    base: 'zstd',
    make: sealed((image) => {
      const block = recordOf(image, 'VIDX');
      block.tables.writeUInt32LE(1, 4);
      block.keepPayloadCrc = true;
    }),
  },
  {
    name: 'index-block-twice',
    base: 'zstd',
    make: sealed((image) => {
      const at = image.records.indexOf(recordOf(image, 'VIDX'));
      image.records.splice(at, 0, { ...image.records[at]! });
    }),
    passes: 'both',
  },
  {
    name: 'index-block-before-its-records',
    base: 'zstd',
    make: (valid) => {
      const image = takeApart(valid);
      const block = recordOf(image, 'VIDX');
      image.records.splice(image.records.indexOf(block), 1);
      image.records.unshift(block);
      // Where the records are that the block must name is known once everything has its place. Their CRCs depend on the
      // block's by the chain, and the block's on theirs, so the entries can only be wrong.
      const placed = seal(image);
      for (const n of [0, 1]) {
        const offset = offsetOf(placed, 'VSEG', n);
        const segment = Number(placed.readBigUInt64LE(offset + 32));
        block.payload.writeBigUInt64LE(BigInt(offset), segment * 32);
      }
      block.asIs = true;
      return seal(image);
    },
    passes: 'pipe',
  },
  {
    name: 'end-manifest-entry-count',
    base: 'zstd',
    make: sealed((image) => void recordOf(image, 'VEND').tables.writeUInt32LE(2, 0)),
  },
];

const footer = (name: string, edit: (footer: Buffer) => void, more: Partial<DamagedSample> = {}): DamagedSample => ({
  name: `footer-${name}`,
  base: 'zstd',
  make: sealed((image) => void (image.editFooter = edit)),
  ...more,
});

const footers: DamagedSample[] = [
  footer('magic', (f) => void f.writeUInt8(0, 3)),
  footer('file-length', (f) => void f.writeBigUInt64LE(1n, 8)),
  footer('end-manifest-outside', (f) => void f.writeBigUInt64LE(2n ** 50n, 16)),
  footer('end-manifest-at-footer', (f) => void f.writeBigUInt64LE(f.readBigUInt64LE(8) - 96n, 16)),
  footer('index-list-at-header', (f) => void f.writeBigUInt64LE(0n, 24)),
  footer('segments', (f) => void f.writeBigUInt64LE(99n, 32)),
  footer('records', (f) => void f.writeBigUInt64LE(99n, 40), { passes: 'both' }),
  footer('binding', (f) => void f.writeBigUInt64LE(1n, 48)),
  footer('last-crc', (f) => void f.writeUInt32LE(1, 56)),
  footer('reserved-60', (f) => void f.writeUInt8(1, 61)),
  footer('reserved-80', (f) => void f.writeUInt8(1, 85)),
  footer('identity', (f) => void f.writeUInt8(f[64]! ^ 1, 64)),
];

const attachment = (name: string, change: (tables: Buffer) => void): DamagedSample => ({
  name: `attachment-${name}`,
  base: 'zstd',
  make: sealed((image) => change(recordOf(image, 'VATT').tables)),
  passes: 'file',
});

const attachmentRecords: DamagedSample[] = [
  attachment('part-number', (tables) => void tables.writeUInt32LE(1, 0)),
  attachment('raw-length-0', (tables) => void tables.writeUInt32LE(0, 4)),
  attachment('raw-length-huge', (tables) => void tables.writeUInt32LE(0xffff_ffff, 4)),
  attachment('chunk-count-huge', (tables) => void tables.writeUInt32LE(0xffff_ffff, 8)),
  attachment('reserved-bytes', (tables) => void tables.writeUInt32LE(1, 12)),
  {
    name: 'attachment-number-beyond',
    base: 'zstd',
    make: sealed((image) => void (recordOf(image, 'VATT').subject = 77n)),
    passes: 'both',
  },
  {
    name: 'attachment-parts-apart',
    base: 'attachments',
    make: sealed((image) => {
      const parts = image.records.filter(({ kind }) => kind === 'VATT');
      const [last, first] = [image.records.indexOf(parts.at(-1)!), image.records.indexOf(parts[0]!)];
      const [moved] = image.records.splice(last, 1);
      image.records.splice(first + 1, 0, moved!);
    }),
    passes: 'file',
  },
];

/** Only a walk can meet these, in an image from a stream of unknown length. */
const openEnded: DamagedSample[] = [
  {
    name: 'open-short-segment',
    base: 'stream',
    // The first segment loses a run of zero pages: its leaf is the same, but what follows would move.
    make: sealed((image) => {
      const first = recordOf(image, 'VSEG');
      const { mapAt, mapBytes } = segmentLayout(first);
      const bytes = first.tables.subarray(mapAt, mapAt + mapBytes);
      replaceStateMap(first, Buffer.from(withoutLastRun(bytes)), ALIGNMENT);
    }),
  },
];

function withoutLastRun(map: Buffer): Buffer {
  let start = 0;
  for (let at = 0; at < map.length - 1; at++) if (map[at]! < 0x80) start = at + 1;
  return map.subarray(0, start);
}

const difference = (
  name: string,
  change: (image: ForgedImage) => void,
  more: Partial<DamagedSample> = {},
): DamagedSample => ({ name: `difference-${name}`, base: 'difference', make: sealed(change), ...more });

const differences: DamagedSample[] = [
  difference('base-without-feature', (image) => void image.header.writeBigUInt64LE(0n, 24), { code: 'UNSUPPORTED' }),
  difference(
    'state-4-without-feature',
    (image) => {
      image.header.writeBigUInt64LE(0n, 24);
      editStart(image, (m) => void delete m.base);
    },
    { code: 'UNSUPPORTED' },
  ),
  difference('feature-without-base', (image) => editStart(image, (m) => void delete m.base)),
  difference('identity-no-hex', (image) => editStart(image, (m) => void (m.base.identity = 'G'.repeat(32)))),
  difference('identity-short', (image) => editStart(image, (m) => void (m.base.identity = '00'))),
  difference('identity-missing', (image) => editStart(image, (m) => void delete m.base.identity)),
  difference('name-outside', (image) => editStart(image, (m) => void (m.base.fileName = '../zstd.vms'))),
  difference('name-dot-dot', (image) => editStart(image, (m) => void (m.base.fileName = '..'))),
  difference('name-empty', (image) => editStart(image, (m) => void (m.base.fileName = ''))),
  difference('base-string', (image) => editStart(image, (m) => void (m.base = 'zstd.vms'))),
  difference('open-size', (image) => editStart(image, (m) => void delete m.regions[0].sizeBytes)),
  difference('of-another-base', (image) => editStart(image, (m) => void (m.base.fileName = 'zlib.vms')), {
    code: 'BASE_MISMATCH',
  }),
  difference('of-no-base', (image) => editStart(image, (m) => void (m.base.identity = '0'.repeat(32))), {
    code: 'BASE_MISMATCH',
  }),
  difference('of-other-regions', (image) => editStart(image, (m) => void (m.regions[0].gpa = 2 ** 32)), {
    code: 'BASE_MISMATCH',
  }),
  difference('leaf-wrong', (image) => void (recordOf(image, 'VSEG').tables[24]! ^= 1)),
  difference('record-missing', (image) => void image.records.splice(0, 1)),
  difference(
    'pages-swapped',
    (image) =>
      editEnd(image, (m) => {
        m.pages.sameAsBase -= 1;
        m.pages.zero += 1;
      }),
    { passes: 'both' },
  ),
  difference(
    'index-same-count-wrong',
    (image) => {
      const block = recordOf(image, 'VIDX');
      block.payload.writeUInt16LE(block.payload.readUInt16LE(26) - 1, 26);
      block.asIs = true;
    },
    { passes: 'pipe' },
  ),
];

/** The last segment's `i`-th reference names another page. */
const reference = (name: string, i: number, target: bigint, more: Partial<DamagedSample> = {}): DamagedSample => ({
  name: `reference-${name}`,
  base: 'references',
  make: sealed((image) => {
    const last = recordOf(image, 'VSEG', 2);
    last.tables.writeBigUInt64LE(target, segmentLayout(last).referencesAt + 8 * i);
  }),
  ...more,
});

const PAGES_PER_SEGMENT = 256n;

const references: DamagedSample[] = [
  reference('forward', 0, 2n * PAGES_PER_SEGMENT + 2n),
  reference('to-a-later-segment', 0, 3n * PAGES_PER_SEGMENT),
  reference('to-itself', 0, 2n * PAGES_PER_SEGMENT),
  reference('beyond-memory', 0, 2n ** 40n),
  reference('beyond-2-53', 0, 2n ** 64n - 1n),
  reference('beyond-its-region', 0, PAGES_PER_SEGMENT + 16n),
  reference('to-zero-page', 0, 6n),
  reference('to-uniform-page', 0, 8n),
  reference('to-other-page', 0, 3n),
  reference('to-own-reference', 2, 2n * PAGES_PER_SEGMENT),
  {
    name: 'reference-to-reference',
    base: 'references',
    // Of other bytes.
    make: sealed((image) => {
      const last = recordOf(image, 'VSEG', 2);
      last.tables.writeBigUInt64LE(PAGES_PER_SEGMENT, segmentLayout(last).referencesAt);
    }),
  },
  {
    name: 'reference-to-reference-of-the-same-bytes',
    base: 'references',
    // Segment 1 has a reference to the same page.
    make: sealed((image) => {
      const last = recordOf(image, 'VSEG', 2);
      last.tables.writeBigUInt64LE(PAGES_PER_SEGMENT + 5n, segmentLayout(last).referencesAt);
    }),
    // What is there in the target are the right bytes; only a look at the record shows what it is.
    passes: 'both',
  },
  {
    name: 'reference-count-huge',
    base: 'references',
    make: sealed((image) => void recordOf(image, 'VSEG', 2).tables.writeUInt32LE(0xffff_ffff, 8)),
  },
  {
    name: 'reference-count-wrong',
    base: 'references',
    make: sealed((image) => void recordOf(image, 'VSEG', 2).tables.writeUInt32LE(2, 8)),
  },
  {
    name: 'reference-without-feature',
    base: 'references',
    make: sealed((image) => void image.header.writeBigUInt64LE(0n, 24)),
    code: 'UNSUPPORTED',
  },
  {
    name: 'reference-index-count-wrong',
    base: 'references',
    make: sealed((image) => {
      const block = recordOf(image, 'VIDX');
      block.payload.writeUInt16LE(0, 2 * 32 + 24);
      block.asIs = true;
    }),
    passes: 'pipe',
  },
  {
    name: 'reference-pages-swapped',
    base: 'references',
    make: sealed((image) =>
      editEnd(image, (m) => {
        m.pages.reference -= 1;
        m.pages.data += 1;
      }),
    ),
    passes: 'both',
  },
  {
    name: 'references-and-overriding-records',
    base: 'overriding',
    make: sealed((image) => void image.header.writeBigUInt64LE(5n, 24)),
  },
  {
    name: 'references-and-open-size',
    base: 'stream',
    make: sealed((image) => void image.header.writeBigUInt64LE(1n, 24)),
  },
];

const absentPages: DamagedSample[] = [
  {
    name: 'absent-without-feature',
    base: 'absent',
    make: sealed((image) => void image.header.writeBigUInt64LE(0n, 24)),
    code: 'UNSUPPORTED',
  },
  {
    name: 'absent-index-count-wrong',
    base: 'absent',
    make: sealed((image) => {
      const block = recordOf(image, 'VIDX');
      block.payload.writeUInt16LE(1, 28);
      block.asIs = true;
    }),
    passes: 'pipe',
  },
  {
    name: 'absent-pages-swapped',
    base: 'absent',
    make: sealed((image) =>
      editEnd(image, (m) => {
        m.pages.absent -= 1;
        m.pages.zero += 1;
      }),
    ),
    passes: 'both',
  },
];

const overriding = (
  name: string,
  change: (image: ForgedImage) => void,
  more: Partial<DamagedSample> = {},
): DamagedSample => ({ name: `overriding-${name}`, base: 'overriding', make: sealed(change), ...more });

const overridingRecords: DamagedSample[] = [
  overriding('without-feature', (image) => void image.header.writeBigUInt64LE(0n, 24), { passes: 'file' }),
  overriding(
    'index-names-none',
    (image) => {
      const block = recordOf(image, 'VIDX');
      block.payload.fill(0, 2 * 32, 3 * 32);
      block.asIs = true;
    },
    { passes: 'pipe' },
  ),
  overriding('last-record-missing', (image) => {
    image.records.splice(image.records.indexOf(recordOf(image, 'VSEG', 3)), 1);
  }),
  overriding(
    'state-earlier',
    (image) => replaceStateMap(recordOf(image, 'VSEG', 4), Buffer.from([0xf5, 0x01]), ALIGNMENT),
    { code: 'UNSUPPORTED' },
  ),
  overriding('open-size', (image) => editStart(image, (m) => void delete m.regions[0].sizeBytes)),
  overriding('too-many-segments', (image) => editStart(image, region({ sizeBytes: (2 ** 22 + 1) * 2 ** 20 }))),
];

/** What somebody without the key can do: all checksums, offsets and lengths are right again. */
const forgedSealed = (
  name: string,
  change: (parts: SealedParts, twin: SealedParts) => void,
  more: Partial<DamagedSample> = {},
): DamagedSample => ({
  name: `encrypted-${name}`,
  base: 'encrypted',
  make: (valid, others) => {
    const parts = takeSealedApart(valid);
    change(parts, takeSealedApart(others.get('encrypted-twin')!));
    return putTogether(parts);
  },
  ...more,
});

const recordIndex = ({ records }: SealedParts, kind: string, n = 0): number =>
  records.flatMap((record, i) => (record.toString('latin1', 0, 4) === kind ? [i] : []))[n]!;

const sealedRecord = (parts: SealedParts, kind: string, n = 0): Buffer => parts.records[recordIndex(parts, kind, n)]!;

const sealedPayloadAt = (record: Buffer): number => 64 + record.readUInt32LE(4);

/** Gives an image a changed file of age, which must be as long. */
function editWrappedKey({ manifest }: SealedParts, change: (wrapped: Buffer) => Buffer): void {
  const text = manifest.toString('latin1');
  const at = text.indexOf('"wrappedKey":"') + '"wrappedKey":"'.length;
  const wrapped = Buffer.from(text.slice(at, text.indexOf('"', at)), 'base64');
  manifest.write(change(wrapped).toString('base64'), at, 'latin1');
}

/** A stanza of age is text: another letter at its `at`th place. */
const otherLetter = (wrapped: Buffer, at: number): Buffer => {
  wrapped[at] = wrapped[at] === 0x41 ? 0x42 : 0x41;
  return wrapped;
};

const encrypted: DamagedSample[] = [
  { name: 'encrypted-truncated', base: 'encrypted', make: (valid) => valid.subarray(0, valid.length - 96) },
  { name: 'encrypted-flip-chunk', base: 'encrypted', make: flip((valid) => payloadOf(valid, 'VSEG') + 3) },
  forgedSealed('tables-changed', (parts) => void (sealedRecord(parts, 'VSEG')[64 + 30]! ^= 1)),
  forgedSealed('tables-tag-changed', (parts) => {
    const record = sealedRecord(parts, 'VSEG');
    record[sealedPayloadAt(record) - 1]! ^= 1;
  }),
  forgedSealed('chunk-changed', (parts) => {
    const record = sealedRecord(parts, 'VSEG');
    record[sealedPayloadAt(record) + 3]! ^= 1;
  }),
  forgedSealed('chunk-of-twin', (parts, twin) => {
    const record = sealedRecord(parts, 'VSEG');
    sealedRecord(twin, 'VSEG').copy(record, sealedPayloadAt(record), sealedPayloadAt(record));
  }),
  forgedSealed(
    'attachment-changed',
    (parts) => {
      const record = sealedRecord(parts, 'VATT');
      record[sealedPayloadAt(record) + 3]! ^= 1;
    },
    { passes: 'file' },
  ),
  forgedSealed('index-block-changed', (parts) => {
    const record = sealedRecord(parts, 'VIDX');
    record[sealedPayloadAt(record) + 3]! ^= 1;
  }),
  forgedSealed('end-manifest-changed', (parts) => {
    const record = sealedRecord(parts, 'VEND');
    record[sealedPayloadAt(record) + 3]! ^= 1;
  }),
  forgedSealed('index-list-of-twin', (parts, twin) => {
    parts.records[recordIndex(parts, 'VLST')] = sealedRecord(twin, 'VLST');
  }),
  forgedSealed('record-left-out', ({ records }) => void records.shift()),
  forgedSealed('records-swapped', ({ records }) => void records.splice(0, 2, records[1]!, records[0]!)),
  forgedSealed('record-repeated', ({ records }) => void records.splice(1, 0, records[0]!)),
  forgedSealed('record-of-twin', ({ records }, twin) => void (records[0] = twin.records[0]!)),
  forgedSealed('attachment-left-out', (parts) => void parts.records.splice(recordIndex(parts, 'VATT'), 1)),
  forgedSealed('subject-changed', (parts) => void sealedRecord(parts, 'VSEG').writeBigUInt64LE(1n, 32)),
  forgedSealed('header-tag-changed', ({ header }) => void (header[40]! ^= 1)),
  forgedSealed('header-reserved-bytes', ({ header }) => void (header[56]! ^= 1)),
  forgedSealed('footer-tag-changed', ({ footer }) => void (footer[80]! ^= 1)),
  forgedSealed('footer-of-twin', (parts, twin) => void (parts.footer = twin.footer)),
  forgedSealed('start-manifest-changed', ({ manifest }) => {
    manifest.write('"kind":"rao"', manifest.indexOf('"kind":"raw"'));
  }),
  forgedSealed('recipient-changed', (parts) => editWrappedKey(parts, (key) => otherLetter(key, key.indexOf('\n--- ') - 8)), {
    code: 'KEY',
  }),
  forgedSealed('age-mac-changed', (parts) => editWrappedKey(parts, (key) => otherLetter(key, key.indexOf('\n--- ') + 8))),
  forgedSealed('wrapped-key-of-twin', (parts, twin) => {
    let other = Buffer.alloc(0);
    editWrappedKey(twin, (key) => {
      other = Buffer.from(key);
      return key;
    });
    editWrappedKey(parts, () => other);
  }),
  forgedSealed('wrapped-key-no-base64', ({ manifest }) => {
    manifest.write('*', manifest.indexOf('"wrappedKey":"') + 20);
  }),
  forgedSealed('without-feature', ({ header }) => void header.fill(0, 24, 32).fill(0, 40, 56), { code: 'UNSUPPORTED' }),
  forgedSealed(
    'work-factor-19',
    (parts) => editWrappedKey(parts, (key) => Buffer.from(key.toString('latin1').replace(' 10\n', ' 19\n'), 'latin1')),
    { base: 'encrypted-passphrase' },
  ),
  {
    name: 'feature-encryption-without-wrapped-key',
    base: 'zstd',
    make: sealed((image) => void image.header.writeBigUInt64LE(8n, 24)),
  },
  {
    name: 'difference-of-encrypted-in-plain',
    base: 'difference',
    make: (valid, others) => {
      const base = others.get('encrypted')!;
      const identity = base.toString('hex', base.length - 32, base.length - 16);
      return forge(valid, (image) =>
        editStart(image, (m) => {
          m.base = { identity, fileName: 'encrypted.vms' };
        }),
      );
    },
    code: 'BASE_MISMATCH',
  },
];

export const DAMAGED: readonly DamagedSample[] = [
  ...broken,
  ...header,
  ...startManifests,
  ...endManifests,
  ...records,
  ...segments,
  ...chunks,
  ...indexes,
  ...footers,
  ...attachmentRecords,
  ...openEnded,
  ...differences,
  ...references,
  ...absentPages,
  ...overridingRecords,
  ...encrypted,
];
