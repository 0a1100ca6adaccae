import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { runVmsnap } from './cli.js';
import { firstDifference } from './compare.js';
import { findMachine, type Machine, type MachineKind } from './machine.js';

const INSPECT_LINES = 14;

const { values } = parseArgs({
  options: {
    source: { type: 'string' },
    'memory-mib': { type: 'string', default: '256' },
  },
});

// What the process leaves behind when it is interrupted; a guest removes itself.
const folder = mkdtempSync(join(tmpdir(), 'vmsnap-demo-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

try {
  await demonstrate(machineKind(values.source), Number(values['memory-mib']));
} catch (error) {
  console.error(`\nThe demonstration failed: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

async function demonstrate(kind: MachineKind | undefined, memoryMiB: number): Promise<void> {
  console.log('Making a machine whose memory can be saved ...');
  const startedAt = performance.now();
  const machine = await findMachine(folder, memoryMiB, kind);
  try {
    const sizeBytes = statSync(machine.memoryFile).size;
    step(`${machine.description}, ${bytes(sizeBytes)} of memory`, (performance.now() - startedAt) / 1000);
    await saveAndLoad(machine, sizeBytes);
    if (machine.guest !== undefined) await goOn(machine.guest);
  } finally {
    await machine.guest?.close();
  }
  console.log('\nThe machine came back bit for bit.');
}

async function saveAndLoad(machine: Machine, sizeBytes: number): Promise<void> {
  const image = join(folder, 'machine.vmsnap');
  const restored = join(folder, 'restored');
  // The memory of a paused guest holds still although QEMU has it open for writing: --frozen says so.
  const frozen = machine.guest === undefined ? [] : ['--frozen'];

  await command('save', machine.memoryFile, image, ...frozen, '--quiet');
  const imageBytes = statSync(image).size;
  console.log(
    `    ${bytes(sizeBytes)} became ${bytes(imageBytes)}: ${(sizeBytes / imageBytes).toFixed(1)} times smaller`,
  );
  indent(await command('inspect', image), INSPECT_LINES);
  indent(await command('verify', image), 3);
  await command('load', image, restored, '--quiet');

  const startedAt = performance.now();
  const difference = await firstDifference(machine.memoryFile, restored);
  if (difference !== undefined) throw new Error(`the restored memory differs at byte ${difference}`);
  step(`compared: all ${sizeBytes.toLocaleString('en')} bytes are the same`, (performance.now() - startedAt) / 1000);
}

async function goOn(guest: NonNullable<Machine['guest']>): Promise<void> {
  const before = guest.count;
  const startedAt = performance.now();
  await guest.resume();
  await guest.waitForCountBeyond(before + 1);
  step(`the guest goes on: its counter went from ${before} to ${guest.count}`, (performance.now() - startedAt) / 1000);
}

/** Runs a command of ours and shows it as one would type it. */
async function command(...parameters: string[]): Promise<string> {
  const result = await runVmsnap(...parameters);
  const shown = parameters
    .filter((word) => word !== '--quiet')
    .map((word) => (word.startsWith('/') ? basename(word) : word));
  step(`$ vmsnap ${shown.join(' ')}`, result.durationSeconds);
  return result.stdout;
}

function step(what: string, durationSeconds: number): void {
  console.log(`${durationSeconds.toFixed(1).padStart(5)} s  ${what}`);
}

function indent(output: string, limitLines: number): void {
  const lines = output.trimEnd().split('\n');
  for (const line of lines.slice(0, limitLines)) if (line !== '') console.log(`         ${line}`);
  if (lines.length > limitLines) console.log(`         ... ${lines.length - limitLines} lines more`);
}

function bytes(sizeBytes: number): string {
  return `${(sizeBytes / 2 ** 20).toFixed(1)} MiB`;
}

function machineKind(name: string | undefined): MachineKind | undefined {
  if (name === undefined || name === 'guest' || name === 'process' || name === 'generated') return name;
  throw new Error(`--source is guest, process or generated, and not ${name}`);
}
