/** Who has a file open or mapped for writing, from /proc: for the message only, a permission missing is no error. */
import { readdirSync, readFileSync, readlinkSync, type Stats, statSync } from 'node:fs';

const O_ACCMODE = 3;

/** Process ids, sorted; those of other users' processes cannot be seen without privilege. */
export function findWriters(file: Stats): number[] {
  const pids: number[] = [];
  for (const name of safely(() => readdirSync('/proc')) ?? []) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    if (isWriter(pid, file)) pids.push(pid);
  }
  return pids.sort((a, b) => a - b);
}

/** False too where the process cannot be looked at. */
export function isWriter(pid: number, file: Stats): boolean {
  return hasOpenForWriting(pid, file) || hasMappedForWriting(pid, file);
}

function hasOpenForWriting(pid: number, file: Stats): boolean {
  for (const fd of safely(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
    const target = safely(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
    if (target === undefined || !target.startsWith('/')) continue;
    const stats = safely(() => statSync(`/proc/${pid}/fd/${fd}`));
    if (stats === undefined || stats.ino !== file.ino || stats.dev !== file.dev) continue;
    const flags = /^flags:\s*([0-7]+)/m.exec(
      safely(() => readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1')) ?? '',
    )?.[1];
    if (flags !== undefined && (Number.parseInt(flags, 8) & O_ACCMODE) !== 0) return true;
  }
  return false;
}

/** A line of maps: `start-end rw-s offset major:minor inode path`. */
function hasMappedForWriting(pid: number, file: Stats): boolean {
  const maps = safely(() => readFileSync(`/proc/${pid}/maps`, 'latin1')) ?? '';
  for (const line of maps.split('\n')) {
    const [, permissions, , , inode] = line.split(/\s+/, 5);
    if (permissions?.[1] === 'w' && permissions[3] === 's' && inode === String(file.ino) && sameDevice(line, file))
      return true;
  }
  return false;
}

function sameDevice(line: string, file: Stats): boolean {
  const [major, minor] = (line.split(/\s+/, 4)[3] ?? '').split(':').map((part) => Number.parseInt(part, 16));
  // The kernel's 64-bit dev_t as glibc packs it (sys/sysmacros.h).
  const fileMajor = Math.floor(file.dev / 256) & 0xfff;
  const fileMinor = (file.dev & 0xff) | (Math.floor(file.dev / 4096) & 0xfff00);
  return major === fileMajor && minor === fileMinor;
}

function safely<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
