import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/** The compiled command line, as `npx vmsnap` runs it. */
export const CLI_PATH = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

export interface CommandResult {
  stdout: string;
  stderr: string;
  durationSeconds: number;
}

/** Runs a vmsnap command in a process of its own. An exit code other than 0 is an error with what it said. */
export async function runVmsnap(...parameters: string[]): Promise<CommandResult> {
  return run(process.execPath, [CLI_PATH, ...parameters]);
}

/** `vmsnap save SOURCE -` into `vmsnap load - TARGET`, through a pipe of the shell. */
export async function pipeThroughVmsnap(source: string, target: string): Promise<CommandResult> {
  const line = 'set -o pipefail; "$0" "$1" save "$2" - --frozen --quiet | "$0" "$1" load - "$3" --quiet';
  return run('bash', ['-c', line, process.execPath, CLI_PATH, source, target]);
}

/** `cat SOURCE` into `vmsnap save - IMAGE`, through a pipe of the shell. */
export async function saveThroughPipe(source: string, image: string): Promise<CommandResult> {
  const line = 'set -o pipefail; cat "$2" | "$0" "$1" save - "$3" --quiet';
  return run('bash', ['-c', line, process.execPath, CLI_PATH, source, image]);
}

async function run(program: string, parameters: string[]): Promise<CommandResult> {
  const startedAt = performance.now();
  const child = spawn(program, parameters, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr, [exitCode, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null, string | null]>,
  ]);
  if (exitCode !== 0) {
    throw new Error(`${[program, ...parameters].join(' ')} ended with ${exitCode ?? signal}: ${stderr}${stdout}`);
  }
  return { stdout, stderr, durationSeconds: (performance.now() - startedAt) / 1000 };
}
