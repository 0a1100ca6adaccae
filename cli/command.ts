/** What every command file exports: how it is called, and what it does. */
import type { Failure } from './failure.js';
import type { ParsedArguments } from './options/parsedArguments.js';
import type { Answer } from './output/answer.js';
import type { Talk } from './output/talk.js';

export interface OptionSpec {
  readonly name: string;
  /** flag: no value. value: at most once. list: any number of times. */
  readonly kind: 'flag' | 'value' | 'list';
  /** One line for the help; starts with the shape of the value, if it has one. */
  readonly text: string;
  /** Too rare for the help screen: it stands in docs/reference.md. */
  readonly rare?: boolean;
  /** The allowed words, where only some are. */
  readonly choices?: readonly string[];
}

export interface CommandSpec {
  readonly name: string;
  readonly summary: string;
  /** How it is called, without the program's name. */
  readonly usage: readonly string[];
  readonly options: readonly OptionSpec[];
  /** A command line and what it does. */
  readonly examples: readonly (readonly [string, string])[];
  /** Lines below the options that the option texts have no room for. */
  readonly notes?: readonly string[];
  /** The words that its only positional argument may be, where only some are. */
  readonly positionalChoices?: readonly string[];
  /** Whether the last positional argument may be `-`: the data itself then goes to standard output. */
  readonly lastIsOutput: boolean;
  /** Standard output is for a program that it starts. */
  readonly answersOnStderr?: boolean;
  /** Returns the exit code. */
  run(context: CommandContext): Promise<number>;
  /** Tells a failure, a wrong call included, where the command has a way of its own for that. Returns the exit code. */
  tellFailure?(context: FailureContext): Promise<number>;
}

export interface FailureContext {
  readonly failure: Failure;
  readonly json: boolean;
  readonly answer: Answer;
}

export interface CommandContext {
  readonly args: ParsedArguments;
  readonly answer: Answer;
  readonly talk: Talk;
  /** Aborted by SIGINT, SIGTERM and SIGHUP. */
  readonly signal: AbortSignal;
  /** Leaves both signals to the command itself. */
  releaseSignals(): void;
}
