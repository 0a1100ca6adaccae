/** Starts children/work.js: one operation of the library in a process of its own. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { LoadResult, SaveResult, VerifyResult } from '../../../lib/index.js';
import type { Outcome, Work, WorkEvent } from '../children/work.js';

const SCRIPT = fileURLToPath(new URL('../children/work.js', import.meta.url));

export interface WorkOptions {
  readonly stdin?: 'pipe' | 'ignore' | number;
  readonly stdout?: 'pipe' | 'ignore' | number;
  /** Words in front of the command, such as `prlimit --fsize=...`. */
  readonly wrapper?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface RunningWork {
  readonly child: ChildProcess;
  /** The library has been called. */
  readonly started: Promise<void>;
  /** The work has got somewhere. */
  readonly moved: Promise<void>;
  readonly outcome: Promise<Outcome>;
  /** Tells the process to abort the operation by its AbortSignal. */
  abort(): void;
}

export function startWork(work: Work, options: WorkOptions = {}): RunningWork {
  const words = [...(options.wrapper ?? []), process.execPath, SCRIPT, JSON.stringify(work)];
  const stdio: StdioOptions = [options.stdin ?? 'ignore', options.stdout ?? 'ignore', 'inherit', 'ipc'];
  const child = spawn(words[0]!, words.slice(1), { stdio, env: { ...process.env, ...options.env } });
  const until = (event: WorkEvent['event']) =>
    new Promise<void>((resolve) => {
      child.on('message', (message) => (message as WorkEvent).event === event && resolve());
      child.once('exit', () => resolve());
    });
  return {
    child,
    started: until('started'),
    moved: until('moved'),
    outcome: outcomeOf(child),
    abort: () => child.connected && child.send('abort'),
  };
}

export async function runWork(work: Work, options: WorkOptions = {}): Promise<Outcome> {
  return await startWork(work, options).outcome;
}

/** The result of work that must succeed. */
export async function saveInChild(work: Work & { operation: 'save' }, options: WorkOptions = {}) {
  return succeed<SaveResult>(await runWork(work, options));
}

export async function loadInChild(work: Work & { operation: 'load' }, options: WorkOptions = {}) {
  return succeed<LoadResult>(await runWork(work, options));
}

export function succeed<T extends SaveResult | LoadResult | VerifyResult>(
  outcome: Outcome,
): { result: T; peakBytes: number } {
  if (!outcome.ok) throw new Error(`the work failed: ${outcome.code} ${outcome.message}`);
  return { result: outcome.result as T, peakBytes: outcome.peakBytes };
}

function outcomeOf(child: ChildProcess): Promise<Outcome> {
  let outcome: Outcome | undefined;
  child.on('message', (message) => {
    const event = message as WorkEvent;
    if (event.event === 'done') outcome = event.outcome;
  });
  // The last message may come after the exit, but not after the end of the channel.
  return Promise.all([once(child, 'exit'), once(child, 'disconnect')]).then(([[exitCode, signal]]) => {
    const message = `the process ended with ${signal ?? exitCode}`;
    return outcome ?? { ok: false, code: signal ?? 'NO_ANSWER', message, path: undefined, hint: undefined };
  });
}
