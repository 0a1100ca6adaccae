/**
 * Entry point of every worker thread: takes one job after another from the main thread and answers each with a result
 * or an error. Buffers and codec contexts belong to a job, so an idle worker holds next to nothing.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { type PlainError, VmsnapError, wrapPlainSystemError } from '../../native/errors.js';
import type { ChangesJob } from './changesWorker.js';
import type { CompareJob } from './compareWorker.js';
import type { EstimateJob } from './estimateWorker.js';
import type { GunzipJob } from './gunzipWorker.js';
import type { AcceptJob, SpoolJob } from './machineStreamWorker.js';
import { Aborted } from './mutex.js';
import type { QemuIndexJob } from './qemuIndexWorker.js';
import type { QemuOpenJob, QemuRestJob } from './qemuReadWorker.js';
import type { ReadJob } from './readJob.js';
import type { SaveJob } from './saveWorker.js';
import type { SealedWalkJob } from './sealedWalkWorker.js';
import type { StreamReadJob } from './streamReadWorker.js';
import type { UnzstdJob } from './unzstdWorker.js';
import type { AheadWork } from './workerPool.js';

export type Job =
  | SaveJob
  | ChangesJob
  | ReadJob
  | GunzipJob
  | UnzstdJob
  | StreamReadJob
  | CompareJob
  | EstimateJob
  | QemuIndexJob
  | QemuOpenJob
  | QemuRestJob
  | AcceptJob
  | SpoolJob
  | SealedWalkJob;

export type Answer =
  | { readonly kind: 'done'; readonly result: unknown }
  /** Stopped because another thread failed or the caller aborted: not a reason of its own. */
  | { readonly kind: 'aborted' }
  | { readonly kind: 'failed'; readonly error: PlainError | Error };

const port = parentPort;
if (port === null) throw new Error('worker.js runs only as a worker thread');

port.on('message', async (job: Job) => {
  port.postMessage(await answerTo(job));
});

// What fails here fails again, and is reported, when the job comes.
loadAhead(workerData as AheadWork | undefined)?.catch(() => undefined);

function loadAhead(work: AheadWork | undefined): Promise<unknown> | undefined {
  if (work === 'save') return import('./saveWorker.js');
  if (work === 'read') return import('./readWorker.js');
  if (work === 'compare') return import('./compareWorker.js');
  return undefined;
}

async function answerTo(job: Job): Promise<Answer> {
  try {
    return { kind: 'done', result: await run(job) };
  } catch (error) {
    if (error instanceof Aborted) return { kind: 'aborted' };
    const known = wrapPlainSystemError(error);
    return { kind: 'failed', error: known instanceof VmsnapError ? known.toPlain() : (known as Error) };
  }
}

/** Each kind of job is loaded when the first one comes: a thread rarely sees two kinds. */
async function run(job: Job): Promise<unknown> {
  switch (job.kind) {
    case 'save':
      return (await import('./saveWorker.js')).runSaveWorker(job);
    case 'changes':
      return (await import('./changesWorker.js')).runChangesWorker(job);
    case 'read':
      return (await import('./readWorker.js')).runReadWorker(job);
    case 'gunzip':
      return (await import('./gunzipWorker.js')).runGunzipWorker(job);
    case 'unzstd':
      return (await import('./unzstdWorker.js')).runUnzstdWorker(job);
    case 'streamRead':
      return (await import('./streamReadWorker.js')).runStreamReadWorker(job);
    case 'qemuIndex':
      return (await import('./qemuIndexWorker.js')).runQemuIndexWorker(job);
    case 'qemuOpen':
      return (await import('./qemuReadWorker.js')).runQemuOpenWorker(job);
    case 'qemuRest':
      return (await import('./qemuReadWorker.js')).runQemuRestWorker(job);
    case 'accept':
      return (await import('./machineStreamWorker.js')).runAcceptWorker(job);
    case 'spool':
      return (await import('./machineStreamWorker.js')).runSpoolWorker(job);
    case 'sealedWalk':
      return (await import('./sealedWalkWorker.js')).runSealedWalkWorker(job);
    case 'compare':
      return (await import('./compareWorker.js')).runCompareWorker(job);
    case 'estimate':
      return (await import('./estimateWorker.js')).runEstimateWorker(job);
  }
}
