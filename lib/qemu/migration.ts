/**
 * A migration of a stopped machine to us: QEMU connects to a unix socket in a folder of ours, which nobody else may look into, and sends
 * device state and memory. What the caller has set for migrations of its own is put back afterwards.
 */
import { chmodSync, chownSync, closeSync, mkdtempSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError, wrapSystemError } from '../../native/errors.js';
import { removeTree } from '../files/remove.js';
import { runAlone } from '../foreign/runAlone.js';
import { fieldOf, listOf, textOf } from './answers.js';
import type { GuardOrder } from './guard.js';
import type { LiveAddress } from './liveAddress.js';
import type { QmpPeer } from './qmpPeer.js';

type Commands = GuardOrder['restore'];

export const IGNORE_SHARED = 'x-ignore-shared';
/** They change nothing of the stream. All others that are on change its form, or stop it halfway. */
const HARMLESS = new Set(['events', 'late-block-activate', 'validate-uuid']);
/** 1 TiB a second: nothing to wait for. */
const BANDWIDTH_BYTES = 2 ** 40;
/** A second: nothing comes to its end meanwhile. (0 would be no limit to QEMU from 8.1 on.) */
const CRAWL_BYTES = 4096;
/** Of libvirt's system daemon, which runs QEMU as another user. */
const LIBVIRT_FOLDER = '/run/libvirt/qemu';
const POLL_MS = [5, 10, 20, 40];

/** What is to be set for the stream, and what puts it back as it was. */
export interface MigrationSettings {
  readonly set: Commands;
  readonly restore: Commands;
}

/**
 * `pace`: `crawl` is for a migration of which only the beginning is wanted, and that must never come to stop the machine.
 * @throws GUEST where QEMU has not what is needed.
 */
export async function planSettings(
  peer: QmpPeer,
  ignoreShared: boolean,
  pace: 'full' | 'crawl' = 'full',
): Promise<MigrationSettings> {
  const states = new Map<string, boolean>();
  for (const entry of listOf(await peer.execute('query-migrate-capabilities'))) {
    const capability = textOf(entry, 'capability');
    if (capability !== undefined) states.set(capability, fieldOf(entry, 'state') === true);
  }
  if (ignoreShared && !states.has(IGNORE_SHARED)) throw cannotLeaveOut(peer);
  const changed = [...states].filter(([name, state]) =>
    name === IGNORE_SHARED ? state !== ignoreShared : state && !HARMLESS.has(name),
  );
  const parameters = await peer.execute('query-migrate-parameters');
  const before: Record<string, unknown> = {};
  const wanted: Record<string, unknown> = {};
  const want = (name: string, value: unknown, found = fieldOf(parameters, name)) => {
    if (found === undefined || found === value) return;
    before[name] = found;
    wanted[name] = value;
  };
  want('max-bandwidth', pace === 'full' ? BANDWIDTH_BYTES : CRAWL_BYTES);
  // The machine is not stopped before nothing at all is left to send.
  if (pace === 'crawl') want('downtime-limit', 0);
  // To a socket of this machine, in a private folder.
  want('tls-creds', '');
  const capabilities = (isSet: (was: boolean) => boolean): Commands =>
    changed.length === 0
      ? []
      : [
          {
            command: 'migrate-set-capabilities',
            args: { capabilities: changed.map(([capability, was]) => ({ capability, state: isSet(was) })) },
          },
        ];
  const values = (args: Record<string, unknown>): Commands =>
    Object.keys(args).length === 0 ? [] : [{ command: 'migrate-set-parameters', args }];
  return {
    set: [...capabilities((was) => !was), ...values(wanted)],
    restore: [...capabilities((was) => was), ...values(before)],
  };
}

function cannotLeaveOut({ path, qemuVersion }: QmpPeer): VmsnapError {
  return new VmsnapError('GUEST', `QEMU ${qemuVersion} on ${path} has no ${IGNORE_SHARED}`, {
    path,
    hint: 'QEMU 4.0 to 10.0 have it; without it, a machine with private memory (plain -m) can be saved, or the memory file alone',
  });
}

/** A connection of QEMU. */
export interface Connection {
  readonly fd: number;
  /** Of QEMU; undefined where the system does not tell. */
  readonly processId: number | undefined;
}

/** The socket that QEMU is to connect to. */
export class StreamSocket {
  readonly path: string;
  readonly folder: string;
  #fd: number;

  private constructor(folder: string, path: string, fd: number) {
    this.folder = folder;
    this.path = path;
    this.#fd = fd;
  }

  /** `user`: who then owns the socket, where that is another. Never the folder: what is removed there must not be his to exchange. */
  static open(user: User | undefined): StreamSocket {
    let folder: string;
    try {
      folder = mkdtempSync(join(tmpdir(), 'vmsnap-'));
    } catch (error) {
      throw wrapSystemError(error, 'make a folder in', tmpdir());
    }
    const path = join(folder, 'stream');
    try {
      chmodSync(folder, 0o700);
      const fd = native.listenUnix(path);
      if (fd < 0) throw errnoError(fd, 'make the socket', path);
      if (user !== undefined && user.uid !== process.geteuid!()) {
        chownSync(path, user.uid, user.gid);
        chmodSync(folder, 0o711);
      }
      return new StreamSocket(folder, path, fd);
    } catch (error) {
      removeTree(folder);
      throw wrapSystemError(error, 'prepare', folder);
    }
  }

  async accept(signal: AbortSignal): Promise<Connection> {
    const path = this.path;
    const listening = this.#fd;
    const fd = await runAlone<number>(signal, (control) => ({ kind: 'accept', control, fd: listening, path }));
    const processId = native.peerProcess(fd);
    return { fd, processId: processId > 0 ? processId : undefined };
  }

  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
    removeTree(this.folder);
  }
}

interface User {
  readonly uid: number;
  readonly gid: number;
}

/** Whose QEMU is, as far as root can tell: a QMP socket belongs to who made it. `domain`: the name that libvirt has for it. */
export function userOfQemu(address: LiveAddress, domain: string | undefined): User | undefined {
  if (process.getuid?.() !== 0) return undefined;
  return address.kind === 'qemu' ? ownerOf(address.socket) : userOfDomain(domain);
}

function ownerOf(path: string): User | undefined {
  const { uid, gid } = statSync(path, { throwIfNoEntry: false }) ?? {};
  return uid === undefined ? undefined : { uid, gid: gid! };
}

function userOfDomain(domain: string | undefined): User | undefined {
  if (domain === undefined || domain.includes('/')) return undefined;
  try {
    const processId = readFileSync(join(LIBVIRT_FOLDER, `${domain}.pid`), 'latin1').trim();
    const status = readFileSync(`/proc/${Number(processId)}/status`, 'latin1');
    const of = (key: string) => Number(new RegExp(`^${key}:\\s+\\d+\\s+(\\d+)`, 'm').exec(status)?.[1]);
    return { uid: of('Uid'), gid: of('Gid') };
  } catch {
    return undefined;
  }
}

/**
 * Waits until a migration is over. `isDone`, where given, ends the wait sooner; `limitSeconds`: for each answer.
 * @throws GUEST with QEMU's words if it failed.
 */
export async function waitForMigration(
  peer: QmpPeer,
  signal: AbortSignal,
  isDone = () => false,
  limitSeconds?: number,
): Promise<void> {
  for (let i = 0; !isDone(); i++) {
    signal.throwIfAborted();
    const answer = await peer.execute('query-migrate', undefined, limitSeconds);
    const status = textOf(answer, 'status');
    if (status === 'completed') return;
    if (status === 'failed' || status === 'cancelled')
      throw migrationFailed(peer, status, textOf(answer, 'error-desc'));
    await sleep(POLL_MS[Math.min(i, POLL_MS.length - 1)]);
  }
}

export function migrationFailed({ path }: QmpPeer, status: string, words: string | undefined): VmsnapError {
  const why = words === undefined ? '' : `: ${words}`;
  const isForbidden = /permission denied|no such file/i.test(words ?? '');
  return new VmsnapError('GUEST', `the migration of the machine on ${path} ${status}${why}`, {
    path,
    hint: isForbidden
      ? 'QEMU must reach a socket in the folder of TMPDIR: set TMPDIR to one that its user and its profile allow (docs/qemu.md)'
      : undefined,
  });
}
