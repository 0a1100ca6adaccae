/** Backup jobs, night by night: what is made of what is in the folder, and what is said of it. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import {
  type BackupJobReport,
  listStore,
  load,
  lockFolder,
  readBackupConfig,
  runBackup,
  verify,
} from '../../lib/index.js';
import { type BackupHouse, backupHouse, codesOf, DAY_MS, FIRST_NIGHT, oneJob } from './support/backups.js';
import { failsWith, sameBytes } from './support/expect.js';
import { MIB, randomMemory } from './support/memory.js';
import { mount, onMount } from './support/privileged.js';

// dist/test/lib -> the sources
const FUTURE_IMAGE = fileURLToPath(
  new URL('../../../test/samples/v1/damaged/future-read-version.vms', import.meta.url),
);

/** `count` nights, of which each changes a page. */
async function nights(house: BackupHouse, toml: string, count: number): Promise<BackupJobReport[]> {
  const reports: BackupJobReport[] = [];
  for (let i = 0; i < count; i++) {
    house.change(i + 1);
    reports.push(await house.runOne(toml));
    house.now += DAY_MS;
  }
  return reports;
}

async function restores(t: ExecutionContext, house: BackupHouse, image: string, memory: Buffer): Promise<void> {
  const target = house.path('restored');
  await load(image, target, { force: true });
  sameBytes(t, readFileSync(target), memory);
}

test('full every N, differential between; the report says all of it', async (t) => {
  const house = backupHouse(t);
  const reports = await nights(house, oneJob('full-every = 3\nlabels = { site = "north" }'), 7);
  t.deepEqual(
    reports.map(({ kind, chainLength, status, exitCode, verified }) => [kind, chainLength, status, exitCode, verified]),
    [1, 2, 3, 1, 2, 3, 1].map((length) => [length === 1 ? 'full' : 'differential', length, 'ok', 0, true]),
  );
  t.is(basename(reports[0]!.image!), 'web1-20260105T021500Z.vmsnap');
  t.is(reports[1]!.base, reports[0]!.image);
  t.is(reports[1]!.reason, 'image 2 of 3 in its chain');
  t.is(reports[3]!.reason, 'the last chain has 3 images');
  t.is(reports[1]!.saved!.base!.path, reports[0]!.image!);
  t.is(statSync(reports[0]!.image!).mode & 0o777, 0o600);
  t.is(house.stored().length, 7, 'without a policy nothing is removed');
  await restores(t, house, reports[6]!.image!, house.memory);
});

test('a base that was deleted between two nights: a full image, and a warning', async (t) => {
  const house = backupHouse(t);
  const [first, second] = await nights(house, oneJob(), 2);
  unlinkSync(first!.image!);
  const [third, fourth] = await nights(house, oneJob(), 2);
  t.deepEqual([third!.kind, third!.status, third!.exitCode], ['full', 'warning', 3]);
  t.deepEqual(codesOf(third!), ['base-unusable']);
  t.regex(third!.warnings[0]!.message, /web1-20260106.* cannot be a base, so a full image is made: .*it is missing/);
  t.deepEqual([fourth!.kind, fourth!.base, fourth!.status], ['differential', third!.image, 'ok']);
  t.true(existsSync(second!.image!), 'what lacks its base is for people to look at');
});

test('a base that is deleted before the new image is verified: a full image instead, and a warning', async (t) => {
  const house = backupHouse(t);
  const [first] = await nights(house, oneJob(), 1);
  house.change(2);
  const config = await readBackupConfig(house.configure(oneJob()));
  let isGone = false;
  const { jobs } = await runBackup(config, {
    now: () => house.now,
    onEvent: (event) => {
      if (event.kind !== 'phase' || event.phase !== 'verify' || isGone) return;
      isGone = true;
      unlinkSync(first!.image!);
    },
  });
  t.deepEqual([jobs[0]!.kind, jobs[0]!.exitCode, codesOf(jobs[0]!)], ['full', 3, ['base-unusable']]);
  t.deepEqual(house.stored(), [basename(jobs[0]!.image!)]);
  await restores(t, house, jobs[0]!.image!, house.memory);
});

test('the difference that a full image replaces cannot be removed: a warning, and the job goes on', async (t) => {
  const house = backupHouse(t);
  const [first] = await nights(house, oneJob(), 1);
  house.change(2);
  const config = await readBackupConfig(house.configure(oneJob()));
  let difference: string | undefined;
  const { jobs } = await runBackup(config, {
    now: () => house.now,
    onEvent: (event) => {
      if (event.kind !== 'phase') return;
      if (event.phase === 'verify' && difference === undefined) {
        difference = join(house.store, house.stored()[1]!);
        unlinkSync(first!.image!);
      } else if (event.phase === 'save' && difference !== undefined) {
        unlinkSync(difference);
        mkdirSync(difference);
      }
    },
  });
  const [report] = jobs;
  t.deepEqual([report!.kind, report!.exitCode, codesOf(report!)], ['full', 3, ['base-unusable', 'prune-left']]);
  t.is(report!.warnings[1]!.message, `cannot remove ${difference}: it is a directory (EISDIR)`);
  t.true(report!.verified);
  await restores(t, house, report!.image!, house.memory);
});

test('a base that cannot be read for a while, and no full image either: the difference stays', async (t) => {
  const house = backupHouse(t);
  const [first] = await nights(house, oneJob(), 1);
  house.change(2);
  const config = await readBackupConfig(house.configure(oneJob()));
  const { jobs } = await runBackup(config, {
    now: () => house.now,
    onEvent: (event) => {
      if (event.kind !== 'phase' || event.phase !== 'verify') return;
      renameSync(first!.image!, house.path('away'));
      renameSync(house.path('memory'), house.path('memory-away'));
    },
  });
  t.deepEqual([jobs[0]!.status, jobs[0]!.error?.code, jobs[0]!.image], ['failed', 'NOT_FOUND', undefined]);
  const [difference, ...others] = house.stored();
  t.deepEqual(others, []);
  renameSync(house.path('away'), first!.image!);
  await restores(t, house, join(house.store, difference!), house.memory);
});

test('the newest image was deleted: the one before it is the base, and nothing is wrong', async (t) => {
  const house = backupHouse(t);
  const [first, second] = await nights(house, oneJob(), 2);
  unlinkSync(second!.image!);
  const [third] = await nights(house, oneJob(), 1);
  t.deepEqual([third!.base, third!.status], [first!.image, 'ok']);
});

for (const [what, offset] of [
  ['its data', 8192],
  ['its end', -100],
] as const) {
  test(`a base that is damaged in ${what}: a full image, and a warning`, async (t) => {
    const house = backupHouse(t);
    const [first] = await nights(house, oneJob(), 1);
    const bytes = readFileSync(first!.image!);
    const at = offset < 0 ? bytes.length + offset : offset;
    bytes[at] = bytes[at]! ^ 0xff;
    writeFileSync(first!.image!, bytes);
    const [second] = await nights(house, oneJob(), 1);
    t.deepEqual([second!.kind, second!.exitCode, second!.verified], ['full', 3, true]);
    t.true(codesOf(second!).includes('base-unusable'));
    await restores(t, house, second!.image!, house.memory);
    t.deepEqual(house.stored(), [basename(first!.image!), basename(second!.image!)]);
  });
}

test('a machine in several files: regions instead of a source', async (t) => {
  const house = backupHouse(t);
  writeFileSync(house.path('high'), randomMemory(MIB));
  const regions = 'regions = ["low=2M@0:memory", "high=1M@0x100000000:high"]\nchunk-size = "64K"';
  const toml = oneJob(regions).replace('source = "memory"\n', '');
  const [first, second] = await nights(house, toml, 2);
  t.deepEqual(
    first!.saved!.regions.map(({ name, gpa }) => [name, gpa]),
    [
      ['low', 0],
      ['high', 2 ** 32],
    ],
  );
  t.deepEqual([second!.kind, second!.status], ['differential', 'ok']);
  await restores(t, house, second!.image!, Buffer.concat([house.memory, readFileSync(house.path('high'))]));
});

test('a machine that got more memory starts a chain of its own', async (t) => {
  const house = backupHouse(t);
  const command = oneJob().replace('source = "memory"', `command = ["cat", "${house.path('memory')}"]`);
  for (const toml of [oneJob(), command]) {
    await nights(house, toml, 1);
    const grown = Buffer.concat([house.memory, randomMemory(MIB)]);
    writeFileSync(house.path('memory'), grown);
    const report = await house.runOne(toml);
    t.deepEqual([report.kind, codesOf(report)], ['full', ['base-unusable']]);
    await restores(t, house, report.image!, grown);
    house.now += DAY_MS;
  }
});

test('a clock that was set back: a warning, and chains go on below the images of the future', async (t) => {
  const house = backupHouse(t);
  house.now = FIRST_NIGHT + 1000 * DAY_MS;
  const [future] = await nights(house, oneJob(), 1);
  house.now = FIRST_NIGHT;
  const reports = await nights(house, oneJob('full-every = 3\nkeep = { last = 2 }'), 4);
  t.deepEqual(
    reports.map(({ kind }) => kind),
    ['full', 'differential', 'differential', 'full'],
  );
  for (const report of reports) {
    t.deepEqual(codesOf(report), ['clock-behind']);
    t.regex(report.warnings[0]!.message, /is dated 2028-\d\d-\d\dT02:15:00Z, and it is 2026-.*is the clock right\?/);
  }
  t.true(existsSync(future!.image!));
  house.now = FIRST_NIGHT + 1001 * DAY_MS;
  t.is((await house.runOne(oneJob())).base, future!.image, 'once its date is past it is an image like others');
});

test('an image of a future version, and what is no image, are passed over and left alone', async (t) => {
  const house = backupHouse(t);
  await nights(house, oneJob(), 1);
  copyFileSync(FUTURE_IMAGE, join(house.store, 'future.vmsnap'));
  writeFileSync(join(house.store, 'notes.vmsnap'), 'no image');
  const { entries } = await listStore(house.store);
  t.deepEqual(entries.map(({ state }) => state).sort(), ['damaged', 'good', 'unsupported']);
  const reports = await nights(house, oneJob('keep = { last = 1 }\nfull-every = 1'), 3);
  for (const report of reports) t.is(report.error, undefined);
  t.deepEqual(house.stored(), ['future.vmsnap', 'notes.vmsnap', basename(reports[2]!.image!)]);
});

test('two runs in one second have two names', async (t) => {
  const house = backupHouse(t);
  const first = await house.runOne(oneJob());
  const second = await house.runOne(oneJob());
  t.is(basename(second.image!), 'web1-20260105T021500Z-2.vmsnap');
  t.is(second.base, first.image);
});

test('images of another machine in the folder are no base, and not removed', async (t) => {
  const house = backupHouse(t);
  const other = await house.runOne(oneJob('vm = "db1"'));
  const reports = await nights(house, oneJob('keep = { last = 1 }\nfull-every = 1'), 3);
  t.is(reports[0]!.reason, 'there is no image of this machine yet');
  t.is(reports[2]!.keptImages, 1);
  t.deepEqual(house.stored(), [basename(other.image!), basename(reports[2]!.image!)]);
});

test('a job that fails stops no other; the first failure gives the code', async (t) => {
  const house = backupHouse(t);
  const bad = '[jobs.gone]\nsource = "missing"\nfolder = "store"\n[jobs.nowhere]\nsource = "memory"\nfolder = "none"\n';
  for (const parallel of [1, 3]) {
    const report = await house.run(`parallel = ${parallel}\n${bad}${oneJob()}`);
    t.is(report.exitCode, 10);
    t.deepEqual(
      report.jobs.map(({ job, status, exitCode }) => [job, status, exitCode]),
      [
        ['gone', 'failed', 10],
        ['nowhere', 'failed', 10],
        ['web1', 'ok', 0],
      ],
    );
    t.regex(report.jobs[0]!.error!.message, /missing/);
    t.is(report.jobs[0]!.image, undefined);
    house.now += DAY_MS;
  }
  t.is(house.stored().length, 2);
});

test('jobs in parallel share a folder, and each has what it would have alone', async (t) => {
  const house = backupHouse(t);
  const jobs = Array.from({ length: 6 }, (_, i) => oneJob('keep = { last = 1 }').replace('web1', `web${i}`)).join('');
  for (const parallel of [4, 2]) {
    const report = await house.run(`parallel = ${parallel}\n${jobs}`);
    t.is(report.exitCode, 0);
    t.is(new Set(report.jobs.map(({ image }) => image)).size, 6);
    house.now += DAY_MS;
  }
  t.is(house.stored().length, 12, 'the newest, and the base that it needs');
  t.false(await isLocked(house.store));
});

test('two jobs of one machine take turns, and the second goes on from the image of the first', async (t) => {
  const house = backupHouse(t);
  const jobs = ['a', 'b', 'c'].map((name) => oneJob('vm = "web1"\nname = "{job}-{utc}.vmsnap"').replace('web1', name));
  const { jobs: reports } = await house.run(`parallel = 3\n${jobs.join('')}`);
  t.deepEqual(
    reports.map(({ status, chainLength }) => [status, chainLength]),
    [1, 2, 3].map((length) => ['ok', length]),
  );
});

test('jobs of one machine take turns and lock each other out, whether they know it by its uuid or by its name', async (t) => {
  const house = backupHouse(t);
  const uuid = '6F1C1E0E-6a38-4f5e-9a55-0d0a7a7c0001';
  const named = (name: string, more = '') =>
    oneJob(`vm = "web1"\nname = "{job}-{utc}.vmsnap"${more}`).replace('web1', name);
  const both = `parallel = 2\n${named('a', `\nuuid = "${uuid}"`)}${named('b')}`;
  const { jobs } = await house.run(both);
  t.deepEqual(
    jobs.map(({ status, chainLength }) => [status, chainLength]),
    [1, 2].map((length) => ['ok', length]),
  );
  for (const word of ['web1', uuid.toLowerCase()]) {
    const lock = await lockFolder(house.store, { machine: [word] });
    t.is((await house.runOne(named('a', `\nuuid = "${uuid}"`))).error?.code, 'LOCKED', word);
    lock.release();
  }
});

test('runs for several machines in one folder do not wait for each other', async (t) => {
  const house = backupHouse(t);
  const db1 = await lockFolder(house.store, { machine: ['db1'] });
  t.is((await house.runOne(oneJob())).status, 'ok');
  t.is((await house.runOne(oneJob().replace('jobs.web1', 'jobs.db1'))).error?.code, 'LOCKED');
  await failsWith(t, 'LOCKED', lockFolder(house.store), /is at work in/);
  const web1 = await lockFolder(house.store, { machine: ['web1'] });
  await failsWith(t, 'LOCKED', lockFolder(house.store, { machine: ['web1'] }));
  web1.release();
  db1.release();
  t.false(await isLocked(house.store));
});

test('an image is dated when the lock was there, not when it began to be waited for', async (t) => {
  const house = backupHouse(t);
  const lock = await lockFolder(house.store);
  const waiting = house.runOne(oneJob(), { lockWaitSeconds: 60 });
  while (!house.events.some((event) => event.kind === 'phase' && event.phase === 'lock')) await delay(5);
  // Meanwhile another run makes images, for hours.
  house.now += 3 * 3_600_000;
  setTimeout(() => lock.release(), 200);
  const report = await waiting;
  t.is(basename(report.image!), 'web1-20260105T051500Z.vmsnap');
  t.is(report.startedAt.getTime(), FIRST_NIGHT);
  const { entries } = await listStore(house.store);
  t.is(entries[0]!.createdAt, '2026-01-05T05:15:00Z');
});

async function isLocked(folder: string): Promise<boolean> {
  try {
    (await lockFolder(folder)).release();
    return false;
  } catch {
    return true;
  }
}

test('a folder that another holds: LOCKED, or waited for', async (t) => {
  const house = backupHouse(t);
  const lock = await lockFolder(house.store);
  const mark = `["touch", "${house.path('mark')}"]`;
  const report = await house.runOne(oneJob(`hooks = { before = ${mark}, error = ${mark} }`));
  t.false(existsSync(house.path('mark')), 'no hook touches what another run is at');
  t.deepEqual([report.error?.code, report.exitCode], ['LOCKED', 11]);
  t.deepEqual(house.stored(), []);
  setTimeout(() => lock.release(), 200);
  t.is((await house.runOne(oneJob(), { lockWaitSeconds: 20 })).status, 'ok');
});

test('leftovers of a killed run are swept', async (t) => {
  const house = backupHouse(t);
  writeFileSync(join(house.store, '.web1-x.vmsnap.vmsnap-tmp'), 'half');
  const report = await house.runOne(oneJob());
  t.is(report.sweptFiles, 1);
  t.deepEqual(house.stored(), [basename(report.image!)]);
});

test('a dry run writes nothing, and tells what the run then does', async (t) => {
  const house = backupHouse(t);
  const toml = oneJob('full-every = 1\nkeep = { last = 2 }\nhooks = { before = ["false"] }');
  await nights(house, toml.replace('"false"', '"true"'), 2);
  const before = readdirSync(house.store);
  const plan = await house.run(toml, { dryRun: true });
  t.true(plan.dryRun);
  t.is(plan.exitCode, 0);
  t.deepEqual(readdirSync(house.store), before);
  const done = await house.runOne(toml.replace('"false"', '"true"'));
  const { image, kind, reason, removed, keptImages } = plan.jobs[0]!;
  t.deepEqual([image, kind, reason, keptImages], [done.image, done.kind, done.reason, done.keptImages]);
  t.deepEqual(removed, done.removed);
  t.is(removed.length, 1);
});

test('jobs by name, and a name that there is not', async (t) => {
  const house = backupHouse(t);
  const toml = `${oneJob()}${oneJob().replace('web1', 'db1')}`;
  const { jobs } = await house.run(toml, { jobs: ['db1'] });
  t.deepEqual(
    jobs.map(({ job }) => job),
    ['db1'],
  );
  const error = await failsWith(t, 'NOT_FOUND', house.run(toml, { jobs: ['wbe1'] }), /no job "wbe1"/);
  t.is(error.hint, 'did you mean web1?');
});

test('a signal stops a run: no debris, and the lock is given back', async (t) => {
  const house = backupHouse(t);
  const controller = new AbortController();
  const toml = oneJob(`hooks = { error = ["touch", "${house.path('stopped')}"] }`).replace(
    'source = "memory"',
    `command = ["sh", "-c", "cat '${house.path('memory')}'; sleep 60"]`,
  );
  const reason = new Error('enough');
  const run = house.run(`${toml}${oneJob().replace('web1', 'later')}`, { signal: controller.signal });
  setTimeout(() => controller.abort(reason), 300);
  t.is(await t.throwsAsync(run), reason);
  t.deepEqual(house.stored(), []);
  t.false(await isLocked(house.store));
  t.true(existsSync(house.path('stopped')));
  const ends = house.events.filter((event) => event.kind === 'end').map(({ report }) => [report.job, report.status]);
  t.deepEqual(ends, [['web1', 'stopped']], 'what had not begun does not begin');
});

test('the metrics keep the last success across failures, for everybody to read', async (t) => {
  const house = backupHouse(t);
  const toml = oneJob('metrics = "{job}.prom"\nvm = "web \\"1\\""');
  const first = await house.runOne(toml);
  const value = (name: string) =>
    new RegExp(`^${name}\\{job="web1",vm="web \\\\"1\\\\""[^}]*\\} (\\S+)$`, 'm').exec(text())?.[1];
  const text = () => readFileSync(house.path('web1.prom'), 'utf8');
  t.is(statSync(house.path('web1.prom')).mode & 0o777, 0o644);
  t.is(value('vmsnap_last_exit_code'), '0');
  t.is(value('vmsnap_image_bytes'), String(first.saved!.imageBytes));
  t.is(value('vmsnap_verify_ok'), '1');
  const success = value('vmsnap_last_success_timestamp_seconds');
  t.is(success, String(FIRST_NIGHT / 1000));
  house.now += DAY_MS;
  renameSync(house.path('memory'), house.path('away'));
  t.is((await house.runOne(toml)).exitCode, 10);
  t.is(value('vmsnap_last_exit_code'), '10');
  t.is(value('vmsnap_last_success_timestamp_seconds'), success);
  t.is(value('vmsnap_last_run_timestamp_seconds'), String((FIRST_NIGHT + DAY_MS) / 1000));
  t.is(value('vmsnap_image_bytes'), undefined);
  for (const line of text().trimEnd().split('\n'))
    t.regex(line, /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+\{.*\} -?[0-9.]+)$/);
  t.deepEqual(
    readdirSync(house.folder.folder).filter((name) => name.startsWith('.')),
    [],
  );
  renameSync(house.path('away'), house.path('memory'));
  const report = await house.runOne(toml.replace('{job}.prom', 'none/{job}.prom'));
  t.deepEqual([report.status, codesOf(report)], ['warning', ['metrics']]);
});

test('without verify nothing is read again', async (t) => {
  const house = backupHouse(t);
  const report = await house.runOne(oneJob('verify = false'));
  t.deepEqual([report.verified, report.phaseSeconds.verify], [undefined, undefined]);
  t.true((await verify(report.image!)).intact);
});

test('attachments, uuid and options reach the image', async (t) => {
  const house = backupHouse(t);
  copyFileSync(house.configure(''), house.path('machine.xml'));
  const uuid = '123E4567-e89b-12d3-a456-426614174000';
  const lines = `uuid = "${uuid}"\ncodec = "zlib"\nlevel = 2\nattach = { "machine.xml" = "machine.xml" }`;
  const [first, second] = await nights(house, oneJob(lines), 2);
  t.deepEqual([first!.saved!.codec, first!.saved!.level, first!.saved!.attachments], ['zlib', 2, 1]);
  t.is(second!.base, first!.image, 'a machine with a uuid is known by it');
});

const withMount = onMount();

withMount('a folder on a disk that is too small: NO_SPACE, nothing left, and others go on', async (t) => {
  const house = backupHouse(t);
  const disk = mount(t, house.folder, 'tmpfs', 'size=1m');
  writeFileSync(house.path('memory'), randomMemory(4 * MIB));
  const small = `[jobs.small]\ncommand = ["cat", "${house.path('memory')}"]\nfolder = "${disk}"\n`;
  const file = small.replace('jobs.small', 'jobs.file').replace(/command.*/, 'source = "memory"');
  const report = await house.run(`${small}${file}${oneJob()}`);
  t.deepEqual(
    report.jobs.map(({ exitCode }) => exitCode),
    [13, 13, 0],
  );
  t.deepEqual(readdirSync(disk), ['.vmsnap.lock']);
  t.true(statfsSync(disk).bavail > 200);
});

withMount('a read-only folder: PERMISSION', async (t) => {
  const house = backupHouse(t);
  const disk = mount(t, house.folder, 'tmpfs', 'size=1m,ro');
  const report = await house.runOne(oneJob().replace('"store"', `"${disk}"`));
  t.deepEqual([report.error?.code, report.exitCode], ['PERMISSION', 19]);
  t.regex(report.error!.message, /read-only file system/);
  t.regex(report.error!.hint!, /choose another/);
});

test('a job of a configuration that is run again and again is the same', async (t) => {
  const house = backupHouse(t);
  const config = await readBackupConfig(house.configure(oneJob()));
  for (let i = 0; i < 2; i++) {
    const { exitCode } = await runBackup(config, { now: () => house.now + i * DAY_MS });
    t.is(exitCode, 0);
  }
  t.is(house.stored().length, 2);
});

test('a removed store is missed, not made anew: its disk may not be mounted', async (t) => {
  const house = backupHouse(t);
  rmSync(house.store, { recursive: true });
  const report = await house.runOne(oneJob());
  t.is(report.error?.code, 'NOT_FOUND');
  t.false(existsSync(house.store));
});

test('an image that does not read back is set aside, and the old ones stay', async (t) => {
  const house = backupHouse(t);
  const toml = oneJob('full-every = 1\nkeep = { last = 1 }');
  const [first] = await nights(house, toml, 1);
  const config = await readBackupConfig(house.configure(toml));
  const { jobs } = await runBackup(config, {
    now: () => house.now,
    // As a disk does that loses what was written: between the save and its verification.
    onEvent: (event) => {
      if (event.kind !== 'phase' || event.phase !== 'verify') return;
      const image = house.stored().find((name) => name !== basename(first!.image!))!;
      chmodSync(join(house.store, image), 0o600);
      const bytes = readFileSync(join(house.store, image));
      bytes[9000] = bytes[9000]! ^ 1;
      writeFileSync(join(house.store, image), bytes);
    },
  });
  const report = jobs[0]!;
  t.deepEqual([report.error?.code, report.verified, report.image], ['CORRUPT', false, undefined]);
  t.regex(report.error!.hint!, /kept as .*\/\.web1-.*\.vmsnap\.damaged/);
  t.is(house.stored().length, 2);
  t.true(existsSync(first!.image!));
  const { entries } = await listStore(house.store);
  t.deepEqual(
    entries.map(({ path }) => path),
    [first!.image],
    'it counts for nothing',
  );
  const next = await house.runOne(oneJob());
  t.deepEqual([next.status, next.base], ['ok', first!.image]);
});
