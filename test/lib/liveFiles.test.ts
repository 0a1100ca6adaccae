/** What a live save keeps between its passes: hashes that nobody wrote are zeros, copies come back, and where there is no room it says so. */
import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { Geometry } from '../../formats/vmsnap/geometry.js';
import {
  closeLiveShared,
  copiedPages,
  createLiveShared,
  FOUND_NO_ROOM,
  FOUND_UNCHANGED,
  LiveFiles,
  type LiveShared,
} from '../../lib/pipeline/live/liveFiles.js';
import { sameBytes } from './support/expect.js';
import { KIB, MIB, PAGE, randomMemory } from './support/memory.js';
import { workspace } from './support/workspace.js';

const GEOMETRY = new Geometry(PAGE, MIB, 64 * KIB, [3 * MIB, MIB + 5 * PAGE]);
const PAGES = MIB / PAGE;

function make(
  t: ExecutionContext,
  copiesMostBytes: number,
  isSecret = false,
): { shared: LiveShared; files: LiveFiles } {
  const folder = workspace(t);
  const shared = createLiveShared(folder.folder, GEOMETRY, copiesMostBytes, isSecret);
  t.teardown(() => closeLiveShared(shared));
  t.deepEqual(readdirSync(folder.folder), []);
  return { shared, files: new LiveFiles(shared, GEOMETRY) };
}

function map(...changed: number[]): Uint8Array {
  return Uint8Array.from({ length: PAGES }, (_, page) => (changed.includes(page) ? 1 : 0));
}

test('for their owner only, and a key of its own each time', (t) => {
  const [first, second] = [make(t, MIB).shared, make(t, MIB).shared];
  for (const { fd } of [first.table, first.copies]) {
    const { mode, nlink } = fstatSync(fd);
    t.deepEqual([mode & 0o777, nlink], [0o600, 0]);
  }
  t.false(Buffer.from(first.key).equals(Buffer.from(second.key)));
});

test('hashes come back, of the segment they belong to; others are zeros', (t) => {
  const { files, shared } = make(t, MIB);
  const hashes = files.createHashes();
  hashes.set(randomMemory(hashes.length));
  files.writeHashes(2, hashes, MIB);
  files.writeHashes(4, hashes, 5 * PAGE);
  const read = files.createHashes();
  for (const [segment, length] of [0, 0, hashes.length, 0, 5 * 16].entries()) {
    files.readHashes(segment, read);
    const expected = Buffer.alloc(hashes.length);
    expected.set(hashes.subarray(0, length));
    sameBytes(t, Buffer.from(read), expected, `the hashes of segment ${segment}`);
  }
  t.true(fstatSync(shared.table.fd).blocks * 512 < fstatSync(shared.table.fd).size);
});

test('copies come back to their places until there is no room; each segment is taken once', (t) => {
  const { files, shared } = make(t, 5 * PAGE + 100);
  const pages = randomMemory(4 * PAGE);
  t.true(files.keepChanges(1, map(0, 7, 8), pages, 3));
  t.false(files.keepChanges(2, map(1, 2, 3), pages, 3));
  t.true(files.keepChanges(3, map(255, 9), pages, 2));
  t.is(copiedPages(shared), 5);
  t.deepEqual([files.found(0), files.found(2)], [FOUND_UNCHANGED, FOUND_NO_ROOM]);

  const expected = Buffer.alloc(MIB);
  pages.copy(expected, 0, 0, PAGE);
  pages.copy(expected, 7 * PAGE, PAGE, 3 * PAGE);
  const [into, isThere] = [new Uint8Array(MIB), new Uint8Array(PAGES)];
  files.readChanges(1, into, isThere);
  sameBytes(t, Buffer.from(into), expected);
  t.deepEqual(isThere, map(0, 7, 8));
  files.readChanges(3, into.fill(0), isThere);
  sameBytes(t, Buffer.from(into.subarray(9 * PAGE, 10 * PAGE)), pages.subarray(0, PAGE));
  sameBytes(t, Buffer.from(into.subarray(255 * PAGE)), pages.subarray(PAGE, 2 * PAGE));
  t.deepEqual(isThere, map(9, 255));

  t.deepEqual(
    Array.from({ length: 6 }, () => files.takeSegment()),
    [0, 1, 2, 3, 4, undefined],
  );
});

test('beside an encrypted image copies come back as well, and lie nowhere in the clear', (t) => {
  const { files, shared } = make(t, MIB, true);
  const pages = Buffer.alloc(4 * PAGE, 'a secret of the guest ');
  t.true(files.keepChanges(1, map(0, 7, 8), pages, 3));
  t.true(files.keepChanges(3, map(2), pages, 1));
  const onDisk = Buffer.alloc(4 * PAGE);
  t.is(readSync(shared.copies.fd, onDisk, 0, onDisk.length, 0), onDisk.length);
  t.is(onDisk.indexOf('secret'), -1);
  // Nor do equal pages look alike.
  t.false(onDisk.subarray(0, PAGE).equals(onDisk.subarray(3 * PAGE)));
  const [into, isThere] = [new Uint8Array(MIB), new Uint8Array(PAGES)];
  files.readChanges(1, into, isThere);
  sameBytes(t, Buffer.from(into.subarray(7 * PAGE, 9 * PAGE)), pages.subarray(PAGE, 3 * PAGE));
  files.readChanges(3, into.fill(0), isThere);
  sameBytes(t, Buffer.from(into.subarray(2 * PAGE, 3 * PAGE)), pages.subarray(0, PAGE));
});

test('a copy that cannot be written is one for which there is no room', (t) => {
  const { shared } = make(t, MIB);
  const fd = openSync('/dev/full', 'r+');
  t.teardown(() => closeSync(fd));
  const full = new LiveFiles({ ...shared, copies: { fd, path: '/dev/full' } }, GEOMETRY);
  t.false(full.keepChanges(0, map(3), randomMemory(PAGE), 1));
  t.is(full.found(0), FOUND_NO_ROOM);
});
