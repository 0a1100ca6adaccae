/** Pages that a finder finds, held against the same memory in one piece: scattered, compressed, absent, on a device. */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { addExtent, NO_FILE, type PageFinder, type StretchExtents } from '../../formats/memoryFile.js';
import { Geometry } from '../../formats/vmsnap/geometry.js';
import { STATE_ABSENT } from '../../formats/vmsnap/stateMap.js';
import { createScanOutput } from '../../lib/pipeline/feeds/feed.js';
import { PageReader } from '../../lib/pipeline/feeds/pageReader.js';
import {
  native,
  REPORT_DATA_PAGES,
  REPORT_DEVICE_ZERO_PAGES,
  REPORT_UNIFORM_PAGES,
  REPORT_ZERO_PAGES,
  type ScanOutput,
} from '../../native/binding.js';
import { emulatedDevice } from './support/dsa.js';
import { MIB, mixedMemory, PAGE } from './support/memory.js';
import { workspace } from './support/workspace.js';

const PAGES = MIB / PAGE;
const GEOMETRY = new Geometry(PAGE, MIB, 256 * 1024, [MIB]);

/** Where a page of the memory is: in the file, `place` pages from its start; nowhere, zero; or absent. */
type Place = number | 'zero' | 'absent';

class FakeFinder implements PageFinder {
  constructor(
    readonly fd: number,
    readonly file: Buffer,
    readonly places: readonly Place[],
    readonly compressed: boolean,
  ) {}

  nextUsed(_region: number, from: number): number {
    return from;
  }

  find(
    _region: number,
    offset: number,
    sizeBytes: number,
    extents: StretchExtents,
    into: Uint8Array,
    absent: Uint8Array,
  ) {
    for (let page = 0; page < sizeBytes / PAGE; page++) {
      const place = this.places[offset / PAGE + page]!;
      if (place === 'absent') absent[page] = 1;
      if (this.compressed) {
        into.fill(0, page * PAGE, (page + 1) * PAGE);
        if (typeof place === 'number') into.set(this.file.subarray(place * PAGE, (place + 1) * PAGE), page * PAGE);
      } else if (typeof place === 'number') addExtent(extents, this.fd, place * PAGE, PAGE);
      else addExtent(extents, NO_FILE, 0, PAGE);
    }
    return this.compressed ? ('bytes' as const) : ('extents' as const);
  }
}

const places = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.nat({ max: PAGES - 1 }) },
    { weight: 1, arbitrary: fc.constant<Place>('zero') },
    { weight: 1, arbitrary: fc.constant<Place>('absent') },
  ),
  { minLength: PAGES, maxLength: PAGES },
);

/** Half of the pages in their own order, so that there are long pieces as well. */
const plans = fc
  .tuple(places, fc.nat({ max: PAGES }), fc.nat({ max: PAGES }))
  .map(([list, from, to]) => list.map((place, i) => (i >= from && i < to ? i : place)));

function setUp(t: ExecutionContext): { fd: number; path: string; file: Buffer } {
  const path = workspace(t).path('file');
  const file = mixedMemory(MIB);
  writeFileSync(path, file);
  const fd = openSync(path, 'r');
  t.teardown(() => closeSync(fd));
  return { fd, path, file };
}

/** The memory by itself, absent pages as zeros. */
function expected(file: Buffer, list: readonly Place[]): ScanOutput {
  const memory = Buffer.alloc(MIB);
  for (const [page, place] of list.entries()) {
    if (typeof place === 'number') file.copy(memory, page * PAGE, place * PAGE, (place + 1) * PAGE);
  }
  const output = createScanOutput(GEOMETRY);
  scanner().scanMemory(memory, 0, MIB, output);
  return output;
}

function scanner(device?: number) {
  return new native.SegmentScanner({ detector: 'auto', pageSize: PAGE, segmentSize: MIB, device, slots: device && 2 });
}

function requireSame(t: ExecutionContext, list: readonly Place[], actual: ScanOutput, wanted: ScanOutput): void {
  const absent = list.filter((place) => place === 'absent').length;
  for (const figure of [REPORT_DATA_PAGES, REPORT_UNIFORM_PAGES]) t.is(actual.report[figure], wanted.report[figure]);
  t.is(actual.report[REPORT_ZERO_PAGES], wanted.report[REPORT_ZERO_PAGES]! - absent);
  const states = wanted.states.map((state, page) => (list[page] === 'absent' ? STATE_ABSENT : state));
  t.true(Buffer.from(actual.states).equals(Buffer.from(states)), 'states');
  const dataBytes = wanted.report[REPORT_DATA_PAGES]! * PAGE;
  t.is(Buffer.compare(actual.data.subarray(0, dataBytes), wanted.data.subarray(0, dataBytes)), 0, 'data');
  t.true(Buffer.from(actual.leaves).equals(Buffer.from(wanted.leaves)), 'leaves: absent counts as zero');
}

for (const compressed of [false, true]) {
  test(`${compressed ? 'compressed' : 'scattered'} pages, some absent`, (t) => {
    const { fd, path, file } = setUp(t);
    fc.assert(
      fc.property(plans, (list) => {
        const finder = new FakeFinder(fd, file, list, compressed);
        const reader = new PageReader(finder, { files: [{ fd, path }], cached: true }, scanner(), GEOMETRY, 0);
        const output = createScanOutput(GEOMETRY);
        const absent = reader.scan(0, 0, MIB, output);
        t.is(absent, list.filter((place) => place === 'absent').length);
        requireSame(t, list, output, expected(file, list));
      }),
      { numRuns: 40 },
    );
  });
}

test('few pieces go to a device, many do not, and two segments are ahead', (t) => {
  const { fd, path, file } = setUp(t);
  const device = emulatedDevice(t);
  const list: Place[] = Array.from({ length: PAGES }, (_, page) => (page % 2 === 0 ? page : PAGES - 1 - page));
  const long: Place[] = list.map((_, page) => (page < 100 ? page + 100 : page < 130 ? 'absent' : page));
  for (const [what, plan, isPassedOver] of [
    ['many', list, false],
    ['few', long, true],
  ] as const) {
    const own = scanner(device.handle);
    const geometry = new Geometry(PAGE, MIB, 256 * 1024, [2 * MIB]);
    const finder = new FakeFinder(fd, file, [...plan, ...long], false);
    const reader = new PageReader(finder, { files: [{ fd, path }], cached: false }, own, geometry, 2);
    reader.submitAhead(0, 0, MIB, 0);
    reader.submitAhead(0, MIB, MIB, 1);
    const output = createScanOutput(geometry);
    reader.scan(0, 0, MIB, output, 0);
    requireSame(t, plan, output, expected(file, plan));
    const zeros = output.report[REPORT_DEVICE_ZERO_PAGES]!;
    t.is(zeros > 0, isPassedOver, what);
    reader.scan(0, MIB, MIB, output, 1);
    requireSame(t, long, output, expected(file, long));
    own.close();
  }
});

test('a finder that gives an absent page contents is found out', (t) => {
  const { fd, path, file } = setUp(t);
  const finder = new FakeFinder(fd, file, Array(PAGES).fill(8), false);
  const wrong: PageFinder = {
    nextUsed: () => 0,
    find: (...args) => {
      args[5][3] = 1;
      return finder.find(...args);
    },
  };
  const reader = new PageReader(wrong, { files: [{ fd, path }], cached: false }, scanner(), GEOMETRY, 0);
  t.throws(() => reader.scan(0, 0, MIB, createScanOutput(GEOMETRY)), { message: /page 3 .* absent all the same/ });
});

test('pieces that go on become one, and a list grows', (t) => {
  const extents: StretchExtents = { numbers: new Float64Array(0), count: 0 };
  addExtent(extents, 5, 100, 10);
  addExtent(extents, 5, 110, 0);
  addExtent(extents, 5, 110, 20);
  addExtent(extents, 6, 130, 20);
  addExtent(extents, NO_FILE, 7, 20);
  addExtent(extents, NO_FILE, 9, 20);
  for (let i = 0; i < 100; i++) addExtent(extents, 6, 1000 * i, 1);
  t.is(extents.count, 103);
  t.deepEqual([...extents.numbers.subarray(0, 9)], [5, 100, 30, 6, 130, 20, NO_FILE, 0, 40]);
  t.deepEqual([...extents.numbers.subarray(306, 309)], [6, 99_000, 1]);
});
