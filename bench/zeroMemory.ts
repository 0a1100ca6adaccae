/** Memory with nothing in it: against a bare loop that reads it, and 1 TiB of hole. */
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VMSNAP } from './contenders.js';
import { atMost, type Figure } from './figures.js';
import { inTurn } from './jobs.js';
import { touchWith } from './memory.js';
import { median, table } from './report.js';

const NATIVE_FOLDER = fileURLToPath(new URL('../../native/', import.meta.url));
const ROUNDS = 7;
const ZERO_BYTES = 2 ** 32;
const SPARSE_BYTES = 2 ** 40;
const TINY_BYTES = 4096;

export async function measureZeroMemory(folder: string): Promise<{ text: string; figures: Figure[] }> {
  execFileSync('make', ['--no-print-directory', '-s', '-C', NATIVE_FOLDER, 'read-loop']);
  const files = ['zeros', 'sparse', 'tiny', 'zeros.vmsnap'].map((name) => join(folder, name));
  const [zeros, sparse, tiny, image] = files as [string, string, string, string];
  touchWith(zeros, ZERO_BYTES, 0);
  writeFileSync(tiny, Buffer.alloc(TINY_BYTES), { mode: 0o600 });
  makeSparse(sparse);
  const save = (source: string) => ({
    name: source,
    job: { command: [...VMSNAP, 'save', source, image, '--threads=2', '--quiet'] },
    prepare: () => rmSync(image, { force: true }),
  });
  const loop = { name: 'loop', job: { command: [join(NATIVE_FOLDER, 'out', 'plain', 'read_loop'), zeros, '2'] } };
  const results = await inTurn([loop, save(zeros), save(sparse), save(tiny)], ROUNDS);
  for (const file of files) rmSync(file, { force: true });
  const seconds = (name: string) => median(results.get(name)!.map(({ wallSeconds }) => wallSeconds));
  const shares = results.get(zeros)!.map(({ wallSeconds }, round) => {
    const startUp = results.get(tiny)![round]!.wallSeconds;
    return results.get('loop')![round]!.wallSeconds / (wallSeconds - startUp);
  });
  const percent = median(shares) * 100;
  const rows = [
    ['bare loop of pread and the check, 4 GiB of zeros', seconds('loop')],
    ['vmsnap save, the same file', seconds(zeros)],
    ['vmsnap save, one page (start-up)', seconds(tiny)],
    ['vmsnap save, 1 TiB that is one hole', seconds(sparse)],
  ] as const;
  return {
    text: table(
      ['', 's'],
      rows.map(([what, value]) => [what, value.toFixed(3)]),
    ),
    figures: [
      {
        what: 'all-zero memory: speed of the bare loop, start-up apart',
        wanted: 'at least 90 %',
        got: `${percent.toFixed(0)} %`,
        reached: percent >= 90,
      },
      atMost('a sparse source of 1 TiB with nothing in it', 1, seconds(sparse), 's'),
    ],
  };
}

function makeSparse(path: string): void {
  const fd = openSync(path, 'w', 0o600);
  ftruncateSync(fd, SPARSE_BYTES);
  closeSync(fd);
}
