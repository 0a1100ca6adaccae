/**
 * `load --machine --force`, killed at random moments: the folder of the machine is there, the old one or the new one, whole; and the
 * next run removes what was left. VMSNAP_CAMPAIGN=1: many more kills. Then on a file system that cannot exchange two names, nor
 * rename without replacing, where there are more moments, and each is tried.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { loadMachine } from '../../lib/index.js';
import { sameFolders } from '../lib/support/sameFolders.js';
import { missingStrace } from '../lib/support/strace.js';
import { forgeMachine } from '../support/machineImage.js';
import { needing } from '../support/needing.js';
import { temporaryFolder } from './support/folder.js';
import { runCli } from './support/runCli.js';

const KILLS = process.env.VMSNAP_CAMPAIGN === '1' ? 300 : 12;

/** A machine's image, the folder of another machine that is replaced, and the one that a load makes. */
async function stage(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const { image } = await forgeMachine(folder);
  const machine = join(folder, 'machine');
  const old = join(folder, 'old');
  const expected = join(folder, 'expected');
  await loadMachine(image, expected);
  mkdirSync(old);
  for (const name of ['device-state', 'memory-old']) writeFileSync(join(old, name), name);
  const words = ['load', '--quiet', '--force', '--machine', machine, image];
  const putOld = () => {
    rmSync(machine, { recursive: true, force: true });
    cpSync(old, machine, { recursive: true });
  };
  return { folder, machine, old, expected, words, putOld };
}

test('SIGKILL at random moments of load --machine --force', async (t) => {
  t.timeout(900_000);
  const { folder, machine, old, expected, words, putOld } = await stage(t);
  t.is((await runCli(words)).exitCode, 0);
  // The second run, whose files are in the page cache as those of the others.
  const started = performance.now();
  t.is((await runCli(words)).exitCode, 0);
  const longestMs = performance.now() - started;
  t.true(sameFolders(machine, expected));
  const before = readdirSync(folder).sort();
  const seen = { old: 0, new: 0, left: 0 };
  for (let kill = 0; kill < KILLS; kill++) {
    putOld();
    await runCli(words, {
      onStart: (child) => void sleep(Math.random() * longestMs).then(() => child.kill('SIGKILL')),
    });
    if (sameFolders(machine, expected)) seen.new++;
    else if (sameFolders(machine, old)) seen.old++;
    else return t.fail(`the folder has ${readdirSync(machine)}`);
    if (readdirSync(folder).length > before.length) seen.left++;
  }
  t.log(
    `${KILLS} kills: the old folder ${seen.old} times, the new one ${seen.new}; something of a killed run lay there ${seen.left} times`,
  );
  t.is((await runCli(words)).exitCode, 0);
  t.true(sameFolders(machine, expected));
  t.deepEqual(readdirSync(folder).sort(), before);
});

/** The kernel says of all renames with flags what it says on NFS. `killedAt`: the plain rename at which SIGKILL comes. */
function withoutRenameFlags(killedAt?: number): string[] {
  const kill = killedAt === undefined ? [] : ['-e', `inject=rename:signal=KILL:when=${killedAt}`];
  const refuse = ['-e', 'trace=rename,renameat2', '-e', 'inject=renameat2:error=EINVAL'];
  return ['strace', '-f', '-o', '/dev/null', ...refuse, ...kill];
}

const withStrace = needing(missingStrace());

withStrace('load --machine where names cannot be exchanged, nor be given without replacing', async (t) => {
  const { folder, machine, old, expected, words, putOld } = await stage(t);
  const before = [...readdirSync(folder), 'machine'].sort();
  const load = (args: readonly string[], killedAt?: number) => runCli(args, { wrapper: withoutRenameFlags(killedAt) });
  const withoutForce = words.filter((word) => word !== '--force');

  const first = await load(withoutForce);
  t.is(first.exitCode, 0, first.stderr);
  t.true(sameFolders(machine, expected));

  // Killed before the old one is moved aside, when neither has the name, and when the new one has it.
  for (const [killedAt, left] of [
    [1, old],
    [2, undefined],
    [3, expected],
  ] as const) {
    putOld();
    const killed = await load(words, killedAt);
    t.not(killed.exitCode, 0);
    if (left === undefined) {
      t.false(existsSync(machine));
      const refused = await load(withoutForce);
      t.is(refused.exitCode, 21, refused.stderr);
      t.true(sameFolders(machine, old), 'the old one is put back');
    } else {
      t.true(sameFolders(machine, left));
    }
    const next = await load(words);
    t.is(next.exitCode, 0, next.stderr);
    t.true(sameFolders(machine, expected));
    t.deepEqual(readdirSync(folder).sort(), before);
  }
});
