/** Gzip files as sources: told by content, whole or refused, never a silent short image. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { deflateRawSync, gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { inspect, load, type SaveResult, save, VmsnapError } from '../../lib/index.js';
import { failsWith, sameBytes } from './support/expect.js';
import { MIB, mixedMemory, PAGE, randomMemory } from './support/memory.js';
import { onProgram } from './support/privileged.js';
import { saveInChild } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

/** What a saver of gzip may take beside what it takes for a raw file: the output of one piece, 16 MiB, and zlib-sync's copies of it. */
const PEAK_MAX_BYTES = 384 * MIB;
const MEMBERS_MAX = 32;

function saveGzip(folder: Workspace, bytes: Buffer): Promise<SaveResult> {
  writeFileSync(folder.path('memory.gz'), bytes);
  return save(folder.path('memory.gz'), folder.path('image'), { segmentSize: MIB, threads: 2, force: true });
}

async function requireMemory(t: ExecutionContext, folder: Workspace, expected: Buffer, what: string): Promise<void> {
  await load(folder.path('image'), folder.path('back'), { force: true });
  sameBytes(t, readFileSync(folder.path('back')), expected, what);
}

function members(memory: Buffer, count: number): Buffer {
  const size = Math.ceil(memory.length / count);
  return Buffer.concat(Array.from({ length: count }, (_, i) => gzipSync(memory.subarray(i * size, (i + 1) * size))));
}

test('one member, several, and padding', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(5 * MIB);
  const one = gzipSync(memory);
  const sound: [string, Buffer][] = [
    ['one member', one],
    ['stored, not compressed', gzipSync(memory, { level: 0 })],
    ['two members', members(memory, 2)],
    ['seven members', members(memory, 7)],
    ['empty members between', Buffer.concat([gzipSync(''), members(memory, 3), gzipSync(''), gzipSync('')])],
    ['one zero byte behind it', Buffer.concat([one, Buffer.alloc(1)])],
    ['zeros to a block', Buffer.concat([one, Buffer.alloc(512 - (one.length % 512))])],
    ['many zeros', Buffer.concat([one, Buffer.alloc(700_001)])],
    [
      'zeros between members',
      Buffer.concat([gzipSync(memory.subarray(0, PAGE)), Buffer.alloc(99), gzipSync(memory.subarray(PAGE))]),
    ],
    ['a header with name, comment, extra field and CRC', withFullHeader(memory)],
  ];
  for (const [what, bytes] of sound) {
    const saved = await saveGzip(folder, bytes);
    t.is(saved.memoryBytes, memory.length, what);
    t.is((await inspect(folder.path('image'))).source.kind, 'gzip');
    await requireMemory(t, folder, memory, what);
  }
});

/** RFC 1952 with every flag set. The header's CRC is not checked by zlib unless it is right, so it is computed. */
function withFullHeader(memory: Buffer): Buffer {
  const plain = gzipSync(memory);
  const head = Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 1 + 4 + 8 + 16, 1, 2, 3, 4, 0, 3]),
    Buffer.from([5, 0]),
    Buffer.from('extra'),
    Buffer.from('memory.raw\0'),
    Buffer.from('a comment\0'),
  ]);
  return Buffer.concat([head, deflateRawSync(memory), plain.subarray(-8)]);
}

test('members of any size: their ends fall anywhere in what is read at once', async (t) => {
  const folder = workspace(t);
  const part = fc.record({
    length: fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 15_000, max: 40_000 })),
    level: fc.constantFrom(0, 1, 6),
    padding: fc.oneof(
      { weight: 3, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 40 }) },
    ),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 30 }), fc.nat(1000), async (parts, seed) => {
      const length = Math.max(PAGE, Math.ceil(parts.reduce((sum, { length }) => sum + length, 0) / PAGE) * PAGE);
      const memory = randomMemory(length, seed);
      let at = 0;
      const pieces = parts.flatMap(({ length, level, padding }) => {
        const member = gzipSync(memory.subarray(at, at + length), { level });
        at += length;
        return [member, Buffer.alloc(padding)];
      });
      // The magic at the beginning is what tells a gzip file.
      await saveGzip(folder, Buffer.concat([...pieces, gzipSync(memory.subarray(at))]));
      await requireMemory(t, folder, memory, 'the memory');
    }),
    { numRuns: 25, includeErrorInReport: true },
  );
});

test('cut off anywhere it is refused', async (t) => {
  const folder = workspace(t);
  const whole = Buffer.concat([gzipSync(mixedMemory(MIB)), gzipSync(mixedMemory(MIB, 7))]);
  const first = gzipSync(mixedMemory(MIB)).length;
  const around = (place: number) => [-9, -8, -7, -4, -1, 1, 2, 9, 10, 17, 18, 19].map((step) => place + step);
  const spread = Array.from({ length: 20 }, (_, i) => Math.floor((whole.length * (i + 0.5)) / 20));
  const cuts = [...around(first), ...around(whole.length), ...spread, 1, 9, 10, 18, 19, 30, 5000];
  for (const cut of cuts.filter((place) => place < whole.length && place !== first)) {
    await requireRefused(t, folder, whole.subarray(0, cut), `cut at ${cut}`);
  }
});

test('with garbage behind it, or between, it is refused', async (t) => {
  const folder = workspace(t);
  const one = gzipSync(mixedMemory(MIB));
  const garbage: [string, Buffer][] = [
    ['text', Buffer.from('garbage')],
    ['one byte', Buffer.from([1])],
    ['the first byte of the magic', Buffer.from([0x1f])],
    ['the magic', Buffer.from([0x1f, 0x8b])],
    ['half a header', one.subarray(0, 9)],
    ['a header', one.subarray(0, 10)],
    ['text after zeros', Buffer.concat([Buffer.alloc(70_000), Buffer.from('garbage')])],
    ['a lot', randomMemory(MIB)],
  ];
  for (const [what, bytes] of garbage) {
    await requireRefused(t, folder, Buffer.concat([one, bytes]), what);
    await requireRefused(t, folder, Buffer.concat([one, bytes, one]), `${what}, and another member`);
  }
});

test('a flipped byte is refused or changes nothing', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(MIB);
  const whole = Buffer.concat([gzipSync(memory.subarray(0, 500_000)), gzipSync(memory.subarray(500_000))]);
  const places = [...Array(18).keys(), ...Array.from({ length: 60 }, (_, i) => Math.floor((whole.length * i) / 60))];
  for (const place of [...places, ...Array.from({ length: 8 }, (_, i) => whole.length - 1 - i)]) {
    const flipped = Buffer.from(whole);
    flipped[place]! ^= 1 << (place % 8);
    try {
      await saveGzip(folder, flipped);
      await requireMemory(t, folder, memory, `flipped at ${place}`);
    } catch (error) {
      requireRefusal(t, error, `flipped at ${place}`);
    }
  }
});

async function requireRefused(t: ExecutionContext, folder: Workspace, bytes: Buffer, what: string): Promise<void> {
  // Told by content: what no longer looks like gzip is raw memory, and must not be whole pages by chance.
  t.not(bytes.length % PAGE, 0, 'the test needs another length');
  const image = folder.path('refused');
  writeFileSync(folder.path('memory.gz'), bytes);
  const error = await t.throwsAsync(save(folder.path('memory.gz'), image, { threads: 2 }), undefined, what);
  requireRefusal(t, error, what);
  t.false(existsSync(image), what);
  t.deepEqual(folder.leftovers(), [], what);
}

function requireRefusal(t: ExecutionContext, error: unknown, what: string): void {
  if (!(error instanceof VmsnapError)) throw error;
  t.true(['CORRUPT', 'USAGE'].includes(error.code), `${what}: ${error.code} ${error.message}`);
}

onProgram('pigz')('what pigz writes', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(9 * MIB);
  for (const options of [['-1'], ['-6', '-p2', '-b128'], ['-i', '-p2'], ['-0']]) {
    const { stdout } = spawnSync('pigz', ['-c', ...options], { input: memory, maxBuffer: 64 * MIB });
    await saveGzip(folder, stdout);
    await requireMemory(t, folder, memory, options.join(' '));
  }
});

test('memory that is all zero: 1,000 times as much comes out as goes in', async (t) => {
  const folder = workspace(t);
  const member = gzipSync(Buffer.alloc(64 * MIB));
  writeFileSync(folder.path('memory.gz'), Buffer.concat(Array(8).fill(member)));
  const { result, peakBytes } = await saveInChild({
    operation: 'save',
    source: folder.path('memory.gz'),
    image: folder.path('image'),
    options: { threads: 2 },
  });
  t.log(`512 MiB of zeros from ${8 * member.length} bytes: peak memory ${Math.round(peakBytes / MIB)} MiB`);
  t.is(result.memoryBytes, 512 * MIB);
  t.is(result.pages.data, 0);
  t.true(peakBytes < PEAK_MAX_BYTES);
});

test('many members: up to 32, and an error beyond', async (t) => {
  const folder = workspace(t);
  const memory = mixedMemory(MEMBERS_MAX * 1024 * 4);
  await saveGzip(folder, members(memory, MEMBERS_MAX));
  await requireMemory(t, folder, memory, '32 members');
  const tooMany = Buffer.concat([members(memory, MEMBERS_MAX), gzipSync(Buffer.alloc(PAGE))]);
  const error = await failsWith(t, 'CORRUPT', saveGzip(folder, tooMany), /too many gzip members/);
  t.regex(error.hint!, /gunzip -c/);
});

test('contents that are no whole pages, or nothing', async (t) => {
  const folder = workspace(t);
  await failsWith(t, 'USAGE', saveGzip(folder, gzipSync(randomMemory(MIB + 1))), /no multiple of the page size/);
  await failsWith(t, 'USAGE', saveGzip(folder, gzipSync('')), /empty/);
  t.false(existsSync(folder.path('image')));
  t.deepEqual(folder.leftovers(), []);
});

test('raw memory that only begins like gzip', async (t) => {
  const folder = workspace(t);
  for (const start of ['1f8b', '1f8b08', '1f8b0800000000000003', '1f8b08ff00000000000000']) {
    const memory = randomMemory(MIB);
    memory.set(Buffer.from(start, 'hex'));
    const saved = await saveGzip(folder, memory);
    t.is(saved.memoryBytes, MIB, start);
    await requireMemory(t, folder, memory, start);
  }
});
