/** `vmsnap verify`: reads and checks everything, and names each damaged place. */
import type { Finding, VerifyOptions, VerifyResult } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { describeFailure, failureJson } from '../failure.js';
import { bareMessage } from '../inspect/trust.js';
import { printable } from '../output/printable.js';
import { formatAddress, formatBytes, formatCount, formatDuration } from '../output/units.js';
import { StoppedError } from '../signals.js';
import { JSON_OPTION, QUIET_OPTION, THREADS_OPTION, workOptions } from './commonOptions.js';
import { requireOneStdin } from './imageList.js';

const EXIT_CORRUPT = 14;
/** Memory ranges that one finding's line names before it says how many more there are. */
const RANGES_SHOWN = 4;

export const verifyCommand: CommandSpec = {
  name: 'verify',
  summary: 'read and check everything in images',
  usage: ['verify [options] IMAGE...'],
  options: [
    { name: 'structure', kind: 'flag', text: 'headers, manifests, index and tables only, no payload' },
    THREADS_OPTION,
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap verify guest.vmsnap', 'check one image'],
    ['vmsnap verify --quiet /backup/*.vmsnap', 'say only what is damaged'],
    ['ssh host cat guest.vmsnap | vmsnap verify -', 'from a pipe'],
  ],
  notes: ['Exit code 0: intact. 14: damaged; each damaged place is named.'],
  lastIsOutput: false,
  run: runVerify,
};

interface Outcome {
  readonly exitCode: number;
  readonly json: object;
}

async function runVerify(context: CommandContext): Promise<number> {
  const { args, answer } = context;
  const images = args.requireImages();
  requireOneStdin(images);
  const options: VerifyOptions = { ...workOptions(context), structureOnly: args.flag('structure') };
  const outcomes: Outcome[] = [];
  for (const image of images) outcomes.push(await verifyOne(context, image, options));
  if (args.flag('json')) {
    const objects = outcomes.map(({ json }) => json);
    await answer.json(
      objects.length === 1 ? objects[0]! : { schema: 'vmsnap.verify-list', schemaVersion: 1, images: objects },
    );
  }
  return outcomes.find(({ exitCode }) => exitCode !== 0)?.exitCode ?? 0;
}

async function verifyOne(context: CommandContext, image: string, options: VerifyOptions): Promise<Outcome> {
  const { args, answer, talk } = context;
  try {
    const { verify } = await import('../../lib/index.js');
    const result = await verify(image, options);
    talk.clearProgress();
    const showsText = !args.flag('json') && !(result.intact && args.flag('quiet'));
    if (showsText) await answer.lines(verifyLines(result, options.structureOnly === true));
    return { exitCode: result.intact ? 0 : EXIT_CORRUPT, json: verifyJson(result) };
  } catch (error) {
    if (error instanceof StoppedError) throw error;
    const failure = describeFailure(error);
    talk.failure(failure);
    return { exitCode: failure.exitCode, json: failureJson(failure) };
  }
}

function verifyLines(result: VerifyResult, structureOnly: boolean): string[] {
  const { image, findings, findingCount, checked, run } = result;
  const what = structureOnly ? 'structure' : formatBytes(checked.memoryBytes);
  const extent =
    `${what} checked, ${formatCount(checked.records)} records, ${formatCount(checked.chunks)} chunks, ` +
    formatDuration(run.durationSeconds);
  if (result.intact) return [`${image}: intact (${extent})`];
  const places = findingCount === 1 ? '1 damaged place' : `${formatCount(findingCount)} damaged places`;
  const more = findingCount - findings.length;
  return [
    `${image}: DAMAGED: ${places} (${extent})`,
    ...findings.map((finding) => `  ${findingLine(finding, image)}`),
    ...(more > 0 ? [`  and ${formatCount(more)} more`] : []),
  ];
}

function findingLine({ structure, offset, message, region, segment, ranges }: Finding, image: string): string {
  const where = [
    ...(region === undefined ? [] : [`region ${printable(region)}`]),
    ...(segment === undefined ? [] : [`segment ${segment}`]),
    ...(ranges === undefined || ranges.length === 0 ? [] : [`memory lost: ${rangesText(ranges)}`]),
  ].join(', ');
  return `${structure} at ${offset}: ${bareMessage(message, image, offset)}${where === '' ? '' : ` (${where})`}`;
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
    findingCount: result.findingCount,
    findings: result.findings.map(findingJson),
    imageBytes: result.imageBytes,
    identity: result.identity ?? null,
    digest: result.digest ?? null,
    checked: { records: checked.records, chunks: checked.chunks, memoryBytes: checked.memoryBytes },
    run: { threads: run.threads, durationSeconds: run.durationSeconds },
  };
}

function findingJson({ structure, offset, message, region, segment, ranges }: Finding): object {
  return {
    structure,
    offset,
    message,
    region: region ?? null,
    segment: segment ?? null,
    ranges: (ranges ?? []).map((range) => ({ offset: range.offset, length: range.length })),
  };
}
