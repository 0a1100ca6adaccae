/**
 * System calls that fail: each call that save, load, load in place and verify make on their files fails in turn, by strace's
 * injection. The command ends with an error that says what failed, with its exit code, or with the right result; it does not
 * hang, leaves nothing hidden behind, and what has the final name is the old file or the whole new one.
 *
 * Reads and writes that do less than they were asked for, or are interrupted, cannot be had of strace: a library is preloaded for them
 * (support/shortCounts.c), and the result must be right.
 *
 * VMSNAP_FAULTS=all fails every call with every error instead of some.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { load, save, verify } from '../../lib/index.js';
import { type CliResult, runCli } from '../cli/support/runCli.js';
import { needing } from '../support/needing.js';
import { KIB, MIB, mixedMemory } from './support/memory.js';
import { missingStrace } from './support/strace.js';
import { diskWorkspace, type Workspace } from './support/workspace.js';

const ALL = process.env.VMSNAP_FAULTS === 'all';
const CALLS_SAMPLED = 3;
const COMMAND_SECONDS_MAX = 60;
const MEMORY = Buffer.concat([
  mixedMemory(400 * KIB),
  Buffer.alloc(700 * KIB),
  mixedMemory(200 * KIB, 3),
  Buffer.alloc(748 * KIB),
]);
const OLD_MEMORY = mixedMemory(MIB, 5);
const ERRORS = ['EIO', 'ENOSPC', 'EINTR', 'EAGAIN'] as const;
/** What the commands do to their files. Closing is left out: strace then leaves the file open, which no system does. */
const DATA_CALLS =
  'openat,read,pread64,readv,preadv,write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,fallocate,lseek,renameat2,rename,unlink,flock,statx,newfstatat,fstat,mmap,getdents64';
/** FAILED is for what nobody foresaw: no system call may lead to it. */
const EXIT_CODES = [10, 11, 13, 14, 17, 19, 20, 21];

interface Operation {
  readonly name: string;
  readonly args: (folder: Workspace) => readonly string[];
  /** Files whose calls fail. */
  readonly files: readonly string[];
  /** What is wrong with the files, or undefined. */
  readonly check: (folder: Workspace, succeeded: boolean) => Promise<string | undefined>;
  /** Puts the folder back to where it was. */
  readonly reset: (folder: Workspace) => void;
}

async function imageFault(folder: Workspace, succeeded: boolean): Promise<string | undefined> {
  const isOld = readFileSync(folder.path('image')).equals(readFileSync(folder.path('old-image')));
  if (isOld) return succeeded ? 'success is reported, and the image is the old one' : undefined;
  if (!(await verify(folder.path('image'))).intact) return 'the image is damaged';
  await load(folder.path('image'), folder.path('check'), { force: true });
  const right = readFileSync(folder.path('check')).equals(MEMORY);
  rmSync(folder.path('check'));
  return right ? undefined : 'the image holds other memory';
}

function targetFault(folder: Workspace, succeeded: boolean): string | undefined {
  const found = readFileSync(folder.path('target'));
  if (found.equals(MEMORY)) return undefined;
  if (succeeded) return 'success is reported, and the target is wrong';
  if (existsSync(folder.path('.target.partial'))) return undefined;
  return found.equals(OLD_MEMORY) ? undefined : 'the target is neither old nor new, and no marker says so';
}

const OPERATIONS: readonly Operation[] = [
  {
    name: 'save',
    args: (folder) => [
      'save',
      '--quiet',
      '--frozen',
      '--force',
      '--segment-size',
      '1M',
      folder.path('memory'),
      folder.path('image'),
    ],
    files: ['', 'memory', 'image', '.image.vmsnap-tmp'],
    check: imageFault,
    reset: (folder) => copyFileSync(folder.path('old-image'), folder.path('image')),
  },
  {
    name: 'load',
    args: (folder) => ['load', '--quiet', '--force', folder.path('good-image'), folder.path('target')],
    files: ['', 'good-image', 'target', '.target.vmsnap-tmp'],
    check: async (folder, succeeded) => targetFault(folder, succeeded),
    reset: (folder) => writeFileSync(folder.path('target'), OLD_MEMORY),
  },
  {
    name: 'load in place',
    args: (folder) => ['load', '--quiet', '--in-place', folder.path('good-image'), folder.path('target')],
    files: ['', 'good-image', 'target', '.target.partial'],
    check: async (folder, succeeded) => {
      const fault = targetFault(folder, succeeded);
      rmSync(folder.path('.target.partial'), { force: true });
      return fault;
    },
    reset: (folder) => writeFileSync(folder.path('target'), OLD_MEMORY),
  },
  {
    name: 'verify',
    args: (folder) => ['verify', '--quiet', folder.path('good-image')],
    files: ['good-image'],
    check: async () => undefined,
    reset: () => {},
  },
];

async function setting(t: ExecutionContext): Promise<Workspace> {
  const folder = diskWorkspace(t);
  writeFileSync(folder.path('memory'), MEMORY);
  writeFileSync(folder.path('old-memory'), OLD_MEMORY);
  const geometry = { segmentSize: MIB, frozen: true };
  await save(folder.path('old-memory'), folder.path('old-image'), geometry);
  await save(folder.path('memory'), folder.path('good-image'), geometry);
  return folder;
}

async function run(
  operation: Operation,
  folder: Workspace,
  wrapper: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CliResult> {
  return runCli(operation.args(folder), {
    cwd: folder.folder,
    wrapper: ['timeout', '-k', '5', String(COMMAND_SECONDS_MAX), ...wrapper],
    env: { UV_USE_IO_URING: '0', ...env },
  });
}

/** What is wrong after a command, or undefined. */
async function faultOf(operation: Operation, folder: Workspace, result: CliResult): Promise<string | undefined> {
  const { exitCode, signal, stderr } = result;
  const code = exitCode ?? -1;
  if (signal !== undefined || code === 124 || code > 128) return `it ended with ${signal ?? code}: ${stderr}`;
  if (code !== 0 && !EXIT_CODES.includes(code)) return `exit code ${code}: ${stderr}`;
  if (code !== 0 && !/^vmsnap: error: .+/m.test(stderr) && operation.name !== 'verify')
    return `no error is told: ${stderr}`;
  const fault = await operation.check(folder, code === 0);
  if (fault !== undefined) return `exit code ${code}: ${fault}`;
  const left = folder.leftovers();
  for (const name of left) rmSync(folder.path(name));
  return left.length === 0 ? undefined : `exit code ${code}: left behind: ${left}`;
}

const pathWords = (operation: Operation, folder: Workspace) =>
  operation.files.flatMap((name) => ['-P', name === '' ? folder.folder : folder.path(name)]);

/** How often each call is made on the files. */
async function countCalls(t: ExecutionContext, operation: Operation, folder: Workspace): Promise<Map<string, number>> {
  const trace = folder.path('trace');
  operation.reset(folder);
  const words = ['strace', '-f', '-o', trace, ...pathWords(operation, folder), '-e', `trace=${DATA_CALLS}`];
  const result = await run(operation, folder, words);
  t.is(result.exitCode, 0, result.stderr);
  const counts = new Map<string, number>();
  for (const [, name] of readFileSync(trace, 'latin1').matchAll(/^\d+ +(\w+)\(/gm))
    counts.set(name!, (counts.get(name!) ?? 0) + 1);
  rmSync(trace);
  operation.reset(folder);
  return counts;
}

interface Injection {
  readonly call: string;
  readonly when: number;
  readonly error: string;
}

function injections(counts: ReadonlyMap<string, number>): Injection[] {
  const every = [...counts].flatMap(([call, count]) =>
    ERRORS.flatMap((error) => Array.from({ length: count }, (_, i) => ({ call, when: i + 1, error }))),
  );
  if (ALL) return every;
  // Others on each run, all of them in the end.
  const step = Math.max(1, Math.floor(every.length / CALLS_SAMPLED));
  const start = Math.floor(Math.random() * step);
  return every.filter((_, i) => i % step === start);
}

const withStrace = needing(missingStrace());

for (const operation of OPERATIONS) {
  withStrace(`${operation.name}: a system call that fails is an error, or does not matter`, async (t) => {
    t.timeout(3 * 3600 * 1000);
    const folder = await setting(t);
    const counts = await countCalls(t, operation, folder);
    const chosen = injections(counts);
    const codes = new Map<number, number>();
    const faults: string[] = [];
    for (const { call, when, error } of chosen) {
      const inject = `inject=${call}:error=${error}:when=${when}`;
      const words = [
        'strace',
        '-f',
        '-o',
        '/dev/null',
        ...pathWords(operation, folder),
        '-e',
        `trace=${call}`,
        '-e',
        inject,
      ];
      const result = await run(operation, folder, words);
      codes.set(result.exitCode ?? -1, (codes.get(result.exitCode ?? -1) ?? 0) + 1);
      const fault = await faultOf(operation, folder, result);
      if (fault !== undefined) {
        faults.push(`${inject}: ${fault}`);
        if (ALL) process.stderr.write(`${operation.name}: ${inject}: ${fault}\n`);
      }
      operation.reset(folder);
      t.pass();
    }
    const calls = [...counts.values()].reduce((sum, count) => sum + count, 0);
    t.log(`${calls} calls, ${chosen.length} failures; exit codes ${JSON.stringify(Object.fromEntries(codes))}`);
    t.deepEqual(faults, []);
  });
}

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
const SOURCE = fileURLToPath(new URL('../../../test/lib/support/shortCounts.c', import.meta.url));

for (const operation of OPERATIONS) {
  needing(missingCompiler())(`${operation.name}: short and interrupted reads and writes change nothing`, async (t) => {
    t.timeout(600_000);
    const folder = await setting(t);
    const library = folder.path('short.so');
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', library, SOURCE, '-ldl']);
    for (const [every, interrupts] of ALL ? SHORTAGES : SHORTAGES.slice(0, 3)) {
      operation.reset(folder);
      const env = { LD_PRELOAD: library, VMSNAP_SHORT_FOLDER: `${folder.folder}/`, VMSNAP_SHORT_EVERY: every };
      const result = await run(operation, folder, [], interrupts ? { ...env, VMSNAP_SHORT_EINTR: '1' } : env);
      const what = `every ${every}${interrupts ? ', interrupted' : ''}: ${result.stderr}`;
      t.is(await faultOf(operation, folder, result), undefined, what);
      // The system restarts reads of files by itself, so EINTR may be an error; a short count may not.
      if (!interrupts) t.is(result.exitCode, 0, what);
    }
    operation.reset(folder);
  });
}
