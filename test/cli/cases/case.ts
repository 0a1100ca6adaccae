/** The shape of a contract case: what is typed, and what must come of it. */
import type { Preparation } from '../support/fixtures.js';

export interface Case {
  readonly title: string;
  readonly prepare?: readonly Preparation[];
  readonly args: readonly string[];
  readonly exitCode: number;
  /** '' for nothing at all; left out for anything. */
  readonly stdout?: '' | RegExp | readonly RegExp[];
  readonly stderr?: '' | RegExp | readonly RegExp[];
  /** Content of standard input: a file of the case's folder. */
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Standard error leads to the journal. */
  readonly journal?: boolean;
  /** All names in the folder afterwards; default: those that were there before. */
  readonly files?: readonly string[];
  /** Pairs of files that must be the same afterwards. */
  readonly same?: readonly (readonly [string, string])[];
}
