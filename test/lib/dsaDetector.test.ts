/** Which detector is taken and why; what is demanded and cannot be had is an error with its cause. */
import { createReadStream, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { type DetectorName, listDetectors, openDsa, type SaveOptions, type SaveResult, save } from '../../lib/index.js';
import { emulatedDevice } from './support/dsa.js';
import { failsWith } from './support/expect.js';
import { MIB, mixedMemory } from './support/memory.js';
import { mount, onHugePages, onMount, reserveHugePages } from './support/privileged.js';
import { startWork, succeed } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

const MEMORY = mixedMemory(4 * MIB);
const BEST_OF_CPU = listDetectors().find(({ available }) => available)!.name;

/** No test here finds the hardware of the machine that it runs on. */
const NOWHERE = '/nonexistent/vmsnap';
process.env.VMSNAP_DSA_SYSFS = NOWHERE;
process.env.VMSNAP_DSA_DEV = NOWHERE;

function source(t: ExecutionContext): { folder: Workspace; run: (options: SaveOptions) => Promise<SaveResult> } {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), MEMORY);
  const run = (options: SaveOptions) =>
    save(folder.path('memory'), folder.path('image'), { frozen: true, force: true, ...options });
  return { folder, run };
}

/** A folder of the driver that has no device in it. */
function emptyDriver(t: ExecutionContext, folder: Workspace): void {
  mkdirSync(folder.path('sysfs'));
  process.env.VMSNAP_DSA_SYSFS = folder.path('sysfs');
  t.teardown(() => {
    process.env.VMSNAP_DSA_SYSFS = NOWHERE;
  });
}

test.serial('auto without a DSA driver: the CPU, and why', async (t) => {
  const { run } = await source(t).run({});
  t.is(run.detector, BEST_OF_CPU);
  t.is(run.detectorReason, 'there is no DSA driver here');
  t.false(run.dsaPresent);
  t.is(run.dsa, undefined);
});

test.serial('auto with a driver, but memory in 4 KiB pages: the CPU, and why', async (t) => {
  const { folder, run } = source(t);
  emptyDriver(t, folder);
  const saved = await run({});
  t.is(saved.run.detector, BEST_OF_CPU);
  t.regex(saved.run.detectorReason, /4 KiB pages/);
  t.true(saved.run.dsaPresent);
  t.deepEqual(saved.warnings, []);
});

test.serial('a detector of the CPU that was asked for', async (t) => {
  const { run } = await source(t).run({ detector: 'scalar' });
  t.is(run.detector, 'scalar');
  t.is(run.detectorReason, 'it was asked for');
  t.is(run.dsaPresent, undefined);
});

onMount()('auto with a driver and huge pages, but no device: the CPU, and why', async (t) => {
  const { folder } = source(t);
  emptyDriver(t, folder);
  const path = `${mount(t, folder, 'tmpfs', 'size=20m,huge=always')}/memory`;
  writeFileSync(path, MEMORY);
  const { run } = await save(path, folder.path('image'), { frozen: true });
  t.is(run.detector, BEST_OF_CPU);
  t.regex(run.detectorReason, /^no DSA device can be used: ./);
});

test.serial('auto with an open device: by what the memory lies in, or what is mapped already', async (t) => {
  const { run } = source(t);
  const device = emulatedDevice(t);
  t.is((await run({ dsa: { device } })).run.detector, BEST_OF_CPU);
  const keeping = emulatedDevice(t, { options: { keepMapped: true } });
  t.is((await run({ dsa: { device: keeping } })).run.detector, BEST_OF_CPU);
  await run({ dsa: { device: keeping }, detector: 'dsa-emulated' });
  const { run: facts } = await run({ dsa: { device: keeping } });
  t.is(facts.detector, 'dsa-emulated');
  t.is(facts.detectorReason, 'the memory is mapped for the device already');
});

test.serial('dsa is demanded and there is none: the cause and the next step', async (t) => {
  const { folder, run } = source(t);
  const error = await failsWith(t, 'ENGINE', run({ detector: 'dsa' }), /the detector dsa cannot be used: ./);
  t.regex(error.hint!, /vmsnap doctor/);
  t.deepEqual(folder.leftovers(), []);
  const thrown = t.throws(() => openDsa());
  t.regex(thrown.message, /no DSA device can be used: ./);
});

test.serial('a queue that is none: a file, a folder, another device, nothing', async (t) => {
  const { folder, run } = source(t);
  writeFileSync(folder.path('wq0.0'), 'a file');
  for (const node of [folder.path('wq0.0'), folder.folder, '/dev/dsa/wq9.9', '/dev/null']) {
    const error = await failsWith(t, 'ENGINE', run({ detector: 'dsa', dsa: { nodes: [node] } }));
    t.regex(
      error.message,
      new RegExp(`the detector dsa cannot be used: ${node}\\b.*(is no DSA work queue|No such file)`),
    );
    t.regex(error.hint!, /vmsnap doctor/);
  }
});

test.serial('a stream cannot be reached: dsa refuses, auto goes on', async (t) => {
  const { folder } = source(t);
  for (const detector of ['dsa', 'dsa-emulated', 'auto'] as const) {
    const work = startWork(
      { operation: 'save', source: '-', image: folder.path(detector), options: { detector } },
      { stdin: 'pipe' },
    );
    createReadStream(folder.path('memory'))
      .pipe(work.child.stdin!)
      .on('error', () => undefined);
    const outcome = await work.outcome;
    if (detector === 'auto') {
      t.is(succeed<SaveResult>(outcome).result.run.detector, BEST_OF_CPU);
    } else {
      t.like(outcome, { ok: false, code: 'USAGE' });
      t.regex((outcome as { message: string }).message, /standard input is read as a stream/);
    }
  }
});

onHugePages(2)('huge pages that are not all there: dsa says so, auto goes on', async (t) => {
  reserveHugePages(t, 2);
  const folder = workspace(t);
  const path = `${mount(t, folder, 'hugetlbfs', 'pagesize=2M')}/memory`;
  writeFileSync(path, '');
  truncateSync(path, 4 * MIB);
  const device = emulatedDevice(t);
  const options = { frozen: true, dsa: { device } };
  await failsWith(
    t,
    'ENGINE',
    save(path, folder.path('image'), { ...options, detector: 'dsa-emulated' }),
    /not all of its huge pages are allocated/,
  );
  const { run } = await save(path, folder.path('image'), options);
  t.is(run.detector, BEST_OF_CPU);
});

const REFUSED: readonly (readonly [string, SaveOptions, RegExp])[] = [
  ['an unknown detector', { detector: 'dsaa' as DetectorName }, /no detector "dsaa"/],
  ['queues for the CPU', { detector: 'scalar', dsa: { nodes: ['/dev/dsa/wq0.0'] } }, /one of the CPU/],
  ['a self-check of the CPU', { detector: 'scalar', dsa: { selfCheck: true } }, /one of the CPU/],
  ['queues of an emulated device', { detector: 'dsa-emulated', dsa: { nodes: ['/dev/dsa/wq0.0'] } }, /no queues/],
  ['a queue without a name', { detector: 'dsa', dsa: { nodes: [''] } }, /empty name/],
  ['batches of no page', { detector: 'dsa', dsa: { batchPages: 0 } }, /batch pages/],
  ['too large a batch', { detector: 'dsa', dsa: { batchPages: 65_537 } }, /batch pages/],
  ['half an entry', { detector: 'dsa', dsa: { depth: 1.5 } }, /depth/],
  ['a ratio above 100', { normalPageRatio: 101 }, /normal page ratio of 101/],
  ['a ratio that is no number', { normalPageRatio: Number.NaN }, /normal page ratio/],
];

for (const [what, options, message] of REFUSED) {
  test.serial(`refused: ${what}`, async (t) => {
    await failsWith(t, 'USAGE', source(t).run(options), message);
  });
}

test.serial('refused: options that contradict an open device', async (t) => {
  const { run } = source(t);
  const device = emulatedDevice(t);
  await failsWith(t, 'USAGE', run({ detector: 'dsa', dsa: { device } }), /an emulated one/);
  await failsWith(t, 'USAGE', run({ detector: 'dsa-emulated', dsa: { device, depth: 1 } }), /open already/);
  await failsWith(t, 'USAGE', run({ detector: 'scalar', dsa: { device } }), /one of the CPU/);
  t.is((await run({ detector: 'dsa-emulated', dsa: { device } })).run.dsa!.pagesCheckedByCpu, 0);
});
