import { rmSync, statSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { pipeThroughVmsnap, runVmsnap } from './cli.js';
import { firstDifference } from './compare.js';
import { bootGuest, type Guest, guestAvailabilityOrDemand } from './guest.js';

const MEMORY_MIB = 256;

const test = anyTest as TestFn<undefined>;
const availability = guestAvailabilityOrDemand();
if (!availability.available) console.log(`The tests with a real guest are skipped: ${availability.reason}`);
// One guest serves all tests here, one after the other; without a guest each is listed as skipped.
const guestTest = availability.available ? test.serial : test.serial.skip;

let guest: Guest;
let folder: string;

if (availability.available) {
  test.before(async (t) => {
    t.timeout(240_000);
    folder = await mkdtemp(join(tmpdir(), 'vmsnap-guest-test-'));
    guest = await bootGuest({ memoryMiB: MEMORY_MIB });
    t.log(`QEMU ${guest.qemuVersion} with ${guest.accelerator}, ready after ${guest.bootSeconds.toFixed(1)} s`);
    await guest.stop();
  });

  test.after.always(async () => {
    await guest?.close();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });
}

guestTest('a paused guest does not count on', async (t) => {
  const before = guest.count;
  await sleep(600);
  t.is(guest.count, before);
  t.is(statSync(guest.memoryFile).size, MEMORY_MIB * 2 ** 20);
});

for (const codec of ['zstd', 'zlib', 'none']) {
  guestTest(`the memory of a paused guest comes back bit for bit with ${codec}`, async (t) => {
    const image = join(folder, `${codec}.vmsnap`);
    const target = join(folder, `${codec}.restored`);
    const saved = await runVmsnap('save', guest.memoryFile, image, '--codec', codec, '--frozen', '--quiet');
    await runVmsnap('verify', image, '--quiet');
    const loaded = await runVmsnap('load', image, target, '--quiet');
    const times = `saved in ${saved.durationSeconds.toFixed(2)} s, loaded in ${loaded.durationSeconds.toFixed(2)} s`;
    t.log(`${MEMORY_MIB} MiB became ${(statSync(image).size / 2 ** 20).toFixed(1)} MiB, ${times}`);
    await isRestored(t, target);
    rmSync(target);
  });
}

guestTest('the memory of a paused guest comes back bit for bit through a pipe', async (t) => {
  const target = join(folder, 'piped.restored');
  await pipeThroughVmsnap(guest.memoryFile, target);
  await isRestored(t, target);
});

guestTest('the guest lives on after it was saved', async (t) => {
  const before = guest.count;
  await guest.resume();
  await guest.waitForCountBeyond(before + 2);
  t.true(guest.count > before + 2);
});

async function isRestored(t: ExecutionContext, target: string): Promise<void> {
  t.is(await firstDifference(guest.memoryFile, target), undefined, 'the offset of the first difference');
}
