/**
 * `--quiesce` with the real guest agent: Debian's qemu-ga runs in a guest that counts on an ext4 disk, each number synced before
 * it is printed. What the disk holds in the pause is looked at with e2fsprogs: a file system that was frozen has nothing in its
 * journal to replay. With QEMU 7.2 and, where VMSNAP_QEMU10 names it, 10.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext } from 'ava';
import { save, verify } from '../../lib/index.js';
import type { MachineOptions, SaveResult } from '../../lib/types.js';
import { runCli } from '../cli/support/runCli.js';
import { failsWith } from '../lib/support/expect.js';
import { descriptionIn } from '../lib/support/qemuStage.js';
import { AgentClient } from './agentClient.js';
import { agentAvailabilityOrDemand, findProgram, qemu10OrDemand } from './availability.js';
import { bootGuest, type Guest } from './guest.js';
import { COUNT_FILE } from './init.js';
import { resumeCommand } from './resumeCommand.js';
import { Resumed } from './resumed.js';

const MEMORY_MIB = 128;
const DISK_MIB = 16;
const COUNT_SECONDS = 60;
const GUARD_SECONDS = 120;
/** An image and the disk that belongs to it. */
const KEPT_IMAGE = 'kept.vmsnap';
const KEPT_DISK = 'kept.disk';

const availability = agentAvailabilityOrDemand();
const { program: qemu10, missing: noQemu10 } = qemu10OrDemand();
const noGuest = availability.available ? undefined : availability.reason;

interface Stage {
  readonly guest: Guest;
  readonly folder: string;
  readonly disk: string;
  readonly image: string;
  /** The disk, as it was in the pause. */
  readonly copy: string;
  quiesce(machine?: MachineOptions): Promise<SaveResult>;
}

for (const { name, qemu, missing } of [
  { name: 'the installed QEMU', qemu: undefined, missing: noGuest },
  { name: 'QEMU 10', qemu: qemu10, missing: noGuest ?? noQemu10 },
]) {
  const title = `${name}: the real guest agent freezes the file systems for the pause`;
  if (missing === undefined) anyTest.serial(title, (t) => quiesced(t, qemu));
  else anyTest.serial.skip(`${title} (SKIPPED: ${missing})`, () => undefined);
}

async function quiesced(t: ExecutionContext, qemu: string | undefined): Promise<void> {
  t.timeout(300_000);
  const made = await stage(t, qemu);
  for (const live of [false, true]) await frozenForThePause(t, made, live);
  // The rest is between us and the agent.
  if (qemu !== undefined) return;
  await unquiesced(t, made);
  await halfARequest(t, made);
  await killedInThePause(t, made);
  await frozenByAnother(t, made);
  await heldByAnother(t, made);
  // The last of its life: the agent is gone then.
  await withoutAgent(t, made);
  await broughtBack(t, made);
}

async function stage(t: ExecutionContext, qemu: string | undefined): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'vmsnap-quiesce-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const disk = join(folder, 'disk');
  run('truncate', '-s', `${DISK_MIB}M`, disk);
  run('mkfs.ext4', '-q', '-F', disk);
  const guest = await bootGuest({ memoryMiB: MEMORY_MIB, qemu, countingDisk: disk, agent: availability.agent });
  t.teardown(() => guest.close());
  await guest.waitForCountBeyond(1, COUNT_SECONDS);
  const image = join(folder, 'image.vmsnap');
  const copy = join(folder, 'copy');
  const quiesce = (machine: MachineOptions = {}) =>
    save(`qemu:${guest.qmpSocket}`, image, {
      force: true,
      machine: { quiesce: true, agent: guest.agentSocket, whilePaused: `cp ${disk} ${copy}`, ...machine },
    });
  return { guest, folder, disk, image, copy, quiesce };
}

/** From the image and the copy of its disk. The file systems are as frozen as they were. */
async function broughtBack(t: ExecutionContext, { guest, folder, disk }: Stage): Promise<void> {
  const command = resumeCommand(guest);
  // Not closed: what it was booted from is needed again.
  process.kill(guest.processId!, 'SIGKILL');
  cpSync(join(folder, KEPT_DISK), disk);
  const onDisk = isClean(t, disk);
  const resumed = new Resumed(folder, join(folder, KEPT_IMAGE), command, ['--disks-restored']);
  t.teardown(() => resumed.kill());
  await resumed.waitForWords(/the guest agent held 1 file system still .*guest-fsfreeze-thaw/);
  t.is(await asked(guest, 'guest-fsfreeze-status'), 'frozen');
  t.is(await asked(guest, 'guest-fsfreeze-thaw'), 1);
  await resumed.waitForCountBeyond(onDisk + 2);
  // The number on the disk may have been printed already.
  t.true(resumed.counts[0]! - onDisk <= 1, `${onDisk} on the disk, then ${resumed.counts[0]}`);
  await resumed.end('SIGTERM');
}

/** Without it the journal holds what the disk does not: the test can tell. */
async function unquiesced(t: ExecutionContext, made: Stage): Promise<void> {
  await made.quiesce({ quiesce: false });
  t.true(needsRecovery(made.copy));
  await goesOn(t, made);
}

async function frozenForThePause(t: ExecutionContext, made: Stage, live: boolean): Promise<void> {
  const { guest, folder, image, copy, quiesce } = made;
  const before = guest.count;
  const { machine, warnings } = await quiesce({ live });
  t.like(machine, { found: 'running', left: 'running', frozenFileSystems: 1 });
  t.is(machine!.live !== undefined, live);
  t.deepEqual(warnings, []);
  t.is((await descriptionIn(image)).frozenFileSystems, 1);
  t.true((await verify(image)).intact);
  const onDisk = isClean(t, copy);
  cpSync(image, join(folder, KEPT_IMAGE));
  cpSync(copy, join(folder, KEPT_DISK));
  t.true(onDisk >= before, `${onDisk} on the disk, ${before} printed before`);
  t.log(`${live ? 'live' : 'plain'}: paused for ${machine!.pauseSeconds} s at ${onDisk}`);
  await goesOn(t, made);
  t.true(guest.count > onDisk);
}

/** What somebody has left in the port, who ended in the middle of a word. */
async function halfARequest(t: ExecutionContext, made: Stage): Promise<void> {
  const client = await AgentClient.open(made.guest.agentSocket);
  client.write('{"execute":"guest-fs');
  await sleep(200);
  client.close();
  t.is((await made.quiesce()).machine!.frozenFileSystems, 1);
  await goesOn(t, made);
}

async function killedInThePause(t: ExecutionContext, made: Stage): Promise<void> {
  const { guest, folder } = made;
  const [image, mark] = [join(folder, 'killed.vmsnap'), join(folder, 'mark')];
  const options = ['--quiesce', '--agent', guest.agentSocket, '--while-paused', `touch ${mark}; exec sleep 20`];
  const { signal, stderr } = await runCli(['save', ...options, `qemu:${guest.qmpSocket}`, image], {
    onStart: (child) => {
      const kill = async () => {
        while (!existsSync(mark) && child.exitCode === null) await sleep(10);
        child.kill('SIGKILL');
      };
      void kill();
    },
  });
  t.is(signal, 'SIGKILL', stderr);
  t.false(existsSync(image));
  await guest.waitForCountBeyond(guest.count, GUARD_SECONDS);
  await goesOn(t, made);
}

async function frozenByAnother(t: ExecutionContext, made: Stage): Promise<void> {
  const { guest, disk, quiesce } = made;
  t.is(await asked(guest, 'guest-fsfreeze-freeze'), 1);
  const error = await failsWith(t, 'GUEST', quiesce(), /have been frozen by somebody else/);
  t.regex(error.hint!, /"guest-fsfreeze-thaw"/);
  await isRunning(t, guest);
  // They are left to whoever did it.
  t.is(await asked(guest, 'guest-fsfreeze-status'), 'frozen');
  isClean(t, disk);
  t.is(await asked(guest, 'guest-fsfreeze-thaw'), 1);
  await goesOn(t, made);
}

async function heldByAnother(t: ExecutionContext, made: Stage): Promise<void> {
  const other = await AgentClient.open(made.guest.agentSocket);
  await other.execute('guest-ping');
  const error = await failsWith(t, 'GUEST', made.quiesce({ answerSeconds: 1 }), /gave no answer in 1 s/);
  t.regex(error.hint!, /no other program hold it/);
  await isRunning(t, made.guest);
  other.close();
  await goesOn(t, made);
}

/** The port is there, and nobody reads it. */
async function withoutAgent(t: ExecutionContext, { guest, quiesce }: Stage): Promise<void> {
  await asked(guest, 'guest-exec', { path: '/bin/killall', arg: ['-KILL', 'qemu-ga'] });
  // It answers, and is killed then.
  await sleep(500);
  const error = await failsWith(
    t,
    'GUEST',
    quiesce({ answerSeconds: 1 }),
    /the guest agent on .* gave no answer in 1 s/,
  );
  t.regex(error.hint!, /does qemu-guest-agent run in the guest/);
  await isRunning(t, guest);
  await guest.waitForCountBeyond(guest.count + 1, COUNT_SECONDS);
}

/** It counts on, so its file system takes what it writes. */
async function goesOn(t: ExecutionContext, { guest }: Stage): Promise<void> {
  await isRunning(t, guest);
  t.is(await asked(guest, 'guest-fsfreeze-status'), 'thawed');
  await guest.waitForCountBeyond(guest.count + 1, COUNT_SECONDS);
}

async function isRunning(t: ExecutionContext, guest: Guest): Promise<void> {
  t.like(await guest.qmp.execute('query-status'), { status: 'running' });
}

async function asked(guest: Guest, command: string, args?: object): Promise<unknown> {
  const client = await AgentClient.open(guest.agentSocket);
  try {
    return await client.execute(command, args);
  } finally {
    client.close();
  }
}

/** @returns the number in it. */
function isClean(t: ExecutionContext, disk: string): number {
  t.false(needsRecovery(disk));
  // Without its option -n it would replay the journal first; with it, it tells of one and ends with an exit code.
  t.notRegex(run('e2fsck', '-fn', disk), /journal|recover/i);
  const text = run('debugfs', '-R', `cat ${COUNT_FILE}`, disk);
  t.regex(text, /^\d{8}\n$/);
  return Number(text);
}

function needsRecovery(disk: string): boolean {
  return /^Filesystem features:.* needs_recovery\b/m.test(run('dumpe2fs', '-h', disk));
}

function run(program: string, ...args: string[]): string {
  return execFileSync(findProgram(program)!, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
