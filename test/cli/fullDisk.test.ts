/** A disk that is full half way, on a small tmpfs that only the command sees (a mount namespace of its own). */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { needing } from '../support/needing.js';
import { temporaryFolder } from './support/folder.js';
import { makeMemory } from './support/memory.js';
import { type CliResult, runCli } from './support/runCli.js';

const NAMESPACE =
  process.getuid!() === 0 ? ['unshare', '--mount'] : ['unshare', '--user', '--map-root-user', '--mount'];

/** Why a small file system cannot be had here, or undefined. */
function obstacle(): string | undefined {
  const [command, ...args] = [...NAMESPACE, 'sh', '-c', 'mount -t tmpfs -o size=64k none /mnt'];
  const tried = spawnSync(command!, args, { encoding: 'utf8' });
  if (tried.status === 0) return undefined;
  return tried.error?.message ?? tried.stderr.trim();
}

const NO_MOUNT = obstacle();

/** Runs in `folder`, of which `small` is a tmpfs of 1 MiB; afterwards the names in it stand on stderr's last line. */
function runOnSmallDisk(folder: string, args: readonly string[], input?: Buffer): Promise<CliResult> {
  mkdirSync(join(folder, 'small'));
  const script = 'mount -t tmpfs -o size=1m none small || exit 99; "$@"; code=$?; ls -A small >&2; exit $code';
  const wrapper = [...NAMESPACE, 'sh', '-c', script, 'sh'];
  return runCli(args, { cwd: folder, wrapper, ...(input === undefined ? {} : { input }) });
}

async function full(t: ExecutionContext, folder: string, args: readonly string[], input?: Buffer): Promise<void> {
  const { exitCode, stdout, stderr } = await runOnSmallDisk(folder, args, input);
  t.is(exitCode, 13, stderr);
  t.is(stdout, '');
  t.regex(stderr, /^vmsnap: error: .*no space left.*\nhint: .*\n$/, 'an error, and nothing left behind');
}

const onSmallDisk = needing(NO_MOUNT);

onSmallDisk('save onto a disk that is too small', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(4096));
  await full(t, folder, ['save', '--frozen', '--segment-size', '1M', 'mem', 'small/img']);
});

onSmallDisk('save from a pipe onto a disk that gets full', async (t) => {
  await full(t, temporaryFolder(t), ['save', '--segment-size', '1M', '-', 'small/img'], makeMemory(4096));
});

onSmallDisk('an estimate for a disk that is too small', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(4096));
  const { exitCode, stdout, stderr } = await runOnSmallDisk(folder, ['estimate', '--target', 'small', 'mem']);
  t.is(exitCode, 3, stderr);
  t.regex(stdout, /\nsmall: 1 MiB free, it does not fit\n$/);
  t.is(stderr, 'vmsnap: warning: the image will not fit into small\n');
});

onSmallDisk('load onto a disk that gets full', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(4096));
  t.is((await runCli(['save', '--quiet', '--frozen', 'mem', 'img'], { cwd: folder })).exitCode, 0);
  await full(t, folder, ['load', 'img', 'small/out']);
});

onSmallDisk('extract onto a disk that gets full', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(1024));
  const save = ['save', '--quiet', '--frozen', '--attach', 'big=mem', 'mem', 'img'];
  t.is((await runCli(save, { cwd: folder })).exitCode, 0);
  await full(t, folder, ['extract', '--attachment', 'big', 'img', 'small/big']);
});

test('a file size limit stops a save, and nothing is left behind', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(4096));
  const script = 'ulimit -f 1024; "$@"; code=$?; ls -A >&2; exit $code';
  const { exitCode, stderr } = await runCli(['save', '--frozen', 'mem', 'img'], {
    cwd: folder,
    wrapper: ['sh', '-c', script, 'sh'],
  });
  t.is(exitCode, 20, stderr);
  t.regex(stderr, /^vmsnap: error: .*file too large.*\nhint: .*ulimit -f.*\nmem\n$/);
});
