/**
 * Takes the place of lib/pipeline/workerPool.ts in the fuzzers' bundle: jobs run in this thread, one after the other, because that
 * is where coverage is measured. Readers need no second one.
 */

import { runQemuIndexWorker } from '../../lib/pipeline/qemuIndexWorker.js';
import { runReadWorker } from '../../lib/pipeline/readWorker.js';
import type { Job } from '../../lib/pipeline/worker.js';
import { wrapPlainSystemError } from '../../native/errors.js';

export async function runJobs(jobs: readonly Job[]): Promise<unknown[]> {
  return jobs.map((job) => {
    try {
      if (job.kind === 'read') return runReadWorker(job);
      if (job.kind === 'qemuIndex') return runQemuIndexWorker(job);
    } catch (error) {
      throw wrapPlainSystemError(error);
    }
    throw new Error(`a reader asks for a job of kind ${job.kind}`);
  });
}

export function startIdleWorkers(): void {}
