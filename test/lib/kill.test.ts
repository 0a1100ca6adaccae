/**
 * SIGKILL at random moments: what stood under the name stands untouched, and the next run sweeps what was left.
 *
 * The moment is drawn over the time that such a run takes, so kills fall into opening, writing, syncing and renaming. A kill that
 * finds the work done already is drawn again: only those that met running work count.
 * VMSNAP_KILLS=N spreads N kills of running work over the five operations; without it there are sixty.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { load, save, verify } from '../../lib/index.js';
import type { Outcome, Work } from './children/work.js';
import { sameBytes } from './support/expect.js';
import { MIB, mixedMemory, PAGE } from './support/memory.js';
import { startWork } from './support/work.js';
import { diskWorkspace, type Workspace, workspace } from './support/workspace.js';

const OPERATIONS = 5;
const KILLS_WANTED = process.env.VMSNAP_KILLS;
const KILLS = KILLS_WANTED === undefined ? 12 : Math.ceil(Number(KILLS_WANTED) / OPERATIONS);
const KILL_SECONDS_MAX = 30;
/** More draws than this for each kill that counts would mean that the work is not met at all. */
const DRAWS_PER_KILL_MAX = 10;
const MEMORY = mixedMemory(32 * MIB);
const OTHER = mixedMemory(2 * MIB, 77);
const LIMIT_MS = 60_000 + 1000 * KILL_SECONDS_MAX * KILLS;
const SEGMENTS = { segmentSize: MIB, threads: 2 } as const;

interface Tally {
  killed: number;
  finished: number;
  leftovers: number;
}

function everyThirdPageChanged(memory: Buffer): Buffer {
  const changed = Buffer.from(memory);
  for (let at = 0; at < changed.length; at += 3 * PAGE) changed.writeUInt32LE(at + 1, at + 100);
  return changed;
}

/** Starts `work`, kills it at a random moment. @returns whether it had come to its end. */
async function runAndKill(work: Work, longestMs: number): Promise<boolean> {
  const running = startWork(work);
  await running.started;
  await delay(Math.random() * longestMs);
  running.child.kill('SIGKILL');
  const outcome: Outcome = await running.outcome;
  if (!outcome.ok && outcome.code !== 'SIGKILL') throw new Error(`${outcome.code}: ${outcome.message}`);
  return outcome.ok;
}

/** How long a run takes from its start to its end here and now. */
async function durationMs(work: Work): Promise<number> {
  const running = startWork(work);
  await running.started;
  const started = performance.now();
  const outcome = await running.outcome;
  if (!outcome.ok) throw new Error(outcome.message);
  return performance.now() - started;
}

async function fixture(t: ExecutionContext, make = diskWorkspace): Promise<Workspace> {
  const folder = make(t);
  writeFileSync(folder.path('memory'), MEMORY);
  writeFileSync(folder.path('other'), OTHER);
  await save(folder.path('memory'), folder.path('big'), SEGMENTS);
  await save(folder.path('other'), folder.path('small'), SEGMENTS);
  return folder;
}

/** Kills `work` again and again; `check` sees the folder after each kill and is told whether the work was done. */
async function killAgainAndAgain(
  t: ExecutionContext,
  folder: Workspace,
  work: Work,
  check: (finished: boolean) => Promise<void> | void,
): Promise<void> {
  const longestMs = await durationMs(work);
  const tally: Tally = { killed: 0, finished: 0, leftovers: 0 };
  await check(true);
  for (let draws = 0; tally.killed < KILLS; draws++) {
    if (draws >= KILLS * DRAWS_PER_KILL_MAX) throw new Error(`only ${tally.killed} of ${draws} kills met running work`);
    const finished = await runAndKill(work, longestMs);
    tally[finished ? 'finished' : 'killed']++;
    tally.leftovers += folder.leftovers().length;
    await check(finished);
  }
  t.log(
    `${tally.killed} kills met running work, ${tally.finished} came too late; ${tally.leftovers} leftovers were swept`,
  );
}

/** The next run, of whatever name, sweeps. */
async function requireSwept(t: ExecutionContext, folder: Workspace): Promise<void> {
  await save(folder.path('other'), folder.path('next'), SEGMENTS);
  t.deepEqual(folder.leftovers(), []);
  rmSync(folder.path('next'));
}

test.serial('save over an old image', async (t) => {
  t.timeout(LIMIT_MS);
  const folder = await fixture(t);
  const image = folder.path('image');
  const old = readFileSync(folder.path('small'));
  const reset = () => writeFileSync(image, old);
  reset();
  const work: Work = { operation: 'save', source: folder.path('memory'), image, options: { ...SEGMENTS, force: true } };
  await killAgainAndAgain(t, folder, work, async () => {
    // The rename may have been done just before the kill: then the new image is whole.
    if (readFileSync(image).equals(old)) t.pass();
    else t.true((await verify(image)).intact);
    await requireSwept(t, folder);
    reset();
  });
});

test.serial('save against a base', async (t) => {
  t.timeout(LIMIT_MS);
  const folder = await fixture(t);
  const [base, changed, image] = [folder.path('big'), folder.path('changed'), folder.path('image')];
  writeFileSync(changed, everyThirdPageChanged(MEMORY));
  const baseBefore = readFileSync(base);
  const old = readFileSync(folder.path('small'));
  const reset = () => writeFileSync(image, old);
  reset();
  const work: Work = { operation: 'save', source: changed, image, options: { ...SEGMENTS, force: true, base } };
  await killAgainAndAgain(t, folder, work, async (finished) => {
    if (!finished && readFileSync(image).equals(old)) t.pass();
    else t.true((await verify(image)).intact);
    await requireSwept(t, folder);
    t.true(readFileSync(base).equals(baseBefore), 'the base is as it was');
    reset();
  });
});

test.serial('load into a new file', async (t) => {
  t.timeout(LIMIT_MS);
  const folder = await fixture(t);
  const target = folder.path('target');
  const work: Work = { operation: 'load', image: folder.path('big'), target, options: { threads: 2 } };
  await killAgainAndAgain(t, folder, work, async () => {
    if (existsSync(target)) sameBytes(t, readFileSync(target), MEMORY);
    rmSync(target, { force: true });
    await requireSwept(t, folder);
  });
});

test.serial('load over an old target', async (t) => {
  t.timeout(LIMIT_MS);
  const folder = await fixture(t);
  const target = folder.path('target');
  const old = mixedMemory(3 * MIB, 5);
  writeFileSync(target, old);
  const options = { threads: 2, force: true };
  const work: Work = { operation: 'load', image: folder.path('big'), target, options };
  await killAgainAndAgain(t, folder, work, async () => {
    const now = readFileSync(target);
    if (!now.equals(old)) sameBytes(t, now, MEMORY);
    await requireSwept(t, folder);
    writeFileSync(target, old);
  });
});

test.serial('load in place: the marker tells that it is not done', async (t) => {
  t.timeout(LIMIT_MS);
  const folder = await fixture(t, workspace);
  const target = folder.path('target');
  const stale = Buffer.alloc(MEMORY.length, 0x55);
  writeFileSync(target, stale);
  const options = { threads: 2, inPlace: true };
  const work: Work = { operation: 'load', image: folder.path('big'), target, options };
  const check = async (finished: boolean) => {
    const now = readFileSync(target);
    const marked = existsSync(folder.path('.target.partial'));
    if (finished) t.false(marked);
    if (!marked) t.true(now.equals(MEMORY) || now.equals(stale), 'without a marker it is the old or the new memory');
    if (marked) await load(folder.path('big'), target, { inPlace: true });
    t.deepEqual(folder.leftovers(), []);
    writeFileSync(target, stale);
  };
  await killAgainAndAgain(t, folder, work, check);
});
