/** Folders of small images, dated as a test wants them. */
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type SaveOptions, type SaveResult, save } from '../../../lib/index.js';
import { MIB, mixedMemory } from './memory.js';
import type { Workspace } from './workspace.js';

export const DAY_SECONDS = 86_400;
/** 2026-03-01T02:00:00Z, a Sunday. */
export const FIRST_NIGHT_MS = Date.UTC(2026, 2, 1, 2);

/** Saves 1 MiB of memory as `NAME`, made so many days after the first night. `base`: a name in the same folder. */
export async function saveNight(
  store: Workspace,
  name: string,
  day: number,
  options: SaveOptions & { readonly seed?: number } = {},
): Promise<SaveResult> {
  const { base, seed = 1, ...rest } = options;
  // Hidden, so that it is no file of the store.
  const source = store.path('.memory');
  const memory = mixedMemory(MIB, seed);
  memory.writeDoubleLE(day, 4096 * 8);
  writeFileSync(source, memory);
  const own = { frozen: true, threads: 1, name: 'web1', ...rest };
  process.env.SOURCE_DATE_EPOCH = String(FIRST_NIGHT_MS / 1000 + day * DAY_SECONDS);
  try {
    return await save(source, store.path(name), { ...own, ...(base === undefined ? {} : { base: store.path(base) }) });
  } finally {
    delete process.env.SOURCE_DATE_EPOCH;
  }
}

/** The names of paths. */
export function names(paths: readonly string[]): string[] {
  return paths.map((path) => basename(path));
}
