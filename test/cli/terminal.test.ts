/** What is different on a terminal, and pipes whose reader goes away. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { needing } from '../support/needing.js';
import { temporaryFolder } from './support/folder.js';
import { makeMemory } from './support/memory.js';
import { BUNDLE } from './support/paths.js';
import { runCli } from './support/runCli.js';

/** Runs a shell line in which `vmsnap` is the command, on a terminal of its own; escapes read ESC in what it shows. */
function onTerminal(folder: string, line: string, env: Readonly<Record<string, string>> = {}): string {
  const quoted = line.replaceAll('vmsnap', `'${process.execPath}' '${BUNDLE}'`);
  const result = spawnSync('script', ['-qec', quoted, '/dev/null'], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, TERM: 'xterm', ...env },
  });
  return result.stdout.replaceAll('\u001b', 'ESC');
}

const hasScript = spawnSync('script', ['--version']).error === undefined;
const withTerminal = needing(hasScript ? undefined : 'script, of the package bsdutils, is not installed');

withTerminal('progress on a terminal, cleared at the end; none with --quiet, --json or a dumb terminal', (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(6000));
  const save = 'vmsnap save --frozen --force --level 15 mem img';
  const shown = onTerminal(folder, save, { NO_COLOR: '1' });
  t.regex(shown, /\rsave +\d+ % {2}.+ of 23\.4 MiB {2}.+\/s/);
  t.regex(shown, /\rESC\[Kimg: 23\.4 MiB of memory/);
  t.is(onTerminal(folder, `${save} --quiet`), '');
  t.regex(onTerminal(folder, `${save} --json`), /^\{.*\}\r\n$/);
  t.notRegex(onTerminal(folder, save, { TERM: 'dumb' }), /ESC| % {2}/);
});

withTerminal('errors are coloured on a terminal, unless NO_COLOR says otherwise', (t) => {
  const folder = temporaryFolder(t);
  t.regex(onTerminal(folder, 'vmsnap save --lvel a b'), /ESC\[31mvmsnap: error:ESC\[39m/);
  t.is(onTerminal(folder, 'vmsnap save --lvel a b', { NO_COLOR: '1' }).includes('ESC'), false);
});

withTerminal('memory goes neither to nor from a terminal', (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(10));
  t.regex(
    onTerminal(folder, 'vmsnap save --frozen mem -', { NO_COLOR: '1' }),
    /^vmsnap: error: standard output is a terminal/,
  );
  t.regex(onTerminal(folder, 'vmsnap save - img', { NO_COLOR: '1' }), /^vmsnap: error: standard input is a terminal/);
});

test('a reader that goes away is no error for a listing', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(24_000));
  t.is((await runCli(['save', '--quiet', '--frozen', 'mem', 'img'], { cwd: folder })).exitCode, 0);
  const vmsnap = `'${process.execPath}' '${BUNDLE}'`;
  for (const view of ['', '--map', '--chunks', '--json', '--map --json', '--help']) {
    const line = `set -o pipefail; ${vmsnap} inspect ${view} img | true`;
    const { status, stderr } = spawnSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8' });
    t.is(stderr, '', view);
    t.is(status, 0, view);
  }
});

test('an answer that cannot be written is an error', async (t) => {
  const folder = temporaryFolder(t);
  const full = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(full));
  const { exitCode, stderr } = await runCli(['--help'], { cwd: folder, spawn: { stdio: ['ignore', full, 'pipe'] } });
  t.is(exitCode, 20);
  t.regex(stderr, /cannot write the answer/);
});
