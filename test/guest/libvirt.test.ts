/**
 * A real guest under Debian's libvirt: saved by `libvirt:DOMAIN` while it counts, plain and live; and what `virsh save` and
 * `virsh dump --memory-only` write of it, against the guest's memory file.
 */
import { chmodSync, copyFileSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { extract, inspect, inspectMemoryFile, load, save, verify } from '../../lib/index.js';
import type { MachineOptions } from '../../lib/types.js';
import { failsWith } from '../lib/support/expect.js';
import { guestAvailabilityOrDemand } from './availability.js';
import { firstDifference } from './compare.js';
import { LIBVIRT_NAME, LIBVIRT_UUID, LibvirtGuest, libvirtMissing } from './libvirtGuest.js';

const test = anyTest as TestFn<undefined>;
const MEMORY_MIB = 128;
/** Of those that libvirt 9 has, one that it writes itself, and the quickest of the others. */
const FORMATS = ['raw', 'lzop'];
/** Of the first guest, before it is saved. */
const DUMPS = ['elf', 'kdump-zlib'] as const;

const availability = guestAvailabilityOrDemand();
const missing = availability.available ? libvirtMissing() : availability.reason;
if (missing !== undefined && process.env.VMSNAP_REQUIRE_GUEST === '1')
  throw new Error(`no libvirt guest here: ${missing}`);

let folder: string;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmsnap-libvirt-test-'));
  chmodSync(folder, 0o755);
});

test.after.always(() => rmSync(folder, { recursive: true, force: true }));

for (const format of FORMATS) {
  const what = `virsh save in ${format}: the guest's memory, name, uuid and XML`;
  if (missing === undefined) test.serial(what, (t) => savedByLibvirt(t, format));
  else test.serial.skip(`${what} (SKIPPED: ${missing})`, () => {});
}

const title = 'libvirt:DOMAIN, saved while it counts: it counts on, and libvirt has it running';
if (missing === undefined) test.serial(title, savedThroughLibvirt);
else test.serial.skip(`${title} (SKIPPED: ${missing})`, () => {});

async function savedThroughLibvirt(t: ExecutionContext): Promise<void> {
  t.timeout(240_000);
  const own = join(folder, 'domain');
  mkdirSync(own);
  const [image, back] = [join(own, 'image'), join(own, 'back')];
  const guest = await LibvirtGuest.boot(own, availability.tools!, MEMORY_MIB, 'raw');
  const saved = async (source: string, machine: MachineOptions) => {
    const result = await save(source, image, { force: true, machine });
    t.like(result.machine, {
      found: 'running',
      memory: 'files',
      left: machine.after === 'pause' ? 'paused' : 'running',
    });
    t.is(result.run.live !== undefined, machine.live === true);
    t.deepEqual(result.warnings, []);
    t.true((await verify(image)).intact);
    if (machine.after === 'pause') return result;
    t.is(await guest.state(), 'running');
    await guest.countsOn();
    return result;
  };
  // For the virsh that a save runs.
  process.env.LIBVIRT_DEFAULT_URI = guest.uri;
  const source = `libvirt:${LIBVIRT_NAME}`;
  const hide = guest.showProcess();
  try {
    await saved(source, { live: false });
    await saved(`libvirt:${LIBVIRT_UUID}`, { live: true });
    const { regions, run } = await saved(source, { live: true, after: 'pause' });
    t.true(run.live!.changedPages > 0);
    t.is(await guest.state(), 'paused');
    const main = regions.find(({ gpa }) => gpa === 0)!;
    await load(image, back, { region: main.name });
    t.is(await firstDifference(guest.memoryFile, back), undefined);
    const { machine } = await inspect(image);
    t.deepEqual([machine.name, machine.uuid], [LIBVIRT_NAME, LIBVIRT_UUID]);
    await guest.resume();
    await guest.countsOn();
    // In libvirt's words; nothing is stopped for it.
    const quiesced = save(source, image, { force: true, machine: { live: true, quiesce: true } });
    await failsWith(t, 'GUEST', quiesced, /virsh refused qemu-agent-command .*agent/);
    await failsWith(t, 'FAILED', save(source, image, { force: true, machine: { live: true, whilePaused: 'exit 3' } }));
    t.is(await guest.state(), 'running');
    await guest.countsOn();
  } finally {
    hide();
    delete process.env.LIBVIRT_DEFAULT_URI;
    await guest.close();
  }
}

async function dumpedByLibvirt(
  t: ExecutionContext,
  guest: LibvirtGuest,
  own: string,
  format: (typeof DUMPS)[number],
): Promise<void> {
  const [file, image, back] = ['dump', 'dump.vmsnap', 'dump.back'].map((name) => join(own, name)) as [
    string,
    string,
    string,
  ];
  await guest.dump(file, format);
  const { regions, source } = await save(file, image, { frozen: true });
  t.is(source.kind, format === 'elf' ? 'elf-core' : 'kdump');
  const main = regions.find(({ gpa }) => gpa === 0)!;
  t.is(main.sizeBytes, MEMORY_MIB * 2 ** 20);
  await load(image, back, { region: main.name });
  t.is(await firstDifference(join(own, 'reference'), back), undefined, format);
  for (const path of [file, image, back]) rmSync(path);
}

async function savedByLibvirt(t: ExecutionContext, format: string): Promise<void> {
  t.timeout(240_000);
  const own = join(folder, format);
  mkdirSync(own);
  const [file, reference, image, back] = ['saved', 'reference', 'image', 'back'].map((name) => join(own, name)) as [
    string,
    string,
    string,
    string,
  ];
  const guest = await LibvirtGuest.boot(own, availability.tools!, MEMORY_MIB, format);
  try {
    await guest.suspend();
    copyFileSync(guest.memoryFile, reference);
    if (format === FORMATS[0]) for (const dump of DUMPS) await dumpedByLibvirt(t, guest, own, dump);
    await guest.save(file);
  } finally {
    await guest.close();
  }
  const report = await inspectMemoryFile(file);
  const facts = Object.fromEntries(report!.facts.map(({ key, value }) => [key, value]));
  t.deepEqual([report!.format, facts.compression, facts.wasRunning], ['libvirt-save', format, false]);
  const saved = await save(file, image, { frozen: true });
  t.log(`${statSync(file).size} bytes of ${format} became ${saved.imageBytes}`);
  const { machine, source } = await inspect(image);
  t.deepEqual([machine.name, machine.uuid, source.kind], [LIBVIRT_NAME, LIBVIRT_UUID, 'libvirt-save']);
  const main = saved.regions.find(({ sizeBytes }) => sizeBytes === MEMORY_MIB * 2 ** 20)!;
  t.is(main.gpa, 0);
  await load(image, back, { region: main.name });
  t.is(await firstDifference(reference, back), undefined);
  await extract(image, 'domain.xml', join(own, 'xml'));
  await load(image, join(own, 'core'), { as: 'elf' });
  const core = await save(join(own, 'core'), join(own, 'core.vmsnap'), { frozen: true });
  t.deepEqual(
    core.regions.map(({ gpa, sizeBytes }) => [gpa, sizeBytes]),
    [[0, MEMORY_MIB * 2 ** 20]],
  );
  await load(join(own, 'core.vmsnap'), join(own, 'core.back'));
  t.is(await firstDifference(reference, join(own, 'core.back')), undefined);
}
