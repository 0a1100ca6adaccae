/** What a start costs, beside that of Node itself. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VMSNAP } from './contenders.js';
import { atMost, type Figure } from './figures.js';
import { inTurn } from './jobs.js';
import type { Measurement } from './measure.js';
import { median, table } from './report.js';

const ROUNDS = 15;
const SMALL_BYTES = 8 * 2 ** 20;

export interface StartUp {
  readonly text: string;
  readonly figures: readonly Figure[];
  /** Of `node -e 0`. */
  readonly nodeSeconds: number;
  /** Of a save of one page, and so of all saves. */
  readonly saveSeconds: number;
}

/** `image`: of any size. */
export async function measureStartUp(folder: string, image: string): Promise<StartUp> {
  const small = join(folder, 'small');
  writeFileSync(small, Buffer.alloc(SMALL_BYTES, 'some text '), { mode: 0o600 });
  const smallImage = join(folder, 'small.vmsnap');
  const restored = join(folder, 'small.restored');
  const vmsnap = (...words: string[]) => ({ command: [...VMSNAP, ...words] });
  const results = await inTurn(
    [
      { name: 'node -e 0', job: { command: [process.execPath, '-e', '0'] } },
      { name: 'vmsnap --version', job: vmsnap('--version') },
      { name: 'vmsnap inspect', job: vmsnap('inspect', image) },
      {
        name: 'vmsnap save, 8 MiB',
        job: vmsnap('save', small, smallImage, '--threads=2', '--quiet'),
        prepare: () => rmSync(smallImage, { force: true }),
      },
      {
        name: 'vmsnap load, 8 MiB',
        job: vmsnap('load', image === smallImage ? image : smallImage, restored, '--force', '--threads=2', '--quiet'),
      },
    ],
    ROUNDS,
  );
  for (const file of [small, smallImage, restored]) rmSync(file);
  const seconds = (name: string) => median(results.get(name)!.map(({ wallSeconds }) => wallSeconds));
  const node = results.get('node -e 0')!;
  const versionBeyond = medianBeyond(results.get('vmsnap --version')!, node);
  const rows = [...results].map(([name, measurements]) => [
    name,
    (seconds(name) * 1e3).toFixed(0),
    (medianBeyond(measurements, node) * 1e3).toFixed(0),
    (median(measurements.map(({ cpuSeconds }) => cpuSeconds)) * 1e3).toFixed(0),
  ]);
  return {
    text: `${table(['', 'ms', 'beyond `node -e 0`', 'CPU ms'], rows)}\nMedians of ${ROUNDS} rounds in turn.\n`,
    figures: [
      atMost('`vmsnap --version`, beyond `node -e 0`', 40, versionBeyond * 1e3, 'ms'),
      atMost('`vmsnap inspect`', 0.2, seconds('vmsnap inspect'), 's'),
    ],
    nodeSeconds: seconds('node -e 0'),
    saveSeconds: seconds('vmsnap save, 8 MiB'),
  };
}

function medianBeyond(measurements: readonly Measurement[], reference: readonly Measurement[]): number {
  return median(measurements.map(({ wallSeconds }, round) => wallSeconds - reference[round]!.wallSeconds));
}
