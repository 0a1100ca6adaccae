// The built addon as JavaScript sees it: what it refuses, arrays over shared memory, many worker threads at once.
// What the functions compute is tested in C++.
import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker } from 'node:worker_threads';

const native = createRequire(import.meta.url)('../../build/Release/vmsnap.node');

const MIB = 1 << 20;
const PAGE = 4096;

function makeOutput(Storage) {
  const pages = MIB / PAGE;
  return {
    data: new Uint8Array(new Storage(MIB)),
    states: new Uint8Array(new Storage(pages)),
    words: new BigUint64Array(new Storage(8 * pages)),
    leaves: new Uint8Array(new Storage(16)),
    report: new Float64Array(new Storage(12 * 8)),
  };
}

function makeScanner(options = {}) {
  return new native.SegmentScanner({ detector: 'auto', pageSize: PAGE, segmentSize: MIB, ...options });
}

function testScan(Storage) {
  const input = new Uint8Array(new Storage(MIB));
  input[3 * PAGE + 5] = 1;
  input.fill(0xaa, 7 * PAGE, 8 * PAGE);
  const output = makeOutput(Storage);
  const scanner = makeScanner();
  assert.equal(scanner.scanMemory(input, 0, MIB, output), 0);
  assert.deepEqual([...output.report.subarray(0, 5)], [1, 1, 254, 0, MIB]);
  assert.equal(output.states[3], 1);
  assert.equal(output.states[7], 2);
  assert.equal(output.words[0], 0xaaaaaaaaaaaaaaaan);
  const leaves = new Uint8Array(new Storage(16));
  native.digestSegment(output.states, 256, PAGE, output.data, output.words, leaves);
  assert.deepEqual(leaves, output.leaves);
  const out = new Uint8Array(new Storage(MIB));
  native.expandSegment(output.states, 256, PAGE, output.data, output.words, out);
  assert.ok(out.every((byte, i) => byte === input[i]));

  const zero = openSync('/dev/zero', 'r');
  const extents = new Float64Array(new Storage(48));
  extents.set([zero, 0, 5000, -1, 0, MIB - 5000]);
  assert.equal(scanner.scanExtents(extents, 2, output), 0);
  assert.deepEqual([...output.report.subarray(0, 5)], [0, 0, 256, MIB - 5000, 5000]);
  closeSync(zero);

  const [readEnd, writeEnd] = native.pipe(65536);
  const abort = new Int32Array(new Storage(8));
  assert.equal(native.writeStream(writeEnd, input, 3 * PAGE, 10, abort, 1), 0);
  closeSync(writeEnd);
  assert.equal(native.readStream(readEnd, out, 0, 100, abort, 0), 10);
  assert.equal(out[5], 1);
  abort[1] = 1;
  assert.equal(native.readStream(readEnd, out, 0, 100, abort, 1), -125 /* ECANCELED */);
  closeSync(readEnd);
}

/** A page of data, one of a word and a zero one are hashed as they lie in a file; then the file changes. */
function testChanges(Storage) {
  const key = new Uint8Array(new Storage(4128));
  key.forEach((_, i) => {
    key[i] = i * 37 + (i >> 8);
  });
  const data = new Uint8Array(new Storage(PAGE)).fill(7);
  data[100] = 8;
  const hashes = new Uint8Array(new Storage(4 * 16));
  const words = new BigUint64Array(new Storage(8)).fill(0x0505050505050505n);
  native.hashSegment(key, new Uint8Array([1, 2, 0, 0]), 4, PAGE, data, words, hashes);
  assert.ok(hashes.subarray(32).every((byte) => byte === 0));
  assert.ok(hashes.subarray(0, 16).some((byte) => byte !== 0));

  const folder = mkdtempSync(join(tmpdir(), 'vmsnap-addon-'));
  const file = openSync(join(folder, 'memory'), 'w+');
  writeSync(file, Buffer.concat([data, Buffer.alloc(PAGE, 5), Buffer.alloc(2 * PAGE)]));
  const [pages, changed] = [new Uint8Array(new Storage(4 * PAGE)), new Uint8Array(new Storage(4))];
  const report = new Float64Array(new Storage(3 * 8));
  const find = () => native.findChanges(key, file, 0, 4 * PAGE, PAGE, hashes, pages, changed, report);
  assert.equal(find(), 0);
  assert.deepEqual([[...changed], report[0]], [[0, 0, 0, 0], 0]);
  writeSync(file, 'x', 5);
  writeSync(file, 'y', 3 * PAGE);
  assert.equal(find(), 0);
  assert.deepEqual([[...changed], report[0]], [[1, 0, 0, 1], 2]);
  assert.deepEqual([pages[5], pages[100], pages[PAGE]], [120, 8, 121]);
  ftruncateSync(file, PAGE);
  assert.equal(find(), 1);
  assert.equal(report[2], PAGE);
  closeSync(file);
  assert.equal(find(), -9 /* EBADF */);
  rmSync(folder, { recursive: true });
}

function testKnownValues() {
  const digits = new TextEncoder().encode('xx123456789');
  assert.equal(native.crc32c(digits, 2, 9, 0), 0xe3069283);
  const out = new Uint8Array(20);
  native.xxh3(digits, 0, 0, out, 4);
  const hex = [...out.subarray(4)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  assert.equal(hex, '99aa06d3014798d86001c324468d497f');
  assert.deepEqual(
    native.detectors().map((detector) => detector.name),
    ['avx2', 'neon', 'scalar'],
  );
  assert.ok(native.detectors().some((detector) => detector.available && detector.name === makeScanner().detector));
  assert.ok(['sse4.2', 'armv8', 'table'].includes(native.crc32cImplementation()));
}

/** Failed system calls are answers, not exceptions. Not for workers: another thread could open the same number. */
function testFailures() {
  const closed = openSync('/dev/zero', 'r');
  closeSync(closed);
  const output = makeOutput(ArrayBuffer);
  assert.equal(makeScanner().scanExtents(new Float64Array([-1, 0, PAGE, closed, 0, PAGE]), 2, output), -9 /* EBADF */);
  assert.equal(output.report[5], 1);
  const failedAt = new Float64Array(1);
  const states = new Uint8Array([0, 1]);
  const { data, words } = output;
  assert.equal(native.writeSegment(closed, 100, states, 2, PAGE, data, words, 0, failedAt), -9);
  assert.equal(failedAt[0], 100 + PAGE);
  for (const call of [
    'tryLock',
    'takeReadLease',
    'readLeaseHeld',
    'releaseLease',
    'blockDeviceSize',
    'fileSystemType',
  ]) {
    assert.equal(native[call](closed), -9, call);
  }
  for (const call of ['seekData', 'seekHole', 'allocate', 'dropCache', 'startWriteback']) {
    assert.equal(native[call](closed, 0, PAGE), -9, call);
  }
  assert.equal(native.zeroRange(closed, 0, PAGE, true), -9);
  assert.equal(native.residentShare(closed, 0, PAGE), 1);
  assert.equal(native.renameNoReplace('/nowhere/a', '/nowhere/b'), -2 /* ENOENT */);
}

function testRefusals() {
  const bytes = new Uint8Array(100);
  const words = new BigUint64Array(4);
  const abort = new Int32Array(1);
  const scanner = makeScanner();
  const output = makeOutput(ArrayBuffer);
  const input = new Uint8Array(MIB);
  const states = new Uint8Array([1, 2, 0, 1]);
  const data = new Uint8Array(2 * PAGE);
  const failedAt = new Float64Array(1);
  const extents = (...values) => new Float64Array(values);
  const unavailable = native.detectors().find((detector) => !detector.available);

  const range = [
    () => makeScanner({ detector: 'mmx' }),
    () => makeScanner({ detector: unavailable.name }),
    () => makeScanner({ pageSize: 2048 }),
    () => makeScanner({ pageSize: 5000 }),
    () => makeScanner({ pageSize: 4 * MIB }),
    () => makeScanner({ segmentSize: 512 * 1024 }),
    () => makeScanner({ pageSize: 2 * MIB }),
    () => makeScanner({ segmentSize: 128 * MIB }),
    () => makeScanner({ segmentSize: Number.NaN }),
    () => scanner.scanMemory(input, 1, MIB, output),
    () => scanner.scanMemory(input, 0, 100, output),
    () => scanner.scanMemory(input, -1, PAGE, output),
    () => scanner.scanMemory(input, 0.5, PAGE, output),
    () => scanner.scanMemory(new Uint8Array(2 * MIB), 0, 2 * MIB, output),
    () => scanner.scanMemory(input, 0, MIB, { ...output, data: input.subarray(1) }),
    () => scanner.scanMemory(input, 0, MIB, { ...output, states: output.states.subarray(1) }),
    () => scanner.scanMemory(input, 0, MIB, { ...output, words: output.words.subarray(1) }),
    () => scanner.scanMemory(input, 0, MIB, { ...output, leaves: output.leaves.subarray(1) }),
    () => scanner.scanMemory(input, 0, MIB, { ...output, report: output.report.subarray(1) }),
    () => native.hashSegment(new Uint8Array(4127), states, 1, PAGE, data, words, bytes),
    () => native.hashSegment(new Uint8Array(4128), states, 4, PAGE, data, words, new Uint8Array(63)),
    () => native.hashSegment(new Uint8Array(4128), new Uint8Array([9]), 1, PAGE, data, words, bytes),
    () => native.findChanges(new Uint8Array(4127), 0, 0, PAGE, PAGE, bytes, input, bytes, new Float64Array(3)),
    () => native.findChanges(new Uint8Array(4128), 0, 0, PAGE + 1, PAGE, bytes, input, bytes, new Float64Array(3)),
    () => native.findChanges(new Uint8Array(4128), 0, 0, PAGE, 5000, bytes, input, bytes, new Float64Array(3)),
    () => native.findChanges(new Uint8Array(4128), 0, -1, PAGE, PAGE, bytes, input, bytes, new Float64Array(3)),
    () => native.findChanges(new Uint8Array(4128), 0, 0, 8 * PAGE, PAGE, bytes, input, bytes, new Float64Array(3)),
    () => native.findChanges(new Uint8Array(4128), 0, 0, PAGE, PAGE, bytes, bytes, bytes, new Float64Array(3)),
    () => native.findChanges(new Uint8Array(4128), 0, 0, PAGE, PAGE, bytes, input, bytes, new Float64Array(2)),
    () => scanner.scanExtents(extents(-1, 0, PAGE), 2, output),
    () => scanner.scanExtents(extents(-1, 0, PAGE), 2 ** 53, output),
    () => scanner.scanExtents(extents(-2, 0, PAGE), 1, output),
    () => scanner.scanExtents(extents(2 ** 31, 0, PAGE), 1, output),
    () => scanner.scanExtents(extents(-1, -1, PAGE), 1, output),
    () => scanner.scanExtents(extents(-1, 2 ** 54, PAGE), 1, output),
    () => scanner.scanExtents(extents(-1, 0, Number.NaN), 1, output),
    () => scanner.scanExtents(extents(-1, 0, Number.POSITIVE_INFINITY), 1, output),
    () => scanner.scanExtents(extents(-1, 0, 1), 1, output),
    () => scanner.scanExtents(extents(-1, 0, MIB, -1, 0, 2 ** 53), 2, output),
    () => native.crc32c(bytes, 1, 100, 0),
    () => native.crc32c(bytes, 101, 0, 0),
    () => native.crc32c(bytes, 0, 1, -1),
    () => native.crc32c(bytes, 0, 1, 2 ** 32),
    () => native.xxh3(bytes, 0, 1, new Uint8Array(15), 0),
    () => native.xxh3(bytes, 0, 1, bytes, 85),
    () => native.addLeaves(0, 0, bytes, 7, words),
    () => native.addLeaves(2 ** 32, 0, bytes, 1, words),
    () => native.addLeaves(0, 0, bytes, 1, words.subarray(3)),
    () => native.digestSegment(states, 5, PAGE, data, words, bytes),
    () => native.digestSegment(states, 4, PAGE, data.subarray(1), words, bytes),
    () => native.digestSegment(states, 4, PAGE, data, words.subarray(4), bytes),
    () => native.digestSegment(states, 4, 3 * PAGE, data, words, bytes),
    () => native.digestSegment(new Uint8Array([3]), 1, PAGE, data, words, bytes),
    () => native.digestSegment(states, 4, PAGE, data, words, bytes.subarray(90)),
    () => native.digestSegment(new Uint8Array(2 ** 15), 2 ** 15, PAGE, data, words, bytes),
    () => native.digestSegment(new Uint8Array(64), 64, 2 * MIB, data, words, bytes),
    () => native.expandSegment(states, 4, PAGE, data, words, new Uint8Array(4 * PAGE - 1)),
    () => native.writeSegment(0, -1, states, 4, PAGE, data, words, 0, failedAt),
    () => native.writeSegment(0, 2 ** 53 + 2, states, 4, PAGE, data, words, 0, failedAt),
    () => native.writeSegment(0, 0, states, 4, PAGE, data, words, 3, failedAt),
    () => native.writeSegment(0, 0, states, 4, PAGE, data, words, 0, new Float64Array(0)),
    () => native.seekData(-1, 0, 1),
    () => native.zeroRange(0, 0.5, 1, true),
    () => native.readStream(0, bytes, 0, 101, abort, 0),
    () => native.readStream(0, bytes, 0, 100, abort, 1),
    () => native.writeStream(0, bytes, 0, 100, abort, -1),
    () => native.pipe(-1),
    () => native.tryLock(1.5),
  ];
  const type = [
    () => new native.SegmentScanner(),
    () => new native.SegmentScanner({ pageSize: PAGE, segmentSize: MIB }),
    () => native.SegmentScanner({}),
    () => makeScanner({ pageSize: '4096' }),
    () => scanner.scanMemory('text', 0, PAGE, output),
    () => scanner.scanMemory(input, 0, PAGE),
    () => scanner.scanMemory(input, 0, PAGE, { ...output, words: input }),
    () => scanner.scanMemory(new DataView(new ArrayBuffer(PAGE)), 0, PAGE, output),
    () => scanner.scanExtents([-1, 0, PAGE], 1, output),
    () => scanner.scanExtents(),
    () => native.crc32c(),
    () => native.crc32c(new ArrayBuffer(8), 0, 8, 0),
    () => native.crc32c(bytes, 0n, 1, 0),
    () => native.addLeaves(0, 0, bytes, 1, new BigInt64Array(2)),
    () => native.zeroRange(0, 0, 0, 1),
    () => native.readStream(0, bytes, 0, 100, new Uint32Array(1), 0),
    () => native.renameNoReplace('a', undefined),
    () => native.renameNoReplace('a\0b', 'c'),
    () => native.pipe('64'),
  ];
  for (const call of range) assert.throws(call, RangeError, String(call));
  for (const call of type) assert.throws(call, TypeError, String(call));
  assert.throws(() => native.SegmentScanner.prototype.scanMemory.call({}, input, 0, PAGE, output));
  const throwing = {
    get detector() {
      throw new Error('from the getter');
    },
  };
  assert.throws(() => new native.SegmentScanner(throwing), /from the getter/);
}

async function testWorkers() {
  // Node warns when a worker closes a file descriptor that native code opened.
  const unmanaged = { trackUnmanagedFds: false };
  const workers = Array.from({ length: 16 }, () => new Worker(fileURLToPath(import.meta.url), unmanaged));
  const codes = await Promise.all(
    workers.map(
      (worker) =>
        new Promise((resolve, reject) => {
          worker.on('error', reject);
          worker.on('exit', resolve);
        }),
    ),
  );
  assert.ok(codes.every((code) => code === 0));
}

testScan(ArrayBuffer);
testScan(SharedArrayBuffer);
testChanges(ArrayBuffer);
testChanges(SharedArrayBuffer);
if (isMainThread) {
  testKnownValues();
  testFailures();
  testRefusals();
  await testWorkers();
  console.log('addon: all tests passed');
}
