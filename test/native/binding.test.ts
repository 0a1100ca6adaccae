/** The seam to the addon from its JavaScript side: a wrong argument is an exception, never a crash. */
import { closeSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { native } from '../../native/binding.js';

type Call = (...args: unknown[]) => unknown;

/** Each function with arguments that are right; -1 is a descriptor that is not open where the call may go through. */
const abort = new Int32Array(new SharedArrayBuffer(4));
const states = Uint8Array.of(0, 1, 2);
const page = 4096;
const SOUND: Record<string, unknown[]> = {
  crc32c: [new Uint8Array(8), 0, 8, 0],
  xxh3: [new Uint8Array(8), 0, 8, new Uint8Array(16), 0],
  compareSegments: [
    ...[states, 3, page, new Uint8Array(page), new BigUint64Array(1)],
    ...[states, 3, page, new Uint8Array(page), new BigUint64Array(1)],
    ...[new Uint8Array(3), new Float64Array(5)],
  ],
  // No page is the same as the base's, so the states stay what they are.
  diffSegment: [
    ...[Uint8Array.of(1, 1, 2), 3, page, new Uint8Array(2 * page), new BigUint64Array(1)],
    ...[new Uint8Array(2), new Uint8Array(3), new BigUint64Array(0), new Float64Array(5)],
  ],
  matchPages: [new Uint8Array(page), page, new Int32Array(1), 0, 1, new Uint8Array(page), new Uint8Array(1)],
  scatterPages: [new Uint8Array(page), page, new Int32Array(1), 0, 1, new Uint8Array(page)],
  digestSegment: [states, 3, page, new Uint8Array(page), new BigUint64Array(1), new Uint8Array(16)],
  addLeaves: [0, 0, new Uint8Array(16), 1, new BigUint64Array(2)],
  writeSegment: [1e6, 0, states, 3, page, new Uint8Array(page), new BigUint64Array(1), 0, new Float64Array(1)],
  expandSegment: [states, 3, page, new Uint8Array(page), new BigUint64Array(1), new Uint8Array(3 * page)],
  zeroRange: [1e6, 0, 0, false],
  seekData: [1e6, 0, 10],
  allocate: [1e6, 0, 10],
  residentShare: [1e6, 0, 10],
  dropCache: [1e6, 0, 10],
  startWriteback: [1e6, 0, 10],
  readStream: [1e6, new Uint8Array(8), 0, 8, abort, 0],
  writeStream: [1e6, new Uint8Array(8), 0, 8, abort, 0],
  tryLock: [1e6],
  takeReadLease: [1e6],
  readLeaseHeld: [1e6],
  releaseLease: [1e6],
  renameNoReplace: ['/nonexistent/a', '/nonexistent/b'],
  blockDeviceSize: [1e6],
  fileSystemType: [1e6],
};

const WRONG: readonly unknown[] = [
  undefined,
  null,
  'text',
  {},
  [],
  () => {},
  Symbol('wrong'),
  10n,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  -1,
  1.5,
  2 ** 60,
  new Uint8Array(0),
  new Uint16Array(64),
  new DataView(new ArrayBuffer(64)),
  new ArrayBuffer(64),
];

/** A call must come back, with a value or with one of these two. */
function staysSound(t: ExecutionContext, what: string, call: () => unknown): void {
  try {
    call();
  } catch (error) {
    t.true(error instanceof TypeError || error instanceof RangeError, `${what}: ${String(error)}`);
  }
}

for (const [name, sound] of Object.entries(SOUND)) {
  const call = (native as unknown as Record<string, Call>)[name]!.bind(native);

  test(`${name}: right arguments are taken`, (t) => {
    t.notThrows(() => call(...sound));
  });

  test(`${name}: each wrong argument is refused or harmless`, (t) => {
    t.throws(() => call(), { instanceOf: TypeError });
    for (const [i] of sound.entries()) {
      t.throws(() => call(...sound.slice(0, i)), undefined, `only ${i} arguments`);
      for (const wrong of WRONG) {
        staysSound(t, `${name}, argument ${i}`, () => call(...sound.with(i, wrong)));
      }
    }
  });
}

test('offsets and lengths beyond the array are refused', (t) => {
  const bytes = new Uint8Array(16);
  for (const [offset, length] of [
    [0, 17],
    [17, 0],
    [16, 1],
    [1, 16],
    [2 ** 53 - 1, 1],
    [1, 2 ** 53 - 1],
  ] as const) {
    t.throws(() => native.crc32c(bytes, offset, length, 0), { instanceOf: RangeError });
    t.throws(() => native.readStream(0, bytes, offset, length, abort, 0), { instanceOf: RangeError });
  }
  t.throws(() => native.xxh3(bytes, 0, 16, new Uint8Array(16), 1), { instanceOf: RangeError });
  t.throws(() => native.readStream(0, bytes, 0, 16, abort, 1), { instanceOf: RangeError });
  t.is(native.crc32c(bytes, 16, 0, 0), 0);
});

test('a segment whose arrays are too short, or whose states are unknown, is refused', (t) => {
  const data = new Uint8Array(page);
  const words = new BigUint64Array(1);
  const out = new Uint8Array(3 * page);
  const expand = (...args: Parameters<typeof native.expandSegment>) => native.expandSegment(...args);
  t.throws(() => expand(states, 4, page, data, words, new Uint8Array(4 * page)), { instanceOf: RangeError });
  t.throws(() => expand(Uint8Array.of(1, 1), 2, page, data, words, out), { instanceOf: RangeError });
  t.throws(() => expand(Uint8Array.of(2, 2), 2, page, data, words, out), { instanceOf: RangeError });
  t.throws(() => expand(Uint8Array.of(3), 1, page, data, words, out), { instanceOf: RangeError });
  t.throws(() => expand(states, 3, 5000, data, words, out), { instanceOf: RangeError });
  t.throws(() => expand(states, 3, page, data, words, new Uint8Array(3 * page - 1)), { instanceOf: RangeError });
  t.throws(() => native.digestSegment(states, 3, page, data, words, new Uint8Array(15)), { instanceOf: RangeError });
  t.throws(() => native.addLeaves(0, 0, new Uint8Array(31), 2, new BigUint64Array(2)), { instanceOf: RangeError });
  t.throws(() => native.addLeaves(0, 0, new Uint8Array(16), 1, new BigUint64Array(1)), { instanceOf: RangeError });
});

test('pages of a chunk that are not there, or that belong nowhere, are refused', (t) => {
  const pages = new Uint8Array(2 * page);
  const data = new Uint8Array(3 * page);
  const refused = { instanceOf: RangeError };
  for (const [targets, first, count] of [
    [[0, 3], 0, 2],
    [[2, 3], 0, 2],
    [[0, 2 ** 31 - 1], 0, 2],
    [[0, 1], 1, 2],
    [[0, 1], 3, 0],
    [[0, 1, 2], 0, 3],
  ] as const) {
    const numbers = Int32Array.from(targets);
    t.throws(() => native.scatterPages(pages, page, numbers, first, count, data), refused);
    t.throws(() => native.matchPages(pages, page, numbers, first, count, data, new Uint8Array(3)), refused);
  }
  const inside = Int32Array.of(2, -1);
  t.notThrows(() => native.scatterPages(pages, page, inside, 0, 2, data));
  t.throws(() => native.matchPages(pages, page, inside, 0, 2, data, new Uint8Array(2)), refused);
  const same = new Uint8Array(3);
  native.matchPages(pages, page, inside, 0, 2, data, same);
  t.deepEqual(same, Uint8Array.of(0, 0, 1));
});

test('a base whose arrays are too short, or whose states are unknown, is refused', (t) => {
  const words = new BigUint64Array(1);
  const diff = (same: Uint8Array, baseStates: Uint8Array, baseWords: BigUint64Array) =>
    native.diffSegment(
      Uint8Array.of(0, 1, 2),
      3,
      page,
      new Uint8Array(page),
      words,
      same,
      baseStates,
      baseWords,
      new Float64Array(5),
    );
  const refused = { instanceOf: RangeError };
  t.throws(() => diff(new Uint8Array(0), states, words), refused);
  t.throws(() => diff(new Uint8Array(1), new Uint8Array(2), words), refused);
  t.throws(() => diff(new Uint8Array(1), Uint8Array.of(0, 4, 0), words), refused);
  t.throws(() => diff(new Uint8Array(1), Uint8Array.of(2, 2, 0), words), refused);
  t.notThrows(() => diff(new Uint8Array(1), states, words));
});

test('a failed system call is a negative errno', (t) => {
  const EBADF = -9;
  t.is(native.tryLock(1e6), EBADF);
  t.is(native.seekData(1e6, 0, 10), EBADF);
  t.is(native.writeStream(1e6, new Uint8Array(1), 0, 1, abort, 0), EBADF);
  const ends = native.pipe(4096);
  if (typeof ends === 'number') return t.fail(`no pipe: ${ends}`);
  for (const fd of ends) closeSync(fd);
});
