/** `vmsnap bench` as a user calls it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from './support/folder.js';
import { runCli } from './support/runCli.js';

test('tables, and a plot that is an SVG', async (t) => {
  const cwd = temporaryFolder(t);
  const args = ['bench', '--size', '16M', '--rounds', '1', '--table', 'scan', '--table', 'codecs', '--folder', '.'];
  const { exitCode, stdout, stderr } = await runCli([...args, '--plot', 'bench.svg'], { cwd });
  t.is(exitCode, 0, stderr);
  t.is(stderr, '');
  t.regex(stdout, /^SCAN {2}one thread.*GB\/s at most$/m);
  t.regex(stdout, /^ {2}zstd 1 +[\d.]+ s +[\d.]+ GB\/s/m);
  t.notRegex(stdout, /SHARE|ZEROS/);
  if (/dsa-emulated/.test(stdout)) t.regex(stdout, /^\* emulated: a device in software/m);
  const svg = readFileSync(join(cwd, 'bench.svg'), 'utf8');
  t.regex(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"[\s\S]*<\/svg>\n$/);
  t.notRegex(svg, /NaN|undefined|dsa-emulated/);
});

test('wrong calls', async (t) => {
  const cwd = temporaryFolder(t);
  const table = await runCli(['bench', '--table', 'sacn'], { cwd });
  t.is(table.exitCode, 2);
  t.regex(table.stderr, /scan/);
  t.is((await runCli(['bench', '--rounds', '1.5'], { cwd })).exitCode, 2);
  t.is((await runCli(['bench', 'a', 'b'], { cwd })).exitCode, 2);
  t.is((await runCli(['bench', 'missing.mem'], { cwd })).exitCode, 10);
});
