/** Two writers to one name, and what killed ones leave. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { startCli, waitForFile } from './support/background.js';
import { temporaryFolder } from './support/folder.js';
import { makeMemory } from './support/memory.js';
import { runCli } from './support/runCli.js';

test('a second saver to the same name gets LOCKED, and the first goes on', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(64));
  const first = startCli(['save', '--quiet', '-', 'img'], { cwd: folder }, makeMemory(64));
  await waitForFile(join(folder, '.img.vmsnap-tmp'));
  const second = await runCli(['save', '--frozen', 'mem', 'img'], { cwd: folder });
  t.is(second.exitCode, 11, second.stderr);
  t.regex(second.stderr, /^vmsnap: error: another vmsnap is writing img\n/);
  first.child.stdin!.end();
  t.is((await first.result).exitCode, 0);
  t.deepEqual(readdirSync(folder).sort(), ['img', 'mem']);
});

test('a saver that was killed leaves the old image, and the next run sweeps the rest', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mem'), makeMemory(64));
  const killed = startCli(['save', '-', 'img'], { cwd: folder }, makeMemory(64));
  await waitForFile(join(folder, '.img.vmsnap-tmp'));
  killed.child.kill('SIGKILL');
  t.is((await killed.result).signal, 'SIGKILL');
  t.false(existsSync(join(folder, 'img')));
  const next = await runCli(['save', '--json', '--frozen', 'mem', 'other'], { cwd: folder });
  t.is(next.exitCode, 0, next.stderr);
  t.is((JSON.parse(next.stdout) as { run: { sweptFiles: number } }).run.sweptFiles, 1);
  t.deepEqual(readdirSync(folder).sort(), ['mem', 'other']);
});
