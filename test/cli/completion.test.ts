/** The bash completion as bash runs it, and the page of all commands and options. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { CommandSpec } from '../../cli/command.js';
import { COMMANDS } from '../../cli/commandTable.js';
import { bashCompletion } from '../../cli/completion/bash.js';
import { referencePage } from '../../cli/reference/markdown.js';
import { temporaryFolder } from './support/folder.js';
import { ROOT } from './support/paths.js';
import { runCli } from './support/runCli.js';

const specs: readonly CommandSpec[] = await Promise.all(COMMANDS.map((command) => command.load()));
const script = bashCompletion(specs, '0.0.0');

/** What bash offers for the last of `words`. */
function complete(t: ExecutionContext, words: readonly string[], files: readonly string[] = []): string[] {
  const folder = temporaryFolder(t);
  for (const file of files) writeFileSync(join(folder, file), '');
  const program = `${script}\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n_vmsnap\nprintf '%s\\n' "\${COMPREPLY[@]}"`;
  const { status, stdout, stderr } = spawnSync('bash', ['-euc', program, 'bash', 'vmsnap', ...words], {
    cwd: folder,
    encoding: 'utf8',
  });
  t.is(status, 0, stderr);
  t.is(stderr, '');
  return stdout.split('\n').filter((line) => line !== '');
}

test('commands are completed', (t) => {
  t.deepEqual(complete(t, ['']).sort(), [...COMMANDS.map(({ name }) => name), 'help', '--help', '--version'].sort());
  t.deepEqual(complete(t, ['ver']), ['verify']);
  t.deepEqual(complete(t, ['help', 'fl']), ['flatten']);
});

test('every option of every command is completed', (t) => {
  for (const { name, options } of specs) {
    const expected = [...options.map((option) => `--${option.name}`), '--help'].sort();
    t.deepEqual(complete(t, [name, '--']).sort(), expected, name);
  }
});

test('words of an option are completed, behind a blank and behind =', (t) => {
  t.deepEqual(complete(t, ['save', '--codec', 'z']), ['zstd', 'zlib']);
  t.deepEqual(complete(t, ['save', '--codec', '=', 'zs']), ['zstd']);
  t.deepEqual(complete(t, ['save', '--codec', '=']), ['zstd', 'zlib', 'none']);
  t.deepEqual(complete(t, ['completion', '']), ['bash']);
});

test('files are completed where there may be one, with blanks in their names', (t) => {
  const files = ['guest one.vmsnap', 'guest-two.vmsnap'];
  t.deepEqual(complete(t, ['load', 'guest'], files).sort(), files);
  t.deepEqual(complete(t, ['save', '--base', 'guest-'], files), ['guest-two.vmsnap']);
  t.deepEqual(complete(t, ['save', '--level', 'g'], files), []);
});

test('the command prints the script', async (t) => {
  const { exitCode, stdout, stderr } = await runCli(['completion', 'bash']);
  t.is(exitCode, 0, stderr);
  t.true(stdout.endsWith('complete -F _vmsnap vmsnap\n'));
  const other = await runCli(['completion', 'fish']);
  t.is(other.exitCode, 2);
  t.regex(other.stderr, /no completion for "fish"[\s\S]*bash/);
});

test('docs/reference.md is what the commands say (npm run reference)', (t) => {
  t.true(readFileSync(join(ROOT, 'docs', 'reference.md'), 'utf8') === referencePage(specs));
});
