/**
 * QEMU's own file migration (mapped-ram with multifd) of a paused guest against `vmsnap save --codec none` of the same guest's memory file,
 * in turn. QEMU's time is the one that it gives itself, from the command on; it does not sync the file, vmsnap does.
 */
import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Guest } from '../test/guest/guest.js';
import { VMSNAP } from './contenders.js';
import { type Figure, timesAsFast } from './figures.js';
import { measure } from './measure.js';
import { median, table } from './report.js';

const CHANNELS = 2;
const UNLIMITED_BYTES_PER_SECOND = 2 ** 40;

export interface Migration {
  readonly text: string;
  readonly figures: readonly Figure[];
}

/** Undefined where this QEMU has no mapped-ram files (before 9.0). */
export async function raceMigration(guest: Guest, folder: string, roundCount: number): Promise<Migration | undefined> {
  if (Number.parseInt(guest.qemuVersion, 10) < 9) return undefined;
  await setUp(guest);
  const mapped = join(folder, 'mapped-ram');
  const image = join(folder, 'migration.vmsnap');
  const command = [...VMSNAP, 'save', guest.memoryFile, image, '--codec=none', '--frozen', '--threads=2', '--quiet'];
  const qemuSeconds: number[] = [];
  const vmsnapSeconds: number[] = [];
  let sizes = { mapped: 0, image: 0 };
  for (let round = 0; round <= roundCount; round++) {
    for (const file of [mapped, image]) rmSync(file, { force: true });
    // QEMU migrates a guest only once for each time that it ran.
    await guest.resume();
    await guest.stop();
    await guest.migrate(`file:${mapped}`);
    const { 'total-time': milliseconds } = (await guest.qmp.execute('query-migrate')) as { 'total-time': number };
    const { wallSeconds } = await measure({ command });
    sizes = { mapped: statSync(mapped).blocks * 512, image: statSync(image).size };
    if (round === 0) continue;
    qemuSeconds.push(milliseconds / 1000);
    vmsnapSeconds.push(wallSeconds);
  }
  for (const file of [mapped, image]) rmSync(file, { force: true });
  const times = median(qemuSeconds.map((seconds, round) => seconds / vmsnapSeconds[round]!));
  const row = (name: string, seconds: readonly number[], bytes: number) => [
    name,
    median(seconds).toFixed(2),
    Math.min(...seconds).toFixed(2),
    bytes.toLocaleString('en'),
  ];
  return {
    text: table(
      ['', 'median s', 'min s', 'bytes on the file system'],
      [
        row(`QEMU ${guest.qemuVersion}, mapped-ram, multifd, ${CHANNELS} channels`, qemuSeconds, sizes.mapped),
        row('vmsnap none', vmsnapSeconds, sizes.image),
      ],
    ),
    figures: [timesAsFast("save to `none` against QEMU's mapped-ram with multifd", 2, times)],
  };
}

async function setUp(guest: Guest): Promise<void> {
  const capabilities = ['mapped-ram', 'multifd'].map((capability) => ({ capability, state: true }));
  await guest.qmp.execute('migrate-set-capabilities', { capabilities });
  await guest.qmp.execute('migrate-set-parameters', {
    'multifd-channels': CHANNELS,
    'max-bandwidth': UNLIMITED_BYTES_PER_SECOND,
  });
}
