/** Three nightly images of one machine: a full one, one that needs it, and a full one. Made once, then copied. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { save } from '../../../lib/index.js';
import { makeMemory } from './memory.js';

/** 2025-03-02T02:00:00Z, a Sunday. */
const FIRST_NIGHT_SECONDS = 1_740_880_800;
const DAY_SECONDS = 86_400;
const NIGHTS = [1, 2, 3];

let made: Promise<readonly Buffer[]> | undefined;

/** Writes `1.vmsnap`, `2.vmsnap` and `3.vmsnap` into a folder. */
export async function writeNights(folder: string): Promise<void> {
  made ??= makeNights();
  for (const [i, image] of (await made).entries()) writeFileSync(join(folder, `${i + 1}.vmsnap`), image);
}

async function makeNights(): Promise<readonly Buffer[]> {
  const folder = mkdtempSync(join(tmpdir(), 'vmsnap-cli-test-'));
  const path = (night: number): string => join(folder, `${night}.vmsnap`);
  try {
    writeFileSync(join(folder, 'mem'), makeMemory(256));
    for (const night of NIGHTS) {
      process.env.SOURCE_DATE_EPOCH = String(FIRST_NIGHT_SECONDS + (night - 1) * DAY_SECONDS);
      const base = night === 2 ? { base: path(1) } : {};
      await save(join(folder, 'mem'), path(night), { frozen: true, threads: 1, name: 'web1', ...base });
    }
    return NIGHTS.map((night) => readFileSync(path(night)));
  } finally {
    delete process.env.SOURCE_DATE_EPOCH;
    rmSync(folder, { recursive: true });
  }
}
