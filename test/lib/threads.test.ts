/** How many threads a process may use: affinity and the quota of its control group. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { defaultThreads, save } from '../../lib/index.js';
import { parseCpuMax } from '../../lib/threads.js';
import { failsWith } from './support/expect.js';
import { MIB, mixedMemory } from './support/memory.js';
import { workspace } from './support/workspace.js';

const SCRIPT = fileURLToPath(new URL('./children/threads.js', import.meta.url));

const QUOTAS: [string | undefined, number | undefined][] = [
  ['max 100000\n', undefined],
  ['max', undefined],
  ['100000 100000\n', 1],
  ['150000 100000', 1.5],
  ['50000 100000', 0.5],
  ['400000 50000', 8],
  ['0 100000', undefined],
  ['-1 100000', undefined],
  ['100000 0', undefined],
  ['100000', undefined],
  ['nonsense here', undefined],
  ['', undefined],
  [undefined, undefined],
];
for (const [text, expected] of QUOTAS) {
  test(`cpu.max ${JSON.stringify(text)}`, (t) => {
    t.is(parseCpuMax(text), expected);
  });
}

test('at least one, at most the processors there are', (t) => {
  t.true(Number.isInteger(defaultThreads()));
  t.true(defaultThreads() >= 1);
  t.true(defaultThreads() <= availableParallelism());
});

test('bound to one processor: one thread', (t) => {
  const processor = /^Cpus_allowed_list:\s*(\d+)/m.exec(
    execFileSync('cat', ['/proc/self/status'], { encoding: 'utf8' }),
  )![1]!;
  const output = execFileSync('taskset', ['-c', processor, process.execPath, SCRIPT], { encoding: 'utf8' });
  t.is(output, '1');
});

test('no more threads than segments', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(3 * MIB));
  const saved = await save(folder.path('memory'), folder.path('image'), { threads: 8, segmentSize: MIB });
  t.is(saved.run.threads, 3);
});

test('numbers of threads that are none', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), mixedMemory(MIB));
  for (const threads of [0, -1, 1.5, 1025, Number.NaN, Number.POSITIVE_INFINITY]) {
    await failsWith(t, 'USAGE', save(folder.path('memory'), folder.path('image'), { threads }), /threads/);
  }
  t.deepEqual(folder.leftovers(), []);
});
