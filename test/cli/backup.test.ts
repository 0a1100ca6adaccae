/** `vmsnap backup` as cron and people meet it: silence, words, codes, signals. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { startCli, waitForFile } from './support/background.js';
import { temporaryFolder } from './support/folder.js';
import { schemaFaults } from './support/jsonSchema.js';
import { codeBlocks } from './support/markdown.js';
import { makeMemory } from './support/memory.js';
import { ROOT } from './support/paths.js';
import { type CliOptions, type CliResult, runCli } from './support/runCli.js';

const JOB = '[jobs.web1]\nsource = "mem"\nfolder = "store"\nfrozen = true\n';

function house(t: ExecutionContext, toml = JOB): string {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'store'));
  writeFileSync(join(folder, 'mem'), makeMemory(1200));
  writeFileSync(join(folder, 'backup.toml'), toml);
  return folder;
}

function backup(folder: string, args: readonly string[] = [], options: CliOptions = {}): Promise<CliResult> {
  return runCli(['backup', '--config', 'backup.toml', ...args], { cwd: folder, ...options });
}

const stored = (folder: string): string[] =>
  readdirSync(join(folder, 'store')).filter((name) => name !== '.vmsnap.lock');

test('nothing is said when all is well, and everything with --verbose', async (t) => {
  const folder = house(t, `${JOB}keep = { last = 1 }\nhooks.before = ["printf", "one\\\\ntwo\\\\033[31m"]\n`);
  const env = { SOURCE_DATE_EPOCH: '1767579300' };
  const silent = await backup(folder, [], { env });
  t.deepEqual([silent.exitCode, silent.stdout, silent.stderr], [0, '', '']);
  t.deepEqual(stored(folder), ['web1-20260105T021500Z.vmsnap']);
  const { stdout, stderr } = await backup(folder, ['--verbose'], { env: { SOURCE_DATE_EPOCH: '1767665700' } });
  t.regex(
    stdout,
    /^web1: .*\/store\/web1-20260106T021500Z\.vmsnap: differential, 4\.7 MiB in \d+ B, intact, 2 kept, 0 removed, [\d.]+ s\n$/,
  );
  t.deepEqual(
    stderr.split('\n').map((line) => line.replace(/ \(.*/, '')),
    [...['lock', 'preflight', 'before', 'before: one', 'before: two\\u{1b}[31m', 'save', 'verify', 'prune']]
      .map((words) => `vmsnap: web1: ${words}`)
      .concat(''),
  );
});

test('a failure names the job, what failed and what to do; the others run', async (t) => {
  const folder = house(
    t,
    `[jobs.db1]\nsource = "db"\nfolder = "store"\n[jobs.off]\nsource = "mem"\nfolder = "no"\n${JOB}`,
  );
  const { exitCode, stdout, stderr } = await backup(folder);
  t.is(exitCode, 10);
  t.is(stdout, '');
  t.regex(
    stderr,
    /^vmsnap: error: db1: cannot open the source .*\/db: no such file or directory \(ENOENT\)\nvmsnap: error: off: there is no folder .*\nhint: make it, or mount .*\n$/,
  );
  t.is(stored(folder).length, 1);
  const journal = await backup(folder, [], { journal: true });
  for (const line of journal.stderr.trimEnd().split('\n')) t.regex(line, /^<3>(vmsnap: error: (db1|off)|hint): /);
});

test('a hook "after" that fails: the image is there all the same, and the message says so', async (t) => {
  const folder = house(t, `${JOB}hooks.after = ["sh", "-c", "echo why >&2; exit 4"]\n`);
  const { exitCode, stderr } = await backup(folder);
  t.is(exitCode, 1);
  t.regex(
    stderr,
    /^vmsnap: error: web1: the hook "after" ended with 4: why\nvmsnap: error: web1: the image is there all the same: .*\.vmsnap, intact\n$/,
  );
});

test('a warning is said, with its priority for the journal, and the code is 3', async (t) => {
  const folder = house(t, `${JOB}metrics = "none/web1.prom"\n`);
  const { exitCode, stdout, stderr } = await backup(folder, [], { journal: true });
  t.deepEqual([exitCode, stdout], [3, '']);
  t.regex(stderr, /^<4>vmsnap: warning: web1: the metrics were not written: .*\n$/);
  t.is(stored(folder).length, 1);
});

test('a configuration that is wrong is told with its place, and nothing is done', async (t) => {
  const folder = house(t, `${JOB}codek = "zstd"\n`);
  for (const args of [[], ['--check-config'], ['--dry-run'], ['--print-unit', 'service']]) {
    const { exitCode, stdout, stderr } = await backup(folder, args);
    t.deepEqual([exitCode, stdout], [2, '']);
    t.is(stderr, 'vmsnap: error: backup.toml:5:1: unknown key jobs.web1.codek\nhint: did you mean codec?\n');
  }
  t.deepEqual(readdirSync(join(folder, 'store')), []);
  const missing = await runCli(['backup'], { cwd: folder, wrapper: ['env'] });
  t.true(existsSync('/etc/vmsnap/backup.toml') || missing.exitCode === 10, missing.stderr);
  const unknown = await backup(folder, ['--check-config', 'web1']);
  t.is(unknown.exitCode, 2);
});

test('an unknown job, and modes that exclude each other', async (t) => {
  const folder = house(t);
  const unknown = await backup(folder, ['wbe1']);
  t.is(unknown.exitCode, 10);
  t.regex(unknown.stderr, /no job "wbe1".*\nhint: did you mean web1\?\n$/);
  for (const args of [
    ['--dry-run', '--check-config'],
    ['--quiet', '--verbose'],
    ['--print-unit', 'service', '--json'],
    ['--lock-wait', 'long'],
  ]) {
    t.is((await backup(folder, args)).exitCode, 2, args.join(' '));
  }
  t.regex((await backup(folder, ['--print-unit', 'servce'])).stderr, /did you mean service\?/);
});

test('a dry run tells what would be done', async (t) => {
  const folder = house(t, `${JOB}keep = { last = 1 }\nfull-every = 1\n`);
  const env = { SOURCE_DATE_EPOCH: '1767579300' };
  t.is((await backup(folder, [], { env })).exitCode, 0);
  const { exitCode, stdout } = await backup(folder, ['--dry-run'], { env: { SOURCE_DATE_EPOCH: '1767665700' } });
  t.is(exitCode, 0);
  t.regex(
    stdout,
    /^web1: would write .*web1-20260106T021500Z\.vmsnap: full \(every image is full \(full-every = 1\)\)\nweb1: would remove .*web1-20260105T021500Z\.vmsnap\n$/,
  );
  t.is(stored(folder).length, 1);
});

/** Killed processes that nobody has waited for yet still have their number. */
async function isGone(pid: number): Promise<boolean> {
  for (let i = 0; i < 200; i++) {
    try {
      process.kill(pid, 0);
    } catch {
      return true;
    }
    await sleep(20);
  }
  return false;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`${signal} ends hooks and commands, and leaves nothing`, async (t) => {
    const folder = house(t);
    const script = `echo $$ > '${folder}/pid'; cat '${folder}/mem'; sleep 60`;
    const code = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }[signal];
    for (const work of [
      `command = ["sh", "-c", "${script}"]`,
      `source = "mem"\nhooks.before = ["sh", "-c", "${script}"]`,
    ]) {
      writeFileSync(join(folder, 'backup.toml'), `[jobs.web1]\n${work}\nfolder = "store"\n`);
      const { child, result } = startCli(['backup', '--config', 'backup.toml'], { cwd: folder });
      await waitForFile(join(folder, 'pid'));
      await sleep(300);
      child.kill(signal);
      const { exitCode, stdout, stderr } = await result;
      t.deepEqual([exitCode, stdout, stderr], [code, '', `vmsnap: error: stopped by ${signal}\n`]);
      t.deepEqual(stored(folder), []);
      t.true(await isGone(Number(readFileSync(join(folder, 'pid'), 'utf8'))));
      rmSync(join(folder, 'pid'));
    }
  });
}

test('a run that is killed in the middle is swept by the next night', async (t) => {
  const folder = house(t);
  writeFileSync(
    join(folder, 'backup.toml'),
    `[jobs.web1]\ncommand = ["sh", "-c", "cat mem; if [ ! -e second ]; then touch begun; sleep 60; fi"]\nfolder = "store"\n`,
  );
  const { child, result } = startCli(['backup', '--config', 'backup.toml'], { cwd: folder });
  await waitForFile(join(folder, 'begun'));
  await sleep(300);
  child.kill('SIGKILL');
  await result;
  t.is(stored(folder).length, 1, 'what was begun');
  t.true(stored(folder)[0]!.endsWith('.vmsnap-tmp'));
  writeFileSync(join(folder, 'second'), '');
  const { exitCode, stdout, stderr } = await backup(folder, ['--json']);
  t.is(exitCode, 0, stderr);
  const report = JSON.parse(stdout) as { jobs: { sweptFiles: number; image: string }[] };
  t.is(report.jobs[0]!.sweptFiles, 1);
  t.deepEqual(
    stored(folder).map((name) => join(folder, 'store', name)),
    [report.jobs[0]!.image],
  );
});

test('two runs at a time: the second is LOCKED, or waits', async (t) => {
  const folder = house(t, `${JOB}hooks.before = ["sh", "-c", "touch begun; sleep 1.5"]\n`);
  const first = backup(folder);
  await waitForFile(join(folder, 'begun'));
  const second = await backup(folder);
  t.is(second.exitCode, 11);
  t.regex(
    second.stderr,
    /^vmsnap: error: web1: another vmsnap \(process \d+\) is at work in .*\nhint: .*--lock-wait\n$/,
  );
  const third = await backup(folder, ['--lock-wait', '1m']);
  t.is(third.exitCode, 0, third.stderr);
  t.is((await first).exitCode, 0);
  t.is(stored(folder).length, 2);
});

test('the address of a health check is in no output', async (t) => {
  const folder = house(t, `${JOB}health-check = { url = "http://127.0.0.1:1/secret", retries = 0 }\n`);
  for (const args of [[], ['--verbose'], ['--json'], ['--check-config', '--json'], ['--dry-run']]) {
    const { stdout, stderr } = await backup(folder, args);
    t.notRegex(stdout + stderr, /secret/, args.join(' '));
  }
});

test('the example of the manual is a configuration that runs', async (t) => {
  const folder = house(t);
  const manual = readFileSync(join(ROOT, 'docs', 'backup.md'), 'utf8');
  const [example, ...others] = codeBlocks(manual).filter(({ info }) => info === 'toml test');
  t.is(others.length, 0);
  const toml = example!.text
    .replaceAll(/"\/(?:dev\/shm|etc\/vmsnap|var\/lib\/prometheus\/node-exporter)\//g, '"')
    .replace('"/backup"', '"store"')
    .replace('"qemu:/run/', '"qemu:')
    .replace(/=\dG@(\w+):\/dev\/shm\//g, '=1M@$1:');
  t.notRegex(toml, /[":]\//, 'nothing of this machine is touched');
  writeFileSync(join(folder, 'backup.toml'), toml);
  for (const name of ['web1.mem', 'db1.mem', 'big1.low', 'big1.high'])
    writeFileSync(join(folder, name), makeMemory(300));
  writeFileSync(join(folder, 'web1.xml'), '<domain/>');
  writeFileSync(join(folder, 'healthcheck-url'), 'http://127.0.0.1:1/x\n');
  // The running machine is only read of.
  const { exitCode, stdout, stderr } = await backup(folder, ['--json', 'web1', 'db1', 'big1']);
  t.is(exitCode, 3, stderr);
  const report = JSON.parse(stdout) as { jobs: { job: string; status: string }[] };
  t.deepEqual(schemaFaults('backup.json', report), []);
  t.deepEqual(
    report.jobs.map(({ job, status }) => [job, status]),
    [
      ['web1', 'ok'],
      ['db1', 'warning'],
      ['big1', 'ok'],
    ],
    'the monitor of db1 is not there',
  );
  t.true(existsSync(join(folder, 'vmsnap-web1.prom')));
});

test('every key that the program knows is in the manual', async (t) => {
  const manual = readFileSync(join(ROOT, 'docs', 'backup.md'), 'utf8');
  const known = async (toml: string): Promise<string[]> => {
    const { stderr } = await backup(house(t, toml));
    return /the keys here are (.*)\n/.exec(stderr)![1]!.split(', ');
  };
  const keys = [
    ...(await known(`qqqqqq = 1\n${JOB}`)),
    ...(await known(`${JOB}qqqqqq = 1\n`)),
    ...(await known(`${JOB}[jobs.web1.keep]\nqqqqqq = 1\n`)),
    ...(await known(`${JOB}[jobs.web1.hooks]\nqqqqqq = 1\n`)),
    ...(await known(`${JOB}[jobs.web1.health-check]\nqqqqqq = 1\n`)),
  ].filter((key) => key !== 'jobs' && key !== 'defaults');
  t.true(keys.length > 35);
  for (const key of keys) t.true(manual.includes(`\`${key}\``), key);
});
