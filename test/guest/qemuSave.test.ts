/**
 * Running guests that count on their serial port, saved by `qemu:SOCKET`: they go on counting, and the image has the memory that
 * they had. Memory in a file, in a memfd and private; QEMU 7.2 and, where VMSNAP_QEMU10 names it, 10. vmsnap is killed at
 * random moments: the guest counts on. VMSNAP_CAMPAIGN=1: all kinds of memory with each QEMU, and more kills.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext } from 'ava';
import { load, openImage, readBackupConfig, runBackup, save, verify } from '../../lib/index.js';
import type { SaveResult } from '../../lib/types.js';
import { runCli } from '../cli/support/runCli.js';
import { qemu10OrDemand } from './availability.js';
import { firstDifference } from './compare.js';
import { bootGuest, type Guest, type GuestOptions, guestAvailabilityOrDemand } from './guest.js';
import { QmpClient } from './qmp.js';

const MEMORY_MIB = 128;
const CAMPAIGN = process.env.VMSNAP_CAMPAIGN === '1';
const KILLS = CAMPAIGN ? 40 : 4;
const KILL_SPAN_MS = 2500;
const DIRTY_PAGES_MAX = 4096;

const availability = guestAvailabilityOrDemand();
const { program: qemu10, missing: noQemu10 } = qemu10OrDemand();

type Memory = NonNullable<GuestOptions['memory']>;
const CASES: readonly { memory: Memory; qemu: string | undefined; needs10: boolean; always: boolean }[] = [
  { memory: 'file', qemu: undefined, needs10: false, always: true },
  { memory: 'memfd', qemu: undefined, needs10: false, always: false },
  { memory: 'private', qemu: undefined, needs10: false, always: true },
  { memory: 'file', qemu: qemu10, needs10: true, always: true },
  { memory: 'memfd', qemu: qemu10, needs10: true, always: true },
  { memory: 'private', qemu: qemu10, needs10: true, always: false },
];

for (const { memory, qemu, needs10, always } of CASES) {
  if (!always && !CAMPAIGN) continue;
  const missingQemu = needs10 ? noQemu10 : undefined;
  const missing = availability.available ? missingQemu : availability.reason;
  const title = `${needs10 ? 'QEMU 10' : 'the installed QEMU'}, ${memory} memory: saved while it counts, and it counts on`;
  if (missing === undefined) anyTest.serial(title, (t) => savedWhileCounting(t, memory, qemu));
  else anyTest.serial.skip(`${title} (SKIPPED: ${missing})`, () => undefined);
}

async function savedWhileCounting(t: ExecutionContext, memory: Memory, qemu: string | undefined): Promise<void> {
  t.timeout(300_000);
  const folder = await mkdtemp(join(tmpdir(), 'vmsnap-qemu-save-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const disk = join(folder, 'disk.raw');
  writeFileSync(disk, Buffer.alloc(2 ** 20));
  const drive = ['-drive', `file=${disk},format=raw,if=virtio,id=data`];
  const guest = await bootGuest({ memoryMiB: MEMORY_MIB, memory, qemu, arguments: drive });
  t.teardown(() => guest.close());
  const source = `qemu:${guest.qmpSocket}`;

  const count = guest.count;
  const running = join(folder, 'running.vmsnap');
  report(t, await save(source, running), memory, 'running');
  await guest.waitForCountBeyond(count + 2, 60);

  // A paused machine's memory can be compared; the difference to the image before is what it did meanwhile.
  const paused = join(folder, 'paused.vmsnap');
  const difference = await save(source, paused, { base: running, machine: { after: 'pause' } });
  report(t, difference, memory, 'paused');
  const { data, uniform } = difference.pages;
  t.true(data + uniform < DIRTY_PAGES_MAX, `${data + uniform} pages differ`);
  await isMemoryOf(t, guest, memory, paused, folder);
  await guest.resume();
  await guest.waitForCountBeyond(guest.count, 60);

  if (memory === 'file') await savedLive(t, guest, folder);
  else await t.throwsAsync(save(source, running, { force: true, machine: { live: true } }), { code: 'UNSUPPORTED' });

  const description = await machineJson(running);
  t.is(description.foundStatus, 'running');
  t.is(description.qemuVersion, guest.qemuVersion);
  t.regex(String(description.machineType), /^pc-q35-/);
  const disks = description.disks as { file: string; sizeBytes: number; mtimeNanoseconds: string }[];
  t.true(
    disks.some((found) => found.file === disk && found.sizeBytes === 2 ** 20 && /^\d+$/.test(found.mtimeNanoseconds)),
  );
  t.true((description.commandLine as string[]).includes('-qmp'));
}

/** While it counts; left paused, the memory is what the image must have, bit for bit. */
async function savedLive(t: ExecutionContext, guest: Guest, folder: string): Promise<void> {
  const source = `qemu:${guest.qmpSocket}`;
  const image = join(folder, 'live.vmsnap');
  for (const after of [undefined, 'pause'] as const) {
    const { count } = guest;
    const { machine, run, warnings } = await save(source, image, { force: true, machine: { live: true, after } });
    t.like(machine, { found: 'running', left: after === 'pause' ? 'paused' : 'running', memory: 'files' });
    t.is(machine!.live!.restarts, 0);
    t.true(run.live!.changedPages > 0);
    t.deepEqual(warnings, []);
    t.log(`live: ${run.live!.changedPages} pages changed, paused for ${machine!.pauseSeconds ?? '-'} s`);
    t.true((await verify(image)).intact);
    if (after === undefined) await guest.waitForCountBeyond(count + 1, 60);
  }
  await isMemoryOf(t, guest, 'file', image, folder);
  await guest.resume();
  await guest.waitForCountBeyond(guest.count, 60);
}

function report(t: ExecutionContext, result: SaveResult, memory: Memory, left: 'running' | 'paused'): void {
  t.like(result.machine, { found: 'running', left, memory: memory === 'file' ? 'files' : 'stream' });
  t.is(result.machine!.memoryReason === undefined, memory === 'file');
  t.deepEqual(result.warnings, []);
  t.false(result.sourceMayHaveChanged);
  t.log(`${result.imageBytes} bytes, paused for ${result.machine!.pauseSeconds ?? '-'} s`);
}

/** Against the memory's file, or where there is none, a dump that QEMU writes of what it holds. */
async function isMemoryOf(t: ExecutionContext, guest: Guest, memory: Memory, image: string, folder: string) {
  const target = join(folder, 'memory');
  const region = memory === 'private' ? 'pc.ram' : 'ram';
  await load(image, target, { region, force: true });
  let reference = guest.memoryFile;
  if (memory !== 'file') {
    reference = join(folder, 'reference');
    await guest.qmp.execute('pmemsave', { val: 0, size: guest.memoryBytes, filename: reference });
    // What a processor sees below 1 MiB is in part ROM and video memory, not the RAM behind it.
    for (const path of [reference, target]) {
      const bytes = readFileSync(path);
      bytes.fill(0, 0, 2 ** 20);
      writeFileSync(path, bytes);
    }
  }
  t.is(await firstDifference(reference, target), undefined);
}

async function machineJson(image: string): Promise<Record<string, unknown>> {
  const opened = await openImage(image);
  try {
    const parts: Buffer[] = [];
    for await (const part of opened.readAttachment('machine.json')) parts.push(part);
    return JSON.parse(Buffer.concat(parts).toString());
  } finally {
    await opened.close();
  }
}

const guestTest = availability.available ? anyTest.serial : anyTest.serial.skip;

guestTest('memory that is plugged in while a machine is saved live: the save begins anew, and has it', async (t) => {
  t.timeout(300_000);
  const folder = await mkdtemp(join(tmpdir(), 'vmsnap-qemu-plug-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // With a maxmem the kernel sets 64 MiB aside.
  const guest = await bootGuest({ memoryMiB: 256, arguments: ['-m', 'slots=2,maxmem=1G'] });
  t.teardown(() => guest.close());
  let plugged: Promise<unknown> | undefined;
  const plug = async () => {
    const backend = { 'mem-path': join(folder, 'dimm'), size: 128 * 2 ** 20, share: true };
    await guest.qmp.execute('object-add', { 'qom-type': 'memory-backend-file', id: 'dimm0', ...backend });
    await guest.qmp.execute('device_add', { driver: 'pc-dimm', id: 'module0', memdev: 'dimm0' });
  };
  const image = join(folder, 'image');
  const { machine, regions } = await save(`qemu:${guest.qmpSocket}`, image, {
    machine: { live: true },
    // One thread gives it the time.
    threads: 1,
    onProgress: () => {
      plugged ??= plug();
    },
  });
  await plugged;
  t.true(machine!.live!.restarts >= 1);
  t.true(regions.some(({ name, sizeBytes }) => /dimm0/.test(name) && sizeBytes === 128 * 2 ** 20));
  t.true((await verify(image)).intact);
  await guest.waitForCountBeyond(guest.count + 1, 60);
});

guestTest('a device that QEMU cannot send: told in its words, and the machine is not stopped', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'vmsnap-qemu-blocked-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const disk = join(folder, 'disk');
  writeFileSync(disk, Buffer.alloc(2 ** 20));
  const nvme = ['-drive', `file=${disk},format=raw,if=none,id=d`, '-device', 'nvme,drive=d,serial=1'];
  for (const program of [availability.tools!.qemu, ...(qemu10 === undefined ? [] : [qemu10])]) {
    const [socket, own] = [join(folder, 'qmp'), join(folder, 'qmp2')];
    const sockets = [socket, own].flatMap((path) => ['-qmp', `unix:${path},server=on,wait=off`]);
    // Its firmware is enough of a guest.
    const qemu = spawn(program, ['-M', 'q35', '-m', '64', '-nodefaults', '-display', 'none', ...sockets, ...nvme]);
    try {
      const qmp = await QmpClient.open(own, 30);
      for (const live of [false, true]) {
        const work = save(`qemu:${socket}`, join(folder, 'image'), { machine: { live } });
        const error = await t.throwsAsync(work, { code: 'GUEST' });
        t.regex(error!.message, /cannot send this machine: non-migratable device: .*nvme/);
      }
      t.like(await qmp.execute('query-status'), { status: 'running' });
      qmp.close();
    } finally {
      qemu.kill('SIGKILL');
    }
  }
});

guestTest('vmsnap killed at random moments of a save, and backups of a running guest: it counts on', async (t) => {
  t.timeout(300_000);
  const folder = await mkdtemp(join(tmpdir(), 'vmsnap-qemu-kill-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const guest = await bootGuest({ memoryMiB: MEMORY_MIB });
  t.teardown(() => guest.close());
  const image = join(folder, 'image.vmsnap');
  for (let kill = 0; kill < KILLS; kill++) {
    const live = kill % 2 === 1 ? ['--live'] : [];
    const result = await runCli(['save', ...live, '--force', '--quiet', `qemu:${guest.qmpSocket}`, image], {
      onStart: (child) => void sleep(Math.random() * KILL_SPAN_MS).then(() => child.kill('SIGKILL')),
    });
    t.true(result.signal === 'SIGKILL' || result.exitCode === 0, result.stderr);
    await guest.waitForCountBeyond(guest.count, 150);
  }

  const store = join(folder, 'store');
  mkdirSync(store);
  const file = join(folder, 'backup.toml');
  writeFileSync(file, `[jobs.guest]\nsource = "qemu:${guest.qmpSocket}"\nfolder = "store"\n`);
  for (const kind of ['full', 'differential'] as const) {
    const before = guest.count;
    const now = Date.UTC(2026, 0, kind === 'full' ? 5 : 6);
    const { jobs, exitCode } = await runBackup(await readBackupConfig(file), { now: () => now });
    t.is(exitCode, 0, jobs[0]?.error?.message ?? JSON.stringify(jobs[0]?.warnings));
    t.is(jobs[0]!.kind, kind);
    t.true((await verify(jobs[0]!.image!)).intact);
    await guest.waitForCountBeyond(before + 1, 60);
  }
});
