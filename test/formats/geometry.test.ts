/** Geometry: segments, pages and chunks against a plain count. */
import test from 'ava';
import fc from 'fast-check';
import { Geometry, leavesIn } from '../../formats/vmsnap/geometry.js';

const MIB = 2 ** 20;

const layouts = fc.record({
  pageSize: fc.constantFrom(4096, 65_536, 2 * MIB),
  segmentSize: fc.constantFrom(2 * MIB, 4 * MIB, 64 * MIB),
  chunkSize: fc.constant(2 * MIB),
  pages: fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 6 }),
});

test('segments follow one another through the regions, and are as long as the region allows', (t) => {
  fc.assert(
    fc.property(layouts, ({ pageSize, segmentSize, chunkSize, pages }) => {
      const sizes = pages.map((count) => count * pageSize);
      const geometry = new Geometry(pageSize, segmentSize, chunkSize, sizes);
      let segment = 0;
      for (const [region, size] of sizes.entries()) {
        for (let offset = 0; offset < size; offset += segmentSize, segment++) {
          const sizeBytes = Math.min(segmentSize, size - offset);
          t.deepEqual(geometry.placeOf(segment), { region, regionOffset: offset, sizeBytes });
          t.is(geometry.pagesIn(segment), sizeBytes / pageSize);
          t.is(geometry.regionOf(segment).number, region);
        }
      }
      t.is(geometry.segmentCount, segment);
      t.is(geometry.indexBlockCount, Math.ceil(segment / 4096));
    }),
    { numRuns: 50 },
  );
});

test('limits: 2^32 segments are the most', (t) => {
  t.true(new Geometry(4096, MIB, 4096, [2 ** 52]).withinLimits);
  t.false(new Geometry(4096, MIB, 4096, [2 ** 52, 4096]).withinLimits);
});

test('leaves and chunks are rounded up', (t) => {
  t.deepEqual([1, MIB, MIB + 1].map(leavesIn), [1, 1, 2]);
  const geometry = new Geometry(4096, MIB, 16_384, [MIB]);
  t.deepEqual(
    [0, 1, 4, 5].map((pages) => geometry.chunksFor(pages)),
    [0, 1, 1, 2],
  );
});
