/**
 * The guard of a machine that is about to be stopped: a process of its own, started by guard.ts.
 *
 * Its standard input is a pipe from vmsnap, which writes one line of JSON whenever the state of the machine changes. When the
 * pipe ends, vmsnap has ended, however that came about. If the machine was still to go on, the guard makes it go on, as
 * soon as the connection is free, and puts back what was changed for the migration.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { VmsnapError } from '../../native/errors.js';
import { removeTree } from '../files/remove.js';
import type { GuardOrder, GuardStart } from './guard.js';
import { GuestAgent } from './guestAgent.js';
import { cancelMigration, resumeMachine } from './resumeMachine.js';
import { type PeerLimits, SteadyPeer } from './steadyPeer.js';

const GIVE_UP_SECONDS = 120;
const RETRY_MS = 200;

async function main(): Promise<void> {
  // What ends vmsnap must not end its guard.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGPIPE'] as const) process.on(signal, () => {});
  process.stderr.on('error', () => {});
  process.stdout.on('error', () => {});
  const start = JSON.parse(process.argv[2]!) as GuardStart;
  const orders = lastLine();
  process.stdout.write('ready\n');
  const line = await orders;
  if (line === undefined) return;
  const order = JSON.parse(line) as GuardOrder;
  if (order.streamFolder !== undefined) removeStreamFolder(order.streamFolder);
  if (order.resume || order.restore.length > 0) await undo(start, order);
  if (order.thaw && start.agent !== undefined) await thaw(start.agent, start.limits);
}

function removeStreamFolder(folder: string): void {
  try {
    removeTree(folder);
  } catch (error) {
    process.stderr.write(`vmsnap: error: ${(error as Error).message}\n`);
  }
}

async function undo({ address, limits }: GuardStart, { resume, restore }: GuardOrder): Promise<void> {
  const what = `the machine on ${address.kind === 'qemu' ? address.socket : `libvirt:${address.domain}`}`;
  try {
    const peer = await openInTime(address, limits);
    if (resume) await resumeMachine(peer, GIVE_UP_SECONDS);
    // While a migration is under way, QEMU takes no settings.
    else await cancelMigration(peer).catch(() => {});
    for (const { command, args } of restore) await peer.execute(command, args).catch(() => {});
    peer.close();
    if (resume) process.stderr.write(`vmsnap: ${what} goes on: vmsnap ended while it was stopped\n`);
  } catch (error) {
    process.stderr.write(`vmsnap: error: ${what} could not be made to go on: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

async function thaw(address: NonNullable<GuardStart['agent']>, { answerSeconds }: PeerLimits): Promise<void> {
  try {
    const agent = new GuestAgent(address, { answerSeconds, reconnectSeconds: GIVE_UP_SECONDS });
    await agent.thaw();
    agent.close();
    process.stderr.write("vmsnap: the guest's file systems go on: vmsnap ended while they were frozen\n");
  } catch (error) {
    const { message, hint } = error as VmsnapError;
    process.stderr.write(`vmsnap: error: ${message}${hint === undefined ? '' : ` (${hint})`}\n`);
    process.exitCode = 1;
  }
}

/** The connection of the dead may not be gone yet. */
async function openInTime(address: GuardStart['address'], limits: GuardStart['limits']): Promise<SteadyPeer> {
  const deadline = performance.now() + GIVE_UP_SECONDS * 1000;
  for (;;) {
    try {
      return await SteadyPeer.open(address, limits);
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(RETRY_MS);
    }
  }
}

/** The last whole line of standard input, once it has ended. */
async function lastLine(): Promise<string | undefined> {
  let text = '';
  process.stdin.setEncoding('utf8');
  try {
    for await (const part of process.stdin) {
      const lines = (text + part).split('\n');
      text = lines.slice(-2).join('\n');
    }
  } catch {
    // A broken pipe ends as well.
  }
  return text.split('\n').at(-2);
}

// Not awaited: the bundle is CommonJS, which has no await here. A rejection ends the process with its words all the same.
// A connection that hangs must not keep it.
void main().then(() => process.exit());
