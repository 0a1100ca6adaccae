/**
 * Programs that are started: hooks, commands that give the memory or run while a machine is paused. Each has a process group of its own, so that it can be
 * stopped with all that it has started, when its time is over, when the backup is stopped, and when vmsnap ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { VmsnapError } from '../native/errors.js';

/** What a program has between SIGTERM and SIGKILL. */
const GRACE_MS = 3000;
/** Output after the end of the program itself: of what it left running, nothing is waited for. */
const LAST_OUTPUT_MS = 200;
/** Kept of what it says: the end. */
const OUTPUT_MAX_LENGTH = 16 * 1024;

export interface ProgramOptions {
  /** How messages call it, as "hook before". */
  readonly what: string;
  readonly timeoutSeconds: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly env: Readonly<Record<string, string>>;
  /** A file for its standard output; undefined: it is kept with standard error. */
  readonly stdoutFd?: number | undefined;
}

export interface ProgramEnd {
  /** Undefined where a signal ended it. */
  readonly exitCode: number | undefined;
  readonly killedBy: NodeJS.Signals | undefined;
  /** The last 16 KiB of what it said. */
  readonly output: string;
}

const running = new Set<ChildProcess>();
let listens = false;

/** Starts a program. `end` rejects with the signal's reason, TIMEOUT, or the system's refusal to start it. */
export function startProgram(
  command: readonly string[],
  options: ProgramOptions,
): { readonly end: Promise<ProgramEnd> } {
  options.signal?.throwIfAborted();
  const child = spawn(command[0]!, command.slice(1), {
    detached: true,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', options.stdoutFd ?? 'pipe', 'pipe'],
  });
  track(child);
  return { end: waitFor(child, command[0]!, options) };
}

/** Whatever ends vmsnap ends what it has started, unless it is SIGKILL. */
function track(child: ChildProcess): void {
  running.add(child);
  for (const event of ['exit', 'error']) child.once(event, () => running.delete(child));
  if (listens) return;
  listens = true;
  process.on('exit', () => {
    for (const left of running) killGroup(left, 'SIGKILL');
  });
}

async function waitFor(child: ChildProcess, program: string, options: ProgramOptions): Promise<ProgramEnd> {
  const { what, timeoutSeconds, signal } = options;
  let output = '';
  const take = (text: string): void => {
    output = (output + text).slice(-OUTPUT_MAX_LENGTH);
  };
  // Its output is for messages: what cannot be read of it is missing there.
  for (const stream of [child.stdout, child.stderr])
    stream
      ?.setEncoding('utf8')
      .on('data', take)
      .on('error', () => {});
  let stopReason: unknown;
  let killTimer: NodeJS.Timeout | undefined;
  const stop = (reason: unknown): void => {
    if (stopReason !== undefined) return;
    stopReason = reason;
    killGroup(child, 'SIGTERM');
    killTimer = setTimeout(() => killGroup(child, 'SIGKILL'), GRACE_MS);
  };
  const onAbort = () => stop(signal!.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  const timer = timeoutSeconds && setTimeout(() => stop(timedOut(what, timeoutSeconds)), timeoutSeconds * 1000);
  try {
    const [exitCode, killedBy] = await ended(child, program, what);
    // What ignores SIGTERM, and outlives the program that started it, goes as well.
    if (stopReason !== undefined) killGroup(child, 'SIGKILL');
    if (stopReason !== undefined) throw stopReason;
    return { exitCode: exitCode ?? undefined, killedBy: killedBy ?? undefined, output };
  } finally {
    signal?.removeEventListener('abort', onAbort);
    clearTimeout(timer);
    clearTimeout(killTimer);
    for (const stream of [child.stdout, child.stderr]) stream?.destroy();
  }
}

function timedOut(what: string, seconds: number): VmsnapError {
  return new VmsnapError('TIMEOUT', `${what} was stopped: it had not ended after ${seconds} s`, {
    hint: 'find out what it waits for, or give it more time (timeout)',
  });
}

/** Its exit, and then its output, but not for long: a daemon that it started may hold its streams for ever. */
function ended(child: ChildProcess, program: string, what: string): Promise<[number | null, NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      const code = error.code === 'ENOENT' ? 'NOT_FOUND' : error.code === 'EACCES' ? 'PERMISSION' : 'FAILED';
      reject(
        new VmsnapError(code, `${what}: cannot start ${program}: ${error.code ?? error.message}`, { path: program }),
      );
    });
    child.once('exit', (code, signal) => {
      const late = setTimeout(() => resolve([code, signal]), LAST_OUTPUT_MS);
      child.once('close', () => {
        clearTimeout(late);
        resolve([code, signal]);
      });
    });
  });
}

/** The group may outlive its first process. */
function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Nothing of it is left.
  }
}

/** Undefined if it ended well. */
export function endFault({ exitCode, killedBy }: ProgramEnd): string | undefined {
  if (exitCode === 0) return undefined;
  return exitCode === undefined ? `was ended by ${killedBy}` : `ended with ${exitCode}`;
}

/** The last lines of what a program said, for an error message: one line, without control characters. */
export function lastWords(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const text = lines
    .slice(-3)
    .join(' | ')
    .replace(/[\p{Cc}\p{Cf}]/gu, '?')
    .slice(-500);
  return text === '' ? '' : `: ${text}`;
}
