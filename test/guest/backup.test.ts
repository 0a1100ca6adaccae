/**
 * A month of nights of a real guest on a simulated clock: it works between them, what is kept is what the policy says, and every
 * image that is kept comes back bit for bit.
 */
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import test from 'ava';
import { load, readBackupConfig, runBackup } from '../../lib/index.js';
import { chainLengthOf, keptNights, MONTH_POLICY } from '../lib/support/backupMonth.js';
import { DAY_MS, FIRST_NIGHT } from '../lib/support/backups.js';
import { bootGuest, guestAvailabilityOrDemand } from './guest.js';

const MEMORY_MIB = 128;
const NIGHTS = 31;

const availability = guestAvailabilityOrDemand();
// Without a guest it is listed as skipped; guest.test.ts says why.
const guestTest = availability.available ? test.serial : test.serial.skip;

guestTest('a month of a guest that works: what the policy says is kept, and all of it comes back', async (t) => {
  t.timeout(600_000);
  const folder = await mkdtemp(join(tmpdir(), 'vmsnap-guest-backup-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const guest = await bootGuest({ memoryMiB: MEMORY_MIB });
  t.teardown(() => guest.close());
  const store = join(folder, 'store');
  mkdirSync(store);
  const file = join(folder, 'backup.toml');
  const job = `source = "${guest.memoryFile}"\nfolder = "store"\nfrozen = true\nverify = false`;
  writeFileSync(file, `[jobs.guest]\n${job}\n${MONTH_POLICY}\n`);
  const config = await readBackupConfig(file);
  const images: string[] = [];
  const memories = new Map<string, string>();
  const rows: string[] = [];
  for (let night = 0; night < NIGHTS; night++) {
    await guest.stop();
    const { jobs, exitCode } = await runBackup(config, { now: () => FIRST_NIGHT + night * DAY_MS });
    const report = jobs[0]!;
    t.deepEqual([exitCode, report.chainLength], [0, chainLengthOf(night)], report.error?.message);
    const name = basename(report.image!);
    images.push(name);
    memories.set(name, await sha256(guest.memoryFile));
    const before = guest.count;
    await guest.resume();
    const kept = [...keptNights(night + 1)].map((i) => images[i]!).sort();
    t.deepEqual(imagesIn(store), kept, `after night ${night}`);
    rows.push(
      `${name}  ${report.kind!.padEnd(12)}  ${Math.round(report.saved!.imageBytes / 1024)} KiB, ${kept.length} kept`,
    );
    await guest.waitForCountBeyond(before);
  }
  t.log(rows.join('\n'));
  t.is(new Set(memories.values()).size, NIGHTS, 'it has worked between any two nights');
  for (const name of imagesIn(store)) {
    const target = join(folder, 'restored');
    await load(join(store, name), target, { force: true });
    t.is(await sha256(target), memories.get(name)!, name);
  }
});

function imagesIn(store: string): string[] {
  return readdirSync(store)
    .filter((name) => name.endsWith('.vmsnap'))
    .sort();
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}
