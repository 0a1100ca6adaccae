/**
 * QEMU's own file migrations of a paused guest against `vmsnap save` of the same guest's memory file, in turn. QEMU's time is the one that
 * it gives itself, from the command on; it does not sync the file, vmsnap does.
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
const LIMIT_SECONDS = 120;

export interface Migration {
  readonly text: string;
  readonly figures: readonly Figure[];
}

interface Way {
  readonly name: string;
  /** Undefined: vmsnap, with this codec. */
  readonly migrate?: { readonly uri: (file: string) => string; readonly capabilities: readonly string[] };
  readonly codec?: string;
  readonly seconds: number[];
  bytes: number;
}

const MAPPED = `mapped-ram, multifd, ${CHANNELS} channels`;
const STORED = 'vmsnap none';
const CAPABILITIES = ['mapped-ram', 'multifd'];

export async function raceMigration(guest: Guest, folder: string, roundCount: number): Promise<Migration> {
  const file = join(folder, 'migrated');
  const ways = waysOf(Number.parseInt(guest.qemuVersion, 10));
  for (let round = 0; round <= roundCount; round++) {
    for (let turn = 0; turn < ways.length; turn++) {
      const way = ways[(turn + round) % ways.length]!;
      rmSync(file, { force: true });
      const seconds =
        way.migrate === undefined ? await saved(guest, file, way.codec!) : await migrated(guest, file, way);
      way.bytes = statSync(file).blocks * 512;
      if (round > 0) way.seconds.push(seconds);
    }
  }
  rmSync(file, { force: true });
  const rows = ways.map(({ name, migrate, seconds, bytes }) => [
    migrate === undefined ? name : `QEMU ${guest.qemuVersion}, ${name}`,
    median(seconds).toFixed(2),
    Math.min(...seconds).toFixed(2),
    bytes.toLocaleString('en'),
  ]);
  return { text: table(['', 'median s', 'min s', 'bytes on the file system'], rows), figures: figuresOf(ways) };
}

/** `file:` came with QEMU 8.2, mapped-ram with 9.0. */
function waysOf(qemuMajor: number): Way[] {
  const plain = (file: string) => (qemuMajor >= 9 ? `file:${file}` : `exec:cat > ${file}`);
  const mapped = (file: string) => `file:${file}`;
  const measured = () => ({ seconds: [] as number[], bytes: 0 });
  return [
    { name: qemuMajor >= 9 ? 'file' : 'exec:cat', migrate: { uri: plain, capabilities: [] }, ...measured() },
    ...(qemuMajor < 9
      ? []
      : [
          { name: 'mapped-ram', migrate: { uri: mapped, capabilities: ['mapped-ram'] }, ...measured() },
          { name: MAPPED, migrate: { uri: mapped, capabilities: CAPABILITIES }, ...measured() },
        ]),
    { name: STORED, codec: 'none', ...measured() },
    { name: 'vmsnap zstd 1', codec: 'zstd', ...measured() },
  ];
}

async function saved(guest: Guest, image: string, codec: string): Promise<number> {
  const options = [`--codec=${codec}`, '--frozen', '--threads=2', '--quiet'];
  return (await measure({ command: [...VMSNAP, 'save', guest.memoryFile, image, ...options] })).wallSeconds;
}

async function migrated(guest: Guest, file: string, { migrate }: Way): Promise<number> {
  // QEMU migrates a guest only once for each time that it ran.
  await guest.resume();
  await guest.stop();
  const capabilities = CAPABILITIES.map((capability) => ({
    capability,
    state: migrate!.capabilities.includes(capability),
  }));
  await guest.qmp.execute('migrate-set-capabilities', {
    // QEMU before 9.0 has no mapped-ram to switch off.
    capabilities: capabilities.filter(({ state }) => state || Number.parseInt(guest.qemuVersion, 10) >= 9),
  });
  await guest.qmp.execute('migrate-set-parameters', {
    'multifd-channels': CHANNELS,
    'max-bandwidth': UNLIMITED_BYTES_PER_SECOND,
  });
  await guest.migrate(migrate!.uri(file), LIMIT_SECONDS);
  const { 'total-time': milliseconds } = (await guest.qmp.execute('query-migrate')) as { 'total-time': number };
  return milliseconds / 1000;
}

function figuresOf(ways: readonly Way[]): Figure[] {
  const of = (wanted: string) => ways.find(({ name }) => name === wanted)?.seconds;
  const [qemu, vmsnap] = [of(MAPPED), of(STORED)!];
  if (qemu === undefined) return [];
  const times = median(qemu.map((seconds, round) => seconds / vmsnap[round]!));
  return [timesAsFast("save to `none` against QEMU's mapped-ram with multifd", 2, times)];
}
