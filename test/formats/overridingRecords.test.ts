/**
 * Overriding records: whatever segments come in whatever order, however often, every reader gives what stands last. Images are
 * written through the commit line, and held against a model that is nothing but the memory.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { compare, flatten, inspect, load, openImage, save, type VerifyResult, verify } from '../../lib/index.js';
import { runCli } from '../cli/support/runCli.js';
import { failsWith, sameBytes } from '../lib/support/expect.js';
import { KIB, MIB, makeMemory, PAGE, PAGE_KINDS, type Run } from '../lib/support/memory.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { editEnd, editStart, type ForgedImage, forge, type Json, recordOf, replaceStateMap } from './forge.js';
import { codeOf, Judge, type Verdict } from './support/judge.js';
import { RecordImage } from './support/recordImage.js';
import { missingTool, readWithSecondReader, refusalsOfSecondReader, skip } from './support/secondReader.js';

const REGIONS = [
  { name: 'low', gpa: 0, sizeBytes: 2 * MIB + 64 * KIB },
  { name: 'high', gpa: 2 ** 32, sizeBytes: 3 * MIB },
];
const MEMORY_BYTES = 5 * MIB + 64 * KIB;

/** The plain memory, and which of its pages are absent. */
class Model {
  readonly memory = Buffer.alloc(MEMORY_BYTES);
  readonly #absent = new Set<number>();
  readonly #starts = [0, 2 * MIB + 64 * KIB];

  constructor(readonly image: RecordImage) {}

  put(segment: number, bytes: Buffer, absent: readonly number[] = []): void {
    const place = this.image.geometry.placeOf(segment);
    const at = this.#starts[place.region]! + place.regionOffset;
    const part = Buffer.from(bytes.subarray(0, place.sizeBytes));
    const pages = absent.filter((page) => page < place.sizeBytes / PAGE);
    for (const page of pages) part.fill(0, page * PAGE, (page + 1) * PAGE);
    part.copy(this.memory, at);
    for (let page = 0; page < place.sizeBytes / PAGE; page++) this.#absent.delete(at / PAGE + page);
    for (const page of pages) this.#absent.add(at / PAGE + page);
    this.image.put(segment, part, pages);
  }

  get absentPages(): number {
    return this.#absent.size;
  }
}

/** Numbers from 0 to below `limit`, the same for the same seed. */
function numbersFrom(seed: number): (limit: number) => number {
  let state = (seed * 2654435761 + 1) >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

function someSegment(next: (limit: number) => number): Buffer {
  const runs: Run[] = Array.from({ length: 1 + next(6) }, () => ({
    kind: next(3) === 0 ? 'zero' : PAGE_KINDS[next(PAGE_KINDS.length)]!,
    pages: 1 + next(20),
  }));
  return makeMemory(MIB, runs, PAGE, 1 + next(1000));
}

/** Random records of random segments: data over data, zeros over data, absent over anything. */
function randomImage(path: string, seed: number): { model: Model; identity: string; digest: string } {
  const next = numbersFrom(seed);
  const codec = (['zlib', 'zstd', 'none'] as const)[seed % 3]!;
  const image = new RecordImage(path, {
    regions: REGIONS,
    codec: { name: codec, level: codec === 'none' ? undefined : 1 },
    overriding: true,
    mayHaveAbsent: seed % 2 === 0,
  });
  const model = new Model(image);
  // Some segments never come, some again and again.
  const segments = Array.from({ length: image.geometry.segmentCount }, (_, i) => i).filter(() => next(5) > 0);
  const records = seed === 0 ? 0 : 3 + next(seed % 4 === 0 ? 60 : 20);
  for (let i = 0; i < records && segments.length > 0; i++) {
    const absent = seed % 2 === 0 && next(3) === 0 ? Array.from({ length: next(256) }, (_, page) => page) : [];
    const bytes = next(5) === 0 ? Buffer.alloc(MIB) : someSegment(next);
    model.put(segments[next(segments.length)]!, bytes, absent);
  }
  return { model, ...image.finish() };
}

async function throughPipe<T>(folder: Workspace, image: string, action: (pipe: string) => Promise<T>): Promise<T> {
  const pipe = makeFifo(folder.path(`pipe-${Math.random()}`));
  const [result] = await Promise.all([action(pipe), cat(image, pipe)]);
  return result;
}

for (let seed = 0; seed < 8; seed++) {
  test(`records of random segments, ${seed}: load by index, load from a pipe, verify and reads agree with the model`, async (t) => {
    const folder = workspace(t);
    const [path, target] = [folder.path('image'), folder.path('target')];
    const { model, identity, digest } = randomImage(path, seed);
    const { memory, absentPages } = model;
    const expected = [memory.length, absentPages, 'memory', digest];
    const loadAnd = async (from: string, threads: number, inPlace: boolean): Promise<void> => {
      const result = await load(from, target, { threads, inPlace, force: true });
      t.deepEqual([result.memoryBytes, result.absentPages, result.proven, result.digest], expected);
      sameBytes(t, readFileSync(target), memory);
    };
    await loadAnd(path, 2, false);
    for (const threads of [1, 4]) await throughPipe(folder, path, (pipe) => loadAnd(pipe, threads, false));
    writeFileSync(target, Buffer.alloc(MEMORY_BYTES + PAGE, 0xee));
    await throughPipe(folder, path, (pipe) => loadAnd(pipe, 3, true));
    for (const options of [{}, { structureOnly: true }]) {
      sound(t, await verify(path, { threads: 3, ...options }));
      sound(t, await throughPipe(folder, path, (pipe) => verify(pipe, { threads: 2, ...options })));
    }
    await readsAgree(t, path, memory);
    const reason = missingTool(t, ['python3', 'zstd']);
    if (reason !== undefined) return skip(t, reason);
    const reading = await readWithSecondReader(path, folder.path('read'));
    t.deepEqual([reading.identity, reading.digest, (reading.pages as Json).absent], [identity, digest, absentPages]);
    sameBytes(t, readFileSync(folder.path('read')), memory);
  });
}

function sound(t: ExecutionContext, { intact, findings, checked }: VerifyResult): void {
  t.true(intact, findings[0]?.message);
  t.is(checked.memoryBytes, MEMORY_BYTES);
}

async function readsAgree(t: ExecutionContext, path: string, memory: Buffer): Promise<void> {
  const image = await openImage(path);
  const read = [await image.read('low', 0, 2 * MIB + 64 * KIB), await image.read('high', 0, 3 * MIB)];
  sameBytes(t, Buffer.concat(read), memory);
  await image.close();
}

test('parts of a load from a pipe: a region, a range within pages', async (t) => {
  const folder = workspace(t);
  const [path, target] = [folder.path('image'), folder.path('target')];
  const { memory } = randomImage(path, 4).model;
  const options = { force: true, threads: 2 };
  await throughPipe(folder, path, (pipe) => load(pipe, target, { ...options, region: 'high' }));
  sameBytes(t, readFileSync(target), memory.subarray(2 * MIB + 64 * KIB));
  const range = { offset: MIB - 100, length: MIB + 9000 };
  await throughPipe(folder, path, (pipe) => load(pipe, target, { ...options, range }));
  sameBytes(t, readFileSync(target), memory.subarray(range.offset, range.offset + range.length));
});

test('compare, flatten and differences go by the index; a file can be loaded into a stream, a pipe cannot', async (t) => {
  const folder = workspace(t);
  const [path, source, child] = [folder.path('image'), folder.path('memory'), folder.path('child')];
  const { model, digest } = randomImage(path, 8);
  const { memory, absentPages } = model;
  writeFileSync(source, memory);
  const compared = await compare(path, source);
  t.deepEqual([compared.equal, compared.a.absentPages], [true, absentPages]);
  const flat = await flatten(path, folder.path('flat'));
  t.deepEqual([flat.digest, flat.pages.absent], [digest, absentPages]);
  t.deepEqual((await inspect(folder.path('flat'))).format.incompatibleFeatures, ['absent pages']);
  t.deepEqual((await inspect(path)).format.incompatibleFeatures, ['overriding records', 'absent pages']);
  memory.fill('changed', 3 * MIB, 3 * MIB + 5000);
  writeFileSync(source, memory);
  const { pages } = await save(source, child, { base: path, frozen: true });
  t.true(pages.sameAsBase > 0);
  t.true((await verify(child)).intact);
  await throughPipe(folder, child, (pipe) => load(pipe, folder.path('target'), { baseDirs: [folder.folder] }));
  sameBytes(t, readFileSync(folder.path('target')), memory);
  const target = makeFifo(folder.path('target-pipe'));
  await Promise.all([load(child, target), cat(target, folder.path('streamed'))]);
  sameBytes(t, readFileSync(folder.path('streamed')), memory);
  const refused = throughPipe(folder, path, async (pipe) => {
    const reading = cat(target, '/dev/null');
    await failsWith(t, 'USAGE', load(pipe, target), /stand in no order/);
    await reading;
  });
  await refused;
  t.is((await runCli(['load', path, '-'], { cwd: folder.folder })).exitCode, absentPages > 0 ? 3 : 0);
});

test("a differential image with overriding records: what has no record is the base's, whatever the order", async (t) => {
  const folder = workspace(t);
  const [base, child, source, target] = ['base', 'child', 'memory', 'target'].map((name) => folder.path(name)) as [
    string,
    string,
    string,
    string,
  ];
  const { memory } = randomImage(base, 6).model;
  for (const at of [0, 2 * MIB + 64 * KIB, 4 * MIB]) memory.fill(`changed at ${at}; `, at + PAGE, at + 3 * PAGE);
  writeFileSync(source, memory);
  await save(source, child, { base, frozen: true, references: false });
  const reordered = forge(readFileSync(child), (image) => {
    image.header.writeBigUInt64LE(image.header.readBigUInt64LE(24) | 4n, 24);
    const segments = image.records.filter(({ kind }) => kind === 'VSEG').reverse();
    const others = image.records.filter(({ kind }) => kind !== 'VSEG');
    image.records = [...segments.slice(-2).map((record) => ({ ...record })), ...segments, ...others];
  });
  writeFileSync(child, reordered);
  const options = { force: true, threads: 2, baseDirs: [folder.folder] };
  await load(child, target, options);
  sameBytes(t, readFileSync(target), memory);
  await throughPipe(folder, child, (pipe) => load(pipe, target, options));
  sameBytes(t, readFileSync(target), memory);
  writeFileSync(target, Buffer.alloc(MEMORY_BYTES, 0xee));
  await throughPipe(folder, child, (pipe) => load(pipe, target, { ...options, inPlace: true }));
  sameBytes(t, readFileSync(target), memory);
  sound(t, await verify(child));
  sound(t, await throughPipe(folder, child, (pipe) => verify(pipe, options)));
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  await readWithSecondReader(child, folder.path('read'));
  sameBytes(t, readFileSync(folder.path('read')), memory);
});

test('the commit line tells which record counts, and waits until it is written', (t) => {
  const path = workspace(t).path('image');
  const image = new RecordImage(path, { regions: REGIONS, overriding: true });
  const model = new Model(image);
  const { line } = image;
  t.is(line.entryOf(3), undefined);
  t.is(
    line.waitForStored(-1, 3, () => {}),
    undefined,
  );
  model.put(3, makeMemory(MIB, [{ kind: 'text', pages: 5 }]));
  const first = line.waitForStored(0, 3, () => {})!;
  t.deepEqual([first.dataPages, first.uniformPages], [5, 0]);
  model.put(1, makeMemory(MIB, [{ kind: 'text', pages: 9 }]));
  model.put(3, makeMemory(MIB, [{ kind: 'uniform', pages: 7 }]));
  const second = line.waitForStored(2, 3, () => {})!;
  t.deepEqual([second.dataPages, second.uniformPages], [0, 7]);
  t.true(second.offset > line.entryOf(1)!.offset && line.entryOf(1)!.offset > first.offset);
  image.finish();
});

test('an image may have no more segments than readers can hold something of', async (t) => {
  const folder = workspace(t);
  const tooMany = [{ name: 'ram', gpa: 0, sizeBytes: (2 ** 22 + 1) * MIB }];
  t.throws(() => new RecordImage(folder.path('x'), { regions: tooMany, overriding: true }), {
    message: /4194305 segments/,
  });
  const most = new RecordImage(folder.path('most'), {
    regions: [{ name: 'ram', gpa: 0, sizeBytes: 2 ** 22 * MIB }],
    overriding: true,
  });
  most.put(2 ** 22 - 1, makeMemory(MIB, [{ kind: 'text', pages: 2 }]));
  most.put(5, makeMemory(MIB, [{ kind: 'text', pages: 1 }]));
  most.finish();
  whole(t, await verify(folder.path('most'), { threads: 1 }));
  whole(t, await throughPipe(folder, folder.path('most'), (pipe) => verify(pipe, { threads: 1 })));
});

function whole(t: ExecutionContext, { intact, findings }: VerifyResult): void {
  t.true(intact, findings[0]?.message);
}

/** Segment 1 comes twice, then 0, then 1 again with zeros and one page, then 4. */
function smallOverriding(path: string): Buffer {
  const image = new RecordImage(path, { regions: REGIONS, overriding: true, mayHaveAbsent: true });
  const model = new Model(image);
  model.put(1, makeMemory(MIB, [{ kind: 'text', pages: 4 }]));
  model.put(
    1,
    makeMemory(
      MIB,
      [
        { kind: 'text', pages: 2 },
        { kind: 'uniform', pages: 2 },
      ],
      PAGE,
      5,
    ),
  );
  model.put(0, makeMemory(MIB, [{ kind: 'uniform', pages: 3 }]), [7, 8]);
  model.put(
    1,
    makeMemory(MIB, [
      { kind: 'zero', pages: 1 },
      { kind: 'almost', pages: 1 },
    ]),
    [9],
  );
  model.put(4, makeMemory(MIB, [{ kind: 'text', pages: 1 }]));
  image.finish();
  return model.memory;
}

interface Expected {
  readonly verify: Verdict;
  /** `taken`: loaded, and right. */
  readonly file: string;
  readonly pipe: string;
}

/** Makes the index entry of segment 1 name its `n`th record. */
function nameRecord(n: number): (image: ForgedImage, valid: Buffer) => void {
  return (image, valid) => {
    const block = recordOf(image, 'VIDX');
    const record = image.records.filter(({ kind, subject }) => kind === 'VSEG' && subject === 1n)[n]!;
    const at = offsetsOf(image)[image.records.indexOf(record)]!;
    block.payload.writeBigUInt64LE(BigInt(at), 32);
    block.payload.writeUInt32LE(64 + record.tables.length, 40);
    block.payload.writeUInt32LE(record.payload.length, 44);
    block.payload.writeUInt32LE(valid.readUInt32LE(at + 60), 48);
    block.payload.writeUInt16LE(record.tables.readUInt32LE(12), 52);
    block.payload.writeUInt16LE(record.tables.readUInt32LE(4), 54);
    block.payload.writeUInt16LE(0, 60);
    block.asIs = true;
  };
}

function invert(bytes: Buffer, at: number): void {
  bytes[at] = ~bytes[at]! & 0xff;
}

function offsetsOf(image: ForgedImage): number[] {
  let at = 64 + Math.ceil(image.startManifest.length / 8) * 8;
  return image.records.map(({ tables, payload }) => {
    const offset = at;
    at += 64 + tables.length + Math.ceil(payload.length / 8) * 8;
    return offset;
  });
}

const HOSTILE: readonly [string, (image: ForgedImage, valid: Buffer) => void, Expected][] = [
  ['nothing', () => {}, { verify: 'intact', file: 'taken', pipe: 'taken' }],
  [
    'no feature',
    (image) => void image.header.writeBigUInt64LE(16n, 24),
    { verify: 'damaged', file: 'taken', pipe: 'CORRUPT' },
  ],
  ['an index that names the first record', nameRecord(0), { verify: 'damaged', file: 'CORRUPT', pipe: 'taken' }],
  ['an index that names the one before the last', nameRecord(1), { verify: 'damaged', file: 'CORRUPT', pipe: 'taken' }],
  [
    'an index that names none',
    (image) => {
      const block = recordOf(image, 'VIDX');
      block.payload.fill(0, 32, 64);
      block.asIs = true;
    },
    { verify: 'damaged', file: 'CORRUPT', pipe: 'taken' },
  ],
  [
    'an index that names what is no record',
    (image) => {
      const block = recordOf(image, 'VIDX');
      block.payload.writeBigUInt64LE(block.payload.readBigUInt64LE(32) + 8n, 32);
      block.asIs = true;
    },
    { verify: 'damaged', file: 'CORRUPT', pipe: 'taken' },
  ],
  [
    'an index that names a record of a segment that has none',
    (image) => {
      const block = recordOf(image, 'VIDX');
      block.payload.copy(block.payload, 64, 0, 32);
      block.asIs = true;
    },
    { verify: 'damaged', file: 'CORRUPT', pipe: 'taken' },
  ],
  [
    'a chunk of a record that does not count',
    (image) => invert(recordOf(image, 'VSEG', 0).payload, 3),
    { verify: 'damaged', file: 'taken', pipe: 'CORRUPT' },
  ],
  [
    'a leaf of a record that does not count',
    (image) => invert(recordOf(image, 'VSEG', 0).tables, 24),
    { verify: 'damaged', file: 'taken', pipe: 'CORRUPT' },
  ],
  [
    'a segment before that is another',
    (image) => {
      recordOf(image, 'VSEG', 2).editPrefix = (prefix) => void prefix.writeBigUInt64LE(3n, 40);
    },
    { verify: 'damaged', file: 'taken', pipe: 'CORRUPT' },
  ],
  [
    'records in another order',
    (image) => {
      const [first, second] = [
        image.records.indexOf(recordOf(image, 'VSEG', 1)),
        image.records.indexOf(recordOf(image, 'VSEG', 3)),
      ];
      const moved = image.records[first]!;
      image.records[first] = image.records[second]!;
      image.records[second] = moved;
    },
    { verify: 'damaged', file: 'CORRUPT', pipe: 'CORRUPT' },
  ],
  [
    'counts that take in what does not count',
    (image) =>
      editEnd(image, (m) => {
        m.pages.data += 4;
        m.pages.zero -= 4;
      }),
    { verify: 'damaged', file: 'taken', pipe: 'taken' },
  ],
  [
    'chunks that take in what does not count',
    (image) => editEnd(image, (m) => void m.chunks.count++),
    { verify: 'damaged', file: 'taken', pipe: 'taken' },
  ],
  [
    'a number of records without those that do not count',
    (image) => {
      image.editFooter = (footer) => void footer.writeBigUInt64LE(footer.readBigUInt64LE(40) - 2n, 40);
    },
    { verify: 'damaged', file: 'taken', pipe: 'taken' },
  ],
  [
    'a page as in the earlier record',
    (image) => replaceStateMap(recordOf(image, 'VSEG', 3), Buffer.from([0x00, 0x01, 0x75, 0xe0, 0x1e]), 8),
    { verify: 'UNSUPPORTED', file: 'UNSUPPORTED', pipe: 'UNSUPPORTED' },
  ],
  [
    'a region without a size',
    (image) => editStart(image, (m) => void delete m.regions[1].sizeBytes),
    { verify: 'damaged', file: 'CORRUPT', pipe: 'CORRUPT' },
  ],
  [
    'more segments than readers hold something of',
    (image) => editStart(image, (m) => Object.assign(m.regions[1], { sizeBytes: 2 ** 22 * MIB })),
    { verify: 'damaged', file: 'CORRUPT', pipe: 'CORRUPT' },
  ],
];

test('what does not fit is refused, or does not matter to who reads', async (t) => {
  const folder = workspace(t);
  const memory = smallOverriding(folder.path('valid'));
  const valid = readFileSync(folder.path('valid'));
  const judge = new Judge(folder);
  const names: string[] = [];
  for (const [i, [name, change, expected]] of HOSTILE.entries()) {
    const bytes = forge(valid, (image) => change(image, valid));
    judge.put(bytes);
    if (i > 0) writeFileSync(folder.path(`hostile-${i}`), bytes);
    if (i > 0) names.push(folder.path(`hostile-${i}`));
    t.is(await judge.verify(), expected.verify, name);
    const target = folder.path('piped');
    const piped = await throughPipe(folder, judge.imagePath, (pipe) =>
      codeOf(async () => {
        await load(pipe, target, { force: true, threads: 2 });
        return readFileSync(target);
      }),
    );
    for (const [result, wanted] of [
      [await judge.load(), expected.file],
      [piped, expected.pipe],
    ] as const) {
      t.is(typeof result === 'string' ? result : 'taken', wanted, name);
      if (typeof result !== 'string') sameBytes(t, result, memory, name);
    }
  }
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  for (const [image, refusal] of await refusalsOfSecondReader(names)) {
    t.regex(refusal ?? 'none', /offset \d+/, HOSTILE[Number(image.split('-').at(-1))]![0]);
  }
});

test('every flipped bit and every missing end is found', async (t) => {
  const folder = workspace(t);
  smallOverriding(folder.path('valid'));
  const valid = readFileSync(folder.path('valid'));
  const judge = new Judge(folder);
  for (let at = 0; at < valid.length; at += 3) {
    const copy = Buffer.from(valid);
    copy[at]! ^= 1 << (at % 8);
    judge.put(copy);
    const verdict = await judge.verify();
    if (verdict === 'intact') t.fail(`a flipped bit at ${at}`);
    judge.put(valid.subarray(0, at));
    const cut = await judge.verify();
    if (cut !== 'damaged') t.fail(`${at} bytes: ${cut}`);
  }
  t.pass();
});
