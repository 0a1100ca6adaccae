/** Snapshots of Cloud Hypervisor: saved, looked into, and brought back; and what is wrong with one is told. */
import { mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  compare,
  estimate,
  extract,
  inspect,
  inspectMemoryFile,
  load,
  type SaveOptions,
  save,
} from '../../lib/index.js';
import { failsWith, sameBytes } from '../lib/support/expect.js';
import { GIB, MIB, mixedMemory, PAGE, usedPages, writeSparse } from '../lib/support/memory.js';
import { workspace } from '../lib/support/workspace.js';
import { type Range, STATE_SHAPES, UUID, writeSnapshot } from '../support/snapshots/cloudHypervisor.js';

const OPTIONS: SaveOptions = { frozen: true, force: true, segmentSize: MIB, threads: 2 };
/** Not in the order of their addresses: the file has them as the list has. */
const RANGES: readonly Range[] = [
  { gpa: 4 * GIB, length: 2 * MIB + PAGE },
  { gpa: 0, length: 3 * MIB },
  { gpa: 0xfee0_0000, length: PAGE },
];
const SIZE = RANGES.reduce((sum, { length }) => sum + length, 0);
const MEMORY = Buffer.concat([mixedMemory(MIB), Buffer.alloc(2 * MIB), mixedMemory(SIZE - 3 * MIB, 5)]);

for (const [what, shape] of Object.entries(STATE_SHAPES)) {
  test(`memory ranges as ${what}`, async (t) => {
    const folder = workspace(t);
    const [image, back] = [folder.path('image'), folder.path('back')];
    const snapshot = writeSnapshot(folder.path('snapshot'), shape(RANGES), undefined);
    writeSparse(join(snapshot, 'memory-ranges'), MEMORY);
    const saved = await save(snapshot, image, OPTIONS);
    t.deepEqual(saved.source, { kind: 'cloud-hypervisor', name: 'snapshot' });
    t.deepEqual(
      saved.regions,
      RANGES.map(({ gpa, length }) => ({ name: `ram-0x${gpa.toString(16)}`, gpa, sizeBytes: length })),
    );
    await load(image, back);
    sameBytes(t, readFileSync(back), MEMORY);
    const report = await inspect(image);
    t.is(report.machine.uuid, UUID);
    t.deepEqual(
      report.attachments!.map(({ name }) => name),
      ['config.json', 'state.json'],
    );
    for (const { name } of report.attachments!) {
      await extract(image, name, folder.path(name));
      sameBytes(t, readFileSync(folder.path(name)), readFileSync(join(snapshot, name)), name);
    }
    const described = (await inspectMemoryFile(snapshot))!;
    t.deepEqual(described.memory.regions, saved.regions);
    const stored = usedPages(MEMORY);
    t.deepEqual(described.memory.pages, { stored, zero: SIZE / PAGE - stored, absent: 0 });
    t.deepEqual(described.facts, [{ key: 'vcpus', label: 'vCPUs', value: 4 }]);
    t.is(
      described.fileBytes,
      SIZE + statSync(join(snapshot, 'config.json')).size + statSync(join(snapshot, 'state.json')).size,
    );
    const compared = await compare(snapshot, image);
    t.true(compared.equal);
    t.is(compared.a.format, 'cloud-hypervisor');
    t.is((await estimate(snapshot, { full: true, segmentSize: MIB })).memoryBytes, SIZE);
  });
}

test('names and attachments of the caller beside those of the snapshot', async (t) => {
  const folder = workspace(t);
  const image = folder.path('image');
  const snapshot = writeSnapshot(folder.path('snapshot'), STATE_SHAPES['a bare list']!(RANGES), MEMORY);
  const uuid = '00000000-0000-0000-0000-000000000001';
  const attachments = [{ name: 'notes', file: join(snapshot, 'config.json') }];
  await save(snapshot, image, { ...OPTIONS, name: 'web1', uuid, attachments });
  const report = await inspect(image);
  t.deepEqual(report.machine, { name: 'web1', uuid });
  t.deepEqual(
    report.attachments!.map(({ name }) => name),
    ['config.json', 'state.json', 'notes'],
  );
  const clash = [{ name: 'state.json', file: join(snapshot, 'config.json') }];
  const failed = await failsWith(
    t,
    'USAGE',
    save(snapshot, image, { ...OPTIONS, attachments: clash }),
    /"state\.json"/,
  );
  t.regex(failed.hint!, /--attach/);
});

test('raw memory of the same size takes the regions of the snapshot', async (t) => {
  const folder = workspace(t);
  const snapshot = writeSnapshot(folder.path('snapshot'), STATE_SHAPES['a bare list']!(RANGES), MEMORY);
  const other = Buffer.from(MEMORY);
  other[2 * MIB + 5]! ^= 1;
  writeFileSync(folder.path('raw'), other);
  const compared = await compare(snapshot, folder.path('raw'));
  const changed = { region: 'ram-0x100000000', offset: 2 * MIB, length: PAGE, change: 'was-zero' } as const;
  t.deepEqual(compared.ranges, [changed]);
});

const whole = { gpa: 0, length: SIZE };
const CASES: readonly (readonly [string, unknown, RegExp])[] = [
  ['no JSON', '{"memory_ranges": [', /no valid JSON/],
  ['no list', { snapshots: {} }, /no "memory_ranges"/],
  ['a list that is none', { memory_ranges: 7 }, /is no list/],
  ['a list of something else', { memory_ranges: [7] }, /range 0/],
  ['a range of nothing', { memory_ranges: [{ gpa: 0, length: 0 }] }, /range 0/],
  ['a size that is no number', { memory_ranges: [{ gpa: 0, length: `${SIZE}` }] }, /range 0/],
  ['a negative address', { memory_ranges: [{ gpa: -4096, length: SIZE }] }, /range 0/],
  ['an address beyond 2^53', `{"memory_ranges":[{"gpa":18446744073709547520,"length":${SIZE}}]}`, /range 0/],
  ['an address that is no page', { memory_ranges: [{ gpa: 1, length: SIZE }] }, /whole pages/],
  ['a size that is no page', { memory_ranges: [{ gpa: 0, length: SIZE - 1 }] }, /whole pages/],
  [
    'ranges that overlap',
    {
      memory_ranges: [
        { gpa: 0, length: 2 * MIB },
        { gpa: MIB, length: SIZE - 2 * MIB },
      ],
    },
    /overlap/,
  ],
  ['less than the file has', { memory_ranges: [{ gpa: 0, length: SIZE - PAGE }] }, /state\.json take/],
  ['more than the file has', { memory_ranges: [{ gpa: 0, length: SIZE + PAGE }] }, /state\.json take/],
  ['two lists that differ', { a: { memory_ranges: [whole] }, b: { memory_ranges: [] } }, /several/],
  ['too many ranges', { memory_ranges: Array(65_536).fill(whole) }, /no list of at most/],
  ['brackets without end', '['.repeat(1_000_001), /more than 1000000 arrays/],
  ['a state within a state that is none', { state: '{"memory_ranges": ' }, /a state in it is no valid JSON/],
];

test('what is wrong with a snapshot is told, and nothing is written', async (t) => {
  const folder = workspace(t);
  const [image, path] = [folder.path('image'), folder.path('snapshot')];
  for (const [what, state, message] of CASES) {
    const snapshot = writeSnapshot(path, state, MEMORY);
    const failed = await failsWith(t, 'CORRUPT', save(snapshot, image, OPTIONS), message);
    t.truthy(failed.path, what);
    await failsWith(t, 'CORRUPT', inspectMemoryFile(snapshot), message);
  }
  const good = STATE_SHAPES['a bare list']!(RANGES);
  writeSnapshot(path, good, MEMORY);
  truncateSync(join(path, 'state.json'), 33 * MIB);
  await failsWith(t, 'CORRUPT', save(path, image, OPTIONS), /allowed/);
  writeSnapshot(path, good, MEMORY);
  rmSync(join(path, 'memory-ranges'));
  const missing = await failsWith(t, 'UNSUPPORTED', save(path, image, OPTIONS), /has no memory-ranges/);
  t.regex(missing.hint!, /shared files/);
  writeSnapshot(path, { memory_ranges: [] }, Buffer.alloc(0));
  await failsWith(t, 'UNSUPPORTED', save(path, image, OPTIONS), /lists no memory/);
  mkdirSync(join(path, 'memory-ranges.d'));
  await failsWith(t, 'USAGE', save(join(path, 'memory-ranges.d'), image, OPTIONS), /is a folder/);
  t.is(statSync(image, { throwIfNoEntry: false }), undefined);
  t.deepEqual(folder.leftovers(), []);
});
