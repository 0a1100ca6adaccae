/** `vmsnap estimate`: what a save would take, before it is made. */
import type {
  CodecName,
  DetectorName,
  EstimateOptions,
  EstimateResult,
  EstimateTarget,
  LayoutName,
  RegionOption,
} from '../../lib/index.js';
import { CODECS, LAYOUTS } from '../../lib/optionWords.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { parseRegion } from '../options/regionOption.js';
import { formatBytes, formatDuration, formatShare } from '../output/units.js';
import { UsageError } from '../usageError.js';
import {
  FIRECRACKER_OPTIONS,
  FORMAT_OPTION,
  JSON_OPTION,
  snapshotOptions,
  THREADS_OPTION,
  workOptions,
} from './commonOptions.js';

const DETECTORS = ['auto', 'avx2', 'neon', 'scalar'];
const LEVEL_MIN = -100;
const LEVEL_MAX = 22;
const EXIT_OK = 0;
const EXIT_WARNINGS = 3;

export const estimateCommand: CommandSpec = {
  name: 'estimate',
  summary: 'tell what a save would take, in bytes and seconds',
  usage: ['estimate [options] SOURCE', 'estimate --region NAME=SIZE@GPA:FILE ... [options]'],
  options: [
    { name: 'full', kind: 'flag', text: 'look at everything: the exact size' },
    { name: 'sample', kind: 'value', text: 'SIZE; memory to look at, 16M or more; default 256M' },
    { name: 'target', kind: 'value', text: 'FOLDER; does the image fit there?' },
    { name: 'codec', kind: 'value', text: 'zstd (default), zlib or none', choices: CODECS },
    { name: 'level', kind: 'value', text: 'N; zstd -100 to 22, zlib 1 to 9; default 1' },
    THREADS_OPTION,
    { name: 'segment-size', kind: 'value', text: 'SIZE; unit of work, 1M to 64M; default 4M' },
    { name: 'chunk-size', kind: 'value', text: 'SIZE; unit of random access, 4K to 4M; default 256K' },
    { name: 'detector', kind: 'value', text: 'auto (default), avx2, neon or scalar', choices: DETECTORS },
    { name: 'region', kind: 'list', text: 'NAME=SIZE@GPA[:FILE[+OFFSET]]; memory range, repeatable' },
    { name: 'layout', kind: 'value', text: 'flat (default), pc-q35, pc-i440fx or firecracker-x86', choices: LAYOUTS },
    FORMAT_OPTION,
    ...FIRECRACKER_OPTIONS,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap estimate --target /backup /dev/shm/guest.mem', 'does it fit?'],
    ['vmsnap estimate --full --level 9 guest.mem', 'at a better level'],
  ],
  notes: [
    'SOURCE: a raw memory file, a block device or a memory file of another tool; of a',
    'pipe or a compressed file there is none. Attachments do not count. The real size',
    'lies between the two bounds in 95 of 100 cases; duplicates count each time.',
    'Seconds are rough. Exit code 3: with --target, the image will likely not fit.',
  ],
  lastIsOutput: false,
  run: runEstimate,
};

async function runEstimate(context: CommandContext): Promise<number> {
  const { args, answer, talk } = context;
  const regions = args.list('region').map(parseRegion);
  const source = sourceOf(context, regions);
  const options = estimateOptions(context, regions);
  const { estimate } = await import('../../lib/estimate.js');
  const result = await estimate(source, options);
  talk.clearProgress();
  if (args.flag('json')) await answer.json(estimateJson(result));
  else await answer.lines(estimateLines(source, result));
  const { target } = result;
  if (target?.fits !== 'unlikely' && target?.fits !== 'no') return EXIT_OK;
  talk.warning(`the image will ${target.fits === 'no' ? 'not' : 'likely not'} fit into ${target.folder}`);
  return EXIT_WARNINGS;
}

/** SOURCE may be left out, and then must be, if every region names its own file. */
function sourceOf({ args }: CommandContext, regions: readonly RegionOption[]): string | undefined {
  const sourceless = regions.length > 0 && regions.every(({ file }) => file !== undefined);
  if (!sourceless) return args.requirePositionals(['SOURCE'])[0]!;
  if (args.positionals.length > 0)
    throw new UsageError('SOURCE is given though every --region names its own FILE', 'leave SOURCE out');
  return undefined;
}

function estimateOptions(context: CommandContext, regions: readonly RegionOption[]): EstimateOptions {
  const { args } = context;
  return {
    ...workOptions(context),
    ...snapshotOptions(context),
    full: args.flag('full'),
    sampleBytes: args.size('sample'),
    target: args.value('target'),
    // The words were checked against the lists above.
    codec: args.value('codec') as CodecName | undefined,
    detector: args.value('detector') as DetectorName | undefined,
    layout: args.value('layout') as LayoutName | undefined,
    level: args.integer('level', LEVEL_MIN, LEVEL_MAX),
    segmentSize: args.size('segment-size'),
    chunkSize: args.size('chunk-size'),
    regions: regions.length > 0 ? regions : undefined,
  };
}

function estimateLines(source: string | undefined, result: EstimateResult): string[] {
  const { memoryBytes, pageSize, pages, imageBytes, seconds, sample, run, target } = result;
  const total = memoryBytes / pageSize;
  const { low, likely, high } = imageBytes;
  const size = sample.full
    ? formatBytes(likely)
    : `about ${formatBytes(likely)}, ${formatBytes(low)} to ${formatBytes(high)}`;
  const seen = sample.full ? 'all of it' : `${formatBytes(sample.bytes)} of ${formatBytes(sample.ofBytes)}`;
  const codec = result.level === undefined ? result.codec : `${result.codec} level ${result.level}`;
  const threads = run.threads === 1 ? '1 thread' : `${run.threads} threads`;
  return [
    `${source ?? 'the regions'}: ${formatBytes(memoryBytes)} of memory, an image of ${size}`,
    `time: about ${formatDuration(seconds)}, roughly; ${codec}, ${run.detector}, ${threads}`,
    `pages: ${formatShare(pages.data, total)} data${againText(pages.reference, total)}, ${formatShare(pages.uniform, total)} uniform, ` +
      `${formatShare(pages.zero, total)} zero${absentText(pages.absent, total)}`,
    `looked at: ${seen} that is no hole, in ${formatDuration(run.durationSeconds)}`,
    ...(target === undefined ? [] : [targetLine(target)]),
  ];
}

function againText(reference: number, total: number): string {
  return reference === 0 ? '' : `, ${formatShare(reference, total)} duplicates of it`;
}

function absentText(absent: number, total: number): string {
  return absent === 0 ? '' : `, ${formatShare(absent, total)} absent`;
}

const FITS: Readonly<Record<EstimateTarget['fits'], string>> = {
  yes: 'it fits',
  likely: 'it likely fits',
  unlikely: 'it likely does not fit',
  no: 'it does not fit',
  unknown: 'whether it fits is not known',
};

function targetLine({ folder, freeBytes, fits }: EstimateTarget): string {
  return `${folder}: ${freeBytes === undefined ? 'no limit told' : `${formatBytes(freeBytes)} free`}, ${FITS[fits]}`;
}

function targetJson(target: EstimateTarget | undefined): object | null {
  return target === undefined
    ? null
    : { folder: target.folder, freeBytes: target.freeBytes ?? null, fits: target.fits };
}

function estimateJson(result: EstimateResult): object {
  const { pages, imageBytes, sample, target, run } = result;
  return {
    schema: 'vmsnap.estimate',
    schemaVersion: 1,
    memoryBytes: result.memoryBytes,
    pageSize: result.pageSize,
    pages: {
      zero: pages.zero,
      data: pages.data,
      uniform: pages.uniform,
      reference: pages.reference,
      absent: pages.absent,
    },
    imageBytes: { low: imageBytes.low, likely: imageBytes.likely, high: imageBytes.high },
    confidence: result.confidence,
    seconds: result.seconds,
    codec: result.codec,
    level: result.level ?? null,
    sample: { full: sample.full, pieces: sample.pieces, bytes: sample.bytes, ofBytes: sample.ofBytes },
    target: targetJson(target),
    run: {
      detector: run.detector,
      threads: run.threads,
      durationSeconds: run.durationSeconds,
      readBytes: run.readBytes,
    },
  };
}
