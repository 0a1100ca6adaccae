/** Finds the command, parses its options, runs it, and turns whatever goes wrong into a message and an exit code. */
import { isatty } from 'node:tty';
import type { CommandSpec } from './command.js';
import { COMMANDS } from './commandTable.js';
import { describeFailure, type Failure, failureJson } from './failure.js';
import { commandHelp, topHelp } from './help.js';
import { parseArguments } from './options/parse.js';
import { type ScannedArguments, scanArguments } from './options/scan.js';
import { nearest } from './options/suggest.js';
import { Answer } from './output/answer.js';
import { Talk } from './output/talk.js';
import { listenForSignals, StoppedError } from './signals.js';
import { UsageError } from './usageError.js';

const EXIT_USAGE = 2;
const STDIN_FD = 0;

/** Returns the exit code; never throws. */
export async function run(args: readonly string[]): Promise<number> {
  const [first, ...rest] = args;
  if (first === undefined) {
    process.stderr.write(`${topHelp()}\n`);
    return EXIT_USAGE;
  }
  if (first === 'help' || first === '--help' || first === '-h') return runHelp(rest);
  const entry = COMMANDS.find(({ name }) => name === first);
  if (entry === undefined) return failBeforeCommand(unknownCommand(first), rest);
  if (entry.warmsUp !== undefined) (await import('./warmUpFor.js')).warmUpFor(entry.warmsUp, rest);
  return runCommand(await entry.load(), rest);
}

async function runHelp([topic]: readonly string[]): Promise<number> {
  const answer = new Answer(process.stdout);
  const entry = COMMANDS.find(({ name }) => name === topic);
  if (topic !== undefined && entry === undefined) return failBeforeCommand(unknownCommand(topic), []);
  await answer.line(entry === undefined ? topHelp() : await commandHelp(await entry.load()));
  return 0;
}

function unknownCommand(word: string): UsageError {
  const names = COMMANDS.map(({ name }) => name);
  if (word.startsWith('-')) {
    return new UsageError(`${word} stands before the command`, 'options come after it: vmsnap COMMAND [options] ...');
  }
  const meant = nearest(word, names);
  const hint = meant === undefined ? `the commands are ${names.join(', ')}` : `did you mean ${meant}?`;
  return new UsageError(`unknown command: ${word}`, hint);
}

function failBeforeCommand(error: UsageError, args: readonly string[]): Promise<number> {
  const json = args.includes('--json');
  return report(error, json, new Answer(process.stdout), new Talk(process.stderr, process.env, json));
}

async function runCommand(spec: CommandSpec, args: readonly string[]): Promise<number> {
  const scanned = scanArguments(spec.options, args);
  const { json } = scanned;
  const answer = new Answer(answersOnStderr(spec, scanned) ? process.stderr : process.stdout);
  const talk = new Talk(process.stderr, process.env, json);
  if (scanned.help) {
    await answer.line(await commandHelp(spec));
    return 0;
  }
  const signals = listenForSignals();
  try {
    const parsed = parseArguments(spec.options, scanned);
    refuseTerminal(spec, parsed.positionals);
    return await spec.run({ args: parsed, answer, talk, signal: signals.signal, releaseSignals: signals.stop });
  } catch (error) {
    if (spec.tellFailure !== undefined && !(error instanceof StoppedError)) {
      return await spec.tellFailure({ failure: describeFailure(error), json, answer });
    }
    return await report(error, json, answer, talk, `vmsnap ${spec.name} --help tells how it is called`);
  } finally {
    talk.clearProgress();
    signals.stop();
  }
}

/** Memory is nothing for a terminal to show, and nobody types it. */
function refuseTerminal(spec: CommandSpec, positionals: readonly string[]): void {
  if (spec.lastIsOutput && positionals.length > 1 && positionals.at(-1) === '-' && process.stdout.isTTY) {
    throw new UsageError('standard output is a terminal', 'send it to a file (> FILE) or through a pipe');
  }
  // Not process.stdin: making that stream lets nobody wait in a read of the pipe any more.
  if (positionals[0] === '-' && isatty(STDIN_FD)) {
    throw new UsageError('standard input is a terminal', 'take it from a file (< FILE) or a pipe');
  }
}

function answersOnStderr(spec: CommandSpec, scanned: ScannedArguments): boolean {
  if (spec.answersOnStderr === true) return !scanned.help;
  return spec.lastIsOutput && outputIsStdout(scanned);
}

/** Whether the data goes to standard output, asked also of a command line that cannot be parsed. */
function outputIsStdout({ positionals, fault }: ScannedArguments): boolean {
  if (fault === undefined || positionals.length <= 1) return positionals.at(-1) === '-';
  return positionals.slice(1).includes('-');
}

/** `usageHint` is for a wrong call that has no hint of its own. */
async function report(error: unknown, json: boolean, answer: Answer, talk: Talk, usageHint?: string): Promise<number> {
  let failure: Failure = describeFailure(error);
  if (failure.exitCode === EXIT_USAGE) failure = { ...failure, hint: failure.hint ?? usageHint };
  if (json) await answer.json(failureJson(failure));
  else talk.failure(failure);
  return failure.exitCode;
}
