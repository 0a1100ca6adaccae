/** QEMU migration streams: forged ones, sound and broken, from a file and from a pipe. What real QEMU writes is in test/guest. */
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { MemoryFile, PageFinder } from '../../formats/memoryFile.js';
import { faultError } from '../../formats/qemu/fault.js';
import { isQemuStream, QEMU_HEAD, QEMU_TAIL } from '../../formats/qemu/openStream.js';
import { encodePages, recordsMaxBytes } from '../../formats/qemu/pageRecords.js';
import { readStreamHead, streamFrame } from '../../formats/qemu/streamFrame.js';
import { type Progress, save } from '../../lib/index.js';
import { createPageFinder } from '../../lib/pipeline/pageFinders.js';
import { native, QEMU_FAULT, QEMU_FILLED_LENGTH, QEMU_MORE } from '../../native/binding.js';
import { VmsnapError } from '../../native/errors.js';
import {
  blockList,
  capabilities,
  command,
  configuration,
  eos,
  filledPage,
  footer,
  magic,
  mappedHeader,
  named,
  openQemuStream,
  PAGE,
  page,
  ramEnd,
  ramPart,
  ramStart,
  stream,
  subsection,
  tail,
  u8,
  u32,
  u64,
  word,
  zeroPage,
} from '../support/qemuStream.js';

const GIB = 2 ** 30;
const SEGMENT = 2 ** 20;
/** Where the pages of a forged mapped-ram file begin. */
const MAPPED = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'vmsnap-qemu-'));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;

/** Calls with a memory file that is open, and closes it. */
function withStream<T>(bytes: Buffer, action: (file: MemoryFile, finder: PageFinder) => T, offset = 0): T {
  const path = join(folder, `stream-${files++}`);
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r+');
  try {
    const file = openQemuStream({ fd, path, sizeBytes: fstatSync(fd).size }, offset);
    try {
      return action(file, createPageFinder(file.pages));
    } finally {
      file.close();
    }
  } finally {
    closeSync(fd);
    rmSync(path);
  }
}

/** Bytes of a region as the finder tells them, and which pages are absent. */
function readRegion(file: MemoryFile, finder: PageFinder, region: number): { bytes: Buffer; absent: number[] } {
  const { sizeBytes } = file.regions[region]!;
  const bytes = Buffer.alloc(sizeBytes!, 0xff);
  const absent = new Uint8Array(sizeBytes! / PAGE);
  const extents = { numbers: new Float64Array(0), count: 0 };
  finder.find(region, 0, sizeBytes!, extents, bytes, absent);
  let at = 0;
  for (let i = 0; i < extents.count; i++) {
    const [fd, offset, length] = extents.numbers.subarray(3 * i, 3 * i + 3) as unknown as [number, number, number];
    if (fd === -1) bytes.fill(0, at, at + length);
    else if (readSync(fd, bytes, at, length, offset) < length) bytes.fill(0, at, at + length);
    at += length;
  }
  if (at !== sizeBytes) throw new Error(`extents of ${at} bytes`);
  return { bytes, absent: [...absent.keys()].filter((i) => absent[i] === 1) };
}

const a = filledPage(1);
const b = filledPage(2);
const c = filledPage(3);
const zero = Buffer.alloc(PAGE);
const ram = { id: 'pc.ram', sizeBytes: 4 * PAGE };
const rom = { id: 'pc.bios', sizeBytes: 2 * PAGE };

test('the last record of a page counts; a page that was never sent is absent', (t) => {
  const bytes = stream(
    [ram, rom],
    command(2, u32(1)),
    ramPart(page('pc.ram', 0, a), zeroPage(undefined, PAGE), page(undefined, 2 * PAGE, b), page('pc.bios', 0, c)),
    ramPart(page('pc.ram', PAGE, c), zeroPage(undefined, 2 * PAGE), zeroPage('pc.bios', PAGE)),
  );
  t.true(isQemuStream(bytes.subarray(0, 4096)));
  withStream(bytes, (file, finder) => {
    t.is(file.format, 'qemu-stream');
    t.deepEqual(file.regions, [
      { name: 'pc.ram', gpa: 0, sizeBytes: 4 * PAGE },
      { name: 'pc.bios', gpa: undefined, sizeBytes: 2 * PAGE },
    ]);
    t.deepEqual(readRegion(file, finder, 0), { bytes: Buffer.concat([a, c, zero, zero]), absent: [3] });
    t.deepEqual(readRegion(file, finder, 1), { bytes: Buffer.concat([c, zero]), absent: [] });
    const facts = new Map(file.facts.map(({ key, value }) => [key, value]));
    t.deepEqual(
      ['machineType', 'dataPages', 'zeroPages', 'pagesNeverSent', 'pagesRepeated'].map((key) => facts.get(key)),
      ['pc-q35-10.0', 3, 2, 1, 2],
    );
    t.is(finder.nextUsed(1, PAGE, 2 * PAGE), 2 * PAGE);
    t.is(finder.nextUsed(0, 2 * PAGE, 4 * PAGE), 3 * PAGE);
  });
});

test('an old machine without configuration and footers; a stream that begins within a file', (t) => {
  const bytes = Buffer.concat([
    Buffer.alloc(1000, 0x51),
    ...[magic(), named(1, 'ram', 7), blockList([ram]), eos()],
    ...[u8(2), u32(7), page('pc.ram', PAGE, a), eos(), u8(3), u32(7), zeroPage('pc.ram', 0), eos()],
    ...[named(4, 'timer', 0), u8(0)],
  ]);
  withStream(
    bytes,
    (file, finder) => {
      t.is(file.regions[0]!.gpa, undefined);
      t.deepEqual(readRegion(file, finder, 0), { bytes: Buffer.concat([zero, a, zero, zero]), absent: [2, 3] });
      const rest = file.attachments.find(({ name }) => name === QEMU_TAIL) as { offset: number; sizeBytes: number };
      t.deepEqual(
        bytes.subarray(rest.offset, rest.offset + rest.sizeBytes),
        Buffer.concat([named(4, 'timer', 0), u8(0)]),
      );
    },
    1000,
  );
});

test('main memory is split where the machine does; other blocks have no address', (t) => {
  const main = (machine: string, blocks: Parameters<typeof ramStart>[0]) =>
    withStream(
      Buffer.concat([
        ...[magic(), configuration(machine), ramStart(blocks)],
        ...[ramPart(page(blocks[0]!.id, 0, a)), ramEnd(), tail()],
      ]),
      (file) => file.regions.map(({ name, gpa, sizeBytes }) => [name, gpa, sizeBytes! / GIB]),
    );
  const rest = { id: '/rom@etc/acpi/tables', sizeBytes: GIB / 4 };
  t.deepEqual(main('pc-q35-7.2', [{ id: 'pc.ram', sizeBytes: 8 * GIB }, rest]), [
    ['pc.ram', 0, 2],
    ['pc.ram-above-4g', 4 * GIB, 6],
    ['/rom@etc/acpi/tables', undefined, 0.25],
  ]);
  t.deepEqual(main('pc-i440fx-10.0', [{ id: 'mem0', sizeBytes: 4 * GIB }, rest]).slice(0, 2), [
    ['mem0', 0, 3],
    ['mem0-above-4g', 4 * GIB, 1],
  ]);
  t.deepEqual(main('virt-9.0', [{ id: 'mach-virt.ram', sizeBytes: GIB }]), [['mach-virt.ram', GIB, 1]]);
  const nodes = [
    { id: 'ram-node0', sizeBytes: GIB },
    { id: 'ram-node1', sizeBytes: GIB },
  ];
  t.deepEqual(
    main('pc-q35-7.2', nodes).map(([, gpa]) => gpa),
    [undefined, undefined],
  );
});

test('blocks that were left out are no regions', (t) => {
  const shared = { ...ram, extra: u64(0) };
  const bytes = Buffer.concat([
    ...[
      magic(),
      configuration(
        'pc-q35-10.0',
        capabilities('x-ignore-shared'),
        subsection('configuration/uuid', Buffer.alloc(16, 0xab)),
      ),
    ],
    ...[
      ramStart([
        shared,
        { ...rom, extra: u64(0xfffc0000n) },
        { id: 'empty', sizeBytes: 0, extra: u64(0) },
        { id: 'last', sizeBytes: PAGE, extra: u64(0) },
      ]),
    ],
    ...[ramPart(page('pc.bios', 0, a), zeroPage(undefined, PAGE), zeroPage('last', 0)), ramEnd(), tail()],
  ]);
  withStream(bytes, (file, finder) => {
    t.deepEqual(
      file.regions.map(({ name }) => name),
      ['pc.bios', 'last'],
    );
    t.deepEqual(readRegion(file, finder, 0).bytes, Buffer.concat([a, zero]));
    t.is(file.machine.uuid, 'abababab-abab-abab-abab-abababababab');
    t.is(new Map(file.facts.map(({ key, value }) => [key, value])).get('bytesLeftOut'), 4 * PAGE);
  });
});

test('a stream that is made again from its parts has the same memory', (t) => {
  const bytes = stream([ram, rom], ramPart(page('pc.ram', 0, a), page(undefined, 3 * PAGE, b), zeroPage('pc.bios', 0)));
  const remade = withStream(bytes, (file, finder) => {
    const head = file.attachments.find(({ name }) => name === QEMU_HEAD) as { bytes: Uint8Array };
    t.deepEqual(
      readStreamHead(head.bytes).blocks.map(({ usedBytes }) => usedBytes),
      [ram, rom].map(({ sizeBytes }) => sizeBytes),
    );
    const { start, end } = streamFrame(head.bytes);
    const records = file.regions.map(({ name }, i) => {
      const pages = Buffer.from(readRegion(file, finder, i).bytes);
      const out = Buffer.alloc(recordsMaxBytes(pages.length / PAGE));
      return out.subarray(0, encodePages({ block: name, blockOffset: 0 }, pages, out));
    });
    return Buffer.concat([start, ...records, end, tail()]);
  });
  withStream(remade, (file, finder) => {
    t.deepEqual(readRegion(file, finder, 0), { bytes: Buffer.concat([a, zero, zero, b]), absent: [] });
    t.deepEqual(readRegion(file, finder, 1), { bytes: Buffer.concat([zero, zero]), absent: [] });
  });
  t.throws(() => streamFrame(bytes.subarray(0, 20)), { code: 'CORRUPT' });
  t.throws(() => readStreamHead(bytes.subarray(0, 20)), { code: 'CORRUPT' });
});

// Everything that memory-format readers get wrong: where it stands, what is said of it.

const start = () => [magic(), configuration('pc-q35-10.0')];
const after = (...parts: Buffer[]) => Buffer.concat([...start(), ramStart([ram]), ...parts]);
const HOSTILE: readonly (readonly [string, Buffer, string, RegExp])[] = [
  ['version 2', Buffer.concat([magic(2), ramStart([ram])]), 'UNSUPPORTED', /offset 4: version 2, expected 3/],
  ['a magic alone', magic(), 'CORRUPT', /offset 8: it ends where a section/],
  [
    'a machine name of 4 GiB',
    Buffer.concat([magic(), u8(7), u32(0xffffffff)]),
    'CORRUPT',
    /offset 9: a machine name of 4294967295 bytes/,
  ],
  [
    'an unknown subsection',
    Buffer.concat([magic(), configuration('pc', subsection('configuration/new', u32(0)))]),
    'UNSUPPORTED',
    /"configuration\/new"/,
  ],
  [
    'target pages of 64 KiB',
    Buffer.concat([magic(), configuration('virt', subsection('configuration/target-page-bits', u32(16)))]),
    'UNSUPPORTED',
    /2\^16/,
  ],
  [
    'an unknown capability',
    Buffer.concat([magic(), configuration('pc', capabilities('x-new'))]),
    'UNSUPPORTED',
    /capability "x-new"/,
  ],
  [
    '4 billion capabilities',
    Buffer.concat([magic(), configuration('pc', subsection('configuration/capabilities', u32(0xffffffff)))]),
    'CORRUPT',
    /4294967295 capabilities/,
  ],
  ['two configurations', Buffer.concat([...start(), configuration('pc')]), 'CORRUPT', /section type 0x7/],
  [
    'another device first',
    Buffer.concat([...start(), named(1, 'dirty-bitmap', 1)]),
    'UNSUPPORTED',
    /section 1 \("dirty-bitmap"/,
  ],
  [
    'device state before RAM',
    Buffer.concat([...start(), named(4, 'virtio-mem-early', 3)]),
    'UNSUPPORTED',
    /section 3 \("virtio-mem-early"\)/,
  ],
  [
    'version 3 of the RAM section',
    Buffer.concat([...start(), named(1, 'ram', 2, 0, 3)]),
    'UNSUPPORTED',
    /version 3 of the RAM section/,
  ],
  ['postcopy', Buffer.concat([...start(), command(4)]), 'UNSUPPORTED', /postcopy/],
  [
    'postcopy with huge pages',
    Buffer.concat([...start(), command(3, Buffer.concat([u64(0x201000), u64(0x1000)])), ramStart([ram])]),
    'UNSUPPORTED',
    /page sizes/,
  ],
  ['COLO', Buffer.concat([...start(), command(8)]), 'UNSUPPORTED', /COLO/],
  ['a packaged stream', after(command(7, u32(100))), 'UNSUPPORTED', /postcopy/],
  ['no memory', Buffer.concat([...start(), ramStart([])]), 'CORRUPT', /no memory at all/],
  [
    'a block without a name',
    Buffer.concat([...start(), ramStart([{ id: '', sizeBytes: PAGE }])]),
    'CORRUPT',
    /block without a name/,
  ],
  [
    'a block named in control characters',
    Buffer.concat([...start(), ramStart([{ id: 'a\nb', sizeBytes: PAGE }]), ramEnd(page('a\nb', 0, a)), tail()]),
    'CORRUPT',
    /name of a RAM block has control characters/,
  ],
  ['a block twice', Buffer.concat([...start(), ramStart([ram, ram])]), 'CORRUPT', /second RAM block "pc.ram"/],
  [
    'a block of half a page',
    Buffer.concat([...start(), ramStart([{ id: 'x', sizeBytes: 2048 }], PAGE)]),
    'CORRUPT',
    /0x800 bytes, expected whole pages/,
  ],
  [
    'blocks of more than the total',
    Buffer.concat([...start(), ramStart([ram], PAGE)]),
    'CORRUPT',
    /expected 0x1000 in all/,
  ],
  [
    'blocks of less than the total',
    Buffer.concat([...start(), ramStart([ram], 5 * PAGE)]),
    'CORRUPT',
    /without a name|it ends/,
  ],
  [
    'memory of nearly 2^63 bytes',
    Buffer.concat([...start(), ramStart([ram], 0x7ffffffffffff000n)]),
    'CORRUPT',
    /0x7ffffffffffff000 bytes, which is too much/,
  ],
  [
    'a block of nearly 2^64 bytes',
    Buffer.concat([...start(), ramStart([{ id: 'x', sizeBytes: 0xfffffffffffff000n }], PAGE)]),
    'CORRUPT',
    /less than 2\^53/,
  ],
  [
    'two block lists',
    Buffer.concat([...start(), named(1, 'ram', 2), blockList([ram]), blockList([ram])]),
    'CORRUPT',
    /second list/,
  ],
  ['a block list among the pages', after(u8(2), u32(2), blockList([ram])), 'CORRUPT', /second list/],
  [
    'no block list',
    Buffer.concat([...start(), named(1, 'ram', 2), eos()]),
    'CORRUPT',
    /expected the size of the memory/,
  ],
  ['a page before any block was named', after(ramPart(page(undefined, 0, a))), 'CORRUPT', /before any block was named/],
  ['a page of an unknown block', after(ramPart(page('other', 0, a))), 'CORRUPT', /RAM block "other"/],
  ['a page of a block with an empty name', after(ramPart(page('', 0, a))), 'CORRUPT', /RAM block ""/],
  [
    'a page of a block with a name of 255 bytes',
    after(ramPart(page('n'.repeat(255), 0, a))),
    'CORRUPT',
    /RAM block "n{255}"/,
  ],
  [
    'a page behind the end of its block',
    after(ramPart(page('pc.ram', 4 * PAGE, a))),
    'CORRUPT',
    /0x4000 of RAM block "pc.ram"/,
  ],
  ['a page at nearly 2^64', after(ramPart(page('pc.ram', 0xfffffffffffff000n, a))), 'CORRUPT', /0xfffffffffffff000/],
  ['unknown flags', after(u8(2), u32(2), word(0, 0x400)), 'CORRUPT', /flags 0x400/],
  ['two kinds in one word', after(u8(2), u32(2), word(0, 0x0a)), 'CORRUPT', /flags 0xa/],
  ['an unaligned end of a part', after(u8(2), u32(2), word(PAGE, 0x10)), 'CORRUPT', /0x1010/],
  ['a zero page that is filled', after(ramPart(zeroPage('pc.ram', 0, 0x55))), 'CORRUPT', /fill byte 0x55/],
  ['XBZRLE', after(u8(2), u32(2), word(0, 0x40)), 'UNSUPPORTED', /XBZRLE/],
  ['a compressed page', after(u8(2), u32(2), word(0, 0x100)), 'UNSUPPORTED', /compressed/],
  ['RDMA', after(u8(2), u32(2), word(0, 0x80)), 'UNSUPPORTED', /RDMA/],
  ['multifd', after(u8(2), u32(2), word(0, 0x200)), 'UNSUPPORTED', /multifd/],
  ['a part of another section', after(u8(2), u32(3)), 'CORRUPT', /section 3, expected 2/],
  ['no footer', after(u8(2), u32(2), eos(), u8(3), u32(2)), 'CORRUPT', /expected the footer/],
  [
    'the footer of another section',
    after(u8(2), u32(2), eos(), footer(5)),
    'CORRUPT',
    /footer of section 5, expected 2/,
  ],
  ['an end mark before the end of RAM', after(u8(0)), 'CORRUPT', /end of the stream \(0x0\)/],
  ['a description before the end of RAM', after(u8(6)), 'CORRUPT', /section type 0x6/],
  ['device state among the pages', after(named(4, 'timer', 9)), 'UNSUPPORTED', /section 9 \("timer"\)/],
  ['an end within a page', after(u8(2), u32(2), page('pc.ram', 0, a.subarray(0, 100))), 'CORRUPT', /it ends where/],
  ['an end within a header', after(u8(2), u32(2), u32(0)), 'CORRUPT', /it ends where a page/],
  [
    'mapped-ram with pages',
    Buffer.concat([...mappedStart([]), u8(2), u32(2), page('pc.ram', 0, a)]),
    'CORRUPT',
    /a page \(word 0x8\) in the stream of a mapped-ram/,
  ],
];

for (const [what, bytes, code, message] of HOSTILE) {
  test(`hostile stream: ${what}`, (t) => {
    t.throws(() => withStream(bytes, () => {}), { code, message });
    if (/mapped-ram/.test(what) || /control characters/.test(what)) return;
    t.throws(() => drain(bytes), { code, message });
  });
}

/** Reads a stream as from a pipe, and finds it sound or throws. @returns pages got. */
function drain(bytes: Buffer): number {
  const path = join(folder, `pipe-${files++}`);
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r');
  const abort = new Int32Array(1);
  try {
    // The first bytes have been read to find out what it is.
    const known = Math.min(bytes.length, 100);
    readSync(fd, Buffer.alloc(known), 0, known, null);
    const opened = native.qemuOpen(fd, bytes.subarray(0, known), abort, 0);
    if (opened.fault !== undefined) throw faultError(opened.fault, path);
    const { reader, head } = opened;
    try {
      const parts = head.blocks.flatMap(({ usedBytes }, i) => (usedBytes === 0 ? [] : [i, 0, usedBytes]));
      if (!native.qemuPlan(reader, new Float64Array(parts), SEGMENT)) return 0;
      const [into, map] = [new Uint8Array(SEGMENT), new Uint8Array(SEGMENT / PAGE)];
      const report = new Float64Array(QEMU_FILLED_LENGTH);
      for (let pages = 0; ; pages += report[3]!) {
        const next = native.qemuFill(reader, into, map, report, abort, 0);
        if (next === QEMU_FAULT) throw faultError(native.qemuFault(reader), path);
        if (next !== QEMU_MORE) return pages;
      }
    } finally {
      native.qemuClose(reader);
    }
  } finally {
    closeSync(fd);
    rmSync(path);
  }
}

test('a block of no bytes is listed, and is no region', (t) => {
  const bytes = stream([{ id: 'pc.empty', sizeBytes: 0 }, ram], ramPart(page('pc.ram', 0, a)));
  withStream(bytes, (file, finder) => {
    t.deepEqual(
      file.regions.map(({ name }) => name),
      ['pc.ram'],
    );
    t.deepEqual(readRegion(file, finder, 0).absent, [1, 2, 3]);
  });
  t.is(drain(bytes), 1);
  const hostile = stream([{ id: 'pc.empty', sizeBytes: 0 }, ram], ramPart(page('pc.empty', 0, a)));
  for (const read of [() => withStream(hostile, () => {}), () => drain(hostile)]) {
    t.throws(read, { code: 'CORRUPT', message: /RAM block "pc.empty", which has 0x0 bytes/ });
  }
});

test('a description of the devices that is longer than the file is refused', (t) => {
  const whole = stream([ram], ramPart(page('pc.ram', 0, a)));
  const at = whole.lastIndexOf(Buffer.from([0, 6])) + 2;
  for (const length of [0xffffffff, whole.length, whole.length - at - 3]) {
    const bytes = Buffer.from(whole);
    bytes.writeUInt32BE(length, at);
    t.throws(() => withStream(bytes, () => {}), { code: 'CORRUPT', message: /within the state of devices/ });
  }
});

test('a stream whose end is cut off, or that has no pages, is refused', (t) => {
  const whole = stream([ram], ramPart(page('pc.ram', 0, a)));
  t.notThrows(() => withStream(whole, () => {}));
  for (const cut of [1, 20, 40]) {
    t.throws(() => withStream(whole.subarray(0, -cut), () => {}), {
      code: 'CORRUPT',
      message: /within the state of devices/,
    });
  }
  t.throws(() => withStream(Buffer.concat([after(ramPart(page('pc.ram', 0, a))), ramEnd()]), () => {}), {
    code: 'CORRUPT',
    message: /expected the state of devices/,
  });
  t.throws(() => withStream(stream([ram], ramPart(zeroPage('pc.ram', 0))), () => {}), {
    code: 'UNSUPPORTED',
    message: /none of its pages has come, but 3/,
  });
});

// mapped-ram

/** `header`: what is wrong with the block's header. */
function mappedStart(header: Parameters<typeof mappedHeader> | [], blockPages = 4): Buffer[] {
  const before = Buffer.concat([
    ...[magic(), configuration('pc-q35-10.0', capabilities('mapped-ram'))],
    ...[named(1, 'ram', 2), word(blockPages * PAGE, 0x04), u8(6), Buffer.from('pc.ram'), u64(blockPages * PAGE)],
  ]);
  const bitmapAt = before.length + 28;
  const [bitmap = bitmapAt, pages = MAPPED, version, pageSize] = header;
  const ramBytes = Buffer.alloc(MAPPED + blockPages * PAGE - bitmapAt);
  // Pages 1 and 3 are set; what stands in the place of page 0 is stale.
  ramBytes[0] = 0b1010;
  b.copy(ramBytes, MAPPED - bitmapAt);
  a.copy(ramBytes, MAPPED - bitmapAt + PAGE);
  return [before, mappedHeader(bitmap, pages, version, pageSize), ramBytes, eos(), footer()];
}

function mapped(header: Parameters<typeof mappedHeader> | [] = [], blockPages = 4): Buffer {
  return Buffer.concat([...mappedStart(header, blockPages), ramPart(), ramEnd(word(0, 0x200)), tail()]);
}

test('mapped-ram: the bitmap tells, not what stands in the place of a page', (t) => {
  withStream(mapped(), (file, finder) => {
    t.is(file.format, 'qemu-mapped-ram');
    t.deepEqual(file.countPages?.(), { stored: 2, zero: 2, absent: 0 });
    t.deepEqual(readRegion(file, finder, 0), { bytes: Buffer.concat([zero, a, zero, zero]), absent: [] });
    t.is(finder.nextUsed(0, 0, 4 * PAGE), PAGE);
    t.is(finder.nextUsed(0, 2 * PAGE, 4 * PAGE), 3 * PAGE);
    t.is(finder.nextUsed(0, 2 * PAGE, 3 * PAGE), 3 * PAGE);
    // An ordinary stream's head: no capability, no place of the pages.
    const head = file.attachments.find(({ name }) => name === QEMU_HEAD) as { bytes: Uint8Array };
    t.deepEqual(Buffer.from(head.bytes), Buffer.concat([...start(), ramStart([ram])]));
    const rest = file.attachments.find(({ name }) => name === QEMU_TAIL) as { sizeBytes: number };
    t.is(rest.sizeBytes, tail().length);
  });
});

test('mapped-ram: a large block is searched by its bitmap', (t) => {
  const pages = 200_000;
  const path = join(folder, 'large');
  const [before, , , ...ending] = mappedStart([], pages) as [Buffer, Buffer, Buffer, Buffer, Buffer];
  const bitmapAt = before.length + 28;
  const bitmap = Buffer.alloc(Math.ceil(pages / 64) * 8);
  bitmap[Math.floor(150_001 / 8)] = 1 << (150_001 % 8);
  writeFileSync(path, Buffer.concat([before, mappedHeader(bitmapAt, MAPPED), bitmap]));
  const fd = openSync(path, 'r+');
  ftruncateSync(fd, MAPPED + pages * PAGE);
  const end = Buffer.concat([...ending, ramEnd(), tail()]);
  closeSync(fd);
  writeFileSync(path, end, { flag: 'a' });
  const again = openSync(path, 'r');
  const file = openQemuStream({ fd: again, path, sizeBytes: fstatSync(again).size });
  const finder = createPageFinder(file.pages);
  t.is(finder.nextUsed(0, 0, pages * PAGE), 150_001 * PAGE);
  t.is(finder.nextUsed(0, 150_002 * PAGE, pages * PAGE), pages * PAGE);
  t.is(finder.nextUsed(0, 3 * PAGE, 5 * PAGE), 5 * PAGE);
  t.deepEqual(file.countPages?.(), { stored: 1, zero: pages - 1, absent: 0 });
  file.close();
  closeSync(again);
});

const HOSTILE_MAPPED: readonly (readonly [string, Buffer, string, RegExp])[] = [
  ['version 2', mapped([200, MAPPED, 2]), 'UNSUPPORTED', /version 2 in the mapped-ram header/],
  ['a page size of 0', mapped([200, MAPPED, 1, 0]), 'CORRUPT', /page size of 0x0/],
  ['a page size that is no power of two', mapped([200, MAPPED, 1, 5000]), 'CORRUPT', /page size of 0x1388/],
  ['a bitmap before its header', mapped([8, MAPPED]), 'CORRUPT', /a bitmap at 0x8/],
  ['a bitmap behind the file', mapped([2 ** 40, MAPPED]), 'CORRUPT', /a bitmap at 0x10000000000/],
  ['pages before the bitmap', mapped([MAPPED, 4096]), 'CORRUPT', /pages at 0x1000/],
  ['pages that are not aligned', mapped([200, MAPPED + 8]), 'CORRUPT', /pages at 0x100008/],
  ['pages behind the file', mapped([200, 0x7ffffffffffff000n]), 'CORRUPT', /pages at 0x7ffffffffffff000/],
  ['a bitmap with a page too many', withTailBit(), 'CORRUPT', /page beyond the 4/],
  ['a file that ends within the pages', mapped().subarray(0, MAPPED + 2 * PAGE), 'CORRUPT', /pages at 0x100000/],
];

test('hostile mapped-ram: a block whose pages lie in another block, or whose bitmap does', (t) => {
  const first = mapped();
  const end = MAPPED + 4 * PAGE;
  const second = (bitmapOffset: number, pagesOffset: number) => {
    const listed = Buffer.concat([u8(4), Buffer.from('rom0'), u64(4 * PAGE), mappedHeader(bitmapOffset, pagesOffset)]);
    const bytes = Buffer.concat([
      first.subarray(0, end),
      listed,
      Buffer.alloc(2 * MAPPED),
      eos(),
      footer(),
      ramEnd(),
      tail(),
    ]);
    // In front of the first block: the bytes of both.
    bytes.writeBigUInt64BE(BigInt(8 * PAGE) | 0x04n, bytes.indexOf(word(4 * PAGE, 0x04)));
    return bytes;
  };
  const bitmap = end + 5 + 8 + 28;
  t.throws(() => withStream(second(bitmap, MAPPED), () => {}), { code: 'CORRUPT', message: /pages at 0x100000/ });
  t.throws(() => withStream(second(MAPPED, 2 * MAPPED), () => {}), {
    code: 'CORRUPT',
    message: /a bitmap at 0x100000/,
  });
});

function withTailBit(): Buffer {
  const bytes = mapped();
  bytes[mappedStart([])[0]!.length + 28] = 0b11010;
  return bytes;
}

for (const [what, bytes, code, message] of HOSTILE_MAPPED) {
  test(`hostile mapped-ram: ${what}`, (t) => {
    t.throws(() => withStream(bytes, () => {}), { code, message });
  });
}

test('mapped-ram does not come from a pipe', (t) => {
  t.throws(() => drain(mapped()), { code: 'UNSUPPORTED', message: /cannot come from a pipe/ });
});

test('changed at random, a stream is read or refused, and nothing else happens', (t) => {
  const sound = [
    stream(
      [ram, rom],
      ramPart(page('pc.ram', 0, a), zeroPage(undefined, PAGE), page('pc.bios', PAGE, b)),
      ramPart(page('pc.ram', 0, c)),
    ),
    mapped(),
  ];
  let seed = 20260731;
  const random = (below: number) => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed % below;
  };
  let refused = 0;
  for (let i = 0; i < 600; i++) {
    const bytes = Buffer.from(sound[i % 2]!);
    // Structures stand at the beginning, and behind each page.
    const near = [0, 200, 4296, 4310, MAPPED + 4 * PAGE][random(5)]!;
    for (let n = 0; n <= random(3); n++) bytes[Math.min(bytes.length - 1, near + random(120))] = random(256);
    const cut = random(10) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
    for (const read of [() => withStream(cut, readAll), () => drain(cut)]) if (!isReadOrRefused(t, read)) refused++;
  }
  t.true(refused > 100);
});

function readAll(file: MemoryFile, finder: PageFinder): void {
  for (const region of file.regions.keys()) readRegion(file, finder, region);
}

function isReadOrRefused(t: ExecutionContext, read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    t.true(error instanceof VmsnapError && ['CORRUPT', 'UNSUPPORTED'].includes(error.code), String(error));
    return false;
  }
}

test('the pages of a stream are found while the main thread goes on: progress is told, and an abort is heard', async (t) => {
  const pages = 2 ** 16;
  const path = join(folder, 'long');
  const records = Array.from({ length: 64 }, (_, i) => page('pc.ram', i * PAGE, a));
  writeFileSync(path, Buffer.concat([...start(), ramStart([{ id: 'pc.ram', sizeBytes: 64 * PAGE }])]));
  for (let written = 0; written < pages; written += 64) writeFileSync(path, ramPart(...records), { flag: 'a' });
  writeFileSync(path, Buffer.concat([ramEnd(), tail()]), { flag: 'a' });
  const { size } = statSync(path);
  const options = { frozen: true, progressIntervalSeconds: 0.001, threads: 1 };
  const seen: Progress[] = [];
  let turns = 0;
  const clock = setInterval(() => turns++, 1);
  await save(path, join(folder, 'long.vmsnap'), { ...options, onProgress: (progress) => seen.push(progress) });
  clearInterval(clock);
  const index = seen.filter(({ phase }) => phase === 'index');
  t.true(turns > 0);
  t.true(index.length > 0);
  t.deepEqual([index.at(-1)!.totalBytes, seen.at(-1)!.phase], [size, 'save']);
  t.true(index.at(-1)!.doneBytes > size - 4096);
  const controller = new AbortController();
  const stopped = save(path, join(folder, 'none.vmsnap'), {
    ...options,
    signal: controller.signal,
    onProgress: ({ phase }) => controller.abort(new Error(`stopped in ${phase}`)),
  });
  await t.throwsAsync(stopped, { message: 'stopped in index' });
  t.false(existsSync(join(folder, 'none.vmsnap')));
  rmSync(path);
});
