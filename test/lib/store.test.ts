/** Stores: what counts as an image and as a good one, and that prune takes nothing that is wanted. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import {
  checkStore,
  listStore,
  lockFolder,
  type PruneOptions,
  type PruneResult,
  parseDuration,
  pruneStore,
  restoreDrill,
  type StoreEntry,
  selectSubset,
  subsetOfDay,
  VmsnapError,
  verify,
} from '../../lib/index.js';
import { removeImages } from '../../lib/store/removal.js';
import { editStart, forge, type Json } from '../formats/forge.js';
import { failsWith } from './support/expect.js';
import { makeFifo } from './support/pipes.js';
import { onMount } from './support/privileged.js';
import { DAY_SECONDS, FIRST_NIGHT_MS, names, saveNight } from './support/stores.js';
import { type Workspace, workspace } from './support/workspace.js';

const DAY_MS = DAY_SECONDS * 1000;
const NOW = FIRST_NIGHT_MS + 10 * DAY_MS;
const KEEP_ONE = { policy: { keepLast: 1 }, now: NOW, timeZone: 'UTC' } as const;

const statesOf = (entries: readonly StoreEntry[]): Record<string, string> =>
  Object.fromEntries(entries.map(({ name, state }) => [name, state]));

async function list(store: Workspace, baseDirs?: readonly string[]): Promise<readonly StoreEntry[]> {
  return (await listStore(store.folder, { baseDirs })).entries;
}

function prune(store: Workspace, options: Partial<PruneOptions> = {}): Promise<PruneResult> {
  return pruneStore(store.folder, { ...KEEP_ONE, ...options });
}

function imagesIn(store: Workspace): string[] {
  return readdirSync(store.folder)
    .filter((name) => !name.startsWith('.'))
    .sort();
}

/** Inverts a byte of the first record's prefix: listing does not read it, a look at the structure does. */
function damageStructure(path: string): void {
  const image = readFileSync(path);
  const at = image.indexOf('VSEG');
  image[at + 20]! ^= 0xff;
  writeFileSync(path, image);
}

/** Inverts a byte of the payload of the first record. */
function damagePayload(path: string): void {
  const image = readFileSync(path);
  const at = image.indexOf('VIDX') - 200;
  image[at]! ^= 0xff;
  writeFileSync(path, image);
}

function editImage(path: string, change: (manifest: Json) => void): void {
  writeFileSync(
    path,
    forge(readFileSync(path), (forged) => editStart(forged, change)),
  );
}

/** full, its child and grandchild, a second full one. */
async function fourNights(store: Workspace): Promise<void> {
  await saveNight(store, 'a', 0);
  await saveNight(store, 'b', 1, { base: 'a' });
  await saveNight(store, 'c', 2, { base: 'b' });
  await saveNight(store, 'd', 3);
}

test('an image is told by its content, and nothing else is listed', async (t) => {
  const store = workspace(t);
  await saveNight(store, 'no suffix', 0);
  await saveNight(store, 'other.vmsnap', 1);
  writeFileSync(store.path('notes.txt'), 'notes');
  writeFileSync(store.path('empty'), '');
  mkdirSync(store.path('folder.vmsnap'));
  copyFileSync(store.path('other.vmsnap'), store.path('.hidden.vmsnap'));
  symlinkSync('other.vmsnap', store.path('latest.vmsnap'));
  makeFifo(store.path('pipe.vmsnap'));
  t.deepEqual(statesOf(await list(store)), { 'no suffix': 'good', 'other.vmsnap': 'good' });
  const [first] = await list(store);
  t.is(first!.createdAt, '2026-03-01T02:00:00Z');
  t.is(first!.memoryBytes, 2 ** 20);
  t.is(first!.fileBytes, readFileSync(store.path('no suffix')).length);
});

test('what is damaged, unfinished, of a newer vmsnap or without a time is shown as such', async (t) => {
  const store = workspace(t);
  const image = async (name: string) => {
    await saveNight(store, name, 0);
    return store.path(name);
  };
  await image('good');
  truncateSync(await image('truncated'), 5000);
  truncateSync(await image('short'), 70);
  writeFileSync(await image('head'), Buffer.from(readFileSync(store.path('head'))).fill(1, 20, 21));
  appendFileSync(await image('longer'), 'x');
  writeFileSync(store.path('empty.vmsnap'), '');
  writeFileSync(store.path('other.vmsnap'), 'no image at all');
  editImage(await image('undated'), (manifest) => {
    manifest.createdAt = 'yesterday';
  });
  const future = await image('future');
  writeFileSync(
    future,
    forge(readFileSync(future), ({ header }) => {
      header.writeUInt16LE(99, 8);
    }),
  );
  t.deepEqual(statesOf(await list(store)), {
    good: 'good',
    truncated: 'damaged',
    short: 'damaged',
    head: 'damaged',
    longer: 'damaged',
    'empty.vmsnap': 'damaged',
    'other.vmsnap': 'damaged',
    undated: 'damaged',
    future: 'unsupported',
  });
  for (const { state, problem } of await list(store)) t.is(problem === undefined, state === 'good');
});

test('machines are told apart by uuid, then name, then source', async (t) => {
  const store = workspace(t);
  const uuid = '6ba7b810-9dad-11d1-80b4-00c04fd430c8';
  await saveNight(store, 'a', 0, { uuid });
  await saveNight(store, 'b', 1, { uuid, name: 'renamed' });
  editImage(store.path('b'), (manifest) => {
    manifest.machine.uuid = uuid.toUpperCase();
  });
  await saveNight(store, 'c', 2);
  await saveNight(store, 'd', 3, { name: undefined });
  const long = 'x'.repeat(10_000);
  for (const [name, end] of [
    ['e', 'e'],
    ['f', 'f'],
  ] as const) {
    await saveNight(store, name, 4);
    editImage(store.path(name), (manifest) => {
      manifest.machine.name = `${long}${end}`;
      manifest.labels = { small: 'kept', zz: long.repeat(8) };
    });
  }
  const entries = await list(store);
  const group = (name: string) => entries.find((entry) => entry.name === name)!.group!;
  t.is(group('a'), `uuid:${uuid}`);
  t.is(group('b'), group('a'));
  t.is(group('c'), 'name:web1');
  t.is(group('d'), 'source:.memory');
  // Long texts are cut, but different ones stay different.
  t.true(group('e').length < 2000);
  t.not(group('e'), group('f'));
  t.deepEqual([...entries.find(({ name }) => name === 'e')!.labels.keys()], ['small']);
});

test('a chain is good only if each base is there, sound, and the one', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  const good = { a: 'good', b: 'good', c: 'good', d: 'good' };
  t.deepEqual(statesOf(await list(store)), good);
  t.deepEqual(
    (await list(store))[2]!.bases.map(({ path }) => path),
    [store.path('b'), store.path('a')],
  );
  mkdirSync(store.path('old'));
  renameSync(store.path('a'), store.path('old/a'));
  t.deepEqual(statesOf(await list(store)), { b: 'broken-chain', c: 'broken-chain', d: 'good' });
  t.deepEqual(statesOf(await list(store, [store.path('old')])), { b: 'good', c: 'good', d: 'good' });
  copyFileSync(store.path('d'), store.path('a'));
  t.deepEqual(statesOf(await list(store)), { a: 'good', b: 'broken-chain', c: 'broken-chain', d: 'good' });
  t.deepEqual(statesOf(await list(store, [store.path('old')])), { ...good, a: 'good' });
  copyFileSync(store.path('old/a'), store.path('a'));
  truncateSync(store.path('a'), 5000);
  t.deepEqual(statesOf(await list(store)), { a: 'damaged', b: 'broken-chain', c: 'broken-chain', d: 'good' });
});

test('prune removes images before their bases, and leaves everything else', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  writeFileSync(store.path('notes.txt'), 'notes');
  const dry = await prune(store, { dryRun: true });
  t.deepEqual(imagesIn(store), ['a', 'b', 'c', 'd', 'notes.txt']);
  const done = await prune(store);
  t.deepEqual(names(done.removed), ['c', 'b', 'a']);
  t.deepEqual(done.removed, dry.removed);
  t.is(done.removedBytes, dry.removedBytes);
  t.deepEqual(imagesIn(store), ['d', 'notes.txt']);
  t.deepEqual(names((await prune(store)).removed), []);
});

test('every image that stays can be brought back, whatever the rules', async (t) => {
  const parent = workspace(t);
  const count = fc.integer({ min: 0, max: 3 });
  const plans = fc.record({
    bases: fc.array(fc.option(fc.integer({ min: 1, max: 2 }), { freq: 3 }), { minLength: 3, maxLength: 9 }),
    policy: fc.record({ keepLast: count, keepDaily: count, keepWeekly: fc.integer({ min: 1, max: 2 }) }),
    isProtected: fc.option(fc.nat({ max: 8 })),
  });
  await fc.assert(
    fc.asyncProperty(plans, async ({ bases, policy, isProtected }) => {
      const folder = parent.path('run');
      mkdirSync(folder);
      const store = { folder, path: (name: string) => `${folder}/${name}` } as Workspace;
      const saved = new Map<string, string>();
      for (const [i, back] of bases.entries()) {
        const base = back === null || i < back ? {} : { base: `n${i - back}` };
        saved.set(`n${i}`, (await saveNight(store, `n${i}`, i * 2, base)).digest);
      }
      if (isProtected !== null) writeFileSync(store.path(`n${isProtected}.protected`), '');
      const { decisions } = await prune(store, { policy, now: NOW + 10 * DAY_MS });
      for (const { entry, keep } of decisions) {
        t.is(existsSync(entry.path), keep);
        if (keep) t.is((await restoreDrill(entry.path)).digest, saved.get(entry.name)!);
      }
      t.true(decisions.find(({ entry }) => entry.name === `n${bases.length - 1}`)!.keep);
      rmSync(folder, { recursive: true });
    }),
    { numRuns: 8, endOnFailure: true },
  );
});

test('what appears between the look and the removal is respected', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  await saveNight(store, 'e', 4);
  const entries = await list(store);
  const doomed = [...entries].reverse();
  // A new child of c, an unfinished one of d, and another file under the name e.
  await saveNight(store, 'f', 5, { base: 'c' });
  await saveNight(store, 'g', 5, { base: 'd' });
  writeFileSync(store.path('.g.vmsnap-tmp'), readFileSync(store.path('g')).subarray(0, 4096));
  rmSync(store.path('g'));
  copyFileSync(store.path('a'), store.path('e'));
  const { removed, left } = await removeImages(store.folder, doomed, undefined);
  t.deepEqual(removed, []);
  t.deepEqual(
    left.map(({ path, reason }) => [path.at(-1), reason]),
    [
      ['e', 'changed'],
      ['d', 'needed'],
      ['c', 'needed'],
      ['b', 'needed'],
      ['a', 'needed'],
    ],
  );
  t.regex(left[1]!.message, /base of \.g\.vmsnap-tmp, which is there now/);
});

test('what a killed writer left holds no base', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  writeFileSync(store.path('.e.vmsnap-tmp'), readFileSync(store.path('c')).subarray(0, 4096));
  t.deepEqual(names((await prune(store)).removed), ['c', 'b', 'a']);
  t.false(existsSync(store.path('.e.vmsnap-tmp')));
});

onMount()('what the system does not let go is left with its bases, and said', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  execFileSync('mount', ['--bind', store.path('b'), store.path('b')]);
  t.teardown(() => execFileSync('umount', [store.path('b')]));
  const { removed, left } = await prune(store);
  t.deepEqual(names(removed), ['c']);
  t.deepEqual(
    left.map(({ path, reason }) => [path.at(-1), reason]),
    [
      ['b', 'refused'],
      ['a', 'needed'],
    ],
  );
});

test('damage counts for no rule: what stays is what a sound store would have kept', async (t) => {
  const store = workspace(t);
  for (let day = 0; day < 5; day++) await saveNight(store, `n${day}`, day);
  truncateSync(store.path('n4'), 5000);
  damageStructure(store.path('n3'));
  damagePayload(store.path('n2'));
  t.deepEqual(statesOf(await list(store)), { n0: 'good', n1: 'good', n2: 'good', n3: 'good', n4: 'damaged' });
  const quick = await prune(store, { dryRun: true });
  t.deepEqual(names(quick.removed), ['n0', 'n1']);
  const thorough = await prune(store, { verify: 'all' });
  t.deepEqual(names(thorough.removed), ['n0']);
  t.deepEqual(imagesIn(store), ['n1', 'n2', 'n3', 'n4']);
  t.is(thorough.warnings.filter(({ code }) => code === 'not-good').length, 3);
});

test('on a damaged base nothing is good', async (t) => {
  const store = workspace(t);
  await saveNight(store, 'old', 0);
  await saveNight(store, 'a', 1);
  await saveNight(store, 'b', 2, { base: 'a' });
  await saveNight(store, 'c', 3, { base: 'a' });
  damageStructure(store.path('a'));
  const { decisions, removed } = await prune(store);
  t.deepEqual(removed, []);
  const stateOf = (name: string) => decisions.find(({ entry }) => entry.name === name)!.entry.state;
  t.deepEqual(['old', 'a', 'b', 'c'].map(stateOf), ['good', 'damaged', 'broken-chain', 'broken-chain']);
});

test('damaged images go only on demand, after a day, and not under an image that stays', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  await saveNight(store, 'old', 0);
  await saveNight(store, 'new', 0);
  for (const name of ['a', 'old', 'new']) truncateSync(store.path(name), 5000);
  writeFileSync(store.path('kept.vmsnap'), '');
  writeFileSync(store.path('kept.vmsnap.protected'), '');
  const dayBefore = NOW / 1000 - 25 * 3600;
  for (const name of ['a', 'old', 'kept.vmsnap']) utimesSync(store.path(name), dayBefore, dayBefore);
  utimesSync(store.path('new'), dayBefore + 7200, dayBefore + 7200);
  t.deepEqual(names((await prune(store, { dryRun: true })).removed), []);
  const { removed } = await prune(store, { removeDamaged: true });
  t.deepEqual(names(removed), ['old']);
});

test('a policy for one machine leaves the others alone', async (t) => {
  const store = workspace(t);
  for (const day of [0, 1, 2]) {
    await saveNight(store, `w${day}`, day);
    await saveNight(store, `d${day}`, day, { name: 'db' });
  }
  const { removed } = await prune(store, { machines: ['db'] });
  t.deepEqual(names(removed), ['d0', 'd1']);
});

test("images that name no machine are nobody's, and stay", async (t) => {
  const store = workspace(t);
  for (const [day, name] of ['a', 'b', 'c'].entries()) {
    await saveNight(store, name, day);
    editImage(store.path(name), (manifest) => {
      manifest.machine = {};
      manifest.source = { kind: 'stream' };
    });
  }
  const { removed, warnings } = await prune(store);
  t.deepEqual(removed, []);
  t.deepEqual(
    warnings.map(({ code }) => code),
    ['no-machine', 'no-machine', 'no-machine'],
  );
});

test('a folder is pruned by one at a time', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  const lock = await lockFolder(store.folder);
  const error = await failsWith(t, 'LOCKED', prune(store), /another vmsnap \(process \d+\) is at work in/);
  t.true(error.message.includes(String(process.pid)));
  await failsWith(t, 'LOCKED', prune(store, { lockWaitSeconds: 0.15 }));
  t.deepEqual(names((await prune(store, { dryRun: true })).removed), ['c', 'b', 'a']);
  const waiting = prune(store, { lockWaitSeconds: 60 });
  setTimeout(() => lock.release(), 50);
  t.deepEqual(names((await waiting).removed), ['c', 'b', 'a']);
  // The caller's own lock serves, and stays his.
  const own = await lockFolder(store.folder);
  await prune(store, { lock: own });
  await failsWith(t, 'LOCKED', lockFolder(store.folder));
  own.release();
  (await lockFolder(store.folder)).release();
});

test('an aborted prune removes nothing more', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  const lock = await lockFolder(store.folder);
  const waiting = new AbortController();
  const stopped = t.throwsAsync(prune(store, { lockWaitSeconds: 60, signal: waiting.signal }), { message: 'enough' });
  waiting.abort(new Error('enough'));
  await stopped;
  lock.release();
  await t.throwsAsync(prune(store, { signal: AbortSignal.abort(new Error('no')) }), { message: 'no' });
  t.deepEqual(imagesIn(store), ['a', 'b', 'c', 'd']);
});

test('a folder that is not there', async (t) => {
  const store = workspace(t);
  await failsWith(t, 'NOT_FOUND', listStore(store.path('none')));
  await failsWith(t, 'NOT_FOUND', pruneStore(store.path('none'), KEEP_ONE));
  await failsWith(t, 'NOT_FOUND', checkStore(store.path('none'), { maxAgeSeconds: 1 }));
});

async function statusAt(store: Workspace, days: number, options: object = {}): Promise<string> {
  const { status, groups } = await checkStore(store.folder, {
    maxAgeSeconds: DAY_SECONDS,
    now: FIRST_NIGHT_MS + days * DAY_MS,
    ...options,
  });
  return [status, ...groups.flatMap(({ messages }) => messages)].join(': ');
}

test('check: age, number, chain and structure of the newest image', async (t) => {
  const store = workspace(t);
  await fourNights(store);
  t.is(await statusAt(store, 4), 'OK');
  t.is(await statusAt(store, 4.001), 'CRITICAL: too old');
  t.is(await statusAt(store, 3.6, { warnAgeSeconds: DAY_SECONDS / 2 }), 'WARNING: old');
  t.is(await statusAt(store, 4, { minCount: 5 }), 'CRITICAL: 4 good of at least 5');
  t.is(await statusAt(store, 4, { machines: ['web1', 'db'] }), 'CRITICAL: no good image');
  t.is(await statusAt(store, 2.5), 'WARNING: 1 dated in the future');
  damageStructure(store.path('a'));
  t.is(await statusAt(store, 4), 'OK');
  t.regex(await statusAt(store, 2.5), /^CRITICAL: 1 dated in the future: .+\/a is damaged at offset/);
  rmSync(store.path('a'));
  t.is(await statusAt(store, 4), 'WARNING: 2 broken-chain');
  truncateSync(store.path('d'), 5000);
  t.is(await statusAt(store, 4), 'CRITICAL: no good image: 2 broken-chain: 1 damaged');
  truncateSync(store.path('d'), 100);
  const stray = await checkStore(store.folder, { maxAgeSeconds: 1, now: NOW });
  t.deepEqual(stray.messages, ['d is damaged']);
});

test('check: what is asked must make sense', async (t) => {
  const store = workspace(t);
  for (const wrong of [{ maxAgeSeconds: 0 }, { warnAgeSeconds: 2 * DAY_SECONDS }, { minCount: 0 }, { machines: [] }]) {
    await failsWith(t, 'USAGE', checkStore(store.folder, { maxAgeSeconds: DAY_SECONDS, ...wrong }));
  }
  t.is((await checkStore(store.folder, { maxAgeSeconds: 1 })).status, 'CRITICAL');
});

test('the shares of a store are all of it, and an image keeps its share', (t) => {
  const digits = fc.array(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }), { maxLength: 60 });
  fc.assert(
    fc.property(digits, fc.integer({ min: 1, max: 12 }), fc.nat({ max: 1000 }), (numbers, count, day) => {
      const entries = numbers.map((number, i) => ({
        name: String(i),
        identity: number.toString(16).padStart(32, '0'),
      })) as StoreEntry[];
      const shares = Array.from({ length: count }, (_, i) => selectSubset(entries, i + 1, count));
      const met = shares.flat().map(({ name }) => name);
      const half = entries.filter((_, i) => i % 2 === 0);
      const stays = shares.every((share, i) =>
        selectSubset(half, i + 1, count).every((entry) => share.includes(entry)),
      );
      const days = new Set(Array.from({ length: count }, (_, i) => subsetOfDay(count, (day + i) * DAY_MS)));
      return met.length === entries.length && new Set(met).size === met.length && stays && days.size === count;
    }),
  );
  t.is(selectSubset([{ identity: undefined } as StoreEntry], 3, 7).length, 1);
  for (const [index, count] of [
    [0, 7],
    [8, 7],
    [1, 0],
    [1.5, 7],
  ] as const) {
    t.throws(() => selectSubset([], index, count), { instanceOf: VmsnapError });
  }
});

test('a restore drill proves the memory through the whole chain, and finds what verify of the structure cannot', async (t) => {
  const store = workspace(t);
  await saveNight(store, 'a', 0);
  const { digest } = await saveNight(store, 'b', 1, { base: 'a', seed: 2 });
  const drill = await restoreDrill(store.path('b'), { threads: 2 });
  t.like(drill, { digest, proven: 'memory', memoryBytes: 2 ** 20, bases: [store.path('a')] });
  t.deepEqual(imagesIn(store), ['a', 'b']);
  damagePayload(store.path('a'));
  t.true((await verify(store.path('b'), { structureOnly: true })).intact);
  await failsWith(t, 'CORRUPT', restoreDrill(store.path('a')));
  rmSync(store.path('a'));
  await failsWith(t, 'BASE_MISMATCH', restoreDrill(store.path('b')), /needs its base a/);
});

test('files that were verified are not read again, and what was found is found again', async (t) => {
  const store = workspace(t);
  await saveNight(store, 'a', 0);
  for (const name of ['b', 'c']) await saveNight(store, name, 1, { base: 'a', seed: 3 });
  const known = new Map();
  damagePayload(store.path('a'));
  for (const name of ['a', 'b', 'c']) {
    const alone = await verify(store.path(name));
    const shared = await verify(store.path(name), { known });
    t.deepEqual({ ...shared, run: undefined }, { ...alone, run: undefined });
    t.false(shared.intact);
  }
  // b and c are the same bytes, but two files.
  t.is(known.size, 3);
});

test('durations', (t) => {
  const read = (text: string) => parseDuration(text, 'it');
  t.deepEqual(
    ['90s', '15m', '26h', '30d', '2w3d', '1w1d1h1m1s', '0s'].map(read),
    [90, 900, 93_600, 2_592_000, 1_468_800, 694_861, 0],
  );
  for (const text of ['', '5', 'h', '1h2h', '1h1d', '1.5h', '-1d', '1 d', '1y', '1H', '9999999999999w', '60000w']) {
    t.throws(() => read(text), { instanceOf: VmsnapError, message: /it cannot be/ }, text);
  }
});
