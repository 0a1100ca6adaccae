/** Same memory, options and SOURCE_DATE_EPOCH: same bytes, whatever the thread count, the detector or the holes. */
import { readFileSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { listDetectors, type SaveOptions, save } from '../../lib/index.js';
import { sameBytes } from './support/expect.js';
import { MIB, mixedMemory, randomMemory, writeSparse } from './support/memory.js';
import { workspace } from './support/workspace.js';

process.env.SOURCE_DATE_EPOCH = '1700000000';

const MEMORY = Buffer.concat([
  mixedMemory(9 * MIB),
  Buffer.alloc(20 * MIB),
  randomMemory(3 * MIB),
  mixedMemory(MIB, 9),
]);
const THREADS = [1, 2, 3, 8];
const CODECS = ['zstd', 'zlib', 'none'] as const;

async function imageBytes(source: string, image: string, options: SaveOptions): Promise<Buffer> {
  await save(source, image, { segmentSize: MIB, chunkSize: 65_536, force: true, ...options });
  return readFileSync(image);
}

for (const codec of CODECS) {
  test(`${codec}: any number of threads, and again`, async (t) => {
    const folder = workspace(t);
    const source = folder.path('memory');
    writeFileSync(source, MEMORY);
    const expected = await imageBytes(source, folder.path('image'), { codec, threads: 1 });
    for (const threads of [...THREADS, 8, 8]) {
      const actual = await imageBytes(source, folder.path('image'), { codec, threads });
      sameBytes(t, actual, expected, `the image with ${threads} threads`);
    }
  });
}

test('any detector', async (t) => {
  const folder = workspace(t);
  const source = folder.path('memory');
  writeFileSync(source, MEMORY);
  const expected = await imageBytes(source, folder.path('image'), { detector: 'scalar' });
  for (const { name, available, reason } of listDetectors()) {
    t.log(`${name}: ${available ? 'compared' : `not compared: ${reason}`}`);
    if (!available) continue;
    const actual = await imageBytes(source, folder.path('image'), { detector: name });
    sameBytes(t, actual, expected, `the image with ${name}`);
  }
});

test('a sparse file and a full one', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), MEMORY);
  const full = await imageBytes(folder.path('memory'), folder.path('image'), {});
  writeSparse(folder.path('memory'), MEMORY);
  const sparse = await imageBytes(folder.path('memory'), folder.path('image'), {});
  sameBytes(t, sparse, full, 'the image of the sparse file');
});

test('the creation time is what SOURCE_DATE_EPOCH says, and the name of the image is not in it', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(MIB));
  const one = await imageBytes(folder.path('memory'), folder.path('one'), {});
  const other = await imageBytes(folder.path('memory'), folder.path('other'), {});
  sameBytes(t, one, other, 'the other image');
  t.true(one.includes('"createdAt":"2023-11-14T22:13:20Z"'));
});
