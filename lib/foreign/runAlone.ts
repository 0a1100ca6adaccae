/** Runs one job on a worker thread, so that the main thread goes on: signals are heard, and progress is told. */
import { abortReason, linkSignal } from '../abort.js';
import { createControl, type SharedControl } from '../pipeline/control.js';
import type { Job } from '../pipeline/worker.js';
import { runJobs } from '../pipeline/workerPool.js';

export async function runAlone<T>(signal: AbortSignal | undefined, job: (control: SharedControl) => Job): Promise<T> {
  const control = createControl(1);
  const unlink = linkSignal(signal, control);
  try {
    const [result] = await runJobs<T>([job(control)], control);
    return result!;
  } catch (error) {
    throw abortReason(error, signal);
  } finally {
    unlink();
  }
}
