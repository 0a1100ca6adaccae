/** State maps: what is encoded is decoded again, and every map has one form only. */
import test from 'ava';
import fc from 'fast-check';
import { FEATURE_ABSENT, FEATURE_BASE, FEATURE_REFERENCES } from '../../formats/vmsnap/layout.js';
import { allowedStates, decodeStateMap, encodeStateMap, stateMapMaxBytes } from '../../formats/vmsnap/stateMap.js';
import { VmsnapError } from '../../lib/index.js';

const PAGES_MAX = 16_384;

function encode(states: Uint8Array): Buffer {
  const out = Buffer.alloc(stateMapMaxBytes(states.length) + 1, 0xee);
  const bytes = encodeStateMap(states, states.length, out, 0);
  return out.subarray(0, bytes);
}

function decode(map: Uint8Array, pagesMax = PAGES_MAX): Uint8Array {
  const states = new Uint8Array(pagesMax);
  return states.subarray(0, decodeStateMap(map, 0, map.length, states, allowedStates(0n), 'image', 0));
}

const runs = fc.array(
  fc.record({
    state: fc.integer({ min: 0, max: 2 }),
    pages: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 5000 })),
  }),
  { maxLength: 3 },
);
const maps = fc.oneof(
  runs.map((list) => Uint8Array.from(list.flatMap(({ state, pages }) => Array<number>(pages).fill(state)))),
  fc.uint8Array({ max: 2, maxLength: 600 }),
);

test('what is encoded is decoded again, within the bound of its length', (t) => {
  fc.assert(
    fc.property(maps, (states) => {
      const map = encode(states);
      t.true(map.length <= stateMapMaxBytes(states.length));
      t.true(Buffer.from(decode(map)).equals(states));
    }),
  );
  t.true(Buffer.from(decode(encode(new Uint8Array(PAGES_MAX).fill(2)))).equals(new Uint8Array(PAGES_MAX).fill(2)));
});

test('any bytes are refused, or are the one form of what they decode to', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 12 }), (bytes) => {
      let states: Uint8Array;
      try {
        states = decode(bytes);
      } catch (error) {
        t.true(error instanceof VmsnapError);
        return;
      }
      t.true(encode(states).equals(bytes));
    }),
    { numRuns: 20_000 },
  );
});

const REFUSED: readonly [string, number[], 'CORRUPT' | 'UNSUPPORTED'][] = [
  ['a run that is cut off', [0x80], 'CORRUPT'],
  ['a run of four bytes', [0x81, 0x80, 0x80, 0x01], 'CORRUPT'],
  ['a superfluous byte', [0x81, 0x00], 'CORRUPT'],
  ['two superfluous bytes', [0x81, 0x80, 0x00], 'CORRUPT'],
  ['neighbours of one state', [0x01, 0x11], 'CORRUPT'],
  ['more pages than a segment has', [0xf1, 0xff, 0x7f], 'CORRUPT'],
  ...[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map(
    (state) => [`state ${state}`, [state], 'UNSUPPORTED'] as [string, number[], 'UNSUPPORTED'],
  ),
];

for (const [what, bytes, code] of REFUSED) {
  test(`refused: ${what}`, (t) => {
    const error = t.throws(() => decode(Uint8Array.from(bytes), 256), { instanceOf: VmsnapError });
    t.is(error.code, code);
  });
}

test('"same as base", "reference" and "absent" are states only where the header says so', (t) => {
  const states = new Uint8Array(8);
  const decodeWith = (features: bigint, ...wanted: number[]) => {
    const out = Buffer.alloc(16);
    const bytes = encodeStateMap(Uint8Array.from(wanted), wanted.length, out, 0);
    const pages = decodeStateMap(out, 0, bytes, states, allowedStates(features), 'image', 0);
    return [...states.subarray(0, pages)];
  };
  t.deepEqual(decodeWith(FEATURE_BASE, 4, 4, 1, 0, 4), [4, 4, 1, 0, 4]);
  t.deepEqual(decodeWith(FEATURE_ABSENT, 6, 0, 6, 6, 2), [6, 0, 6, 6, 2]);
  t.throws(() => decodeWith(0n, 4), { message: /page state same-as-base/ });
  t.throws(() => decodeWith(FEATURE_ABSENT, 1, 4), { message: /page state same-as-base/ });
  t.throws(() => decodeWith(0n, 6), { message: /page state absent/ });
  t.throws(() => decodeWith(FEATURE_BASE, 1, 6), { message: /page state absent/ });
  const everyFeature = 2n ** 64n - 1n;
  t.throws(() => decodeWith(FEATURE_BASE, 3), { message: /page state reference/ });
  t.deepEqual(decodeWith(FEATURE_REFERENCES, 1, 3, 3), [1, 3, 3]);
  for (const state of [5, 7, 8, 15]) t.throws(() => decodeWith(everyFeature, state), { message: /page state/ });
});
