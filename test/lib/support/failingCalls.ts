/**
 * Runs a command of which one system call fails. By strace, for calls on files that have a name; by a preloaded library
 * (failingCalls.c) for files that have none, for sockets, and for calls that do less than they are asked for.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import { constants as system } from 'node:os';
import { fileURLToPath } from 'node:url';
import { BUNDLE } from '../../cli/support/paths.js';
import { type CliResult, runCli } from '../../cli/support/runCli.js';
import { type Operation, TEMPORARY } from './faultOperation.js';
import type { Workspace } from './workspace.js';

const COMMAND_SECONDS_MAX = 60;
const SOURCE = fileURLToPath(new URL('../../../../test/lib/support/failingCalls.c', import.meta.url));

/** The errors that are tried. */
export const ERRORS = ['EIO', 'ENOSPC', 'EINTR', 'EAGAIN'] as const;
export type ErrorName = (typeof ERRORS)[number];

/** What commands do to their files, and what may fail. */
const DATA_CALLS = new Set([
  ...['openat', 'read', 'pread64', 'readv', 'preadv', 'preadv2', 'write', 'pwrite64', 'writev', 'pwritev', 'pwritev2'],
  ...['fsync', 'fdatasync', 'sync_file_range', 'ftruncate', 'fallocate', 'lseek', 'copy_file_range', 'splice', 'mmap'],
  ...['rename', 'renameat', 'renameat2', 'linkat', 'unlink', 'unlinkat', 'mkdir', 'rmdir', 'fchmod', 'fchown', 'chmod'],
  ...['statx', 'stat', 'lstat', 'newfstatat', 'statfs', 'fstatfs', 'access', 'faccessat2', 'readlink'],
  ...['getdents64', 'flock', 'fadvise64', 'poll', 'ppoll'],
]);
/**
 * Left out. A close that strace lets fail leaves the file open, which no system does. Node asks fstat, fcntl and ioctl what its
 * standard input and output are, and aborts where it is not told. (The library's own fstat is statx or newfstatat.) The others are no
 * calls on data.
 */
const OTHER_CALLS = new Set([
  'close',
  'fstat',
  'fcntl',
  'ioctl',
  'epoll_ctl',
  'dup',
  'dup2',
  'dup3',
  'execve',
  'readlinkat',
]);

/** One call that fails, the first of `when` calls of this name that a thread makes being number 1. */
export interface Injection {
  readonly call: string;
  readonly when: number;
  readonly error: ErrorName;
  /** All later ones fail as well: a disk that is dying. */
  readonly lasts?: boolean;
  /** What is to be removed afterwards cannot be removed. */
  readonly unlinkFails?: boolean;
  /** Made on a file without a name that is known before, or on a socket. */
  readonly unnamed?: boolean;
}

export function injectionText({ call, when, error, lasts, unlinkFails, unnamed }: Injection): string {
  const also = unlinkFails ? ', and nothing can be removed' : '';
  return `${unnamed ? 'without a name: ' : ''}${call} number ${when}${lasts ? ' and all later' : ''}: ${error}${also}`;
}

export interface FaultResult extends CliResult {
  /** How many calls failed: with threads, not every run makes as many as another. */
  readonly injected: number;
}

/** Compiles the library for {@link runFailing} and {@link runShort}; the first needs it for what has no name only. */
export function compileLibrary(folder: Workspace): string {
  const library = folder.path('failing.so');
  execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', library, SOURCE, '-ldl']);
  return library;
}

/** Runs the operation without any failure. */
export function runOperation(operation: Operation, folder: Workspace): Promise<CliResult> {
  return run(operation, folder, []);
}

/** How often each call is made by one thread at most, on files with names. @throws for a call that is not known. */
export async function countCalls(operation: Operation, folder: Workspace): Promise<Map<string, number>> {
  const trace = folder.path('trace');
  const { exitCode, stderr } = await run(operation, folder, [
    ...['strace', '-f', '--seccomp-bpf', '-o', trace, ...pathWords(operation, folder), '-e', 'trace=%file,%desc'],
  ]);
  if (!(operation.done ?? [0]).includes(exitCode ?? -1)) throw new Error(`exit code ${exitCode}: ${stderr}`);
  const byThread = new Map<string, number>();
  for (const [, thread, call] of readFileSync(trace, 'latin1').matchAll(/^(\d+) +(\w+)\(/gm)) {
    if (OTHER_CALLS.has(call!)) continue;
    if (!DATA_CALLS.has(call!)) throw new Error(`the call ${call} is not known: data call or not?`);
    const key = `${call} ${thread}`;
    byThread.set(key, (byThread.get(key) ?? 0) + 1);
  }
  rmSync(trace);
  return mostOfThreads(byThread);
}

function mostOfThreads(byThread: ReadonlyMap<string, number>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [key, count] of byThread) {
    const call = key.split(' ')[0]!;
    counts.set(call, Math.max(count, counts.get(call) ?? 0));
  }
  return counts;
}

/** The same for what has no name, of all threads together. */
export async function countUnnamed(operation: Operation, folder: Workspace, library: string) {
  const log = folder.path('unnamed');
  await run(operation, folder, [], { ...preload(operation, folder, library), VMSNAP_FAIL_LOG: log });
  const counts = new Map<string, number>();
  for (const call of linesOf(log)) counts.set(call, (counts.get(call) ?? 0) + 1);
  return counts;
}

export async function runFailing(
  operation: Operation,
  folder: Workspace,
  injection: Injection,
  library?: string,
): Promise<FaultResult> {
  if (injection.unnamed) return runUnnamed(operation, folder, injection, library!);
  const { call, when, error, lasts, unlinkFails } = injection;
  const trace = folder.path('trace');
  const calls = unlinkFails ? `${call},unlink,unlinkat` : call;
  const result = await run(operation, folder, [
    ...['strace', '-f', '--seccomp-bpf', '-o', trace, ...pathWords(operation, folder), '-e', `trace=${calls}`],
    ...['-e', `inject=${call}:error=${error}:when=${when}${lasts ? '+' : ''}`],
    ...(unlinkFails ? ['-e', 'inject=unlink,unlinkat:error=EIO'] : []),
  ]);
  // Node's own questions at its start and end count for none.
  const isNodes = /node::(PlatformInit|ResetStdio)\(/.test(result.stderr);
  const injected = isNodes ? 0 : (readFileSync(trace, 'latin1').match(/\(INJECTED\)/g)?.length ?? 0);
  rmSync(trace);
  return { ...result, injected };
}

async function runUnnamed(
  operation: Operation,
  folder: Workspace,
  { call, when, error }: Injection,
  library: string,
): Promise<FaultResult> {
  const log = folder.path('unnamed');
  const order = `${call}:${when}:${system.errno[error]}`;
  const env = { ...preload(operation, folder, library), VMSNAP_FAIL: order, VMSNAP_FAIL_LOG: log };
  const result = await run(operation, folder, [], env);
  return { ...result, injected: linesOf(log).filter((line) => line === 'failed').length };
}

/** Every `every`-th read and write on the files does a third of what it is asked for, or is interrupted. */
export function runShort(
  operation: Operation,
  folder: Workspace,
  library: string,
  every: string,
  interrupts: boolean,
): Promise<CliResult> {
  return run(operation, folder, [], {
    ...preload(operation, folder, library),
    VMSNAP_FAULT_FOLDER: `${folder.folder}/`,
    VMSNAP_SHORT_EVERY: every,
    ...(interrupts ? { VMSNAP_SHORT_EINTR: '1' } : {}),
  });
}

function preload({ sockets }: Operation, folder: Workspace, library: string): Record<string, string> {
  return {
    LD_PRELOAD: library,
    VMSNAP_FAULT_FOLDER: `${folder.path(TEMPORARY)}/`,
    ...(sockets ? { VMSNAP_FAULT_SOCKETS: '1' } : {}),
  };
}

function linesOf(log: string): string[] {
  if (!existsSync(log)) return [];
  const lines = readFileSync(log, 'latin1').split('\n').slice(0, -1);
  rmSync(log);
  return lines;
}

function pathWords(operation: Operation, folder: Workspace): string[] {
  return operation.files.flatMap((name) => ['-P', name === '' ? folder.folder : folder.path(name)]);
}

const LIMIT = ['timeout', '-k', '5', String(COMMAND_SECONDS_MAX)];

/** What users run, for it starts sooner. The shell opens pipes: that waits for the other end. */
async function run(
  operation: Operation,
  folder: Workspace,
  wrapper: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CliResult> {
  const { stdin, stdout, peers = [] } = operation;
  const plumbing = `exec "$@" ${stdin === undefined ? '' : `< ${stdin}`} ${stdout === undefined ? '' : `> ${stdout}`}`;
  const shell = stdin === undefined && stdout === undefined ? [] : ['sh', '-c', plumbing, 'sh'];
  const running = peers.map(([from, to]) => startPeer(folder, from, to));
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  try {
    return await runCli(operation.args(folder), {
      program: BUNDLE,
      cwd: folder.folder,
      // The library is for the command, and not for the shell.
      wrapper: [...LIMIT, ...shell, ...wrapper, 'env', ...variables],
      env: { UV_USE_IO_URING: '0', TMPDIR: folder.path(TEMPORARY), ...operation.env },
    });
  } finally {
    for (const [i, pair] of peers.entries()) await endPeer(folder, pair, running[i]!);
  }
}

function startPeer(folder: Workspace, from: string, to: string): ChildProcess {
  const words = ['sh', '-c', 'exec cat < "$1" > "$2"', 'sh', folder.path(from), folder.path(to)];
  return spawn(LIMIT[0]!, [...LIMIT.slice(1), ...words], { stdio: 'ignore' });
}

/** Waits for the end of it. One that still waits for its pipe to be opened gets both ends of it, and then the end. */
async function endPeer(folder: Workspace, pair: readonly [string, string], peer: ChildProcess): Promise<void> {
  if (peer.exitCode !== null || peer.signalCode !== null) return;
  const ended = once(peer, 'exit');
  for (const name of pair.filter((each) => each === 'in' || each === 'out'))
    closeSync(openSync(folder.path(name), constants.O_RDWR | constants.O_NONBLOCK));
  await ended;
}
