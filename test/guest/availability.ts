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
