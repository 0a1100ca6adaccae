/**
 * Migration streams and mapped-ram files of a real guest, as QEMU 7.2 and QEMU 10 write them, against the guest's memory file.
 *
 * QEMU 10 is named by VMSNAP_QEMU10 (test/guest/qemu10.sh unpacks it into a folder and prints its path).
 */
import { closeSync, fstatSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { QEMU_HEAD, QEMU_TAIL } from '../../formats/qemu/openStream.js';
import { extract, inspect, inspectMemoryFile, load, loadMachine, save } from '../../lib/index.js';
import { forgeSave } from '../support/libvirtSave.js';
import { openQemuStream } from '../support/qemuStream.js';
import { qemu10OrDemand } from './availability.js';
import { saveThroughPipe } from './cli.js';
import { firstDifference } from './compare.js';
import { bootGuest, type Guest, guestAvailabilityOrDemand } from './guest.js';

const MEMORY_MIB = 128;
const INCOMING_SECONDS = 40;
/** Slow enough that a live migration has to send pages again. */
const LIVE_BYTES_PER_SECOND = 40e6;

const test = anyTest as TestFn<undefined>;
const availability = guestAvailabilityOrDemand();
const { program: qemu10, missing: noQemu10 } = qemu10OrDemand();

let folder: string;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmsnap-qemu-stream-'));
});

test.after.always(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Version {
  readonly name: string;
  readonly program: string | undefined;
  readonly missing: string | undefined;
  readonly hasMappedRam: boolean;
}

const noGuest = availability.available ? undefined : availability.reason;
const versions: readonly Version[] = [
  { name: 'the installed QEMU', program: undefined, missing: noGuest, hasMappedRam: false },
  { name: 'QEMU 10', program: qemu10, missing: noGuest ?? noQemu10, hasMappedRam: true },
];

for (const version of versions) {
  let guest: Guest;
  const title = (what: string) => `${version.name}: ${what}`;
  const guestTest = (what: string, implementation: (t: ExecutionContext) => Promise<void>) => {
    if (version.missing === undefined) test.serial(title(what), implementation);
    else test.serial.skip(`${title(what)} (SKIPPED: ${version.missing})`, implementation);
  };
  const path = (name: string) => join(folder, `${version.hasMappedRam ? '10' : '7'}-${name}`);

  if (version.missing === undefined) {
    test.before(async (t) => {
      t.timeout(240_000);
      guest = await bootGuest({ memoryMiB: MEMORY_MIB, qemu: version.program });
      t.log(`QEMU ${guest.qemuVersion} with ${guest.accelerator}, ready after ${guest.bootSeconds.toFixed(1)} s`);
    });
    test.after.always(async () => await guest?.close());
  }

  guestTest('a live migration stream, with pages sent again, is what the guest had at its end', async (t) => {
    const stream = path('live');
    await guest.qmp.execute('migrate-set-parameters', { 'max-bandwidth': LIVE_BYTES_PER_SECOND });
    await guest.migrate(`exec:cat > ${stream}`);
    const facts = factsOf(stream);
    t.true((facts.get('pagesRepeated') as number) > 0);
    t.is(facts.get('machineType'), `pc-q35-${guest.qemuVersion.replace(/\.\d+$/, '')}`);
    await isMemory(t, stream, guest);
    await guest.resume();
    await guest.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 40 });
  });

  guestTest('the stream of a paused guest, from a file and from a pipe, and made again it runs on', async (t) => {
    const stream = path('paused');
    await guest.stop();
    const count = guest.count;
    await guest.migrate(`exec:cat > ${stream}`);
    const image = await isMemory(t, stream, guest);
    const piped = path('piped.vmsnap');
    await saveThroughPipe(stream, piped);
    await isImageOf(t, piped, guest);
    t.deepEqual(await attachment(piped, QEMU_HEAD), await attachment(image, QEMU_HEAD));
    t.deepEqual(await attachment(piped, QEMU_TAIL), await attachment(image, QEMU_TAIL));
    const rebuilt = path('rebuilt');
    await rebuild(piped, rebuilt);
    const again = await bootGuest({
      memoryMiB: MEMORY_MIB,
      qemu: version.program,
      incoming: `exec:cat ${rebuilt}`,
      bootLimitSeconds: INCOMING_SECONDS,
    });
    try {
      await again.waitForCountBeyond(count);
      t.pass();
    } finally {
      await again.close();
    }
    await guest.resume();
  });

  if (!version.hasMappedRam) continue;
  guestTest("libvirt's sparse image: QEMU writes mapped-ram behind libvirt's header", async (t) => {
    const file = path('sparse');
    const header = forgeSave(Buffer.alloc(0), { format: 6, stream: Buffer.alloc(0) });
    await guest.stop();
    await setCapabilities(guest, { 'mapped-ram': true, multifd: true });
    await guest.migrate(`file:${file},offset=${header.length}`);
    const fd = openSync(file, 'r+');
    writeSync(fd, header, 0, header.length, 0);
    closeSync(fd);
    const image = await isMemory(t, file, guest);
    const { source, machine } = await inspect(image);
    t.deepEqual([source.kind, machine.name], ['libvirt-save', 'web&1']);
    t.is((await inspectMemoryFile(file))!.facts.find(({ key }) => key === 'compression')!.value, 'sparse');
    rmSync(file);
    await guest.resume();
  });

  for (const multifd of [false, true]) {
    guestTest(`a mapped-ram file ${multifd ? 'with' : 'without'} multifd`, async (t) => {
      const file = path(`mapped-${multifd}`);
      await guest.stop();
      await setCapabilities(guest, { 'mapped-ram': true, multifd });
      await guest.migrate(`file:${file}`);
      const image = await isMemory(t, file, guest);
      t.is((await inspect(image)).source.kind, 'qemu-mapped-ram');
      await guest.resume();
      if (multifd) return;
      // Ordinary, made of a mapped-ram file.
      const rebuilt = path('rebuilt-mapped');
      await rebuild(image, rebuilt);
      const incoming = `exec:cat ${rebuilt}`;
      const again = await bootGuest({
        memoryMiB: MEMORY_MIB,
        qemu: version.program,
        incoming,
        bootLimitSeconds: INCOMING_SECONDS,
      });
      await again.close();
      t.pass();
    });
  }
}

async function setCapabilities(guest: Guest, states: Record<string, boolean>): Promise<void> {
  const capabilities = Object.entries(states).map(([capability, state]) => ({ capability, state }));
  await guest.qmp.execute('migrate-set-capabilities', { capabilities });
}

/** Saves a file and compares the main memory. @returns the image. */
async function isMemory(t: ExecutionContext, source: string, guest: Guest): Promise<string> {
  const image = `${source}.vmsnap`;
  await save(source, image, { frozen: true });
  await isImageOf(t, image, guest);
  return image;
}

async function isImageOf(t: ExecutionContext, image: string, guest: Guest): Promise<void> {
  const target = `${image}.memory`;
  await load(image, target, { region: 'ram', force: true });
  t.is(await firstDifference(guest.memoryFile, target), undefined);
  rmSync(target);
}

async function attachment(image: string, name: string): Promise<Buffer> {
  const target = `${image}.${name}`;
  await extract(image, name, target, { force: true });
  return readFileSync(target);
}

/** Facts that the reader tells of a file, by key. */
function factsOf(path: string): ReadonlyMap<string, unknown> {
  const fd = openSync(path, 'r');
  try {
    const file = openQemuStream({ fd, path, sizeBytes: fstatSync(fd).size });
    file.close();
    return new Map(file.facts.map(({ key, value }) => [key, value]));
  } finally {
    closeSync(fd);
  }
}

/** Makes a stream out of an image that was made from one. */
async function rebuild(image: string, target: string): Promise<void> {
  const folder = `${target}.machine`;
  const { stateFile } = await loadMachine(image, folder);
  renameSync(stateFile, target);
  rmSync(folder, { recursive: true });
}
