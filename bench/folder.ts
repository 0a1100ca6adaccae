import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where benchmarks keep their files if nothing else is said: memory, if it can be had. */
export const DEFAULT_PARENT = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A folder of its own below `parent`, which goes with the process, also when it is stopped. */
export function makeBenchFolder(parent: string): string {
  const folder = mkdtempSync(join(parent, 'vmsnap-bench-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));
  return folder;
}
