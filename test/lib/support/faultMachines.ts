/** `load --machine` and `resume`, whose system calls fail (faults.test.ts). */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadMachine } from '../../../lib/index.js';
import { type ForgedMachine, forgeMachine, MACHINE_TYPE, MEMORY_BYTES } from '../../support/machineImage.js';
import { emptyTemporary, leftUntold, type Operation, type Outcome, TEMPORARY, THREADS } from './faultOperation.js';
import { sameFolders } from './sameFolders.js';
import type { Workspace } from './workspace.js';

const FAKE_QEMU = fileURLToPath(new URL('../children/fakeQemu.js', import.meta.url));
const MACHINE_FILES = ['device-state', 'machine.json', 'memory-ram'];
/** The commands of QEMU are refused or it has ended. */
const GUEST = 22;
const WARNINGS = 3;
const RAM_BACKEND = `memory-backend-file,id=mem0,share=on,mem-path={mem:mem0},size=${MEMORY_BYTES}`;

/** Of what was saved into the image in a folder. */
const machines = new Map<string, ForgedMachine>();

/** An image of a machine, what a load makes of it, and another load of an older machine. */
async function withMachine(folder: Workspace): Promise<void> {
  machines.set(folder.folder, await forgeMachine(folder.folder));
  for (const name of ['source', 'qemu-head', 'qemu-tail', 'machine.json']) rmSync(folder.path(name));
  await loadMachine(folder.path('image'), folder.path('expected'));
  mkdirSync(folder.path('old'));
  for (const name of ['device-state', 'memory-old']) copyFileSync(folder.path('image'), folder.path(`old/${name}`));
}

/** The folder of the machine is the old or the new one, whole. */
async function machineFault(folder: Workspace, { done }: Outcome): Promise<string | undefined> {
  if (!existsSync(folder.path('machine'))) return 'the folder is gone';
  if (isSame(folder, 'machine', 'expected')) return undefined;
  if (done) return 'success is reported, and the folder is not what was saved';
  return isSame(folder, 'machine', 'old') ? undefined : 'the folder is neither old nor new';
}

function isSame(folder: Workspace, one: string, other: string): boolean {
  return sameFolders(folder.path(one), folder.path(other));
}

function resetMachine(folder: Workspace): void {
  rmSync(folder.path('machine'), { recursive: true, force: true });
  mkdirSync(folder.path('machine'));
  for (const name of readdirSync(folder.path('old')))
    copyFileSync(folder.path(`old/${name}`), folder.path(`machine/${name}`));
}

/** A machine never runs on wrong memory or a wrong state, and what was made for it goes. */
async function resumeFault(folder: Workspace, outcome: Outcome): Promise<string | undefined> {
  const { done } = outcome;
  const left = leftUntold(folder, outcome);
  const commands = logged(folder, 'commands')?.toString().split('\n') ?? [];
  if (done && !commands.includes('cont')) return 'success is reported, and no machine runs';
  if (left.length > 0) return `left behind, and not told: ${left}`;
  if (!commands.includes('cont')) return undefined;
  const { ram } = machines.get(folder.folder)!;
  if (logged(folder, 'memory')?.equals(ram) !== true) return 'a machine runs on wrong memory';
  const isRight = logged(folder, 'stream')?.equals(readFileSync(folder.path('expected/device-state')));
  return isRight === true ? undefined : 'a machine runs with a wrong state';
}

function logged(folder: Workspace, name: string): Buffer | undefined {
  const path = folder.path(`log/${name}`);
  return existsSync(path) ? readFileSync(path) : undefined;
}

function resetResume(folder: Workspace): void {
  rmSync(folder.path('log'), { recursive: true, force: true });
  mkdirSync(folder.path('log'));
  emptyTemporary(folder);
}

const NEW_FOLDER = '.machine.vmsnap-tmp';

export const MACHINES: readonly Operation[] = [
  {
    name: 'load --machine',
    prepare: withMachine,
    args: (folder) => [
      ...['load', '--quiet', '--force', ...THREADS, '--machine', folder.path('machine')],
      folder.path('image'),
    ],
    files: [
      ...['', 'image', 'machine', NEW_FOLDER],
      ...[...MACHINE_FILES, '.memory-ram.vmsnap-tmp'].map((name) => `${NEW_FOLDER}/${name}`),
    ],
    done: [0, WARNINGS],
    check: machineFault,
    reset: resetMachine,
  },
  {
    name: 'resume',
    prepare: withMachine,
    args: (folder) => [
      ...['resume', '--quiet', ...THREADS, '--memory-dir', folder.path(TEMPORARY), folder.path('image'), '--'],
      // QEMU's own calls are not ours.
      ...['env', '-u', 'LD_PRELOAD', process.execPath, FAKE_QEMU, '--log', folder.path('log'), '--runs', '{mem:mem0}'],
      ...['-m', '5', '-machine', MACHINE_TYPE, '-object', RAM_BACKEND],
    ],
    files: ['image', TEMPORARY],
    spills: true,
    sockets: true,
    codes: [GUEST],
    check: resumeFault,
    reset: resetResume,
  },
];
