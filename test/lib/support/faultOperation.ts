/** A command whose system calls fail (faults.test.ts). */
import { readdirSync, rmSync } from 'node:fs';
import type { Workspace } from './workspace.js';

/** More than one would not lead to other calls. */
export const THREADS = ['--threads', '2'];

export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** It says that it did what it was to do. */
  readonly done: boolean;
}

export interface Operation {
  readonly name: string;
  /** Why it cannot be tried here, or undefined. */
  readonly missing?: string | undefined;
  readonly prepare: (folder: Workspace) => Promise<void>;
  /** After the last run. */
  readonly end?: (folder: Workspace) => Promise<void>;
  readonly args: (folder: Workspace) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Files whose calls fail; '' is the folder itself. */
  readonly files: readonly string[];
  /** Named pipes that are standard input and output. */
  readonly stdin?: string;
  readonly stdout?: string;
  /** From and to: what stands at the other ends of pipes. */
  readonly peers?: readonly (readonly [string, string])[];
  /** Calls on what it makes in the folder for temporary files fail too: files without names, and with names that nobody knows before. */
  readonly spills?: boolean;
  /** Calls on its sockets fail too. */
  readonly sockets?: boolean;
  /** Exit codes of success; default 0. */
  readonly done?: readonly number[];
  /** What a failing call may lead to besides its own code. */
  readonly codes?: readonly number[];
  /** Hidden files that stay. */
  readonly keeps?: readonly string[];
  /** What is wrong with the files, or undefined. */
  readonly check: (folder: Workspace, outcome: Outcome) => Promise<string | undefined>;
  /** Puts the folder back to where it was. */
  readonly reset: (folder: Workspace) => void;
}

/** The folder for temporary files, beside what the command works on. */
export const TEMPORARY = 'tmp';

export const nothing = () => {};

/** What is in it, and is not told. */
export function leftUntold(folder: Workspace, { stderr }: Outcome): string[] {
  return readdirSync(folder.path(TEMPORARY)).filter((name) => !stderr.includes(name));
}

export function emptyTemporary(folder: Workspace): void {
  for (const name of readdirSync(folder.path(TEMPORARY)))
    rmSync(folder.path(`${TEMPORARY}/${name}`), { recursive: true });
}
