/** Manifests: what is encoded is decoded again; of any JSON only what is right is taken. */
import test from 'ava';
import fc from 'fast-check';
import {
  decodeEndManifest,
  decodeStartManifest,
  type EndManifest,
  encodeEndManifest,
  encodeStartManifest,
  type StartManifest,
} from '../../formats/vmsnap/manifest.js';
import { VmsnapError } from '../../lib/index.js';

const START: StartManifest = {
  tool: 'vmsnap 1',
  createdAt: '2023-11-14T22:13:20Z',
  pageSize: 4096,
  segmentSize: 2 ** 20,
  chunkSize: 16_384,
  codec: { name: 'zstd', level: -3 },
  machine: { name: 'vm', uuid: undefined },
  labels: new Map([['a', '1']]),
  source: { kind: 'raw', name: 'memory' },
  base: undefined,
  encryption: undefined,
  regions: [
    { name: 'low', gpa: 0, sizeBytes: 8192 },
    { name: 'high', gpa: 2 ** 32, sizeBytes: undefined },
  ],
};

const END: EndManifest = {
  regions: [
    { sizeBytes: 8192, sum: '0'.repeat(32) },
    { sizeBytes: 4096, sum: 'f'.repeat(32) },
  ],
  digest: '1'.repeat(32),
  pages: { zero: 1, data: 1, uniform: 1, reference: 0, sameAsBase: 0, absent: 0 },
  chunks: { count: 1, stored: 100, raw: 0 },
  source: { mayHaveChanged: false },
  attachments: [{ name: 'ä.txt', sizeBytes: 5, offset: 4096 }],
};

const text = fc.string({ unit: 'grapheme', maxLength: 20 });
const labels = fc.array(fc.tuple(fc.oneof(text, fc.constantFrom('__proto__', 'constructor', '10', '9')), text));

test('a start manifest with any labels comes back, whatever their order', (t) => {
  fc.assert(
    fc.property(labels, (pairs) => {
      const manifest = { ...START, labels: new Map(pairs) };
      const json = encodeStartManifest(manifest);
      const decoded = decodeStartManifest(json, 'i', 64);
      t.deepEqual([...decoded.labels].sort(), [...manifest.labels].sort());
      t.deepEqual({ ...decoded, labels: 0 }, { ...manifest, labels: 0 });
      const reversed = new Map([...manifest.labels].reverse());
      t.true(encodeStartManifest({ ...manifest, labels: reversed }).equals(json));
    }),
  );
});

test('a writer makes no manifest that readers would refuse for its brackets', (t) => {
  const most = 262_144 - encodeStartManifest(START).toString().split(/[[{]/).length + 1;
  const labels = (count: number) => new Map([['a', '['.repeat(count)]]);
  t.notThrows(() => decodeStartManifest(encodeStartManifest({ ...START, labels: labels(most) }), 'i', 64));
  const error = t.throws(() => encodeStartManifest({ ...START, labels: labels(most + 1) }), {
    instanceOf: VmsnapError,
  });
  t.is(error.code, 'USAGE');
});

test('an end manifest comes back', (t) => {
  t.deepEqual(decodeEndManifest(encodeEndManifest(END), START, 'i', 0), END);
});

/** Every value of the JSON in turn becomes something else: it is refused, or what was read is still of the right types. */
const ODD = [undefined, null, true, -1, 0.5, 2 ** 53, 1e300, '', 'x', '\0', [], [1], {}, { __proto__: null }];

function* mutants(value: unknown, put: (changed: unknown) => unknown): Generator<unknown> {
  for (const odd of ODD) yield put(odd);
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    yield* mutants(inner, (changed) => {
      if (Array.isArray(value)) return put(value.with(Number(key), changed));
      return put({ ...value, [key]: changed });
    });
  }
}

for (const [name, json, decode] of [
  ['start', encodeStartManifest(START), (bytes: Buffer) => decodeStartManifest(bytes, 'i', 64)],
  ['end', encodeEndManifest(END), (bytes: Buffer) => decodeEndManifest(bytes, START, 'i', 64)],
] as const) {
  test(`a ${name} manifest with any value of another type is refused, or has the right types`, (t) => {
    const original = typesOf(decode(Buffer.from(json)));
    let refused = 0;
    for (const mutant of mutants(JSON.parse(json.toString()), (changed) => changed)) {
      try {
        const decoded = decode(Buffer.from(JSON.stringify(mutant) ?? ''));
        t.true(sameTypes(typesOf(decoded), original), JSON.stringify(mutant));
      } catch (error) {
        t.true(error instanceof VmsnapError, `${JSON.stringify(mutant)}: ${error}`);
        refused++;
      }
    }
    t.true(refused > 100);
  });
}

type Types = Map<string, string>;

/** The type of every value, by its path; items of an array share one. */
function typesOf(value: unknown, path = '', types: Types = new Map()): Types {
  types.set(path, value instanceof Map ? 'map' : Array.isArray(value) ? 'array' : typeof value);
  if (typeof value === 'object' && value !== null && !(value instanceof Map)) {
    for (const [key, inner] of Object.entries(value)) {
      typesOf(inner, `${path}/${Array.isArray(value) ? '*' : key}`, types);
    }
  }
  return types;
}

/** Optional values may be missing. */
function sameTypes(found: Types, expected: Types): boolean {
  return [...found].every(
    ([path, type]) => type === 'undefined' || type === expected.get(path) || expected.get(path) === 'undefined',
  );
}
