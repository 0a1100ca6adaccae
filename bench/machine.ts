// Pause and size of saves of a running machine, beside QEMU's own ways, on the same guest in one run:
// node dist/bench/machine.js [--qemu QEMU10] [--size-mib N] [--rounds N] [--dir DIR] [--out FILE]
//
// QEMU 10 is wanted for mapped-ram. Two guests of one kind boot: one with a shared memory file, one with private memory (whose
// memory goes through QEMU) and a small qcow2 disk, which `savevm` needs. Every way is tried once a round, in turn; a pause is what the
// guest missed, from the order to stop to the one to go on. The rows of vmsnap call its command line.
import { execFileSync } from 'node:child_process';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CLI_PATH, runVmsnap } from '../test/guest/cli.js';
import { bootGuest, type Guest } from '../test/guest/guest.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { machineDescription, median } from './report.js';

const { values } = parseArgs({
  options: {
    qemu: { type: 'string', default: process.env.VMSNAP_QEMU10 },
    'size-mib': { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '5' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    out: { type: 'string' },
  },
});

const MIB = 2 ** 20;
const DISK_MIB = 16;
const LIMIT_SECONDS = 600;
const folder = makeBenchFolder(values.dir);

interface Pause {
  readonly seconds: number;
  readonly bytes: number;
}

interface Way {
  readonly name: string;
  readonly run: () => Promise<Pause>;
}

const report = await run(Number(values['size-mib']), Number(values.rounds));
console.log(report);
if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);

async function run(memoryMiB: number, rounds: number): Promise<string> {
  const disk = join(folder, 'disk.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', disk, `${DISK_MIB}M`]);
  const common = { memoryMiB, qemu: values.qemu, folder, content: 'full', bootLimitSeconds: LIMIT_SECONDS } as const;
  const shared = await bootGuest(common);
  const own = await bootGuest({ ...common, memory: 'private' });
  try {
    await own.qmp.execute('blockdev-add', {
      driver: 'qcow2',
      'node-name': 'd0',
      file: { driver: 'file', filename: disk },
    });
    const ways = waysOf(shared, own, disk);
    const results = new Map(ways.map(({ name }) => [name, [] as Pause[]]));
    for (let round = 0; round < rounds; round++) {
      for (const { name, run: once } of ways) {
        for (const guest of [shared, own]) await guest.waitForCountBeyond(guest.count);
        results.get(name)!.push(await once());
      }
    }
    return table(shared, memoryMiB, rounds, results);
  } finally {
    await shared.close();
    await own.close();
  }
}

function waysOf(shared: Guest, own: Guest, disk: string): Way[] {
  return [
    { name: 'vmsnap save, shared memory file', run: () => saved(shared) },
    { name: 'vmsnap save, through QEMU (stream)', run: () => saved(own) },
    { name: 'migrate file:, plain', run: () => migrated(own, {}) },
    { name: 'migrate file:, mapped-ram', run: () => migrated(own, { 'mapped-ram': true }) },
    { name: 'migrate file:, mapped-ram and multifd', run: () => migrated(own, { 'mapped-ram': true, multifd: true }) },
    { name: 'savevm into qcow2', run: () => snapshot(own, disk) },
  ];
}

/** What vmsnap itself reports, since its process starts before the guest is stopped. */
async function saved(guest: Guest): Promise<Pause> {
  const image = join(folder, 'image');
  const { stdout } = await runVmsnap(
    'save',
    `qemu:${guest.qmpSocket}`,
    image,
    '--after',
    'resume',
    '--force',
    '--json',
  );
  const { machine } = JSON.parse(stdout) as { machine: { pauseSeconds: number } };
  return { seconds: machine.pauseSeconds, bytes: statSync(image).size };
}

/** Stopped as a save is, so that each page is sent once. */
async function migrated(guest: Guest, wanted: Readonly<Record<string, boolean>>): Promise<Pause> {
  const file = join(folder, 'migrated');
  const states = { 'mapped-ram': false, multifd: false, ...wanted };
  const capabilities = Object.entries(states).map(([capability, state]) => ({ capability, state }));
  await guest.qmp.execute('migrate-set-capabilities', { capabilities });
  await guest.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 40 });
  const seconds = await paused(guest, () => guest.migrate(`file:${file}`, LIMIT_SECONDS));
  const bytes = allocated(file);
  rmSync(file);
  return { seconds, bytes };
}

async function snapshot(guest: Guest, disk: string): Promise<Pause> {
  const id = `s${Date.now()}`;
  const before = allocated(disk);
  const nodes = { devices: ['d0'] };
  const seconds = await paused(guest, () => job(guest, 'snapshot-save', { tag: id, vmstate: 'd0', ...nodes }));
  const bytes = allocated(disk) - before;
  await job(guest, 'snapshot-delete', { tag: id, ...nodes });
  return { seconds, bytes };
}

async function paused(guest: Guest, work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await guest.stop();
  await work();
  await guest.resume();
  return (performance.now() - started) / 1000;
}

async function job(guest: Guest, command: string, args: object): Promise<void> {
  const id = `j${performance.now()}`.replace('.', '-');
  await guest.qmp.execute(command, { 'job-id': id, ...args });
  for (;;) {
    const jobs = (await guest.qmp.execute('query-jobs')) as { id: string; status: string; error?: string }[];
    const own = jobs.find((entry) => entry.id === id);
    if (own?.error !== undefined) throw new Error(`${command}: ${own.error}`);
    if (own === undefined || own.status === 'concluded') break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await guest.qmp.execute('job-dismiss', { id }).catch(() => {});
}

function allocated(file: string): number {
  return statSync(file).blocks * 512;
}

function table(
  guest: Guest,
  memoryMiB: number,
  rounds: number,
  results: ReadonlyMap<string, readonly Pause[]>,
): string {
  const rows = [...results].map(([name, pauses]) => {
    const seconds = median(pauses.map((pause) => pause.seconds));
    const bytes = median(pauses.map((pause) => pause.bytes));
    return `| ${name} | ${seconds.toFixed(2)} s | ${(bytes / MIB).toFixed(0)} MiB |`;
  });
  return [
    '## Saving a running machine',
    '',
    `- a guest of ${memoryMiB} MiB, QEMU ${guest.qemuVersion} with ${guest.accelerator}; median of ${rounds} rounds, in turn`,
    machineDescription(),
    `- files on ${values.dir}; ${CLI_PATH.split('/').slice(-3).join('/')}`,
    '',
    '| way | pause | size on disk |',
    '| --- | ----: | -----------: |',
    ...rows,
  ].join('\n');
}
