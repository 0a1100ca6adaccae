/** `vmsnap check`: whether the images are there, fresh and sound, in the manner of a monitoring plugin. */
import type { CheckOptions, CheckResult, CheckStatus } from '../../lib/index.js';
import type { CommandContext, CommandSpec, FailureContext } from '../command.js';
import { failureJson } from '../failure.js';
import { checkLine, statusLine } from '../store/checkLine.js';
import { UsageError } from '../usageError.js';
import { BASE_DIR_OPTION, JSON_OPTION, THREADS_OPTION, threadsOption } from './commonOptions.js';
import { requireFolder } from './imageList.js';

const COUNT_MAX = 1_000_000_000;
const EXIT_CODES: Readonly<Record<CheckStatus, number>> = { OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3 };

export const checkCommand: CommandSpec = {
  name: 'check',
  summary: 'tell monitoring how fresh and sound images are',
  usage: ['check [options] --max-age DURATION FOLDER'],
  options: [
    { name: 'max-age', kind: 'value', text: 'DURATION; CRITICAL if the newest good image is older' },
    { name: 'warn-age', kind: 'value', text: 'DURATION; WARNING if it is older' },
    { name: 'min-count', kind: 'value', text: 'N; CRITICAL with fewer good images; default: 1' },
    { name: 'machine', kind: 'list', text: 'NAME or UUID that must be there, repeatable; default: all' },
    BASE_DIR_OPTION,
    THREADS_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap check --max-age 26h /backup', 'machines that have images'],
    ['vmsnap check --max-age 26h --machine web1 /backup', 'one that must have'],
  ],
  notes: [
    'For each machine, the newest good image, its bases, and the structure of both;',
    'vmsnap verify reads the memory too. One line, with performance data. Exit codes',
    'as Nagios plugins have, here only: 0 OK, 1 WARNING (an image is not good, ...),',
    '2 CRITICAL, 3 UNKNOWN (it could not be checked, or the call was wrong).',
  ],
  lastIsOutput: false,
  run: runCheck,
  tellFailure,
};

async function runCheck(context: CommandContext): Promise<number> {
  const { args, answer, signal } = context;
  const folder = requireFolder(args);
  const { checkStore } = await import('../../lib/store/check.js');
  const { parseDuration } = await import('../../lib/duration.js');
  const age = (name: string): number | undefined => {
    const text = args.value(name);
    return text === undefined ? undefined : parseDuration(text, `--${name}`);
  };
  const machines = args.list('machine');
  const options: CheckOptions = {
    maxAgeSeconds: age('max-age') ?? requireMaxAge(),
    warnAgeSeconds: age('warn-age'),
    minCount: args.integer('min-count', 1, COUNT_MAX),
    machines: machines.length === 0 ? undefined : machines,
    baseDirs: args.list('base-dir'),
    threads: threadsOption(context),
    signal,
  };
  const result = await checkStore(folder, options);
  if (args.flag('json')) await answer.json(checkJson(folder, result));
  else await answer.line(checkLine(result, options));
  return EXIT_CODES[result.status];
}

function requireMaxAge(): never {
  throw new UsageError('--max-age missing', 'how old the newest image may be, such as --max-age 26h');
}

/** Monitoring reads standard output, and would take a wrong call (2) for CRITICAL. */
async function tellFailure({ failure, json, answer }: FailureContext): Promise<number> {
  const exitCode = EXIT_CODES.UNKNOWN;
  if (json) await answer.json(failureJson({ ...failure, exitCode }));
  else await answer.line(statusLine('UNKNOWN', failure.message));
  return exitCode;
}

function checkJson(folder: string, result: CheckResult): object {
  return {
    schema: 'vmsnap.check',
    schemaVersion: 1,
    folder,
    status: result.status,
    exitCode: EXIT_CODES[result.status],
    messages: [...result.messages],
    machines: result.groups.map(
      ({ machine, status, messages, newest, ageSeconds, goodCount, badCount, totalBytes }) => ({
        machine,
        status,
        messages: [...messages],
        newest: newest ?? null,
        ageSeconds: ageSeconds ?? null,
        goodCount,
        badCount,
        totalBytes,
      }),
    ),
  };
}
