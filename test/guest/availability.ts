import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The programs and files of this machine that a guest is booted with. */
export interface GuestTools {
  qemu: string;
  kernel: string;
  busybox: string;
}

export type GuestAvailability =
  | { available: true; reason: string; tools: GuestTools }
  | { available: false; reason: string; tools?: undefined };

/** Says whether a guest can be booted here, and if not which Debian packages are missing. */
export function guestAvailability(): GuestAvailability {
  if (process.arch !== 'x64')
    return { available: false, reason: `the guest is x86-64, this machine is ${process.arch}` };
  const qemu = findProgram('qemu-system-x86_64');
  const busybox = findProgram('busybox');
  const kernels = installedKernels();
  const kernel = kernels.find(isReadable);
  const missing: string[] = [];
  if (qemu === undefined) missing.push('qemu-system-x86_64 (Debian package qemu-system-x86)');
  if (busybox === undefined) missing.push('busybox (Debian package busybox-static)');
  if (kernels.length === 0) missing.push('a kernel in /boot (Debian package linux-image-cloud-amd64)');
  else if (kernel === undefined) missing.push(`the right to read ${kernels[0]}`);
  if (qemu === undefined || busybox === undefined || kernel === undefined) {
    return { available: false, reason: `missing: ${missing.join(', ')}` };
  }
  return { available: true, reason: `${qemu} with ${kernel}`, tools: { qemu, kernel, busybox } };
}

/** The same, but an error where the environment demands a guest. */
export function guestAvailabilityOrDemand(): GuestAvailability {
  const availability = guestAvailability();
  if (!availability.available && process.env.VMSNAP_REQUIRE_GUEST === '1') {
    throw new Error(`VMSNAP_REQUIRE_GUEST=1, but no guest can be booted here: ${availability.reason}`);
  }
  return availability;
}

/** What a guest with an agent and a disk needs beside what every guest needs. */
export type AgentAvailability =
  | { available: true; reason: string; agent: string }
  | { available: false; reason: string; agent?: undefined };

/** An error where the environment demands a guest. */
export function agentAvailabilityOrDemand(): AgentAvailability {
  const guest = guestAvailabilityOrDemand();
  if (!guest.available) return { available: false, reason: guest.reason };
  const agent = findProgram('qemu-ga');
  const missing: string[] = [];
  if (agent === undefined) missing.push('qemu-ga (Debian package qemu-guest-agent)');
  const tools = ['mkfs.ext4', 'e2fsck', 'dumpe2fs', 'debugfs'].filter((name) => findProgram(name) === undefined);
  if (tools.length > 0) missing.push(`${tools.join(', ')} (Debian package e2fsprogs)`);
  if (agent !== undefined && missing.length === 0) return { available: true, reason: agent, agent };
  const reason = `missing: ${missing.join(', ')}`;
  if (process.env.VMSNAP_REQUIRE_GUEST === '1')
    throw new Error(`VMSNAP_REQUIRE_GUEST=1, but no guest with an agent can be booted here: ${reason}`);
  return { available: false, reason };
}

/** QEMU 10, which stands beside the installed one: test/guest/qemu10.sh unpacks it, and VMSNAP_QEMU10 names it. */
export interface Qemu10 {
  readonly program: string | undefined;
  /** Why there is none, or undefined. */
  readonly missing: string | undefined;
}

/** An error where the environment demands it (VMSNAP_REQUIRE_QEMU10=1). */
export function qemu10OrDemand(): Qemu10 {
  const program = process.env.VMSNAP_QEMU10;
  if (program !== undefined) return { program, missing: undefined };
  if (process.env.VMSNAP_REQUIRE_QEMU10 === '1')
    throw new Error('VMSNAP_REQUIRE_QEMU10=1, but VMSNAP_QEMU10 names no qemu-system-x86_64');
  return { program, missing: 'VMSNAP_QEMU10 names no QEMU 10; see test/guest/qemu10.sh' };
}

/** Finds a program in PATH and in the folders that an ordinary user's PATH may lack. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/sbin', '/bin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

/** Kernels of this machine, those for clouds first: they are the smallest and boot the fastest. */
function installedKernels(): string[] {
  let names: string[];
  try {
    names = readdirSync('/boot').filter((name) => name.startsWith('vmlinuz-'));
  } catch {
    return [];
  }
  const cloudFirst = (name: string): number => (name.includes('-cloud-') ? 0 : 1);
  names.sort((a, b) => cloudFirst(a) - cloudFirst(b) || b.localeCompare(a, 'en', { numeric: true }));
  return names.map((name) => join('/boot', name));
}

function isReadable(path: string): boolean {
  return hasAccess(path, constants.R_OK);
}

function isExecutable(path: string): boolean {
  return hasAccess(path, constants.X_OK);
}

function hasAccess(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
