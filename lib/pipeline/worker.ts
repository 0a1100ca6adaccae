/**
 * Entry point of every worker thread: takes one job after another from the main thread and answers each with a result
 * or an error. Buffers and codec contexts belong to a job, so an idle worker holds next to nothing.
 */
import { parentPort } from 'node:worker_threads';
import { type PlainError, VmsnapError } from '../../native/errors.js';
import { type ChangesJob, runChangesWorker } from './changesWorker.js';
import { type CompareJob, runCompareWorker } from './compareWorker.js';
import { type EstimateJob, runEstimateWorker } from './estimateWorker.js';
import { type GunzipJob, runGunzipWorker } from './gunzipWorker.js';
import { Aborted } from './mutex.js';
import { type QemuOpenJob, type QemuRestJob, runQemuOpenWorker, runQemuRestWorker } from './qemuReadWorker.js';
import type { ReadJob } from './readJob.js';
import { runReadWorker } from './readWorker.js';
import { runSaveWorker, type SaveJob } from './saveWorker.js';
import { runStreamReadWorker, type StreamReadJob } from './streamReadWorker.js';
import { runUnzstdWorker, type UnzstdJob } from './unzstdWorker.js';

export type Job =
  | SaveJob
  | ChangesJob
  | ReadJob
  | GunzipJob
  | UnzstdJob
  | StreamReadJob
  | CompareJob
  | EstimateJob
  | QemuOpenJob
  | QemuRestJob;

export type Answer =
  | { readonly kind: 'done'; readonly result: unknown }
  /** Stopped because another thread failed or the caller aborted: not a reason of its own. */
  | { readonly kind: 'aborted' }
  | { readonly kind: 'failed'; readonly error: PlainError | Error };

const port = parentPort;
if (port === null) throw new Error('worker.js runs only as a worker thread');

port.on('message', (job: Job) => {
  port.postMessage(answerTo(job));
});

function answerTo(job: Job): Answer {
  try {
    return { kind: 'done', result: run(job) };
  } catch (error) {
    if (error instanceof Aborted) return { kind: 'aborted' };
    return { kind: 'failed', error: error instanceof VmsnapError ? error.toPlain() : (error as Error) };
  }
}

function run(job: Job): unknown {
  switch (job.kind) {
    case 'save':
      return runSaveWorker(job);
    case 'changes':
      return runChangesWorker(job);
    case 'read':
      return runReadWorker(job);
    case 'gunzip':
      return runGunzipWorker(job);
    case 'unzstd':
      return runUnzstdWorker(job);
    case 'streamRead':
      return runStreamReadWorker(job);
    case 'qemuOpen':
      return runQemuOpenWorker(job);
    case 'qemuRest':
      return runQemuRestWorker(job);
    case 'compare':
      return runCompareWorker(job);
    case 'estimate':
      return runEstimateWorker(job);
  }
}
