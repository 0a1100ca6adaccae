/**
 * Worker threads, kept for the next operation of the same process: starting one costs 30 ms, more than a small save.
 * Idle workers do not keep the process alive.
 */
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type PlainError, reviveError } from '../../native/errors.js';
import { abort, type SharedControl } from './control.js';
import { Aborted } from './mutex.js';
import type { Answer, Job } from './worker.js';

/** Beside this file: worker.js as compiled, worker.cjs in the bundle. */
const WORKER_FILE = `./worker${extname(import.meta.url)}`;
const IDLE_MAX = 64;
/** One list in a process: in the bundle, the file that starts threads early and that of the command each have their own copy of this module. */
const idle: Worker[] = sharedList('vmsnap.idleWorkers');

/** Jobs whose code an idle worker can load before one comes. */
export type AheadWork = 'save' | 'read' | 'compare';

/**
 * Runs each job on a worker of its own, all at once. The first failure sets the abort word of `control`, which the
 * others see within 100 ms; all are waited for, so nothing touches the files any more when this returns.
 * @returns the results in the order of `jobs`. @throws the first failure, or Aborted.
 */
export async function runJobs<T>(jobs: readonly Job[], control: SharedControl): Promise<T[]> {
  let failure: unknown;
  const results = await Promise.all(
    jobs.map(async (job) => {
      try {
        return (await runJob(job)) as T;
      } catch (error) {
        if (failure === undefined || (failure instanceof Aborted && !(error instanceof Aborted))) failure = error;
        abort(control);
        return undefined;
      }
    }),
  );
  if (failure !== undefined) throw failure;
  return results as T[];
}

async function runJob(job: Job): Promise<unknown> {
  const worker = idle.pop() ?? startWorker();
  worker.ref();
  const answer = await ask(worker, job);
  worker.unref();
  // zlib-sync's leftovers go with their thread.
  if (job.kind !== 'gunzip' && idle.length < IDLE_MAX) idle.push(worker);
  else void worker.terminate();
  if (answer.kind === 'done') return answer.result;
  if (answer.kind === 'aborted') throw new Aborted();
  throw answer.error instanceof Error ? answer.error : reviveError(answer.error as PlainError);
}

/** Starts workers until so many are idle; they do not keep the process alive. */
export function startIdleWorkers(count: number, work?: AheadWork): void {
  while (idle.length < Math.min(count, IDLE_MAX)) {
    const worker = startWorker(work);
    worker.unref();
    idle.push(worker);
  }
}

function startWorker(work?: AheadWork): Worker {
  // A worker closes descriptors that were opened elsewhere, which Node would warn about.
  const worker = new Worker(new URL(WORKER_FILE, import.meta.url), { trackUnmanagedFds: false, workerData: work });
  // One that dies while idle must not be handed out again: it would never answer.
  worker.once('exit', () => {
    const at = idle.indexOf(worker);
    if (at >= 0) idle.splice(at, 1);
  });
  return worker;
}

function sharedList(name: string): Worker[] {
  const holder = globalThis as unknown as Record<symbol, Worker[] | undefined>;
  const key = Symbol.for(name);
  holder[key] ??= [];
  return holder[key];
}

function ask(worker: Worker, job: Job): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const onMessage = (answer: Answer) => settle(() => resolve(answer));
    const onError = (error: unknown) => settle(() => reject(error));
    const onExit = (code: number) => settle(() => reject(new Error(`a worker thread ended with code ${code}`)));
    const settle = (action: () => void) => {
      worker.off('message', onMessage);
      worker.off('error', onError);
      worker.off('exit', onExit);
      action();
    };
    worker.on('message', onMessage);
    worker.on('error', onError);
    worker.on('exit', onExit);
    worker.postMessage(job);
  });
}
