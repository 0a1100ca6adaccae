/** Threads that are started before there is work for them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import test from 'ava';
import { load, save, warmUp } from '../../lib/index.js';
import { sameBytes } from './support/expect.js';
import { MIB, randomMemory, writeSparse } from './support/memory.js';
import { workspace } from './support/workspace.js';

const LIBRARY = new URL('../../lib/index.js', import.meta.url).href;

test('a save and a load use them', async (t) => {
  const folder = workspace(t);
  const memory = randomMemory(9 * MIB);
  writeSparse(folder.path('memory'), memory);
  warmUp(folder.path('memory'), 2);
  await save(folder.path('memory'), folder.path('image'), { threads: 2 });
  warmUp(folder.path('image'), 3);
  await load(folder.path('image'), folder.path('target'), { threads: 1 });
  sameBytes(t, readFileSync(folder.path('target')), memory);
});

test('a save of a pipe uses them', async (t) => {
  const folder = workspace(t);
  const memory = randomMemory(MIB);
  execFileSync('mkfifo', [folder.path('pipe')]);
  warmUp(folder.path('pipe'), 2);
  const written = writeFile(folder.path('pipe'), memory);
  await save(folder.path('pipe'), folder.path('image'), { threads: 2 });
  await written;
  await load(folder.path('image'), folder.path('target'), { threads: 1 });
  sameBytes(t, readFileSync(folder.path('target')), memory);
});

test('what is no input is no reason to start any', (t) => {
  const folder = workspace(t);
  for (const path of [undefined, folder.path('missing'), folder.path('.')]) {
    t.notThrows(() => warmUp(path, undefined));
  }
});

test('they do not keep a process alive', (t) => {
  const folder = workspace(t);
  const script = `import { warmUp } from ${JSON.stringify(LIBRARY)}; warmUp(process.argv[1], 2);`;
  writeSparse(folder.path('memory'), randomMemory(MIB));
  for (const path of [folder.path('memory'), '-']) {
    const words = ['--input-type=module', '--eval', script, path];
    const { status, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 60_000 });
    t.is(status, 0, stderr);
  }
});
