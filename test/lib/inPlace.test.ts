/** Loads over a file with contents, where the zero runs of an index block are claimed before its records. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { InPlaceTarget } from '../../lib/files/inPlaceTarget.js';
import { load, save } from '../../lib/index.js';
import { sameBytes } from './support/expect.js';
import { MIB, makeMemory, PAGE, writeSparse } from './support/memory.js';
import { diskWorkspace, workspace } from './support/workspace.js';

const SEGMENT_PAGES = MIB / PAGE;

/** Zero at the beginning, in runs of one segment and of several, and at the end, in two regions. */
const MEMORY = makeMemory(24 * MIB, [
  { kind: 'zero', pages: 2 * SEGMENT_PAGES },
  { kind: 'random', pages: SEGMENT_PAGES + 7 },
  { kind: 'zero', pages: 5 * SEGMENT_PAGES },
  { kind: 'uniform', pages: 3 },
]);
const FIRST_BYTES = 9 * MIB + 3 * PAGE;
const REGIONS = [
  { name: 'first', gpa: 0, sizeBytes: FIRST_BYTES },
  { name: 'second', gpa: 2 ** 32, sizeBytes: MEMORY.length - FIRST_BYTES },
];

for (const [where, make] of [
  ['memory', workspace],
  ['disk', diskWorkspace],
] as const) {
  for (const threads of [1, 3]) {
    test(`over stale bytes in a file on ${where}, ${threads} threads`, async (t) => {
      const folder = make(t);
      writeSparse(folder.path('memory'), MEMORY);
      await save(folder.path('memory'), folder.path('image'), {
        regions: REGIONS,
        segmentSize: MIB,
        chunkSize: 16 * 1024,
      });
      const target = folder.path('target');
      const options = { inPlace: true, force: true, threads };

      writeFileSync(target, Buffer.alloc(MEMORY.length, 0xa5));
      await load(folder.path('image'), target, options);
      sameBytes(t, readFileSync(target), MEMORY);
      t.true(statSync(target).blocks * 512 < MEMORY.length, 'zero pages are holes');

      const range = { offset: 3 * MIB - PAGE, length: 14 * MIB + 2 * PAGE };
      writeFileSync(target, Buffer.alloc(range.length, 0xa5));
      const result = await load(folder.path('image'), target, { ...options, range });
      sameBytes(t, readFileSync(target), MEMORY.subarray(range.offset, range.offset + range.length));
      t.is(result.memoryBytes, range.length);
    });
  }
}

test('the marker of a load that was killed stays until a load is whole, whatever fails in between', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('target'), makeMemory(MIB, [{ kind: 'random', pages: 256 }]));
  writeFileSync(folder.path('.target.partial'), '');
  // Gives up before it writes a byte: that says nothing of what the target holds.
  (await InPlaceTarget.open(folder.path('target'), 0o600)).discard();
  t.true(existsSync(folder.path('.target.partial')));
  const target = await InPlaceTarget.open(folder.path('target'), 0o600);
  target.resize(MIB);
  await target.finish();
  t.deepEqual(folder.leftovers(), []);
  (await InPlaceTarget.open(folder.path('target'), 0o600)).discard();
  t.deepEqual(folder.leftovers(), []);
});
