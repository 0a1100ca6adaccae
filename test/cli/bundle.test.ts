/**
 * The bundle is what users run and what all tests of the command line run; those of the library run the files as they are compiled.
 * So each command is called in both ways, and must give the same; what may differ (times, paths of the program) is not compared.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from './support/folder.js';
import { makeMemory } from './support/memory.js';
import { BUNDLE, COMPILED, ROOT } from './support/paths.js';
import { type CliResult, runCli } from './support/runCli.js';

const PAGE_COUNT = 1500;
const ENVIRONMENT = { SOURCE_DATE_EPOCH: '1700000000' };

interface Pair {
  readonly bundled: CliResult;
  readonly compiled: CliResult;
}

async function both(args: (kind: string) => readonly string[]): Promise<Pair> {
  const [bundled, compiled] = await Promise.all([
    runCli(args('bundled'), { program: BUNDLE, env: ENVIRONMENT }),
    runCli(args('compiled'), { program: COMPILED, env: ENVIRONMENT }),
  ]);
  return { bundled, compiled };
}

function requireSame(t: ExecutionContext, { bundled, compiled }: Pair, exitCode = 0): void {
  t.is(bundled.exitCode, exitCode, bundled.stderr);
  t.is(bundled.stdout, compiled.stdout);
  t.is(bundled.stderr, compiled.stderr);
}

test('package.json names the bundle, which has a file for each command', (t) => {
  const { bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { bin: { vmsnap: string } };
  t.is(join(ROOT, bin.vmsnap), BUNDLE);
  t.true(readFileSync(BUNDLE, 'utf8').startsWith('#!/usr/bin/env node\n'));
  const files = readdirSync(join(BUNDLE, '..'));
  for (const name of ['worker.cjs', 'guardMain.cjs', 'save.cjs', 'load.cjs', 'inspect.cjs'])
    t.true(files.includes(name), name);
});

test('the version and the help', async (t) => {
  requireSame(t, await both(() => ['--version']));
  requireSame(t, await both(() => ['--help']));
  requireSame(t, await both(() => ['save', '--help']));
  requireSame(t, await both(() => ['lod']), 2);
});

test('save, verify, inspect, compare, load', async (t) => {
  const folder = temporaryFolder(t);
  const memory = makeMemory(PAGE_COUNT);
  const source = join(folder, 'memory');
  writeFileSync(source, memory);
  writeFileSync(`${source}.gz`, gzipSync(memory));
  const image = (kind: string) => join(folder, `${kind}.vmsnap`);
  await both((kind) => ['save', '--quiet', source, image(kind)]);
  t.true(readFileSync(image('bundled')).equals(readFileSync(image('compiled'))));

  requireSame(t, await both(() => ['inspect', '--json', image('bundled')]));
  requireSame(t, await both(() => ['compare', '--quiet', image('bundled'), image('compiled')]));
  requireSame(t, await both(() => ['list', '--json', folder]));
  for (const name of ['verify', 'estimate']) {
    const { bundled } = await both(() => [name, '--json', name === 'verify' ? image('bundled') : source]);
    t.is(bundled.exitCode, 0, bundled.stderr);
  }
  // Through the thread that inflates, into a differential image.
  const gzipped = await both((kind) => [
    'save',
    '--quiet',
    '--base',
    image('compiled'),
    `${source}.gz`,
    join(folder, `${kind}-2.vmsnap`),
  ]);
  requireSame(t, gzipped);
  const loaded = await both((kind) => ['load', '--quiet', join(folder, `${kind}-2.vmsnap`), join(folder, kind)]);
  requireSame(t, loaded);
  t.true(readFileSync(join(folder, 'bundled')).equals(memory));
});

test('errors of the threads', async (t) => {
  const folder = temporaryFolder(t);
  const source = join(folder, 'memory');
  const image = join(folder, 'image.vmsnap');
  writeFileSync(source, makeMemory(PAGE_COUNT));
  t.is((await runCli(['save', '--quiet', source, image], { program: BUNDLE })).exitCode, 0);
  const bytes = readFileSync(image);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(image, bytes);
  requireSame(t, await both((kind) => ['load', image, join(folder, kind)]), 14);
  requireSame(t, await both((kind) => ['load', join(folder, 'none'), join(folder, kind)]), 10);
});
