/** One chunk in, one frame or stream out, and back, at every kind of level. */
import test from 'ava';
import { bound, type CodecSettings, createCodec } from '../../lib/codecs.js';
import { makeMemory } from '../cli/support/memory.js';

const CHUNK = makeMemory(64).subarray(0, 64 * 4096);

function compressed(settings: CodecSettings): Uint8Array {
  const target = new Uint8Array(bound(CHUNK.length));
  return target.subarray(0, createCodec(settings).compress(CHUNK, target));
}

for (const [name, level] of [
  ['zstd', -100],
  ['zstd', -5],
  ['zstd', -1],
  ['zstd', 0],
  ['zstd', 1],
  ['zstd', 9],
  ['zlib', 1],
  ['zlib', 9],
] as const) {
  test(`${name} ${level} gives the chunk back`, (t) => {
    const stored = compressed({ name, level });
    t.true(stored.length > 0 && stored.length < CHUNK.length, `${stored.length} bytes`);
    const target = new Uint8Array(CHUNK.length);
    t.is(createCodec({ name, level }).decompress(stored, target), undefined);
    t.true(Buffer.from(target).equals(CHUNK));
  });
}

test('each fast level is larger than the one above it', (t) => {
  const sizes = [1, -1, -2, -8].map((level) => compressed({ name: 'zstd', level }).length);
  t.deepEqual(
    sizes,
    [...sizes].sort((a, b) => a - b),
  );
});
