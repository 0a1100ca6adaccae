/** Runs backup jobs: some at a time, each by itself, so that one that fails stops no other. */
import { VmsnapError } from '../../native/errors.js';
import { currentTime } from '../clock.js';
import { nearest } from '../nearestWord.js';
import type { BackupConfig, BackupJob } from './config/backupConfig.js';
import { type JobContext, runJob } from './jobRun.js';
import { MachineTurns } from './machineTurns.js';
import type { BackupEvent, BackupJobReport, BackupReport } from './report.js';

export interface BackupOptions {
  /** Names of jobs; default: all. */
  readonly jobs?: readonly string[] | undefined;
  /** Only find out what would be done: nothing is written, no hook runs, nobody is told. */
  readonly dryRun?: boolean | undefined;
  /** How long to wait for another vmsnap that holds a folder; default 0. */
  readonly lockWaitSeconds?: number | undefined;
  /** Stops all jobs; nothing is left behind. The promise rejects with the signal's reason, once all have ended. */
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: BackupEvent) => void) | undefined;
  /** Milliseconds since 1970; names and dates of images, base and retention go by it. Default: SOURCE_DATE_EPOCH, else the clock. */
  readonly now?: (() => number) | undefined;
}

/**
 * Runs the jobs of a configuration ({@link readBackupConfig}).
 * @throws NOT_FOUND for a job that there is not. A job that fails stands in the report.
 */
export async function runBackup(config: BackupConfig, options: BackupOptions = {}): Promise<BackupReport> {
  const { dryRun = false, signal } = options;
  const jobs = chosenJobs(config, options.jobs);
  const context: JobContext = {
    turns: new MachineTurns(),
    now: options.now ?? currentTime,
    dryRun,
    lockWaitSeconds: options.lockWaitSeconds ?? 0,
    signal,
    onEvent: options.onEvent ?? (() => undefined),
  };
  const reports = await inParallel(jobs, config.parallel, (job) => runJob(job, context), signal);
  signal?.throwIfAborted();
  return { dryRun, jobs: reports, exitCode: exitCodeOf(reports) };
}

/** In the order of the configuration. */
function chosenJobs({ jobs, file }: BackupConfig, wanted: readonly string[] = []): readonly BackupJob[] {
  if (wanted.length === 0) return jobs;
  const names = jobs.map(({ name }) => name);
  const missing = wanted.find((name) => !names.includes(name));
  if (missing === undefined) return jobs.filter(({ name }) => wanted.includes(name));
  const meant = nearest(missing, names);
  throw new VmsnapError('NOT_FOUND', `there is no job "${missing}" in ${file}`, {
    path: file,
    hint: meant === undefined ? `the jobs are ${names.join(', ')}` : `did you mean ${meant}?`,
  });
}

/** What has not begun when the signal comes does not begin. */
async function inParallel<T, R>(
  items: readonly T[],
  limit: number,
  action: (item: T) => Promise<R>,
  signal: AbortSignal | undefined,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async () => {
    while (next < items.length && signal?.aborted !== true) {
      const i = next++;
      results[i] = await action(items[i]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  return results;
}

function exitCodeOf(reports: readonly BackupJobReport[]): number {
  const failed = reports.find(({ error }) => error !== undefined);
  return failed?.exitCode ?? Math.max(0, ...reports.map(({ exitCode }) => exitCode));
}
