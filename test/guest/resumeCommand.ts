import { readFileSync } from 'node:fs';
import type { Guest } from './guest.js';

/** The command line of the guest's QEMU for `vmsnap resume`: with `{mem:ram}` for its memory file, and without its QMP sockets. */
export function resumeCommand(guest: Guest): string[] {
  const words = readFileSync(`/proc/${guest.processId}/cmdline`, 'utf8').split('\0').slice(0, -1);
  const args = words.map((arg) => arg.replace(guest.memoryFile, '{mem:ram}'));
  return args.filter((arg, i) => arg !== '-qmp' && args[i - 1] !== '-qmp');
}
