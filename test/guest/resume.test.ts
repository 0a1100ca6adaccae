/**
 * Machines of a real guest brought back: it counts on its serial port, is saved and killed, and counts on from where it was. With
 * QEMU 7.2 and QEMU 10 (VMSNAP_QEMU10), with a shared memory file, saved while it stands still and while it counts, and with private memory.
 */
import { spawn } from 'node:child_process';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { loadMachine, save, verify } from '../../lib/index.js';
import { qemu10OrDemand } from './availability.js';
import { bootGuest, guestAvailabilityOrDemand } from './guest.js';
import { QmpClient } from './qmp.js';
import { resumeCommand } from './resumeCommand.js';
import { Counter, Resumed } from './resumed.js';

const MEMORY_MIB = 128;
const COUNT_SECONDS = 90;

const test = anyTest as TestFn<undefined>;
const availability = guestAvailabilityOrDemand();
const { program: qemu10, missing: noQemu10 } = qemu10OrDemand();
const noGuest = availability.available ? undefined : availability.reason;

const versions = [
  { name: 'the installed QEMU', program: undefined, missing: noGuest },
  { name: 'QEMU 10', program: qemu10, missing: noGuest ?? noQemu10 },
];

/** `live`: in a file, and saved while it counts. */
type Kind = 'file' | 'live' | 'private';
const KINDS: readonly (readonly [Kind, string])[] = [
  ['file', 'file memory'],
  ['live', 'file memory, saved live'],
  ['private', 'private memory'],
];

for (const { name, program, missing } of versions) {
  for (const [kind, words] of KINDS) {
    const title = `${name}, ${words}: saved, killed, resumed, it counts on from where it was`;
    if (missing === undefined) test.serial(title, (t) => countsOn(t, program, kind));
    else test.serial.skip(`${title} (SKIPPED: ${missing})`, () => {});
  }
}

async function countsOn(t: ExecutionContext, qemu: string | undefined, kind: Kind): Promise<void> {
  t.timeout(300_000);
  const folder = await mkdtemp(join(tmpdir(), 'vmsnap-resume-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const image = join(folder, 'image');
  const disk = join(folder, 'disk');
  writeFileSync(disk, Buffer.alloc(2 ** 20));
  const drive = ['-drive', `file=${disk},format=raw,if=virtio,id=data`];
  const memory = kind === 'private' ? 'private' : 'file';
  const guest = await bootGuest({ memoryMiB: MEMORY_MIB, qemu, memory, arguments: drive });
  t.teardown(() => guest.close());
  const before = guest.count;
  const isLive = kind === 'live';
  const { machine } = await save(`qemu:${guest.qmpSocket}`, image, {
    machine: isLive ? { live: true } : { after: 'pause' },
  });
  t.like(machine, { found: 'running', left: isLive ? 'running' : 'paused', disks: 2 });
  t.is(machine!.live === undefined, !isLive);
  const { count } = guest;
  t.true(count > 0);
  if (isLive) await guest.waitForCountBeyond(count + 1, COUNT_SECONDS);
  t.true((await verify(image)).intact);
  const command = resumeCommand(guest);
  // Not closed: what it was booted from is needed again.
  process.kill(guest.processId!, 'SIGKILL');

  const run = new Resumed(folder, image, command);
  t.teardown(() => run.kill());
  await run.waitForCountBeyond(count + 2);
  // Of a live save it is known only between which counts the machine stood still.
  const first = run.counts[0]!;
  t.true(first > (isLive ? before : count) && first <= count + 2, `${before}, ${count}, then ${first}`);
  t.deepEqual(
    run.counts,
    run.counts.map((_, i) => first + i),
  );
  t.regex(run.errors, /runs in QEMU .*: 1\d\d MiB of memory, proven/);
  // QEMU ends in good order on a signal that vmsnap passes on.
  t.is(await run.end('SIGTERM'), 0, run.errors);
  t.deepEqual([readdirSync(run.memoryDir), readdirSync(run.temporary)], [[], []]);

  if (kind === 'private') return;
  writeFileSync(disk, Buffer.alloc(2 ** 20, 'moved on'));
  const refused = new Resumed(folder, image, command);
  t.is(await refused.exitCode, 17);
  t.regex(refused.errors, /the disk .* is not as it was/);
  if (kind === 'file') await byHand(t, folder, image, count);
}

/** The folder and the words of `load --machine`, followed to the letter. */
async function byHand(t: ExecutionContext, folder: string, image: string, count: number): Promise<void> {
  const { command, commands, folder: made } = await loadMachine(image, join(folder, 'made'));
  const qemu = spawn(command![0]!, command!.slice(1));
  const out = new Counter(qemu);
  try {
    const qmp = await QmpClient.open(join(made, 'qmp'), COUNT_SECONDS);
    for (const { execute, arguments: args } of commands.slice(1)) {
      if (execute === 'cont') await arrival(qmp);
      await qmp.execute(execute, args && { ...args });
    }
    await out.waitForCountBeyond(count + 1);
    t.true(out.counts[0]! <= count + 2);
    qmp.close();
  } finally {
    qemu.kill('SIGKILL');
  }
}

async function arrival(qmp: QmpClient): Promise<void> {
  for (;;) {
    const { status } = (await qmp.execute('query-migrate')) as { status?: string };
    if (status === 'completed') return;
    if (status === 'failed') throw new Error('the migration failed');
    await sleep(20);
  }
}
