/**
 * System calls that fail: each call that a command makes on its files fails in turn. The command ends with an error that says
 * what failed, on which file, with its exit code, or with the right result; it does not hang, leaves nothing hidden behind, and
 * what has the final name is the old file or the whole new one.
 *
 * Calls are failed by strace (support/failingCalls.ts). Reads and writes that do less than they were asked for, or are
 * interrupted, cannot be had of it, nor can failures on files that have no name and on sockets: a library is preloaded for these,
 * and after short counts the result must be right.
 *
 * VMSNAP_FAULTS=N tries N failures of each operation instead of one, VMSNAP_FAULTS=all every call with every error. Of short counts
 * the suite tries one pattern on a few operations, which the seed draws.
 * VMSNAP_FAULTS_ONLY=WORD leaves out the operations without this word in their names. VMSNAP_FAULTS_SEED draws others, or the same ones again.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import type { CliResult } from '../cli/support/runCli.js';
import { needing } from '../support/needing.js';
import { randomNumbers } from '../support/randomNumbers.js';
import {
  compileLibrary,
  countCalls,
  countUnnamed,
  ERRORS,
  type ErrorName,
  type Injection,
  injectionText,
  runFailing,
  runOperation,
  runShort,
} from './support/failingCalls.js';
import { type Operation, type Outcome, TEMPORARY } from './support/faultOperation.js';
import { OPERATIONS } from './support/faultOperations.js';
import { missingStrace } from './support/strace.js';
import { diskWorkspace, type Workspace } from './support/workspace.js';

const ALL = process.env.VMSNAP_FAULTS === 'all';
const SAMPLES = Number(process.env.VMSNAP_FAULTS ?? 1);
/** The suite draws the same every time: what it has not met yet is for the campaign to find. */
const SEED = Number(
  process.env.VMSNAP_FAULTS_SEED ?? (process.env.VMSNAP_FAULTS === undefined ? 1 : Math.floor(Math.random() * 2 ** 31)),
);
/** One operation in so many. */
const SHORT_SHARE = 4;
const ONLY = process.env.VMSNAP_FAULTS_ONLY ?? '';
const CAMPAIGN_MS_MAX = 3 * 3600 * 1000;
const CHOSEN = OPERATIONS.filter(({ name }) => name.includes(ONLY));

/** The exit codes of each error (docs/scripting.md): NO_SPACE, IO; who is refused a lock takes it for held (LOCKED). */
const CODES: Readonly<Record<ErrorName, readonly number[]>> = {
  EIO: [20],
  ENOSPC: [13],
  EINTR: [20],
  EAGAIN: [11, 20],
};
/** What has no path that says anything to people. */
const NAMED_OTHERWISE =
  /standard (in|out)put|the passphrase command|QEMU's migration socket|QEMU ended with|the process that guards the machine/;
/** On these, EIO lasts: on calls in front, in the middle and at the end. */
const LASTING: readonly ErrorName[] = ['EIO', 'ENOSPC'];
/** After a failure of these, something is to be removed. */
const WRITES = ['pwrite64', 'pwritev', 'write', 'writev', 'fsync', 'fdatasync', 'ftruncate', 'pread64', 'read'];

async function setting(t: ExecutionContext, operation: Operation): Promise<Workspace> {
  const folder = diskWorkspace(t);
  mkdirSync(folder.path(TEMPORARY));
  await operation.prepare(folder);
  const { end } = operation;
  if (end !== undefined) t.teardown(() => end(folder));
  operation.reset(folder);
  return folder;
}

/** Hidden files that the command left, in its folder and the ones below. */
function leftovers(operation: Operation, folder: Workspace): string[] {
  const names = readdirSync(folder.folder, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => /(^|\/)\./.test(name) && operation.keeps?.includes(name) !== true);
}

/** What is wrong with what the command says and left, or undefined. */
async function faultOf(
  operation: Operation,
  folder: Workspace,
  result: CliResult,
  codes: readonly number[],
): Promise<string | undefined> {
  const { exitCode, signal, stdout, stderr } = result;
  const code = exitCode ?? -1;
  const told = `${stdout}${stderr}`;
  if (signal !== undefined || code === 124 || code > 128) return `it ended with ${signal ?? code}: ${told}`;
  const outcome: Outcome = { exitCode: code, stdout, stderr, done: (operation.done ?? [0]).includes(code) };
  if (!outcome.done) {
    if (![...codes, ...(operation.codes ?? [])].includes(code)) return `exit code ${code}: ${told}`;
    // With --json an error is an object.
    if (!/^vmsnap: (error|warning): .+/m.test(stderr) && !stdout.includes('"vmsnap.error"'))
      return `exit code ${code}, and no error is told: ${told}`;
    if (!told.includes(folder.folder) && !NAMED_OTHERWISE.test(told)) return `no file is named: ${told}`;
  }
  const fault = await operation.check(folder, outcome);
  return fault === undefined ? undefined : `exit code ${code}: ${fault}: ${told}`;
}

/** What is wrong with what is left behind: nothing may be, unless it could not be removed or is told; then the next run removes it. */
async function leftoverFault(
  operation: Operation,
  folder: Workspace,
  { stderr }: CliResult,
  injection?: Injection,
): Promise<string | undefined> {
  const left = leftovers(operation, folder);
  if (left.length === 0) return undefined;
  const isTold = left.every((name) => stderr.includes(folder.path(name.split('/')[0]!)));
  const removalFailed = injection !== undefined && hindersRemoval(injection);
  if (!removalFailed && !isTold) {
    for (const name of left) rmSync(folder.path(name), { recursive: true, force: true });
    return `left behind: ${left}`;
  }
  operation.reset(folder);
  const next = await runOperation(operation, folder);
  const fault = await faultOf(operation, folder, next, []);
  const still = leftovers(operation, folder);
  for (const name of still) rmSync(folder.path(name), { recursive: true, force: true });
  if (fault !== undefined) return `the next run: ${fault}`;
  return still.length === 0 ? undefined : `the next run leaves ${still}`;
}

/** What is no longer known for our own file must stay, and a folder that cannot be looked into. */
function hindersRemoval({ call, lasts, unlinkFails }: Injection): boolean {
  return (
    unlinkFails === true ||
    call.startsWith('unlink') ||
    call === 'rmdir' ||
    (lasts === true && /stat|getdents/.test(call))
  );
}

/** Every failure there is to try. */
function injections(counts: ReadonlyMap<string, number>, unnamed: ReadonlyMap<string, number>): Injection[] {
  const places = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
  const single = (map: ReadonlyMap<string, number>, more: Partial<Injection>) =>
    [...map].flatMap(([call, count]) =>
      ERRORS.flatMap((error) => places(count).map((when) => ({ call, when, error, ...more }))),
    );
  const lasting = [...counts].flatMap(([call, count]) =>
    LASTING.flatMap((error) =>
      [...new Set([1, Math.ceil(count / 2), count])].map((when) => ({ call, when, error, lasts: true })),
    ),
  );
  const unremovable = [...counts.keys()]
    .filter((call) => WRITES.includes(call))
    .map((call) => ({ call, when: 1, error: 'EIO' as const, unlinkFails: true }));
  return [...single(counts, {}), ...single(unnamed, { unnamed: true }), ...lasting, ...unremovable];
}

/** Others on each run, all of them in the end. A rename, made once, comes as often as a write, made a hundred times. */
function sample(every: readonly Injection[], operation: Operation): readonly Injection[] {
  if (ALL) return every;
  const random = randomNumbers(SEED + OPERATIONS.indexOf(operation));
  const calls = [...new Set(every.map(({ call }) => call))];
  const drawn = new Set<Injection>();
  while (drawn.size < Math.min(SAMPLES, every.length)) {
    const call = calls[random(calls.length)];
    const ofCall = every.filter((injection) => injection.call === call);
    drawn.add(ofCall[random(ofCall.length)]!);
  }
  return [...drawn];
}

const MISSING = missingStrace() ?? missingCompiler();
const withStrace = needing(MISSING);

for (const operation of CHOSEN) {
  const test = needing(MISSING ?? operation.missing);
  test(`${operation.name}: a system call that fails is an error, or does not matter`, async (t) => {
    t.timeout(CAMPAIGN_MS_MAX);
    const folder = await setting(t, operation);
    const isUnnamed = operation.spills === true || operation.sockets === true;
    const library = isUnnamed ? compileLibrary(folder) : undefined;
    const counts = await countCalls(operation, folder);
    operation.reset(folder);
    const unnamed = library === undefined ? new Map<string, number>() : await countUnnamed(operation, folder, library);
    t.is(unnamed.size > 0, isUnnamed, 'calls on what has no name');
    operation.reset(folder);
    const every = injections(counts, unnamed);
    const chosen = sample(every, operation);
    const codes = new Map<number, number>();
    const faults: string[] = [];
    let [failed, right] = [0, 0];
    for (const injection of chosen) {
      const result = await runFailing(operation, folder, injection, library);
      // Nothing failed, or only in Node itself: it says nothing of the command.
      if (result.injected === 0) {
        for (const name of leftovers(operation, folder)) rmSync(folder.path(name), { recursive: true, force: true });
        operation.reset(folder);
        continue;
      }
      const fault =
        (await faultOf(operation, folder, result, CODES[injection.error])) ??
        (await leftoverFault(operation, folder, result, injection));
      failed++;
      const code = result.exitCode ?? -1;
      codes.set(code, (codes.get(code) ?? 0) + 1);
      if ((operation.done ?? [0]).includes(code)) right++;
      if (fault !== undefined) {
        faults.push(`${injectionText(injection)}: ${fault}`);
        if (SAMPLES > 1 || ALL) process.stderr.write(`${operation.name}: ${injectionText(injection)}: ${fault}\n`);
      }
      operation.reset(folder);
      t.pass();
    }
    const sum = (map: ReadonlyMap<string, number>) => [...map.values()].reduce((total, count) => total + count, 0);
    t.log(
      `seed ${SEED}; ${sum(counts) + sum(unnamed)} calls, ${every.length} failures, ${chosen.length} tried, ${failed} met: ` +
        `${right} right, ${failed - right} errors; exit codes ${JSON.stringify(Object.fromEntries(codes))}`,
    );
    if (ALL)
      t.log(JSON.stringify(Object.fromEntries([...counts, ...[...unnamed].map(([k, v]) => [`unnamed ${k}`, v])])));
    t.deepEqual(faults, []);
  });
}

withStrace('prune: an image that cannot be read keeps all that may be its base', async (t) => {
  const prune = OPERATIONS.find(({ name }) => name === 'prune')!;
  const folder = await setting(t, prune);
  // It is not named as an image: only its content, which nobody can read, tells that it is one.
  const operation = { ...prune, files: ['store/protected'] };
  const result = await runFailing(operation, folder, { call: 'openat', when: 1, error: 'EIO', lasts: true });
  t.true(result.injected > 0);
  t.is(result.exitCode, 3, result.stderr);
  t.is(await faultOf(prune, folder, result, []), undefined);
  const path = (name: string) => folder.path(`store/${name}`);
  for (const name of ['old', 'full', 'second', 'third'])
    t.true(result.stderr.includes(`${path(name)} is left: it may be the base of ${path('protected')}`), result.stderr);
});

/** Fails every call of one kind on one file of an operation. */
async function failingOn(t: ExecutionContext, name: string, file: string, call: string, when = 1) {
  const operation = OPERATIONS.find((each) => each.name === name)!;
  const folder = await setting(t, operation);
  const injection: Injection = { call, when, error: 'EIO', lasts: true };
  const result = await runFailing({ ...operation, files: [file] }, folder, injection);
  t.true(result.injected > 0);
  t.is(await faultOf(operation, folder, result, CODES.EIO), undefined);
  return { folder, result };
}

withStrace('backup: an image that cannot be read may be of this machine, and is told', async (t) => {
  const { folder, result } = await failingOn(t, 'backup, a differential image', 'store/second', 'openat');
  t.is(result.exitCode, 3, result.stderr);
  const about = `cannot open the image ${folder.path('store/second')}: input/output error (EIO)`;
  t.true(result.stderr.includes(`${about} (it is taken as no base)`), result.stderr);
  t.true(result.stderr.includes(`${about} (it is left alone)`), result.stderr);
});

withStrace('inspect: an index that cannot be read is no damage', async (t) => {
  const { result } = await failingOn(t, 'inspect', 'store/second', 'pread64', 6);
  t.is(result.exitCode, 20, result.stderr);
});

withStrace('load --machine: the new folder is there where the old one cannot be removed', async (t) => {
  const { folder, result } = await failingOn(t, 'load --machine', '.machine.vmsnap-tmp', 'getdents64');
  t.is(result.exitCode, 3, result.stderr);
  t.true(result.stderr.includes(`the old folder is left as ${folder.path('.machine.vmsnap-tmp')}`), result.stderr);
});

function missingCompiler(): string | undefined {
  if (process.env.VMSNAP_REQUIRE_GUEST === '1') return undefined;
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'there is no gcc';
  }
}

/** Every how many calls, and whether they are interrupted instead of short. */
const SHORTAGES: readonly (readonly [string, boolean])[] = [
  ['1', false],
  ['2', true],
  ['3', false],
  ['7', false],
  ['3', true],
];

/** Some, others on each run. */
function drawn(): readonly Operation[] {
  const random = randomNumbers(SEED);
  return ALL || ONLY !== '' ? CHOSEN : OPERATIONS.filter(() => random(SHORT_SHARE) === 0);
}

for (const operation of drawn()) {
  const test = needing(missingCompiler() ?? operation.missing);
  test(`${operation.name}: short and interrupted reads and writes change nothing`, async (t) => {
    t.timeout(600_000);
    const folder = await setting(t, operation);
    const library = compileLibrary(folder);
    const pattern = randomNumbers(SEED + OPERATIONS.indexOf(operation))(SHORTAGES.length);
    for (const [every, interrupts] of ALL ? SHORTAGES : [SHORTAGES[pattern]!]) {
      const result = await runShort(operation, folder, library, every, interrupts);
      const what = `seed ${SEED}: every ${every}${interrupts ? ', interrupted' : ''}: ${result.stderr}`;
      t.is(await faultOf(operation, folder, result, interrupts ? CODES.EINTR : []), undefined, what);
      t.is(await leftoverFault(operation, folder, result), undefined, what);
      // The system restarts reads of files by itself, so EINTR may be an error; a short count may not.
      if (!interrupts) t.true((operation.done ?? [0]).includes(result.exitCode ?? -1), what);
      operation.reset(folder);
    }
  });
}
