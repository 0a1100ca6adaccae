import { constants, copyFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { pipeThroughVmsnap, runVmsnap } from './cli.js';
import { firstDifference } from './compare.js';
import { bootGuest, type Guest, guestAvailabilityOrDemand } from './guest.js';

const MEMORY_MIB = 256;
/** Images of one guest, each saved against the one before. */
const CHAIN_IMAGES = 5;

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

guestTest(
  'a guest saved again and again while it works: every image of the chain comes back bit for bit',
  async (t) => {
    t.timeout(240_000);
    const image = (i: number) => join(folder, `chain-${i}.vmsnap`);
    const reference = (i: number) => join(folder, `chain-${i}.reference`);
    for (let i = 0; i < CHAIN_IMAGES; i++) {
      await guest.stop();
      copyFileSync(guest.memoryFile, reference(i), constants.COPYFILE_EXCL);
      const against = i === 0 ? [] : ['--base', image(i - 1)];
      await runVmsnap('save', guest.memoryFile, image(i), ...against, '--frozen', '--quiet');
      const before = guest.count;
      await guest.resume();
      await guest.waitForCountBeyond(before + 2);
    }
    const sizes = Array.from({ length: CHAIN_IMAGES }, (_, i) => statSync(image(i)).size);
    t.log(`KiB: ${sizes.map((bytes) => Math.round(bytes / 1024)).join(', ')}`);
    // Between two saves the guest does little.
    t.true(sizes.slice(1).every((bytes) => bytes < sizes[0]! / 2));
    await runVmsnap('verify', image(CHAIN_IMAGES - 1), '--quiet');
    for (let i = 0; i < CHAIN_IMAGES; i++) await comesBack(t, image(i), reference(i));
    // Without one of them, those before it come back all the same, and a flattened one needs none.
    const flat = join(folder, 'chain.flat');
    await runVmsnap('flatten', image(CHAIN_IMAGES - 1), flat, '--quiet');
    renameSync(image(2), join(folder, 'lost'));
    await comesBack(t, image(1), reference(1));
    await comesBack(t, flat, reference(CHAIN_IMAGES - 1));
    await t.throwsAsync(runVmsnap('load', image(CHAIN_IMAGES - 1), join(folder, 'chain.restored'), '--quiet'), {
      message: /needs its base chain-2\.vmsnap/,
    });
  },
);

async function comesBack(t: ExecutionContext, image: string, reference: string): Promise<void> {
  const target = join(folder, 'chain.restored');
  await runVmsnap('load', image, target, '--quiet');
  t.is(await firstDifference(reference, target), undefined, `${image}: the offset of the first difference`);
  rmSync(target);
}

async function isRestored(t: ExecutionContext, target: string): Promise<void> {
  t.is(await firstDifference(guest.memoryFile, target), undefined, 'the offset of the first difference');
}
