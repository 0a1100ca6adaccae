/**
 * Whether a QEMU can do all that a save takes: known before the machine is stopped, since a QEMU that then turns out not to have
 * `cont` would leave it so.
 */
import { VmsnapError } from '../../native/errors.js';
import { listOf, textOf } from './answers.js';
import { isAtLeast } from './qemuVersion.js';
import type { QmpPeer } from './qmpPeer.js';

/** The first with x-ignore-shared; the newest of what is needed below, migrate-set-parameters with max-bandwidth, is of 2.8. */
const OLDEST = [4, 0] as const;

/** Without any of these no machine is saved. */
export const NEEDED_COMMANDS = [
  'query-status',
  'query-block',
  'query-named-block-nodes',
  'query-migrate',
  'query-migrate-capabilities',
  'query-migrate-parameters',
  'migrate-set-capabilities',
  'migrate-set-parameters',
  'migrate',
  'migrate_cancel',
  'stop',
  'cont',
] as const;

/** @throws GUEST if it is too old, or lacks a command. */
export async function requireCapable(peer: QmpPeer): Promise<void> {
  const { path, qemuVersion } = peer;
  if (!isAtLeast(qemuVersion, ...OLDEST))
    throw new VmsnapError('GUEST', `QEMU ${qemuVersion} on ${path} is too old`, {
      path,
      hint: `it takes QEMU ${OLDEST.join('.')} or later; of an older one, save the memory file alone: stop the machine, and vmsnap save --frozen FILE IMAGE`,
    });
  const found = new Set(listOf(await peer.execute('query-commands')).map((entry) => textOf(entry, 'name')));
  const missing = NEEDED_COMMANDS.filter((command) => !found.has(command));
  if (missing.length === 0) return;
  throw new VmsnapError('GUEST', `QEMU ${qemuVersion} on ${path} has not the command ${missing.join(', ')}`, {
    path,
    hint: 'every QEMU from 4.0 on has it: does a program between vmsnap and QEMU keep it back?',
  });
}
