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

test('a failed system call is a negative errno', (t) => {
  const EBADF = -9;
  t.is(native.tryLock(1e6), EBADF);
  t.is(native.seekData(1e6, 0, 10), EBADF);
  t.is(native.writeStream(1e6, new Uint8Array(1), 0, 1, abort, 0), EBADF);
  const ends = native.pipe(4096);
  if (typeof ends === 'number') return t.fail(`no pipe: ${ends}`);
  for (const fd of ends) closeSync(fd);
});
