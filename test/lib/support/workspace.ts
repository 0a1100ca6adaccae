/** A folder for one test: removed when it ends, and asked for what was left behind in it. */
import { existsSync, mkdtempSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

const MEMORY_FOLDER = '/dev/shm';
const MEMORY_FOLDER_MIN_BYTES = 2 ** 30;

export class Workspace {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Hidden names: temporary files and markers of unfinished work. */
  leftovers(): string[] {
    return readdirSync(this.folder).filter((name) => name.startsWith('.'));
  }
}

/** In memory where there is room for it (sync costs nothing there), else where temporary files go. */
export function workspace(t: ExecutionContext): Workspace {
  return make(t, hasMemoryFolder() ? MEMORY_FOLDER : tmpdir());
}

/** Where temporary files go, on the disk of most machines. */
export function diskWorkspace(t: ExecutionContext): Workspace {
  return make(t, tmpdir());
}

function make(t: ExecutionContext, parent: string): Workspace {
  const folder = mkdtempSync(join(parent, 'vmsnap-lib-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return new Workspace(folder);
}

function hasMemoryFolder(): boolean {
  if (!existsSync(MEMORY_FOLDER)) return false;
  const { bavail, bsize } = statfsSync(MEMORY_FOLDER);
  return bavail * bsize >= MEMORY_FOLDER_MIN_BYTES;
}
