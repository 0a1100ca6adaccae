/** SIGINT, SIGTERM and SIGHUP: a short message, the right exit code, and nothing left behind. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { startCli, waitForFile } from './support/background.js';
import { temporaryFolder } from './support/folder.js';
import { makeMemory } from './support/memory.js';
import { runCli } from './support/runCli.js';

const EXIT_CODE = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
/** Long enough for the workers to be at it. */
const AT_WORK_MS = 300;

async function stopped(
  t: ExecutionContext,
  folder: string,
  args: readonly string[],
  signal: keyof typeof EXIT_CODE,
  temporary: string,
  input?: Buffer,
): Promise<void> {
  const before = readdirSync(folder).sort();
  const { child, result } = startCli(args, { cwd: folder }, input);
  await waitForFile(join(folder, temporary));
  await sleep(AT_WORK_MS);
  child.kill(signal);
  const { exitCode, stdout, stderr } = await result;
  t.is(exitCode, EXIT_CODE[signal], stderr);
  t.is(stderr, `vmsnap: error: stopped by ${signal}\n`);
  t.is(stdout, '');
  t.deepEqual(readdirSync(folder).sort(), before);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`save of a pipe that stalls, ${signal}: the old image stays`, async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'img'), 'old');
    await stopped(t, folder, ['save', '--force', '-', 'img'], signal, '.img.vmsnap-tmp', makeMemory(1200));
    t.is(readFileSync(join(folder, 'img'), 'utf8'), 'old');
  });

  test(`save of a file, ${signal}`, async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'mem'), makeMemory(8000));
    await stopped(
      t,
      folder,
      ['save', '--frozen', '--level', '22', '--chunk-size', '1M', 'mem', 'img'],
      signal,
      '.img.vmsnap-tmp',
    );
  });

  test(`load of a pipe that stalls, ${signal}: the old file stays`, async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'mem'), makeMemory(1200));
    const saved = await runCli(['save', '--frozen', 'mem', '-'], { cwd: folder });
    writeFileSync(join(folder, 'out'), 'old');
    const half = saved.stdoutBytes.subarray(0, saved.stdoutBytes.length / 2);
    await stopped(t, folder, ['load', '--force', '-', 'out'], signal, '.out.vmsnap-tmp', half);
    t.is(readFileSync(join(folder, 'out'), 'utf8'), 'old');
  });
}

test('a second signal ends it at once', async (t) => {
  const folder = temporaryFolder(t);
  const { child, result } = startCli(['save', '-', 'img'], { cwd: folder }, makeMemory(16));
  await waitForFile(join(folder, '.img.vmsnap-tmp'));
  child.kill('SIGINT');
  child.kill('SIGTERM');
  const { exitCode } = await result;
  t.true(exitCode === 130 || exitCode === 143, `exit code ${exitCode}`);
});

test('with --json a stopped save is an object', async (t) => {
  const folder = temporaryFolder(t);
  const { child, result } = startCli(['save', '--json', '-', 'img'], { cwd: folder }, makeMemory(16));
  await waitForFile(join(folder, '.img.vmsnap-tmp'));
  await sleep(AT_WORK_MS);
  child.kill('SIGTERM');
  const { stdout, stderr } = await result;
  t.is(stderr, '');
  t.regex(stdout, /^\{"schema":"vmsnap\.error",.*"code":"SIGTERM","exitCode":143,.*\}\n$/);
});
