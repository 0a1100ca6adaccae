/** Makes a machine go on, whatever state a migration has left it in: for a save, and for the guard that outlives one. */
import { setTimeout as sleep } from 'node:timers/promises';
import { VmsnapError } from '../../native/errors.js';
import { fieldOf, textOf } from './answers.js';
import { type QmpPeer, QmpRefusal } from './qmpPeer.js';

const RETRY_MS = 100;
const ACTIVE = ['setup', 'active', 'device', 'pre-switchover', 'cancelling', 'wait-unplug', 'postcopy-active'];

export function isActive(status: string | undefined): boolean {
  return status !== undefined && ACTIVE.includes(status);
}

/** Ends a migration that is under way, if there is one. */
export async function cancelMigration(peer: QmpPeer): Promise<void> {
  if (isActive(textOf(await peer.execute('query-migrate'), 'status'))) await peer.execute('migrate_cancel');
}

/**
 * Says `cont` until the machine runs and no migration is under way that would stop it again. `cont` is said first of all,
 * and at least once, whatever goes wrong: it does no harm to a machine that runs.
 * @throws GUEST with what QEMU said last, after `limitSeconds`.
 */
export async function resumeMachine(peer: QmpPeer, limitSeconds: number): Promise<void> {
  const deadline = performance.now() + limitSeconds * 1000;
  for (;;) {
    const fault = await tryToResume(peer);
    if (fault === undefined) return;
    if (performance.now() > deadline) throw fault;
    await sleep(RETRY_MS);
  }
}

async function tryToResume(peer: QmpPeer): Promise<VmsnapError | undefined> {
  let refusal: VmsnapError | undefined;
  const unlessRefused = async (work: Promise<unknown>) => {
    try {
      return await work;
    } catch (error) {
      if (!(error instanceof QmpRefusal)) throw error;
      refusal = error;
      return undefined;
    }
  };
  try {
    await unlessRefused(peer.execute('cont'));
    await unlessRefused(cancelMigration(peer));
    const status = await peer.execute('query-status');
    const migration = await peer.execute('query-migrate');
    if (fieldOf(status, 'running') === true && !isActive(textOf(migration, 'status'))) return undefined;
    const found = textOf(status, 'status') ?? 'in an unknown state';
    return refusal ?? new VmsnapError('GUEST', `the machine on ${peer.path} is ${found}`, { path: peer.path });
  } catch (error) {
    if (error instanceof VmsnapError) return error;
    throw error;
  }
}
