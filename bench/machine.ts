// Pause and size of saves of a running machine, beside QEMU's own ways, on the same guest in one run:
// node dist/bench/machine.js [--qemu QEMU10] [--size-mib N] [--dirty PERCENT] [--rounds N] [--dir DIR] [--out FILE]
//
// It takes QEMU 9 or later, for mapped-ram. A guest with a shared memory file and a small qcow2 disk, which `savevm` needs, writes to some of its
// memory over and over while all of this goes on. Every way is tried once a round, in turn; a pause is what the guest missed,
// from the order to stop to the one to go on. The stream path needs a guest with private memory: another of the same kind,
// which is given QEMU's own way as well. The rows of vmsnap call its command line.
//
// QEMU reads all memory when it migrates, which makes holes of its file (memory that the guest never touched) into pages of zeros
// that must be read from then on. So holes are dug anew before each round, and what vmsnap does is measured with and without them.
import { execFileSync } from 'node:child_process';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CLI_PATH, runVmsnap } from '../test/guest/cli.js';
import { bootGuest, type Guest } from '../test/guest/guest.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { machineDescription, median, table } from './report.js';

const { values } = parseArgs({
  options: {
    qemu: { type: 'string', default: process.env.VMSNAP_QEMU10 },
    'size-mib': { type: 'string', default: '1024' },
    dirty: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '5' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    out: { type: 'string' },
  },
});

const MIB = 2 ** 20;
const DISK_MIB = 16;
const LIMIT_SECONDS = 600;
const PLAIN = 'vmsnap save, shared memory file';
const LIVE = 'vmsnap save --live, shared memory file';
const NO_HOLES = ', no holes';
const folder = makeBenchFolder(values.dir);

interface Pause {
  readonly seconds: number;
  /** From the command to its end. */
  readonly totalSeconds: number;
  readonly bytes: number;
  readonly live?: LiveFigures;
}

interface LiveFigures {
  readonly changesSeconds: number;
  readonly pauseSeconds: number;
  readonly changedPages: number;
  readonly pauseWithoutSeconds: { readonly atLeast: number; readonly atMost: number };
}

interface Way {
  readonly name: string;
  readonly run: () => Promise<Pause>;
}

requireMappedRam();
const report = await run(Number(values['size-mib']), Number(values.dirty), Number(values.rounds));
console.log(report);
if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);

async function run(memoryMiB: number, dirtyPercent: number, rounds: number): Promise<string> {
  const disk = join(folder, 'disk.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', disk, `${DISK_MIB}M`]);
  const dirtyMiB = Math.round((memoryMiB * dirtyPercent) / 100);
  const common = {
    memoryMiB,
    dirtyMiB,
    qemu: values.qemu,
    folder,
    content: 'full',
    bootLimitSeconds: LIMIT_SECONDS,
  } as const;
  const shared = await bootGuest(common);
  await shared.stop();
  const own = await bootGuest({ ...common, memory: 'private' });
  await own.stop();
  console.error('both guests have booted');
  try {
    await shared.qmp.execute('blockdev-add', {
      driver: 'qcow2',
      'node-name': 'd0',
      file: { driver: 'file', filename: disk },
    });
    const ways = [...waysOf(shared, disk), ...streamWays(own)];
    const results = new Map(ways.map(({ name }) => [name, [] as Pause[]]));
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      for (const [guest, some] of [
        [shared, ways.slice(0, -2)],
        [own, ways.slice(-2)],
      ] as const) {
        if (guest === shared) execFileSync('fallocate', ['--dig-holes', shared.memoryFile]);
        // One guest runs at a time.
        await guest.resume();
        for (const { name, run: once } of some) {
          await guest.waitForCountBeyond(guest.count + 1, LIMIT_SECONDS);
          const pause = await once();
          if (round > 0) results.get(name)!.push(pause);
          console.error(`round ${round} of ${rounds}: ${name}: ${pause.seconds.toFixed(3)} s`);
        }
        await guest.stop();
      }
    }
    return describe(shared, memoryMiB, dirtyPercent, rounds, results);
  } finally {
    await shared.close();
    await own.close();
  }
}

function waysOf(guest: Guest, disk: string): Way[] {
  const file = 'migrate file:, shared memory file';
  return [
    { name: PLAIN, run: () => saved(guest) },
    { name: LIVE, run: () => saved(guest, '--live') },
    { name: `${file}, plain`, run: () => migrated(guest, {}) },
    { name: `${file}, mapped-ram`, run: () => migrated(guest, { 'mapped-ram': true }) },
    { name: `${file}, mapped-ram and multifd`, run: () => migrated(guest, { 'mapped-ram': true, multifd: true }) },
    { name: 'savevm into qcow2, shared memory file', run: () => snapshot(guest, disk) },
    { name: PLAIN + NO_HOLES, run: () => saved(guest) },
    { name: LIVE + NO_HOLES, run: () => saved(guest, '--live') },
  ];
}

function streamWays(guest: Guest): Way[] {
  return [
    { name: 'vmsnap save, private memory (stream path)', run: () => saved(guest) },
    { name: 'migrate file:, private memory, plain', run: () => migrated(guest, {}) },
  ];
}

/** What vmsnap itself reports, since its process starts before the guest is stopped. */
async function saved(guest: Guest, ...options: string[]): Promise<Pause> {
  const image = join(folder, 'image');
  const words = ['save', ...options, '--force', '--json', `qemu:${guest.qmpSocket}`, image];
  const { stdout, durationSeconds } = await runVmsnap(...words);
  const { machine, run } = JSON.parse(stdout);
  const live = run.live === null ? undefined : { ...run.live, ...machine.live };
  return { seconds: machine.pauseSeconds, totalSeconds: durationSeconds, bytes: statSync(image).size, live };
}

/** Stopped as a save is, so that each page is sent once. */
async function migrated(guest: Guest, wanted: Readonly<Record<string, boolean>>): Promise<Pause> {
  const file = join(folder, 'migrated');
  await setCapabilities(guest, wanted);
  await guest.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 40 });
  const seconds = await paused(guest, () => guest.migrate(`file:${file}`, LIMIT_SECONDS));
  const bytes = allocated(file);
  rmSync(file);
  return { seconds, totalSeconds: seconds, bytes };
}

/** Before two guests are booted. */
function requireMappedRam(): void {
  const program = values.qemu ?? 'qemu-system-x86_64';
  const said = execFileSync(program, ['--version'], { encoding: 'utf8' }).split('\n')[0]!;
  const major = Number(/version (\d+)\./.exec(said)?.[1]);
  if (major >= 9) return;
  console.error(
    `machine: ${said} (${program}) has no mapped-ram, which came with QEMU 9.0: name a newer one with --qemu or in VMSNAP_QEMU10 (test/guest/qemu10.sh unpacks one)`,
  );
  process.exit(1);
}

async function setCapabilities(guest: Guest, wanted: Readonly<Record<string, boolean>>): Promise<void> {
  const states = { 'mapped-ram': false, multifd: false, ...wanted };
  const capabilities = Object.entries(states).map(([capability, state]) => ({ capability, state }));
  await guest.qmp.execute('migrate-set-capabilities', { capabilities });
}

/** With multifd on, QEMU 10.0.2 ends at this. */
async function snapshot(guest: Guest, disk: string): Promise<Pause> {
  const id = `s${Date.now()}`;
  const before = allocated(disk);
  const nodes = { devices: ['d0'] };
  await setCapabilities(guest, {});
  const seconds = await paused(guest, () => job(guest, 'snapshot-save', { tag: id, vmstate: 'd0', ...nodes }));
  const bytes = allocated(disk) - before;
  await job(guest, 'snapshot-delete', { tag: id, ...nodes });
  return { seconds, totalSeconds: seconds, bytes };
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

function describe(
  guest: Guest,
  memoryMiB: number,
  dirtyPercent: number,
  rounds: number,
  results: ReadonlyMap<string, readonly Pause[]>,
): string {
  const rows = [...results].map(([name, pauses]) => {
    const plain = results.get(name.endsWith(NO_HOLES) ? PLAIN + NO_HOLES : PLAIN)!;
    const ratios = pauses.map(({ seconds }, i) => seconds / plain[i]!.seconds);
    return [
      name,
      `${median(pauses.map(({ seconds }) => seconds)).toFixed(3)} s`,
      median(ratios).toFixed(2),
      `${median(pauses.map(({ totalSeconds }) => totalSeconds)).toFixed(2)} s`,
      `${(median(pauses.map(({ bytes }) => bytes)) / MIB).toFixed(0)} MiB`,
    ];
  });
  return [
    '# Saving a running machine',
    '',
    `- a guest of ${memoryMiB} MiB that writes to each page of ${dirtyPercent} % of its memory about ten times a second, QEMU ${guest.qemuVersion} with ${guest.accelerator}`,
    machineDescription(),
    `- medians of ${rounds} rounds after one to warm up, all ways in turn in each; files on ${values.dir}; ${CLI_PATH.split('/').slice(-3).join('/')}`,
    `- "no holes": all of the memory is resident, since QEMU has read it; beside the plain save of the same state`,
    `- made by \`node dist/bench/machine.js --size-mib ${memoryMiB} --dirty ${dirtyPercent} --rounds ${rounds}\` (bench/machine.ts says what each row is)`,
    '',
    table(['way', 'pause', '/ plain save', 'whole save', 'size on disk'], rows),
    liveText(LIVE, results.get(LIVE)!, memoryMiB),
    liveText(LIVE + NO_HOLES, results.get(LIVE + NO_HOLES)!, memoryMiB),
  ].join('\n');
}

function liveText(name: string, pauses: readonly Pause[], memoryMiB: number): string {
  const of = (figure: (live: LiveFigures) => number) => median(pauses.map(({ live }) => figure(live!)));
  const changed = (of((live) => live.changedPages) * 4096) / MIB;
  const atLeast = of(({ pauseWithoutSeconds }) => pauseWithoutSeconds.atLeast);
  const atMost = of(({ pauseWithoutSeconds }) => pauseWithoutSeconds.atMost);
  return [
    `${name}: of the pause, ${of((live) => live.changesSeconds).toFixed(3)} s went into reading the memory once more and copying what had changed: `,
    `${changed.toFixed(0)} MiB, ${((100 * changed) / memoryMiB).toFixed(1)} % of the memory. The rest is QEMU: stopping, device state, going on.`,
    ` What vmsnap itself says the pause would have been without \`--live\`: ${atLeast.toFixed(2)} to ${atMost.toFixed(2)} s.`,
    '',
  ].join('');
}
