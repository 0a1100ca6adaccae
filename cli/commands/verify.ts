/** `vmsnap verify`: reads and checks everything, and names each damaged place. */
import { existsSync, statSync } from 'node:fs';
import type { Finding, VerifyOptions, VerifyResult } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { describeFailure, failureJson } from '../failure.js';
import { bareMessage } from '../inspect/trust.js';
import { parseSubset, type Subset } from '../options/subsetOption.js';
import { printable } from '../output/printable.js';
import { formatAddress, formatBytes, formatCount, formatDuration } from '../output/units.js';
import { StoppedError } from '../signals.js';
import { drillJson, drillLine } from '../store/drillText.js';
import { UsageError } from '../usageError.js';
import {
  BASE_DIR_OPTION,
  exitCodeFor,
  exitCodeOfAll,
  JSON_OPTION,
  MEMORY_OPTION,
  QUIET_OPTION,
  THREADS_OPTION,
  workOptions,
} from './commonOptions.js';
import { requireOneStdin } from './imageList.js';
import { imageOptions, KEY_OPTIONS } from './keyOptions.js';

const EXIT_WARNINGS = 3;
const EXIT_CORRUPT = 14;
/** Memory ranges that one finding's line names before it says how many more there are. */
const RANGES_SHOWN = 4;

export const verifyCommand: CommandSpec = {
  name: 'verify',
  summary: 'read and check everything in images',
  usage: ['verify [options] IMAGE|FOLDER...'],
  options: [
    { name: 'structure', kind: 'flag', text: 'headers, manifests, index and tables only, no payload' },
    { name: 'restore-drill', kind: 'flag', text: 'bring all memory back as a load does, but write nothing' },
    { name: 'subset', kind: 'value', text: 'I/N; of a folder only share I of N; auto/N: that of today' },
    BASE_DIR_OPTION,
    ...KEY_OPTIONS,
    THREADS_OPTION,
    MEMORY_OPTION,
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap verify guest.vmsnap', 'check one image'],
    ['vmsnap verify --quiet /backup/*.vmsnap', 'say only what is damaged'],
    ['ssh host cat guest.vmsnap | vmsnap verify -', 'from a pipe'],
    ['vmsnap verify --quiet --subset auto/7 /backup', 'nightly: all in a week'],
  ],
  notes: [
    'FOLDER: all images in it. An image keeps its share, whatever comes and goes.',
    'Exit code 0: intact. 14: damaged; each damaged place is named. Of a differential',
    'image its bases are verified too; 16: one of them cannot be found.',
  ],
  lastIsOutput: false,
  run: runVerify,
};

interface Outcome {
  readonly exitCode: number;
  readonly json: object;
}

type VerifyOneImage = (image: string) => Promise<Outcome>;

async function runVerify(context: CommandContext): Promise<number> {
  const { args, answer } = context;
  const named = args.requireImages();
  requireOneStdin(named);
  const subsetText = args.value('subset');
  const subset = subsetText === undefined ? undefined : parseSubset(subsetText);
  requireFitting(context, named, subset);
  const verifyImage = args.flag('restore-drill') ? drills(context) : verifies(context);
  const outcomes: Outcome[] = [];
  for (const path of named) {
    if (isFolder(path)) outcomes.push(...(await verifyFolder(context, path, subset, verifyImage)));
    else outcomes.push(await verifyImage(path));
  }
  if (args.flag('json')) {
    const objects = outcomes.map(({ json }) => json);
    const isOne = named.length === 1 && !isFolder(named[0]!);
    await answer.json(isOne ? objects[0]! : { schema: 'vmsnap.verify-list', schemaVersion: 1, images: objects });
  }
  return exitCodeOfAll(outcomes.map(({ exitCode }) => exitCode));
}

function requireFitting({ args }: CommandContext, images: readonly string[], subset: Subset | undefined): void {
  if (args.flag('restore-drill') && args.flag('structure')) {
    throw new UsageError('--restore-drill and --structure exclude each other', 'choose one');
  }
  if (subset !== undefined && images.some((image) => image === '-' || (existsSync(image) && !isFolder(image)))) {
    throw new UsageError('--subset goes with folders of images only', 'give the folder that the images are in');
  }
}

/** What cannot be looked at is taken for an image: who opens it tells why. */
function isFolder(path: string): boolean {
  try {
    return path !== '-' && statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** The images of a folder, or a share of them: bases before what needs them, so that each file is read once for itself. */
async function verifyFolder(
  context: CommandContext,
  folder: string,
  subset: Subset | undefined,
  verifyImage: VerifyOneImage,
): Promise<Outcome[]> {
  const { args, answer, signal, talk } = context;
  try {
    const { listStore } = await import('../../lib/store/listStore.js');
    const { selectSubset, subsetOfDay } = await import('../../lib/store/subset.js');
    const { VmsnapError } = await import('../../lib/errors.js');
    const { entries } = await listStore(folder, { signal, baseDirs: args.list('base-dir') });
    if (entries.length === 0) throw new VmsnapError('NOT_FOUND', `there is no image in ${folder}`, { path: folder });
    const index = subset && (subset.index ?? subsetOfDay(subset.count));
    const chosen = index === undefined ? [...entries] : selectSubset(entries, index, subset!.count);
    if (index !== undefined && !args.flag('quiet') && !args.flag('json')) {
      await answer.line(
        `${folder}: ${chosen.length} of ${entries.length} images are in share ${index}/${subset!.count}`,
      );
    }
    const outcomes: Outcome[] = [];
    for (const { path } of chosen.sort((a, b) => a.bases.length - b.bases.length))
      outcomes.push(await verifyImage(path));
    return outcomes;
  } catch (error) {
    return [failedOutcome(talk, error)];
  }
}

function failedOutcome(talk: CommandContext['talk'], error: unknown): Outcome {
  if (error instanceof StoppedError) throw error;
  const failure = describeFailure(error);
  talk.failure(failure);
  return { exitCode: failure.exitCode, json: failureJson(failure) };
}

function drills(context: CommandContext): VerifyOneImage {
  const { args, answer, talk } = context;
  const options = { ...workOptions(context), memoryLimitBytes: args.size('memory'), ...imageOptions(context) };
  return async (image) => {
    try {
      const { restoreDrill } = await import('../../lib/load.js');
      const result = await restoreDrill(image, options);
      talk.clearProgress();
      if (!args.flag('json') && !args.flag('quiet')) await answer.line(drillLine(result));
      return { exitCode: exitCodeFor(result.warnings), json: drillJson(result) };
    } catch (error) {
      return failedOutcome(talk, error);
    }
  };
}

function verifies(context: CommandContext): VerifyOneImage {
  const { args } = context;
  const options: VerifyOptions = {
    ...workOptions(context),
    memoryLimitBytes: args.size('memory'),
    structureOnly: args.flag('structure'),
    ...imageOptions(context),
    known: new Map(),
  };
  return (image) => verifyOne(context, image, options);
}

async function verifyOne(context: CommandContext, image: string, options: VerifyOptions): Promise<Outcome> {
  const { args, answer, talk } = context;
  try {
    const { verify } = await import('../../lib/verify.js');
    const result = await verify(image, options);
    talk.clearProgress();
    const showsText = !args.flag('json') && !(result.intact && !result.sealed && args.flag('quiet'));
    if (showsText) await answer.lines(verifyLines(result, options.structureOnly === true));
    return { exitCode: verifyExitCode(result, options.structureOnly === true), json: verifyJson(result) };
  } catch (error) {
    return failedOutcome(talk, error);
  }
}

/** What was not proven although that was asked for is no success. */
function verifyExitCode({ intact, sealed }: VerifyResult, structureOnly: boolean): number {
  if (!intact) return EXIT_CORRUPT;
  return sealed && !structureOnly ? EXIT_WARNINGS : 0;
}

function verifyLines(result: VerifyResult, structureOnly: boolean): string[] {
  const { image, findings, findingCount, bases, checked, run } = result;
  const what = structureOnly || result.sealed ? 'structure' : formatBytes(checked.memoryBytes);
  const extent =
    `${what} checked, ${formatCount(checked.records)} records, ${formatCount(checked.chunks)} chunks, ` +
    formatDuration(run.durationSeconds);
  const below = bases.length === 0 ? '' : ` with ${bases.length === 1 ? 'its base' : `${bases.length} bases`}`;
  if (result.intact && result.sealed)
    return [`${image}: structure intact, contents sealed and not proven: no key is given (${extent})`];
  if (result.intact) return [`${image}: intact${below} (${extent})`];
  const places = findingCount === 1 ? '1 damaged place' : `${formatCount(findingCount)} damaged places`;
  const more = findingCount - findings.length;
  return [
    `${image}${below}: DAMAGED: ${places} (${extent})`,
    ...findings.map((finding) => `  ${findingLine(finding, image)}`),
    ...(more > 0 ? [`  and ${formatCount(more)} more`] : []),
  ];
}

function findingLine({ path, structure, offset, message, region, segment, ranges }: Finding, image: string): string {
  const where = [
    ...(region === undefined ? [] : [`region ${printable(region)}`]),
    ...(segment === undefined ? [] : [`segment ${segment}`]),
    ...(ranges === undefined || ranges.length === 0 ? [] : [`memory lost: ${rangesText(ranges)}`]),
  ].join(', ');
  const file = path === image ? '' : `${path}: `;
  return `${file}${structure} at ${offset}: ${bareMessage(message, path, offset)}${where === '' ? '' : ` (${where})`}`;
}

function rangesText(ranges: NonNullable<Finding['ranges']>): string {
  const shown = ranges
    .slice(0, RANGES_SHOWN)
    .map(({ offset, length }) => `${formatBytes(length)} at ${formatAddress(offset)}`);
  const more = ranges.length - shown.length;
  return `${shown.join(', ')}${more > 0 ? ` and ${formatCount(more)} more ranges` : ''}`;
}

function verifyJson(result: VerifyResult): object {
  const { checked, run } = result;
  return {
    schema: 'vmsnap.verify',
    schemaVersion: 1,
    image: result.image,
    intact: result.intact,
    sealed: result.sealed,
    findingCount: result.findingCount,
    findings: result.findings.map(findingJson),
    bases: result.bases.map(({ path, identity, intact, findingCount }) => ({ path, identity, intact, findingCount })),
    imageBytes: result.imageBytes,
    identity: result.identity ?? null,
    digest: result.digest ?? null,
    checked: { records: checked.records, chunks: checked.chunks, memoryBytes: checked.memoryBytes },
    run: { threads: run.threads, durationSeconds: run.durationSeconds },
  };
}

function findingJson({ path, structure, offset, message, region, segment, ranges }: Finding): object {
  return {
    path,
    structure,
    offset,
    message,
    region: region ?? null,
    segment: segment ?? null,
    ranges: (ranges ?? []).map((range) => ({ offset: range.offset, length: range.length })),
  };
}
