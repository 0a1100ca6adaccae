/** CRC-32C and XXH3-128 through JavaScript: published vectors, and what the format's specification gives. */
import test from 'ava';
import { native } from '../../native/binding.js';

const crc = (bytes: Uint8Array) => native.crc32c(bytes, 0, bytes.length, 0);

// RFC 3720, B.4
const CRC_VECTORS: readonly [string, Uint8Array, number][] = [
  ['nothing', new Uint8Array(0), 0],
  ['123456789', Buffer.from('123456789'), 0xe3069283],
  ['32 zeros', new Uint8Array(32), 0x8a9136aa],
  ['32 bytes 0xff', new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ['0 to 31', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
  ['31 to 0', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
];

for (const [name, bytes, expected] of CRC_VECTORS) {
  test(`CRC-32C of ${name}`, (t) => {
    t.is(crc(bytes), expected);
  });
}

test('CRC-32C goes on from a seed at every cut, at every alignment, also in shared memory', (t) => {
  const bytes = new Uint8Array(new SharedArrayBuffer(300)).map((_, i) => (i * 37) & 0xff);
  const shared = new Uint8Array(new SharedArrayBuffer(300));
  shared.set(bytes);
  for (let start = 0; start < 9; start++) {
    const whole = crc(Buffer.from(bytes.subarray(start)));
    for (let cut = start; cut <= bytes.length; cut += 7) {
      const first = native.crc32c(shared, start, cut - start, 0);
      t.is(native.crc32c(shared, cut, shared.length - cut, first), whole);
    }
  }
});

const xxh3 = (bytes: Uint8Array) => {
  const out = Buffer.alloc(20, 0xaa);
  native.xxh3(bytes, 0, bytes.length, out, 2);
  return { digest: out.toString('hex', 2, 18), edges: [out[1], out[18]] };
};

test('XXH3-128 of the empty input, in canonical order, and nothing written beside it', (t) => {
  t.deepEqual(xxh3(new Uint8Array(0)), { digest: '99aa06d3014798d86001c324468d497f', edges: [0xaa, 0xaa] });
});
