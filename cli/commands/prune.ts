/** `vmsnap prune`: removes the images that no rule keeps. */
import type { PruneOptions, PruneResult, RetentionDecision, RetentionPolicy } from '../../lib/index.js';
import type { CommandContext, CommandSpec, OptionSpec } from '../command.js';
import { entryJson } from '../store/entryJson.js';
import { pruneLines } from '../store/pruneLines.js';
import {
  BASE_DIR_OPTION,
  exitCodeFor,
  JSON_OPTION,
  QUIET_OPTION,
  THREADS_OPTION,
  warningsJson,
  workOptions,
} from './commonOptions.js';
import { requireFolder } from './imageList.js';
import { imageOptions, KEY_OPTIONS } from './keyOptions.js';

const COUNT_MAX = 1_000_000_000;
const EXIT_WARNINGS = 3;

const COUNT_RULES = [
  ['keep-last', 'keepLast', 'the newest N images'],
  ['keep-hourly', 'keepHourly', 'the newest of each of N hours'],
  ['keep-daily', 'keepDaily', 'of each of N days'],
  ['keep-weekly', 'keepWeekly', 'of each of N weeks, from Monday on'],
  ['keep-monthly', 'keepMonthly', 'of each of N months'],
  ['keep-yearly', 'keepYearly', 'of each of N years'],
] as const;

export const LOCK_WAIT_OPTION: OptionSpec = {
  name: 'lock-wait',
  kind: 'value',
  text: 'DURATION; wait so long for another vmsnap in the folder',
};
export const MACHINE_OPTION: OptionSpec = {
  name: 'machine',
  kind: 'list',
  text: 'NAME or UUID; only this machine, repeatable',
};

export const pruneCommand: CommandSpec = {
  name: 'prune',
  summary: 'remove old images by rules',
  usage: ['prune [options] --keep-... N FOLDER'],
  options: [
    ...COUNT_RULES.map(([name, , what]): OptionSpec => ({ name, kind: 'value', text: `N; ${what}` })),
    { name: 'keep-within', kind: 'value', text: 'DURATION; all until so much before the newest (30d, 2w3d)' },
    { name: 'dry-run', kind: 'flag', text: 'remove nothing, tell what would be' },
    MACHINE_OPTION,
    { name: 'tz', kind: 'value', text: 'ZONE; whose days count (Europe/Berlin); default: the system' },
    { name: 'verify', kind: 'flag', text: 'first read all that is kept, not only the newest' },
    { name: 'remove-damaged', kind: 'flag', text: 'damaged ones too, if untouched for a day' },
    LOCK_WAIT_OPTION,
    BASE_DIR_OPTION,
    ...KEY_OPTIONS,
    THREADS_OPTION,
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap prune --keep-daily 7 --keep-weekly 4 --dry-run /backup', 'what would go'],
    ['vmsnap prune --keep-daily 7 --keep-weekly 4 --quiet /backup', 'do it'],
  ],
  notes: [
    'Per machine; never the newest good image, a base of one that stays, nor one with',
    'a file NAME.protected beside it. docs/retention.md has the rules exactly.',
    'Exit code 3: something is left or to be looked at, and stands on stderr.',
  ],
  lastIsOutput: false,
  run: runPrune,
};

async function runPrune(context: CommandContext): Promise<number> {
  const { args, answer, talk } = context;
  const folder = requireFolder(args);
  const policy = countRules(context);
  const { parseDuration } = await import('../../lib/duration.js');
  const { pruneStore } = await import('../../lib/store/prune.js');
  const duration = (name: string): number | undefined => {
    const text = args.value(name);
    return text === undefined ? undefined : parseDuration(text, `--${name}`);
  };
  const machines = args.list('machine');
  const options: PruneOptions = {
    ...workOptions(context),
    policy: { ...policy, keepWithinSeconds: duration('keep-within') },
    dryRun: args.flag('dry-run'),
    verify: args.flag('verify') ? 'all' : 'newest',
    removeDamaged: args.flag('remove-damaged'),
    machines: machines.length === 0 ? undefined : machines,
    timeZone: args.value('tz'),
    lockWaitSeconds: duration('lock-wait'),
    ...imageOptions(context),
  };
  const result = await pruneStore(folder, options);
  talk.clearProgress();
  for (const { message } of result.left) talk.warning(message);
  if (args.flag('json')) await answer.json(pruneJson(result));
  else if (!args.flag('quiet')) await answer.lines(pruneLines(result));
  return result.left.length > 0 ? EXIT_WARNINGS : exitCodeFor(result.warnings);
}

function countRules({ args }: CommandContext): RetentionPolicy {
  return Object.fromEntries(COUNT_RULES.map(([name, key]) => [key, args.integer(name, 0, COUNT_MAX)]));
}

function pruneJson(result: PruneResult): object {
  return {
    schema: 'vmsnap.prune',
    schemaVersion: 1,
    folder: result.folder,
    dryRun: result.dryRun,
    timeZone: result.timeZone,
    images: result.decisions.map(decisionJson),
    removed: [...result.removed],
    removedBytes: result.removedBytes,
    left: result.left.map(({ path, reason, message }) => ({ path, reason, message })),
    warnings: warningsJson(result.warnings),
  };
}

function decisionJson({ entry, keep, reasons }: RetentionDecision): object {
  return {
    ...entryJson(entry),
    keep,
    reasons: reasons.map(({ rule, detail }) => ({ rule, detail: detail ?? null })),
  };
}
