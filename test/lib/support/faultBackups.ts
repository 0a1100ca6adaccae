/** Backup jobs, and the looks into a store, whose system calls fail (faults.test.ts). */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { load, verify } from '../../../lib/index.js';
import { nothing, type Operation, type Outcome, THREADS } from './faultOperation.js';
import { MIB, mixedMemory } from './memory.js';
import { DAY_SECONDS, FIRST_NIGHT_MS, saveNight } from './stores.js';
import { Workspace } from './workspace.js';

const MEMORY = mixedMemory(MIB, 7);
const NIGHT_SECONDS = FIRST_NIGHT_MS / 1000 + 2 * DAY_SECONDS;
const NEW = 'web1-20260303T020000Z.vmsnap';
/** A full one, beside a difference whose base cannot be read. */
const SECOND_NEW = 'web1-20260303T020000Z-2.vmsnap';
const OTHER = 'web2-20260303T020000Z.vmsnap';
const OLD = ['first', 'second'];
const WARNINGS = 3;
/** Another run is at work, and no hook of this one. */
const LOCKED = 11;
const LAST_EXIT_CODE = /^vmsnap_last_exit_code\{.*\} (\d+)$/m;

/** A job whose calls fail, and one in another folder that must be done all the same. Hooks keep a log. */
function configuration(folder: Workspace, fullEvery: number): string {
  const log = `["sh", "-c", "echo $VMSNAP_JOB $VMSNAP_HOOK $VMSNAP_STATUS $VMSNAP_EXIT_CODE >> ${folder.path('hooks')}"]`;
  const job = (name: string, source: string, store: string) => [
    `[jobs.${name}]`,
    `source = "${source}"`,
    `folder = "${store}"`,
  ];
  return [
    '[defaults]',
    'frozen = true',
    'threads = 2',
    `full-every = ${fullEvery}`,
    'keep = { last = 1 }',
    `hooks = { before = ${log}, after-save = ${log}, after = ${log}, error = ${log} }`,
    ...job('web1', 'memory', 'store'),
    'metrics = "metrics/web1.prom"',
    ...job('web2', 'other-memory', 'other-store'),
    '',
  ].join('\n');
}

/** Two nights; the second one is a difference to the first, or another full image. */
async function withNights(folder: Workspace, fullEvery: number, isChain: boolean): Promise<void> {
  for (const name of ['store', 'kept', 'metrics', 'other-store']) mkdirSync(folder.path(name));
  for (const name of ['memory', 'other-memory']) writeFileSync(folder.path(name), MEMORY);
  const store = new Workspace(folder.path('store'));
  await saveNight(store, 'first', 0, { seed: 7 });
  await saveNight(store, 'second', 1, { seed: 7, ...(isChain ? { base: 'first' } : {}) });
  rmSync(store.path('.memory'));
  for (const name of readdirSync(store.folder)) copyFileSync(store.path(name), folder.path(`kept/${name}`));
  writeFileSync(folder.path('backup.toml'), configuration(folder, fullEvery));
}

function shown(folder: Workspace, store: string): string[] {
  return readdirSync(folder.path(store)).filter((name) => !name.startsWith('.'));
}

async function imageFault(folder: Workspace, name: string): Promise<string | undefined> {
  const image = folder.path(name);
  try {
    if (!(await verify(image)).intact) return `${name} is damaged`;
    await load(image, folder.path('check'), { force: true });
    return readFileSync(folder.path('check')).equals(MEMORY) ? undefined : `${name} holds other memory`;
  } catch (error) {
    return `${name} cannot be loaded: ${error}`;
  } finally {
    rmSync(folder.path('check'), { force: true });
  }
}

/** `remaining`: what the policy keeps of the old images. */
function backupFault(remaining: readonly string[]): Operation['check'] {
  return async (folder, outcome) => {
    const { exitCode, stderr } = outcome;
    const hooks = existsSync(folder.path('hooks')) ? readFileSync(folder.path('hooks'), 'utf8') : '';
    if (!outcome.done && hooks === '' && stderr.includes(folder.path('backup.toml'))) return undefined;
    if (exitCode === WARNINGS && !/^vmsnap: warning: web1: /m.test(stderr)) return 'no warning is told';
    return (
      (await storeFault(folder, outcome, remaining)) ??
      hooksFault(outcome, hooks) ??
      metricsFault(folder, outcome) ??
      (await otherFault(folder, outcome, hooks))
    );
  };
}

/** The other job is done, unless calls on its own files are interrupted as well. */
async function otherFault(folder: Workspace, { stderr }: Outcome, log: string): Promise<string | undefined> {
  if (/^vmsnap: error: web2: .*\/other-(memory|store).*EINTR/m.test(stderr)) return undefined;
  if (!shown(folder, 'other-store').includes(OTHER)) return 'the other job was not done';
  if (!log.includes('web2 after ok 0')) return `the hooks of the other job were told ${log}`;
  return await imageFault(folder, `other-store/${OTHER}`);
}

async function storeFault(
  folder: Workspace,
  { exitCode, done }: Outcome,
  remaining: readonly string[],
): Promise<string | undefined> {
  const found = shown(folder, 'store');
  const made = found.filter((name) => !OLD.includes(name));
  const old = found.filter((name) => OLD.includes(name));
  if (made.length === 0) {
    if (done) return 'success is reported, and there is no image';
    return old.length === OLD.length ? undefined : `no image was made, and only ${old} stay`;
  }
  if (exitCode === 0 && old.join() !== remaining.join()) return `success is reported, and ${old} stay`;
  if (done && made.length > 1) return `success is reported, and there are ${made}`;
  return await imageFault(folder, `store/${made.includes(NEW) ? NEW : SECOND_NEW}`);
}

/** The hook "error" ran where the job failed, and nowhere else. */
function hooksFault({ exitCode, done }: Outcome, log: string): string | undefined {
  if (exitCode === LOCKED) return log.includes('web1') ? `the hooks were told ${log}` : undefined;
  const expected = done ? /^web1 after (ok|warning) [03]$/m : new RegExp(`^web1 error failed ${exitCode}$`, 'm');
  const isRight = expected.test(log) && !(done && log.includes('web1 error'));
  return isRight ? undefined : `the hooks were told ${log}`;
}

function metricsFault(folder: Workspace, { exitCode, stderr }: Outcome): string | undefined {
  if (stderr.includes('web1: the metrics were not written')) return undefined;
  const told = LAST_EXIT_CODE.exec(readFileSync(folder.path('metrics/web1.prom'), 'utf8'))?.[1];
  return told === String(exitCode) ? undefined : `the metrics tell exit code ${told}`;
}

/** Only what is gone is put back: a new file would be another one. What is hidden is for the test to find. */
function resetNights(folder: Workspace): void {
  rmSync(folder.path('hooks'), { force: true });
  for (const name of ['metrics', 'other-store'])
    for (const file of shown(folder, name)) rmSync(folder.path(`${name}/${file}`));
  for (const name of shown(folder, 'store')) if (!OLD.includes(name)) rmSync(folder.path(`store/${name}`));
  for (const name of OLD)
    if (!existsSync(folder.path(`store/${name}`)))
      copyFileSync(folder.path(`kept/${name}`), folder.path(`store/${name}`));
}

function backup(name: string, fullEvery: number, isChain: boolean, remaining: readonly string[]): Operation {
  const images = [NEW, SECOND_NEW].flatMap((image) => [`/${image}`, `/.${image}.vmsnap-tmp`]);
  const inStore = ['', '/.vmsnap.lock', '/first', '/second', ...images];
  return {
    name,
    prepare: (folder) => withNights(folder, fullEvery, isChain),
    args: (folder) => ['backup', '--quiet', '--config', folder.path('backup.toml')],
    env: { SOURCE_DATE_EPOCH: String(NIGHT_SECONDS) },
    files: [
      ...inStore.map((each) => `store${each}`),
      ...['memory', 'backup.toml', 'metrics', 'metrics/web1.prom', 'metrics/.web1.prom.vmsnap-tmp'],
    ],
    sockets: true,
    done: [0, WARNINGS],
    keeps: ['store/.vmsnap.lock', 'other-store/.vmsnap.lock'],
    check: backupFault(remaining),
    reset: resetNights,
  };
}

/** Every image is named, or it is told why not. */
function looksAt(name: string, words: readonly string[], files: readonly string[], done: readonly number[]): Operation {
  return {
    name,
    prepare: (folder) => withNights(folder, 1, true),
    args: (folder) => [...words, folder.path(files[0]!)],
    env: { SOURCE_DATE_EPOCH: String(NIGHT_SECONDS) },
    files,
    done,
    check: async () => undefined,
    reset: nothing,
  };
}

const STORE = ['store', 'store/first', 'store/second'];
const CRITICAL = 2;

export const BACKUPS: readonly Operation[] = [
  backup('backup, a full image', 2, true, []),
  backup('backup, a differential image', 7, false, ['second']),
  {
    ...looksAt('list', ['list', '--json'], STORE, [0, WARNINGS]),
    check: async (folder, { exitCode, stdout, stderr, done }) => {
      if (!done) return undefined;
      const lacking = ['first', 'second'].filter(
        (name) => !`${stdout}${stderr}`.includes(folder.path(`store/${name}`)),
      );
      if (lacking.length > 0) return `${lacking} is not told`;
      return exitCode === 0 && /"state": *"(damaged|unreadable)"/.test(stdout)
        ? 'not all is good, and it ends with 0'
        : undefined;
    },
  },
  {
    ...looksAt('check', ['check', '--max-age', '36h', '--min-count', '2'], STORE, [0, 1, CRITICAL, 3]),
    check: async (_folder, { exitCode, stdout }) => {
      const word = ['OK', 'WARNING', 'CRITICAL', 'UNKNOWN'][exitCode]!;
      return stdout.includes(word) ? undefined : `it does not say ${word}`;
    },
  },
  looksAt('inspect', ['inspect', '--regions'], ['store/second', 'store/first'], [0, WARNINGS]),
  looksAt('estimate', ['estimate', '--full', ...THREADS], ['memory'], [0, WARNINGS]),
];
