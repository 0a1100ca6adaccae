/** Options that several commands share, and how they reach the library. */
import type { CommonOptions, Warning } from '../../lib/index.js';
import type { CommandContext, OptionSpec } from '../command.js';
import { progressLine } from '../output/progressLine.js';

export const THREADS_OPTION: OptionSpec = {
  name: 'threads',
  kind: 'value',
  text: 'N; default: the processors that this process may use',
};
export const QUIET_OPTION: OptionSpec = { name: 'quiet', kind: 'flag', text: 'say nothing unless something is wrong' };
export const JSON_OPTION: OptionSpec = { name: 'json', kind: 'flag', text: 'one JSON object instead of text' };

const THREADS_MAX = 1024;

export function threadsOption(context: CommandContext): number | undefined {
  return context.args.integer('threads', 1, THREADS_MAX);
}

/** Threads, abortion, progress and warnings: what save, load and verify have in common. */
export function workOptions(context: CommandContext): CommonOptions {
  const { args, talk, signal } = context;
  const progress = talk.showsProgress && !args.flag('quiet');
  return {
    threads: threadsOption(context),
    signal,
    onProgress: progress ? (state) => talk.progress(progressLine(state, talk.columns)) : undefined,
    onWarning: (warning) => talk.warning(warning.message),
  };
}

const EXIT_OK = 0;
const EXIT_WARNINGS = 3;

export function exitCodeFor(warnings: readonly Warning[]): number {
  return warnings.length > 0 ? EXIT_WARNINGS : EXIT_OK;
}

export function warningsJson(warnings: readonly Warning[]): object[] {
  return warnings.map(({ code, message }) => ({ code, message }));
}
