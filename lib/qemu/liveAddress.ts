/** Machines that run, as SOURCE names them: `qemu:SOCKET` (a QMP socket) and `libvirt:DOMAIN`. */
import { VmsnapError } from '../../native/errors.js';
import { shellQuoted } from '../shellQuoted.js';
import type { QmpPeer } from './qmpPeer.js';
import { QmpSocket } from './qmpSocket.js';
import { VirshPeer } from './virshPeer.js';

export type LiveAddress =
  | { readonly kind: 'qemu'; readonly socket: string }
  | { readonly kind: 'libvirt'; readonly domain: string };

/** Undefined: it names a file. @throws USAGE for a name that cannot be. */
export function liveAddress(source: string | undefined): LiveAddress | undefined {
  const [, kind, name] = /^(qemu|libvirt):(.*)$/s.exec(source ?? '') ?? [];
  if (kind === undefined) return undefined;
  const isName = name !== '' && !/\p{Cc}/u.test(name!);
  if (kind === 'qemu' && isName) return { kind, socket: name! };
  // virsh would take a leading dash for an option.
  if (kind === 'libvirt' && isName && !name!.startsWith('-')) return { kind, domain: name! };
  const hint = kind === 'qemu' ? "qemu:SOCKET, with the socket of QEMU's -qmp option" : 'libvirt:DOMAIN';
  throw new VmsnapError('USAGE', `${JSON.stringify(source)} names no machine`, { hint });
}

/** `limitSeconds`: for the first answer. */
export function openPeer(address: LiveAddress, limitSeconds: number, signal?: AbortSignal): Promise<QmpPeer> {
  return address.kind === 'qemu'
    ? QmpSocket.open(address.socket, signal, limitSeconds)
    : VirshPeer.open(address.domain, signal, limitSeconds);
}

/** What somebody types to make the machine go on. */
export function resumeCommand(address: LiveAddress): string {
  if (address.kind === 'libvirt')
    return `virsh qemu-monitor-command ${shellQuoted(address.domain)} '{"execute":"cont"}'`;
  const words = `'{"execute":"qmp_capabilities"}' '{"execute":"cont"}'`;
  return `(printf '%s\\n' ${words}; sleep 1) | socat - UNIX-CONNECT:${shellQuoted(address.socket)}`;
}
