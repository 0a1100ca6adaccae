/** Runs the compiled command line in a process of its own. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BUNDLE } from './paths.js';

export interface CliResult {
  /** The exit code, or undefined if a signal ended the process. */
  readonly exitCode: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  readonly stdout: string;
  readonly stdoutBytes: Buffer;
  readonly stderr: string;
}

export interface CliOptions {
  /** Which entry; {@link BUNDLE} if nothing is said. */
  readonly program?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Standard error is what JOURNAL_STREAM says leads to the journal. */
  readonly journal?: boolean;
  readonly input?: Buffer;
  /** Standard input is a pipe that does not end. */
  readonly keepStdinOpen?: boolean;
  /** Words in front of the command, such as `prlimit --fsize=...`. */
  readonly wrapper?: readonly string[];
  readonly spawn?: SpawnOptions;
  readonly onStart?: (child: ChildProcess) => void;
}

/** Nothing of the caller's terminal or journal reaches the command unless a test says so. */
function cleanEnvironment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const { JOURNAL_STREAM: _journal, NO_COLOR: _color, FORCE_COLOR: _force, ...rest } = process.env;
  return { ...rest, ...extra };
}

/** A file that stands for the stream that leads to the journal. */
class Journal {
  readonly fd: number;
  readonly env: Readonly<Record<string, string>>;
  readonly #folder = mkdtempSync(join(tmpdir(), 'vmsnap-journal-'));
  readonly #path = join(this.#folder, 'journal');

  constructor() {
    this.fd = openSync(this.#path, 'w');
    const { dev, ino } = fstatSync(this.fd, { bigint: true });
    this.env = { JOURNAL_STREAM: `${dev}:${ino}` };
  }

  /** What was written, once and for all. */
  end(): string {
    closeSync(this.fd);
    const text = readFileSync(this.#path, 'utf8');
    rmSync(this.#folder, { recursive: true });
    return text;
  }
}

export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const [command, ...words] = [...(options.wrapper ?? []), process.execPath, options.program ?? BUNDLE, ...args];
  const journal = options.journal === true ? new Journal() : undefined;
  const stdin = options.input === undefined && options.keepStdinOpen !== true ? 'ignore' : 'pipe';
  const child = spawn(command!, words, {
    cwd: options.cwd,
    env: cleanEnvironment({ ...options.env, ...journal?.env }),
    stdio: [stdin, 'pipe', journal?.fd ?? 'pipe'],
    ...options.spawn,
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  child.stdin?.on('error', () => undefined);
  if (options.keepStdinOpen !== true) child.stdin?.end(options.input);
  options.onStart?.(child);
  const [exitCode, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, name) => resolve([code, name]));
  });
  const stdoutBytes = Buffer.concat(stdout);
  return {
    exitCode: exitCode ?? undefined,
    signal: signal ?? undefined,
    stdout: stdoutBytes.toString('utf8'),
    stdoutBytes,
    stderr: journal?.end() ?? Buffer.concat(stderr).toString('utf8'),
  };
}

function collect(stream: NodeJS.ReadableStream | null): Buffer[] {
  const parts: Buffer[] = [];
  stream?.on('data', (part: Buffer) => parts.push(part));
  return parts;
}
