/** How many threads this process may use: processor affinity, and the CPU quota of its control group. */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

const CGROUP_ROOT = '/sys/fs/cgroup';

export function defaultThreads(): number {
  const quota = cgroupQuota();
  return Math.max(
    1,
    Math.min(availableParallelism(), quota === undefined ? Number.POSITIVE_INFINITY : Math.ceil(quota)),
  );
}

/** Processors' worth of time that the control group and those above it allow (cgroup v2 cpu.max, v1 cfs quota). */
function cgroupQuota(): number | undefined {
  const membership = readText('/proc/self/cgroup') ?? '';
  const unified = /^0::(.*)$/m.exec(membership)?.[1];
  const legacy = /^\d+:[^:]*\bcpu\b[^:]*:(.*)$/m.exec(membership)?.[1];
  const quotas = [
    ...foldersUp(unified).map((folder) => parseCpuMax(readText(join(CGROUP_ROOT, folder, 'cpu.max')))),
    ...foldersUp(legacy).map((folder) => legacyQuota(join(CGROUP_ROOT, 'cpu', folder))),
  ].filter((quota) => quota !== undefined);
  return quotas.length === 0 ? undefined : Math.min(...quotas);
}

function foldersUp(path: string | undefined): string[] {
  if (path === undefined) return [];
  const folders: string[] = [];
  for (let folder = path; ; folder = dirname(folder)) {
    folders.push(folder);
    if (folder === '/' || folder === '.') return folders;
  }
}

/** "QUOTA PERIOD" in microseconds, or "max PERIOD". */
export function parseCpuMax(text: string | undefined): number | undefined {
  const [quota, period] = (text ?? '').trim().split(/\s+/).map(Number);
  if (quota === undefined || period === undefined || !(quota > 0) || !(period > 0)) return undefined;
  return quota / period;
}

function legacyQuota(folder: string): number | undefined {
  const quota = Number(readText(join(folder, 'cpu.cfs_quota_us')) ?? -1);
  const period = Number(readText(join(folder, 'cpu.cfs_period_us')) ?? 0);
  return quota > 0 && period > 0 ? quota / period : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
