/** `vmsnap save` with the options of DSA: what is refused, what is printed, and what is left after a signal. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from './support/folder.js';
import { schemaFaults } from './support/jsonSchema.js';
import { makeMemory } from './support/memory.js';
import { type CliResult, runCli } from './support/runCli.js';

const PAGES = 1200;
const NOWHERE = '/nonexistent/vmsnap';
/** No test here finds the hardware of the machine that it runs on. */
const ENV = { VMSNAP_DSA_SYSFS: NOWHERE, VMSNAP_DSA_DEV: NOWHERE, SOURCE_DATE_EPOCH: '1700000000' };

function folderWithMemory(t: ExecutionContext): string {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(PAGES));
  return folder;
}

const runSave = (cwd: string, ...args: string[]): Promise<CliResult> =>
  runCli(['save', '--frozen', ...args, 'mem', 'img'], { cwd, env: ENV });

const REFUSED: readonly (readonly [readonly string[], number, RegExp])[] = [
  [['--detector', 'dsa'], 18, /^vmsnap: error: the detector dsa cannot be used: .+\nhint: .*vmsnap doctor.*\n$/],
  [['--detector', 'dsa', '--dsa', '/etc/passwd'], 18, /\/etc\/passwd is no DSA work queue/],
  [['--detector', 'dsa', '--dsa', '/dev/dsa/wq7.7'], 18, /\/dev\/dsa\/wq7\.7: /],
  [['--detector', 'dsa', '--dsa', ''], 2, /--dsa needs a value/],
  [['--detector', 'dsa-emulated', '--dsa', '/dev/dsa/wq0.0'], 2, /no queues to choose from\nhint: leave out --dsa\n/],
  [['--detector', 'scalar', '--dsa', '/dev/dsa/wq0.0'], 2, /options of DSA mean nothing/],
  [['--detector', 'scalar', '--self-check'], 2, /options of DSA mean nothing/],
  [['--detector', 'ds'], 2, /--detector cannot be "ds"\nhint: .*dsa/],
  [['--batch-pages', '0'], 2, /--batch-pages cannot be "0"\nhint: a whole number from 1 to 65536\n/],
  [['--batch-pages', '128', '--batch-pages', '1'], 2, /--batch-pages is given 2 times/],
  [['--depth', 'x'], 2, /--depth cannot be "x"/],
  [['--normal-page-ratio', '101'], 2, /--normal-page-ratio cannot be "101"\nhint: a whole number from 0 to 100\n/],
];

for (const [args, exitCode, stderr] of REFUSED) {
  test(`refused: ${args.join(' ')}`, async (t) => {
    const folder = folderWithMemory(t);
    const result = await runSave(folder, ...args);
    t.is(result.exitCode, exitCode, result.stderr);
    t.regex(result.stderr, stderr);
    t.is(result.stdout, '');
    t.deepEqual(readdirSync(folder), ['mem']);
  });
}

test('a pipe cannot be mapped', async (t) => {
  const folder = folderWithMemory(t);
  const result = await runCli(['save', '--detector', 'dsa-emulated', '-', 'img'], {
    cwd: folder,
    env: ENV,
    input: readFileSync(join(folder, 'mem')),
  });
  t.is(result.exitCode, 2);
  t.regex(
    result.stderr,
    /standard input is read as a stream, which a DSA device cannot reach\nhint: .*--detector auto\n$/,
  );
  t.deepEqual(readdirSync(folder), ['mem']);
});

test('dsa-emulated: the same image, a summary that says emulated, and JSON as its schema says', async (t) => {
  const folder = folderWithMemory(t);
  const plain = await runSave(folder, '--detector', 'scalar', '--quiet');
  t.is(plain.exitCode, 0, plain.stderr);
  const expected = readFileSync(join(folder, 'img'));
  const summary = await runSave(folder, '--force', '--detector', 'dsa-emulated', '--batch-pages', '64', '--depth', '8');
  t.is(summary.exitCode, 0, summary.stderr);
  t.regex(
    summary.stdout,
    /, dsa-emulated, \d threads?\ndsa: wq0\.0 by enqcmd; \d+ pages zero, \d+ left to the CPU; emulated, so its speed means nothing\n$/,
  );
  // The log: what the queue did, and what it cost.
  const [queue, times, ...others] = summary.stderr.trimEnd().split('\n');
  t.regex(
    queue!,
    /^vmsnap: dsa wq0\.0 by enqcmd: \d+ descriptors, \d+ batches, .+B; pages: \d+ zero, \d+ data, \d+ left to the CPU; \d+ page faults, \d+ of lists, \d+ retries, \d+ short writes, 0 errors, 0 lost, 0 times sick$/,
  );
  t.regex(
    times!,
    /^vmsnap: dsa: CPU time of submission [\d.]+ ms, of completion [\d.]+ ms, of making pages reachable [\d.]+ ms; waited [\d.]+ ms; the device is emulated, so its speed means nothing$/,
  );
  t.deepEqual(others, []);
  t.true(readFileSync(join(folder, 'img')).equals(expected));
  const json = await runSave(folder, '--force', '--detector', 'dsa-emulated', '--self-check', '--json');
  t.true(readFileSync(join(folder, 'img')).equals(expected));
  t.is(json.stderr, '');
  const value = JSON.parse(json.stdout);
  t.deepEqual(schemaFaults('save.json', value), []);
  t.is(value.run.detector, 'dsa-emulated');
  t.true(value.run.dsa.emulated);
  t.is(value.run.dsa.pagesZero, value.pages.zero);
  t.deepEqual(value.run.dsa.selfCheck, { pages: PAGES, wrong: 0 });
  const silent = await runSave(folder, '--force', '--detector', 'dsa-emulated', '--quiet');
  t.is(silent.stdout + silent.stderr, '');
});

test('auto says why in JSON, and nothing on stderr', async (t) => {
  const folder = folderWithMemory(t);
  const result = await runSave(folder, '--json', '--normal-page-ratio', '50');
  t.is(result.exitCode, 0);
  t.is(result.stderr, '');
  const { run } = JSON.parse(result.stdout);
  t.is(run.detectorReason, 'there is no DSA driver here');
  t.false(run.dsaPresent);
  t.is(run.dsa, null);
});

test('stopped in the middle: the code of the signal, and nothing is left', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(60_000));
  for (const delayMs of [150, 250, 350]) {
    const result = await runCli(['save', '--frozen', '--force', '--detector', 'dsa-emulated', 'mem', 'img'], {
      cwd: folder,
      env: { ...ENV, TMPDIR: folder },
      onStart: (child) => setTimeout(() => child.kill('SIGTERM'), delayMs),
    });
    t.true(result.exitCode === 143 || result.exitCode === 0 || result.signal === 'SIGTERM', result.stderr);
    const left = readdirSync(folder).filter((name) => name !== 'mem' && name !== 'img');
    if (result.signal === undefined) t.deepEqual(left, []);
  }
});
