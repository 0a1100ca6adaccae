/** systemd and cron: the printed units are sound and hardened, and the command lines of the manual work as they stand. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { needing } from '../support/needing.js';
import { temporaryFolder } from './support/folder.js';
import { codeBlocks } from './support/markdown.js';
import { makeMemory } from './support/memory.js';
import { BUNDLE, ROOT } from './support/paths.js';
import { runCli } from './support/runCli.js';

/** systemd-analyze's measure, times ten: 29 as it is; 100 is a service without any of it. */
const EXPOSURE_MAX = 30;
const UNIT_FILES: Readonly<Record<string, string>> = {
  service: 'vmsnap-backup.service',
  timer: 'vmsnap-backup.timer',
  'job-service': 'vmsnap-backup@.service',
  'job-timer': 'vmsnap-backup@.timer',
};

function analyze(...args: readonly string[]): { status: number | null; output: string } {
  const { status, stdout, stderr, error } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  return { status, output: error?.message ?? stdout + stderr };
}

const analyzer = analyze('--version');
const NO_SYSTEMD = process.env.VMSNAP_REQUIRE_GUEST === '1' || analyzer.status === 0 ? undefined : analyzer.output;

/** A mount namespace of its own, in which /etc is empty and vmsnap is installed. */
const NAMESPACE = ['unshare', '--mount', 'sh', '-euc'];
const SET_UP = `mount -t tmpfs none /etc
mkdir -p /etc/vmsnap /etc/systemd/system
cp backup.toml /etc/vmsnap/
mount --bind bin /usr/local/sbin
`;

function obstacle(): string | undefined {
  if (process.env.VMSNAP_REQUIRE_GUEST === '1') return undefined;
  const [command, ...words] = [...NAMESPACE, 'mount -t tmpfs none /etc && mount --bind /tmp /usr/local/sbin'];
  const tried = spawnSync(command!, words, { encoding: 'utf8' });
  return tried.status === 0 ? undefined : (tried.error?.message ?? tried.stderr.trim());
}

const NO_NAMESPACE = obstacle();

function house(t: ExecutionContext): string {
  const folder = temporaryFolder(t);
  for (const name of ['store', 'metrics', 'bin', 'units']) mkdirSync(join(folder, name));
  writeFileSync(join(folder, 'mem'), makeMemory(600));
  const toml = `[jobs.web1]\nsource = "${folder}/mem"\nfolder = "${folder}/store"\nmetrics = "${folder}/metrics/{job}.prom"\n`;
  writeFileSync(join(folder, 'backup.toml'), toml);
  program(join(folder, 'bin', 'vmsnap'), `exec '${process.execPath}' '${BUNDLE}' "$@"`);
  program(join(folder, 'bin', 'systemctl'), `echo "$@" >> '${folder}/systemctl.log'`);
  return folder;
}

function program(path: string, line: string): void {
  writeFileSync(path, `#!/bin/sh\n${line}\n`);
  chmodSync(path, 0o755);
}

async function printUnits(t: ExecutionContext, folder: string): Promise<void> {
  for (const [kind, file] of Object.entries(UNIT_FILES)) {
    const { exitCode, stdout, stderr } = await runCli(['backup', '--config', 'backup.toml', '--print-unit', kind], {
      cwd: folder,
    });
    t.is(exitCode, 0, stderr);
    writeFileSync(join(folder, 'units', file), stdout);
  }
  // An instance, as "systemctl start" makes it.
  copyFileSync(join(folder, 'units', 'vmsnap-backup@.service'), join(folder, 'units', 'vmsnap-backup@web1.service'));
}

const withSystemd = needing(NO_SYSTEMD);

withSystemd('systemd finds nothing wrong in the units, and little that they could do', async (t) => {
  const folder = house(t);
  await printUnits(t, folder);
  const unit = (name: string): string => join(folder, 'units', name);
  for (const name of readdirSync(join(folder, 'units')).filter((file) => !file.includes('@.'))) {
    const verified = analyze('verify', unit(name));
    t.deepEqual(verified, { status: 0, output: '' }, name);
  }
  for (const name of ['vmsnap-backup.service', 'vmsnap-backup@web1.service']) {
    const rated = analyze('security', '--offline=true', `--threshold=${EXPOSURE_MAX}`, '--no-pager', unit(name));
    t.is(rated.status, 0, rated.output);
    t.regex(rated.output, /Overall exposure level/);
  }
});

test('the units say how this vmsnap is called, and what it writes', async (t) => {
  const folder = house(t);
  await printUnits(t, folder);
  const read = (file: string): string[] => readFileSync(join(folder, 'units', file), 'utf8').split('\n');
  const start = `ExecStart=${process.execPath} ${BUNDLE} backup --config ${folder}/backup.toml --lock-wait 6h`;
  const written = [`ReadWritePaths=${folder}/store`, `ReadWritePaths=${folder}/metrics`];
  for (const [file, line] of [
    ['vmsnap-backup.service', start],
    ['vmsnap-backup@.service', `${start} %i`],
  ] as const) {
    t.deepEqual(
      read(file).filter((each) => each.startsWith('ExecStart=')),
      [line],
    );
    t.deepEqual(
      read(file).filter((each) => each.startsWith('ReadWritePaths=')),
      written,
    );
  }
  t.true(read('vmsnap-backup.timer').includes('Persistent=true'));
  const strange = join(folder, 'a %b $c "d"');
  mkdirSync(strange);
  copyFileSync(join(folder, 'backup.toml'), join(strange, 'backup.toml'));
  const { stdout } = await runCli(['backup', '--config', join(strange, 'backup.toml'), '--print-unit', 'service']);
  t.true(stdout.includes(`"${folder}/a %%b $$c \\"d\\"/backup.toml"`), stdout);
});

test('the templates are part of the package', (t) => {
  const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { files: string[] };
  t.true(files.includes('docs'));
  t.deepEqual(readdirSync(join(ROOT, 'docs', 'systemd')).sort(), Object.values(UNIT_FILES).sort());
});

/** Runs a script where the manual's paths are free. */
function inNamespace(t: ExecutionContext, folder: string, script: string): string {
  const [command, ...words] = [...NAMESPACE, `${SET_UP}${script}`];
  const { status, stdout, stderr } = spawnSync(command!, words, {
    cwd: folder,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    encoding: 'utf8',
  });
  t.is(status, 0, stdout + stderr);
  return stdout + stderr;
}

const manual = codeBlocks(readFileSync(join(ROOT, 'docs', 'backup.md'), 'utf8'));
const readme = codeBlocks(readFileSync(join(ROOT, 'README.md'), 'utf8'));
const images = (folder: string): string[] =>
  readdirSync(join(folder, 'store')).filter((name) => name.endsWith('.vmsnap'));
const withNamespace = needing(NO_NAMESPACE);

for (const [page, blocks] of [
  ['docs/backup.md', manual],
  ['README.md', readme],
] as const) {
  withNamespace(`the line for cron in ${page}, as cron runs it: no mail, or what is wrong`, (t) => {
    const folder = house(t);
    const { text } = blocks.find(({ info }) => info === 'crontab')!;
    const path = /^PATH=(.*)$/m.exec(text)![1]!;
    const [, user, command] = /^\d+ \d+ \* \* \* {2}(\S+) {2}(.*)$/m.exec(text)!;
    t.is(user, 'root');
    const asCron = `env -i HOME=/root LOGNAME=root SHELL=/bin/sh PATH='${path}' /bin/sh -c '${command}'`;
    t.is(inNamespace(t, folder, asCron), '', 'no mail');
    t.is(images(folder).length, 1);
    const mail = inNamespace(t, folder, `mv mem away; code=0; ${asCron} || code=$?; mv away mem; test "$code" = 10`);
    t.regex(mail, /^vmsnap: error: web1: cannot open the source .*\/mem: no such file or directory \(ENOENT\)\n$/);
    t.is(images(folder).length, 1);
  });
}

withNamespace('the steps for systemd, and the command line of the unit', (t) => {
  const folder = house(t);
  const { text } = manual.find((block) => block.info === 'sh' && block.text.includes('--print-unit'))!;
  const run = `export PATH=/usr/local/sbin:/usr/bin:/bin
${text}
cp /etc/systemd/system/* units/
sed -n 's/^ExecStart=//p' /etc/systemd/system/vmsnap-backup.service > start
env -i JOURNAL_STREAM=8:1 PATH=/usr/bin:/bin sh -c "$(cat start)" > said 2>&1
`;
  t.regex(inNamespace(t, folder, run), /^\/etc\/vmsnap\/backup\.toml: 1 job\n {2}web1 .*\n$/);
  t.is(readFileSync(join(folder, 'said'), 'utf8'), '');
  t.is(images(folder).length, 1);
  t.is(readFileSync(join(folder, 'systemctl.log'), 'utf8'), 'daemon-reload\nenable --now vmsnap-backup.timer\n');
  t.deepEqual(readdirSync(join(folder, 'units')).sort(), ['vmsnap-backup.service', 'vmsnap-backup.timer']);
});
