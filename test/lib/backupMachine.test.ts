/** Backup jobs of a machine that runs under QEMU: here a scripted one, which says its uuid, and fails where a test tells it to. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { listStore, verify } from '../../lib/index.js';
import { backupHouse, codesOf, DAY_MS, oneJob } from './support/backups.js';
import { ScriptedQemu } from './support/scriptedQemu.js';

const job = (socket: string, lines = '') => oneJob(lines).replace('"memory"', `"qemu:${socket}"`);

test('a machine that tells its uuid: its next image goes on from the one before, and prune knows it', async (t) => {
  const house = backupHouse(t);
  const kinds: unknown[] = [];
  for (let night = 0; night < 5; night++) {
    // A stopped one cannot send its memory twice.
    const qemu = await ScriptedQemu.start(house.folder.folder);
    const toml = job(qemu.socket, 'keep = { last = 2 }\nfull-every = 3');
    const plan = await house.run(toml, { dryRun: true });
    const report = await house.runOne(toml);
    t.is(report.error, undefined, report.error?.message);
    t.is(plan.jobs[0]!.kind, report.kind, `night ${night}`);
    t.deepEqual([...plan.jobs[0]!.removed].sort(), [...report.removed].sort(), `night ${night}`);
    t.true(qemu.isRunning);
    kinds.push([report.kind, report.chainLength, report.status, report.keptImages]);
    t.true((await verify(report.image!)).intact);
    qemu.close();
    house.now += DAY_MS;
  }
  t.deepEqual(kinds, [
    ['full', 1, 'ok', 1],
    ['differential', 2, 'ok', 2],
    ['differential', 3, 'ok', 3],
    ['full', 1, 'ok', 4],
    ['differential', 2, 'ok', 2],
  ]);
  const { entries } = await listStore(house.store);
  t.deepEqual([...new Set(entries.map(({ group }) => group))], ['uuid:6f1c2d3e-4b5a-4c6d-8e7f-001122334455']);
});

test('what runs while the machine is paused, and a pause that is too long', async (t) => {
  const house = backupHouse(t);
  const qemu = await ScriptedQemu.start(house.folder.folder);
  t.teardown(() => qemu.close());
  const note = `while-paused = "echo $VMSNAP_VM > '${house.path('note')}'"`;
  t.is((await house.runOne(job(qemu.socket, `${note}\nquiesce = false`))).error, undefined);
  t.is(readFileSync(house.path('note'), 'utf8'), 'web1\n');
  const other = backupHouse(t);
  const slow = await ScriptedQemu.start(other.folder.folder);
  t.teardown(() => slow.close());
  const report = await other.runOne(job(slow.socket, 'while-paused = "sleep 60"\nmax-pause = "1s"'));
  t.is(report.error?.code, 'TIMEOUT', report.error?.message);
  t.true(slow.isRunning);
  t.deepEqual(other.stored(), []);
});

test('a machine that is gone, or refuses: the job fails with the code of the guest, and nothing is left', async (t) => {
  const house = backupHouse(t);
  const none = await house.runOne(job(house.path('no-socket')));
  t.is(none.status, 'failed');
  const qemu = await ScriptedQemu.start(house.folder.folder, { command: 'migrate', fault: 'refuse' });
  t.teardown(() => qemu.close());
  const report = await house.runOne(job(qemu.socket));
  t.deepEqual([report.error?.code, report.exitCode, codesOf(report)], ['GUEST', 22, []]);
  t.true(qemu.isRunning);
  t.deepEqual(house.stored(), []);
});
