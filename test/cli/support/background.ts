/** A command line that runs beside the test: one that waits for more standard input, until told otherwise. */
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CliOptions, type CliResult, runCli } from './runCli.js';

const POLL_MS = 10;
const WAIT_MS = 30_000;

export interface Background {
  readonly child: ChildProcess;
  readonly result: Promise<CliResult>;
}

/** `stdin: 'pipe'` without an end: a `-` source or image then never ends. */
export function startCli(args: readonly string[], options: CliOptions, firstInput?: Buffer): Background {
  let started: ChildProcess | undefined;
  const result = runCli(args, {
    ...options,
    keepStdinOpen: true,
    onStart: (child) => {
      started = child;
      if (firstInput !== undefined) child.stdin?.write(firstInput);
    },
  });
  return { child: started!, result };
}

export async function waitForFile(path: string): Promise<void> {
  const deadline = Date.now() + WAIT_MS;
  while (!existsSync(path)) {
    if (Date.now() > deadline) throw new Error(`${path} did not appear`);
    await sleep(POLL_MS);
  }
}
