/**
 * `save qemu:` of a real QEMU whose machine does nothing, so that its memory is what it was given; system calls fail on files and
 * sockets, in vmsnap and in its guard (faults.test.ts). Whatever becomes of the save, the machine runs afterwards, with the settings
 * that it had.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { load, save, verify } from '../../../lib/index.js';
import { findProgram } from '../../guest/availability.js';
import { QmpClient } from '../../guest/qmp.js';
import { emptyTemporary, leftUntold, type Operation, type Outcome, TEMPORARY, THREADS } from './faultOperation.js';
import { MIB, mixedMemory } from './memory.js';
import { ScriptedAgent } from './scriptedAgent.js';
import type { Workspace } from './workspace.js';

const MEMORY = mixedMemory(8 * MIB, 11);
const OLD_MEMORY = mixedMemory(MIB, 5);
/** The name that QEMU gives the memory of a machine whose backend is called so. */
const BACKEND = 'mem0';
/** Read only, and as small as QEMU takes it: the first instruction is at 0xfff0. */
const ROM_BYTES = 64 * 1024;
/** cli; hlt; jmp to the hlt: not even a timer wakes it, and it runs for all that QEMU knows. */
const HALT = Buffer.from([0xfa, 0xf4, 0xeb, 0xfd]);
const FAILED = 1;
const GUEST = 22;
/** Of a live save: the memory file cannot be read, and why. */
const UNSUPPORTED = 15;
const SETTLE_MS = 30_000;
const POLL_MS = 20;
const ASKED = ['query-migrate-capabilities', 'query-migrate-parameters'];

interface RunningMachine {
  readonly qemu: ChildProcess;
  /** Beside the socket that vmsnap uses. */
  readonly qmp: QmpClient;
  /** The machine runs no agent: this process does. */
  readonly agent: ScriptedAgent;
  /** What it answered before the first save. */
  readonly settings: string;
}

const running = new Map<string, RunningMachine>();
process.on('exit', () => {
  for (const { qemu } of running.values()) qemu.kill('SIGKILL');
});

/** `share=on`: vmsnap reads the memory from its file, else QEMU sends it. */
async function startMachine(folder: Workspace, isShared: boolean): Promise<void> {
  const rom = Buffer.alloc(ROM_BYTES);
  HALT.copy(rom, ROM_BYTES - 16);
  writeFileSync(folder.path('rom'), rom);
  writeFileSync(folder.path('memory'), MEMORY);
  writeFileSync(folder.path('old-memory'), OLD_MEMORY);
  await save(folder.path('old-memory'), folder.path('old-image'), { frozen: true, threads: 2 });
  const backend = `memory-backend-file,id=${BACKEND},size=${MEMORY.length},mem-path=${folder.path('memory')}`;
  const sockets = ['qmp', 'second'].flatMap((name) => ['-qmp', `unix:${folder.path(name)},server=on,wait=off`]);
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg'],
      ...['-machine', `pc,memory-backend=${BACKEND}`, '-m', `${MEMORY.length / MIB}`, '-bios', folder.path('rom')],
      ...['-object', `${backend},share=${isShared ? 'on' : 'off'}`, ...sockets],
    ],
    // What it says of streams that break off is as it should be.
    { stdio: 'ignore' },
  );
  const qmp = await QmpClient.open(folder.path('second'), SETTLE_MS / 1000);
  const agent = await ScriptedAgent.start(folder.folder, { isRunning: true, log: [] });
  running.set(folder.folder, { qemu, qmp, agent, settings: await settingsOf(qmp) });
}

async function endMachine(folder: Workspace): Promise<void> {
  const { qemu, qmp, agent } = running.get(folder.folder)!;
  running.delete(folder.folder);
  qmp.close();
  agent.close();
  const ended = once(qemu, 'exit');
  qemu.kill('SIGKILL');
  await ended;
}

async function settingsOf(qmp: QmpClient): Promise<string> {
  const answers: unknown[] = [];
  for (const command of ASKED) answers.push(await qmp.execute(command));
  return JSON.stringify(answers);
}

/** What the machine is not, and should be. Its guard may need a moment after vmsnap's end. */
async function machineFault(folder: Workspace): Promise<string | undefined> {
  const { qmp, agent, settings: own } = running.get(folder.folder)!;
  const deadline = Date.now() + SETTLE_MS;
  for (;;) {
    const { status } = (await qmp.execute('query-status')) as { readonly status: string };
    const hasSettings = (await settingsOf(qmp)) === own;
    if (status === 'running' && hasSettings && agent.frozen === 0) return undefined;
    const settings = hasSettings ? 'its own' : 'others';
    if (Date.now() > deadline)
      return `the machine is ${status}, ${agent.frozen} file systems are frozen, the settings for migrations are ${settings}`;
    await sleep(POLL_MS);
  }
}

async function savedFault(folder: Workspace, outcome: Outcome): Promise<string | undefined> {
  const fault = await machineFault(folder);
  if (fault !== undefined) return fault;
  const left = leftUntold(folder, outcome);
  if (left.length > 0) return `left behind, and not told: ${left}`;
  const image = folder.path('image');
  if (readFileSync(image).equals(readFileSync(folder.path('old-image'))))
    return outcome.done ? 'success is reported, and the image is the old one' : undefined;
  if (!(await verify(image)).intact) return 'the image is damaged';
  await load(image, folder.path('check'), { region: BACKEND });
  const isRight = readFileSync(folder.path('check')).equals(MEMORY);
  rmSync(folder.path('check'));
  return isRight ? undefined : 'the image holds other memory';
}

function resetSave(folder: Workspace): void {
  copyFileSync(folder.path('old-image'), folder.path('image'));
  emptyTemporary(folder);
}

function missingQemu(): string | undefined {
  if (process.env.VMSNAP_REQUIRE_GUEST === '1' || findProgram('qemu-system-x86_64') !== undefined) return undefined;
  return 'there is no qemu-system-x86_64';
}

function saving(name: string, isShared: boolean, more: (folder: Workspace) => readonly string[] = () => []): Operation {
  return {
    name,
    missing: missingQemu(),
    prepare: (folder) => startMachine(folder, isShared),
    end: endMachine,
    args: (folder) => [
      ...['save', '--quiet', '--force', '--segment-size', '1M', ...THREADS, ...more(folder)],
      ...[`qemu:${folder.path('qmp')}`, folder.path('image')],
    ],
    files: ['', 'image', '.image.vmsnap-tmp', 'memory', TEMPORARY],
    spills: true,
    sockets: true,
    codes: [FAILED, GUEST, UNSUPPORTED],
    check: savedFault,
    reset: resetSave,
  };
}

export const RUNNING_MACHINES: readonly Operation[] = [
  saving('save of a machine', true, () => ['--while-paused', 'echo paused']),
  saving('save of a machine, live', true, () => ['--live']),
  saving('save of a machine, all in its stream', false),
  {
    ...saving('save of a machine, its file systems held still', true, (folder) => [
      ...['--quiesce', '--agent', folder.path('agent')],
    ]),
    // Calls on its other files are those of the first one.
    files: [TEMPORARY],
  },
];
