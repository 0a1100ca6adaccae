/**
 * `load --machine --force`, killed at random moments: the folder of the machine is there, the old one or the new one, whole; and the
 * next run removes what was left. VMSNAP_CAMPAIGN=1: many more kills.
 */
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { loadMachine } from '../../lib/index.js';
import { sameFolders } from '../lib/support/sameFolders.js';
import { forgeMachine } from '../support/machineImage.js';
import { temporaryFolder } from './support/folder.js';
import { runCli } from './support/runCli.js';

const KILLS = process.env.VMSNAP_CAMPAIGN === '1' ? 300 : 12;

test('SIGKILL at random moments of load --machine --force', async (t) => {
  t.timeout(900_000);
  const folder = temporaryFolder(t);
  const { image } = await forgeMachine(folder);
  const [machine, old, expected] = ['machine', 'old', 'expected'].map((name) => join(folder, name));
  await loadMachine(image, expected!);
  mkdirSync(old!);
  for (const name of ['device-state', 'memory-old']) writeFileSync(join(old!, name), name);
  const words = ['load', '--quiet', '--force', '--machine', machine!, image];
  t.is((await runCli(words)).exitCode, 0);
  // The second run, whose files are in the page cache as those of the others.
  const started = performance.now();
  t.is((await runCli(words)).exitCode, 0);
  const longestMs = performance.now() - started;
  t.true(sameFolders(machine!, expected!));
  const before = readdirSync(folder).sort();
  const seen = { old: 0, new: 0, left: 0 };
  for (let kill = 0; kill < KILLS; kill++) {
    rmSync(machine!, { recursive: true });
    cpSync(old!, machine!, { recursive: true });
    await runCli(words, {
      onStart: (child) => void sleep(Math.random() * longestMs).then(() => child.kill('SIGKILL')),
    });
    if (sameFolders(machine!, expected!)) seen.new++;
    else if (sameFolders(machine!, old!)) seen.old++;
    else return t.fail(`the folder has ${readdirSync(machine!)}`);
    if (readdirSync(folder).length > before.length) seen.left++;
  }
  t.log(
    `${KILLS} kills: the old folder ${seen.old} times, the new one ${seen.new}; something of a killed run lay there ${seen.left} times`,
  );
  t.is((await runCli(words)).exitCode, 0);
  t.true(sameFolders(machine!, expected!));
  t.deepEqual(readdirSync(folder).sort(), before);
});
