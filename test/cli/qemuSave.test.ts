/**
 * `vmsnap save` of a machine behind a scripted QEMU, in a process of its own: killed at random moments (the guard makes the machine
 * go on), with memory in a file, through a stand-in for virsh (no libvirt), and with a stand-in for the guest agent.
 * VMSNAP_CAMPAIGN=1: many more kills.
 */
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { load } from '../../lib/index.js';
import { sameBytes } from '../lib/support/expect.js';
import { ScriptedAgent, thawedInTheEnd } from '../lib/support/scriptedAgent.js';
import { type Script, ScriptedQemu, scriptedMemory } from '../lib/support/scriptedQemu.js';
import { virshStandIn } from '../support/virshStandIn.js';
import { temporaryFolder } from './support/folder.js';
import { schemaFaults } from './support/jsonSchema.js';
import { runCli } from './support/runCli.js';

const KILLS = process.env.VMSNAP_CAMPAIGN === '1' ? 200 : 8;
const GUARD_MS = 150_000;

interface Stage {
  readonly folder: string;
  readonly qemu: ScriptedQemu;
}

async function stage(t: ExecutionContext, script: Script = {}): Promise<Stage> {
  t.timeout(300_000);
  const folder = temporaryFolder(t);
  const qemu = await ScriptedQemu.start(folder, script);
  t.teardown(() => qemu.close());
  return { folder, qemu };
}

/** Open, as the machine has it. */
function heldMemoryFile(folder: string): { readonly memoryFile: string } {
  const memoryFile = join(folder, 'memory');
  writeFileSync(memoryFile, scriptedMemory());
  openSync(memoryFile, 'r+');
  return { memoryFile };
}

async function untilRunning(t: ExecutionContext, qemu: ScriptedQemu): Promise<void> {
  const deadline = Date.now() + GUARD_MS;
  while (!qemu.isRunning && Date.now() < deadline) await sleep(20);
  t.true(qemu.isRunning, qemu.status);
}

test('SIGKILL at random moments: the machine runs, and so are the settings of QEMU as before', async (t) => {
  const { folder, qemu } = await stage(t, { pieceBytes: 8192 });
  const before = { ...qemu.parameters };
  const env = { TMPDIR: join(folder, 'temporary') };
  mkdirSync(env.TMPDIR);
  // Drawn over what a save takes here and now, from the stop on: before it there is nothing to undo.
  const started = performance.now();
  t.is((await runCli(['save', `qemu:${qemu.socket}`, 'img'], { cwd: folder })).exitCode, 0);
  const longestMs = performance.now() - started;
  let stops = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    qemu.log.length = 0;
    const { signal } = await runCli(['save', '--force', `qemu:${qemu.socket}`, 'img'], {
      cwd: folder,
      env,
      onStart: (child) => {
        const moment = async () => {
          while (!qemu.wasStopped && child.exitCode === null) await sleep(2);
          await sleep(Math.random() * 0.5 * longestMs);
          child.kill('SIGKILL');
        };
        void moment();
      },
    });
    await untilRunning(t, qemu);
    // The guard lets the machine run first; the next save must not take what it finds for the settings of before.
    for (let i = 0; i < 500 && qemu.parameters['max-bandwidth'] !== before['max-bandwidth']; i++) await sleep(20);
    if (signal === 'SIGKILL') stops++;
  }
  t.log(`${stops} of ${KILLS} saves killed while they were at it`);
  t.deepEqual(readdirSync(env.TMPDIR), [], 'the folder of a stream');
  t.deepEqual(qemu.parameters, before);
});

test('SIGKILL at random moments of a live save: the machine runs, with the settings that it had', async (t) => {
  const folder = temporaryFolder(t);
  const qemu = await ScriptedQemu.start(folder, { ...heldMemoryFile(folder), pieceBytes: 512 });
  t.teardown(() => qemu.close());
  const before = { ...qemu.parameters };
  const words = ['save', '--live', '--force', '--json', `qemu:${qemu.socket}`, 'img'];
  const started = performance.now();
  const whole = await runCli(words, { cwd: folder });
  t.is(whole.exitCode, 0, whole.stdout);
  t.deepEqual(schemaFaults('save.json', JSON.parse(whole.stdout)), []);
  t.is(JSON.parse(whole.stdout).machine.live.restarts, 0);
  const longestMs = performance.now() - started;
  for (let kill = 0; kill < KILLS; kill++) {
    qemu.log.length = 0;
    await runCli(words, {
      cwd: folder,
      onStart: (child) => {
        const moment = async () => {
          while (qemu.log.length === 0 && child.exitCode === null) await sleep(2);
          await sleep(Math.random() * longestMs);
          child.kill('SIGKILL');
        };
        void moment();
      },
    });
    await untilRunning(t, qemu);
    for (let i = 0; i < 500 && qemu.parameters['max-bandwidth'] !== before['max-bandwidth']; i++) await sleep(20);
  }
  t.deepEqual(qemu.parameters, before);
  t.false(qemu.capabilities.get('x-ignore-shared'));
  t.is((await runCli(words, { cwd: folder })).exitCode, 0);
});

test('SIGINT and SIGTERM end the save in good order, and the machine runs', async (t) => {
  for (const [signal, exitCode] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const { folder, qemu } = await stage(t, { stream: 'hangs-in-ram' });
    const result = await runCli(['save', `qemu:${qemu.socket}`, 'img'], {
      cwd: folder,
      onStart: (child) => {
        const moment = async () => {
          while (!qemu.log.includes('migrate')) await sleep(5);
          child.kill(signal);
        };
        void moment();
      },
    });
    t.is(result.exitCode, exitCode, result.stderr);
    t.true(qemu.isRunning, qemu.status);
    t.false(existsSync(join(folder, 'img')));
  }
});

test('memory in a file is read from it; replaced under the machine or gone, through the stream', async (t) => {
  const folder = temporaryFolder(t);
  const memoryFile = join(folder, 'memory');
  // Other than in the stream, to tell where it was read from.
  const memory = Buffer.from(scriptedMemory()).reverse();
  writeFileSync(memoryFile, memory);
  openSync(memoryFile, 'r+');
  const qemu = await ScriptedQemu.start(folder, { memoryFile });
  t.teardown(() => qemu.close());
  const saved = async (image: string) => {
    const result = await runCli(['save', '--json', `qemu:${qemu.socket}`, image], { cwd: folder });
    t.is(result.exitCode, 0, result.stdout);
    await load(join(folder, image), join(folder, `${image}.ram`), { region: 'ram' });
    const { machine } = JSON.parse(result.stdout);
    t.deepEqual(schemaFaults('save.json', JSON.parse(result.stdout)), []);
    return { machine, bytes: readFileSync(join(folder, `${image}.ram`)) };
  };
  const direct = await saved('direct');
  t.like(direct.machine, { memory: 'files', memoryReason: null, left: 'running' });
  sameBytes(t, direct.bytes, memory);
  const inspected = await runCli(['inspect', '--json', 'direct'], { cwd: folder });
  t.deepEqual(JSON.parse(inspected.stdout).qemu, { qemuVersion: '10.0.2', machineType: 'pc-q35-10.0', disks: 0 });
  t.deepEqual(schemaFaults('inspect.json', JSON.parse(inspected.stdout)), []);
  renameSync(memoryFile, join(folder, 'elsewhere'));
  const gone = await saved('gone');
  t.regex(gone.machine.memoryReason, /is gone/);
  sameBytes(t, gone.bytes, scriptedMemory());
  if (process.getuid?.() !== 0) return;
  // Nobody has it open: it is not the machine's, which only root can tell.
  writeFileSync(memoryFile, memory);
  const replaced = await saved('replaced');
  t.regex(replaced.machine.memoryReason, /has been replaced/);
  sameBytes(t, replaced.bytes, scriptedMemory());
});

test('libvirt:DOMAIN, through a stand-in for virsh in front of a scripted QEMU', async (t) => {
  const { folder, qemu } = await stage(t);
  const env = { PATH: `${virshStandIn(folder, 'web 1', qemu.socket)}:${process.env.PATH}` };
  const result = await runCli(['save', 'libvirt:web 1', 'img'], { cwd: folder, env });
  t.is(result.exitCode, 0, result.stderr);
  t.regex(result.stdout, /machine: .*found running, left running, paused for/);
  t.true(qemu.isRunning);
  const other = await runCli(['save', 'libvirt:web2', 'other'], { cwd: folder, env });
  t.is(other.exitCode, 22);
  t.regex(other.stderr, /failed to get domain 'web2'/);
});

test('--quiesce --live of a domain, whose agent is asked through virsh', async (t) => {
  const folder = temporaryFolder(t);
  const qemu = await ScriptedQemu.start(folder, heldMemoryFile(folder));
  t.teardown(() => qemu.close());
  const agent = await ScriptedAgent.start(folder, qemu);
  t.teardown(() => agent.close());
  const bin = virshStandIn(folder, 'web1', qemu.socket, agent.socket);
  const env = { PATH: `${bin}:${process.env.PATH}` };
  const result = await runCli(['save', '--live', '--quiesce', 'libvirt:web1', 'img'], { cwd: folder, env });
  t.is(result.exitCode, 0, result.stderr);
  const told = qemu.log.filter((said) => /^guest-|^stop$/.test(said));
  const asked = 'guest-fsfreeze-status';
  t.deepEqual(told, [asked, asked, 'guest-fsfreeze-freeze', 'stop', 'guest-fsfreeze-thaw']);
});

for (const [what, words, exitCode] of [
  ['saved', [], 0],
  ['given up', ['--while-paused', 'false'], 1],
] as const) {
  test(`--quiesce: a stand-in for the guest agent is told to freeze and to thaw, ${what}`, async (t) => {
    const { folder, qemu } = await stage(t);
    const agent = await ScriptedAgent.start(folder, qemu);
    t.teardown(() => agent.close());
    const options = ['--quiesce', '--agent', agent.socket, ...words];
    const result = await runCli(['save', ...options, `qemu:${qemu.socket}`, 'img'], { cwd: folder });
    t.is(result.exitCode, exitCode, result.stderr);
    t.deepEqual(
      qemu.log.filter((said) => said.startsWith('guest-')),
      ['guest-sync', 'guest-fsfreeze-status', 'guest-fsfreeze-status', 'guest-fsfreeze-freeze', 'guest-fsfreeze-thaw'],
    );
    t.is(agent.frozen, 0);
  });
}

for (const live of [[], ['--live']]) {
  test(`SIGKILL in the pause of a save with ${['--quiesce', ...live].join(' ')}: the guard lets the machine run, and thaws`, async (t) => {
    const folder = temporaryFolder(t);
    const qemu = await ScriptedQemu.start(folder, heldMemoryFile(folder));
    t.teardown(() => qemu.close());
    const agent = await ScriptedAgent.start(folder, qemu);
    t.teardown(() => agent.close());
    const options = ['--quiesce', '--agent', agent.socket, ...live, '--while-paused', 'exec sleep 10'];
    const { signal, stderr } = await runCli(['save', ...options, `qemu:${qemu.socket}`, 'img'], {
      cwd: folder,
      onStart: (child) => {
        const moment = async () => {
          while (!qemu.wasStopped && child.exitCode === null) await sleep(5);
          child.kill('SIGKILL');
        };
        void moment();
      },
    });
    t.is(signal, 'SIGKILL', stderr);
    await untilRunning(t, qemu);
    await thawedInTheEnd(t, agent);
    const told = qemu.log.filter((said) => /fsfreeze-(freeze|thaw)|^stop$/.test(said));
    t.deepEqual(told, ['guest-fsfreeze-freeze', 'stop', 'guest-fsfreeze-thaw']);
    t.false(existsSync(join(folder, 'img')));
  });
}
