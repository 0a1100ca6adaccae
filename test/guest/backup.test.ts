/** Nights of a real guest on a simulated clock: it works between them, and every image that is kept comes back bit for bit. */
import { constants, copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import test from 'ava';
import { load, readBackupConfig, runBackup } from '../../lib/index.js';
import { firstDifference } from './compare.js';
import { bootGuest, guestAvailabilityOrDemand } from './guest.js';

const MEMORY_MIB = 128;
const NIGHTS = 5;
const FIRST_NIGHT = Date.UTC(2026, 0, 5, 2, 15);
const DAY_MS = 86_400_000;

const availability = guestAvailabilityOrDemand();
// Without a guest it is listed as skipped; guest.test.ts says why.
const guestTest = availability.available ? test.serial : test.serial.skip;

guestTest('nights of a guest that works: full, differential, pruned, and all that is kept comes back', async (t) => {
  t.timeout(300_000);
  const folder = await mkdtemp(join(tmpdir(), 'vmsnap-guest-backup-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const guest = await bootGuest({ memoryMiB: MEMORY_MIB });
  t.teardown(() => guest.close());
  const store = join(folder, 'store');
  mkdirSync(store);
  const file = join(folder, 'backup.toml');
  writeFileSync(
    file,
    `[jobs.guest]
source = "${guest.memoryFile}"
folder = "store"
frozen = true
full-every = 3
keep = { daily = 2, time-zone = "UTC" }
`,
  );
  const config = await readBackupConfig(file);
  const references = new Map<string, string>();
  const sizes: string[] = [];
  for (let night = 0; night < NIGHTS; night++) {
    await guest.stop();
    const reference = join(folder, `reference-${night}`);
    copyFileSync(guest.memoryFile, reference, constants.COPYFILE_EXCL);
    const { jobs, exitCode } = await runBackup(config, { now: () => FIRST_NIGHT + night * DAY_MS });
    const report = jobs[0]!;
    t.is(exitCode, 0, report.error?.message);
    t.is(report.kind, night % 3 === 0 ? 'full' : 'differential');
    references.set(basename(report.image!), reference);
    sizes.push(`${report.kind} ${Math.round(report.saved!.imageBytes / 1024)}`);
    const before = guest.count;
    await guest.resume();
    await guest.waitForCountBeyond(before + 2);
  }
  t.log(`KiB: ${sizes.join(', ')}`);
  const kept = readdirSync(store).filter((name) => name.endsWith('.vmsnap'));
  // The last two nights, which are one chain: the three before them are no longer needed.
  t.deepEqual(kept, [...references.keys()].slice(-2));
  for (const name of kept) {
    const target = join(folder, 'restored');
    await load(join(store, name), target, { force: true });
    t.is(
      await firstDifference(references.get(name)!, target),
      undefined,
      `${name}: the offset of the first difference`,
    );
  }
});
