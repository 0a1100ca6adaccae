/** Options that several commands share, and how they reach the library. */
import type { CommonOptions, LimitOptions, RunLimits, SourceOptions, Warning } from '../../lib/index.js';
import { FORMATS } from '../../lib/optionWords.js';
import type { CommandContext, OptionSpec } from '../command.js';
import { progressLine } from '../output/progressLine.js';
import { formatBytes } from '../output/units.js';

export const THREADS_OPTION: OptionSpec = {
  name: 'threads',
  kind: 'value',
  text: 'N; default: the processors that this process may use',
};
/** Ceilings of commands that write an image or memory. */
export const MEMORY_OPTION: OptionSpec = {
  name: 'memory',
  kind: 'value',
  text: 'SIZE; ceiling on memory: fewer threads and buffers',
};
export const LIMIT_OPTIONS: readonly OptionSpec[] = [
  MEMORY_OPTION,
  { name: 'rate', kind: 'value', text: 'SIZE; ceiling on bytes written a second, from 64K' },
];
export const QUIET_OPTION: OptionSpec = { name: 'quiet', kind: 'flag', text: 'say nothing unless something is wrong' };
export const JSON_OPTION: OptionSpec = { name: 'json', kind: 'flag', text: 'one JSON object instead of text' };

export const BASE_DIR_OPTION: OptionSpec = {
  name: 'base-dir',
  kind: 'list',
  text: 'FOLDER; look for bases here too, repeatable',
};

export const FORMAT_OPTION: OptionSpec = {
  name: 'format',
  kind: 'value',
  text: 'auto (default: by content), raw, qemu-stream, kdump ...',
  choices: FORMATS,
};

/** The files that belong to the memory file of a Firecracker snapshot. */
export const FIRECRACKER_OPTIONS: readonly OptionSpec[] = [
  { name: 'vmstate', kind: 'value', text: 'FILE; of a Firecracker snapshot: its state, attached' },
  { name: 'diff-base', kind: 'value', text: 'FILE; of a Firecracker diff: the full memory below it' },
];

/** What a source is, and where it is told to people at a terminal. */
export function sourceOptions({ args, talk }: CommandContext): SourceOptions {
  return {
    // The words were checked against the list above.
    format: args.value('format') as SourceOptions['format'],
    onRecognised: ({ path, title, version }) => {
      const which = version === undefined ? title : `${title}, version ${version}`;
      talk.note(`${path} is ${which}`);
    },
  };
}

/** The same with the options of Firecracker snapshots. */
export function snapshotOptions(context: CommandContext): SourceOptions {
  const { args } = context;
  return { ...sourceOptions(context), vmstate: args.value('vmstate'), diffBase: args.value('diff-base') };
}

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

export function limitOptions({ args }: CommandContext): LimitOptions {
  return { memoryLimitBytes: args.size('memory'), writeBytesPerSecond: args.size('rate') };
}

/** What a run says of its ceilings. */
interface LimitedRun {
  readonly limits: RunLimits;
  readonly peakMemoryBytes: number;
}

export function limitsJson({ limits, peakMemoryBytes }: LimitedRun): object {
  const { memoryBytes, writeBytesPerSecond } = limits;
  return {
    limits: { memoryBytes: memoryBytes ?? null, writeBytesPerSecond: writeBytesPerSecond ?? null },
    peakMemoryBytes,
  };
}

/** A line for people, if there are any. */
export function limitLines({ limits, peakMemoryBytes }: LimitedRun): string[] {
  const { memoryBytes, writeBytesPerSecond } = limits;
  const held = [
    ...(memoryBytes === undefined
      ? []
      : [`${formatBytes(memoryBytes)} of memory (${formatBytes(peakMemoryBytes)} at most were used)`]),
    ...(writeBytesPerSecond === undefined ? [] : [`${formatBytes(writeBytesPerSecond)}/s written`]),
  ];
  return held.length === 0 ? [] : [`ceilings: ${held.join(', ')}`];
}

const EXIT_OK = 0;
const EXIT_WARNINGS = 3;

export function exitCodeFor(warnings: readonly Warning[]): number {
  return warnings.length > 0 ? EXIT_WARNINGS : EXIT_OK;
}

/** Says what a command that writes one thing has done; text only where that does not go to standard output itself. */
export async function tellResult(
  { args, answer, talk }: CommandContext,
  target: string,
  json: () => object,
  lines: () => string[],
): Promise<void> {
  talk.clearProgress();
  if (args.flag('json')) await answer.json(json());
  else if (!args.flag('quiet') && target !== '-') await answer.lines(lines());
}

/** Of several results: the first failure, else a warning if there is one. */
export function exitCodeOfAll(codes: readonly number[]): number {
  const failure = codes.find((code) => code !== EXIT_OK && code !== EXIT_WARNINGS);
  return failure ?? (codes.includes(EXIT_WARNINGS) ? EXIT_WARNINGS : EXIT_OK);
}

export function warningsJson(warnings: readonly Warning[]): object[] {
  return warnings.map(({ code, message }) => ({ code, message }));
}
