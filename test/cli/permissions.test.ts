/** Files that this user may not read or write. Root may everything, so as root the command runs as nobody. */
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { needing } from '../support/needing.js';
import { temporaryFolder } from './support/folder.js';
import { makeMemory } from './support/memory.js';
import { type CliOptions, runCli } from './support/runCli.js';

const NOBODY = 65534;
const AS_USER: CliOptions = process.getuid!() === 0 ? { spawn: { uid: NOBODY, gid: NOBODY } } : {};

test('a source without read permission, an image in a folder without write permission', async (t) => {
  const folder = temporaryFolder(t);
  const options = { ...AS_USER, cwd: folder };
  chmodSync(folder, 0o777);
  const version = await runCli(['--version'], options).catch((error: Error) => ({
    exitCode: 1,
    stderr: error.message,
  }));
  if (version.exitCode !== 0) {
    t.pass(`node cannot run as nobody here: ${version.stderr}`);
    return;
  }
  writeFileSync(join(folder, 'secret'), makeMemory(16), { mode: 0o000 });
  const unreadable = await runCli(['save', 'secret', 'img'], options);
  t.is(unreadable.exitCode, 19, unreadable.stderr);
  t.regex(unreadable.stderr, /^vmsnap: error: .*secret.*permission denied.*\nhint: /);

  writeFileSync(join(folder, 'mem'), makeMemory(16), { mode: 0o644 });
  mkdirSync(join(folder, 'locked'), { mode: 0o555 });
  const unwritable = await runCli(['save', '--frozen', 'mem', 'locked/img'], options);
  t.is(unwritable.exitCode, 19, unwritable.stderr);
});

test('an image and a loaded file are for their owner only, unless --mode says otherwise', async (t) => {
  const folder = temporaryFolder(t);
  const mode = (name: string): number => statSync(join(folder, name)).mode & 0o7777;
  writeFileSync(join(folder, 'mem'), makeMemory(16), { mode: 0o644 });
  t.is((await runCli(['save', '--quiet', '--frozen', 'mem', 'img'], { cwd: folder })).exitCode, 0);
  t.is(mode('img'), 0o600);
  t.is((await runCli(['load', '--quiet', 'img', 'out'], { cwd: folder })).exitCode, 0);
  t.is(mode('out'), 0o600);
  t.is((await runCli(['load', '--quiet', '--mode', '640', 'img', 'out2'], { cwd: folder })).exitCode, 0);
  t.is(mode('out2'), 0o640);
});

const asRoot = needing(process.getuid!() === 0 ? undefined : 'only root may give a file away');
asRoot('--owner gives a loaded file to another', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(16));
  t.is((await runCli(['save', '--quiet', '--frozen', 'mem', 'img'], { cwd: folder })).exitCode, 0);
  t.is((await runCli(['load', '--quiet', '--owner', 'nobody:4321', 'img', 'out'], { cwd: folder })).exitCode, 0);
  const { uid, gid } = statSync(join(folder, 'out'));
  t.deepEqual([uid, gid], [NOBODY, 4321]);
});
