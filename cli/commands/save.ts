/** `vmsnap save`: the memory of a VM into an image. */
import type { CodecName, DetectorName, LayoutName, RegionOption, SaveOptions, SaveResult } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { parseKeyValues } from '../options/keyValueOption.js';
import { parseRegion } from '../options/regionOption.js';
import { formatBytes, formatDuration, formatRatio, formatShare } from '../output/units.js';
import { UsageError } from '../usageError.js';
import { exitCodeFor, JSON_OPTION, QUIET_OPTION, THREADS_OPTION, warningsJson, workOptions } from './commonOptions.js';

const CODECS = ['zstd', 'zlib', 'none'];
const DETECTORS = ['auto', 'avx2', 'neon', 'scalar'];
const LAYOUTS = ['flat', 'pc-q35', 'pc-i440fx', 'firecracker-x86'];
const LEVEL_MIN = -100;
const LEVEL_MAX = 22;

export const saveCommand: CommandSpec = {
  name: 'save',
  summary: 'save the memory of a VM into an image',
  usage: ['save [options] SOURCE IMAGE', 'save --region NAME=SIZE@GPA:FILE ... [options] IMAGE'],
  options: [
    { name: 'codec', kind: 'value', text: 'zstd (default), zlib or none', choices: CODECS },
    { name: 'level', kind: 'value', text: 'N; zstd -100 to 22, zlib 1 to 9; default 1' },
    THREADS_OPTION,
    { name: 'segment-size', kind: 'value', text: 'SIZE; unit of work, 1M to 64M; default 4M' },
    { name: 'chunk-size', kind: 'value', text: 'SIZE; unit of random access, 4K to 4M; default 256K' },
    { name: 'detector', kind: 'value', text: 'auto (default), avx2, neon or scalar', choices: DETECTORS },
    { name: 'region', kind: 'list', text: 'NAME=SIZE@GPA[:FILE[+OFFSET]]; memory range, repeatable' },
    { name: 'layout', kind: 'value', text: 'flat (default), pc-q35, pc-i440fx or firecracker-x86', choices: LAYOUTS },
    { name: 'name', kind: 'value', text: "TEXT; the machine's name" },
    { name: 'uuid', kind: 'value', text: "UUID; the machine's uuid" },
    { name: 'label', kind: 'list', text: 'KEY=VALUE; repeatable' },
    { name: 'attach', kind: 'list', text: 'NAME=FILE; a file to keep in the image, repeatable' },
    { name: 'frozen', kind: 'flag', text: 'the VM is paused: nobody writes SOURCE' },
    { name: 'force', kind: 'flag', text: 'replace IMAGE if it is there' },
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap save /dev/shm/guest.mem guest.vmsnap', 'a memory file'],
    ['vmsnap save --frozen --layout pc-q35 ram g.vmsnap', 'of a paused QEMU q35'],
    ['ssh host cat ram | vmsnap save - g.vmsnap', 'from a pipe'],
  ],
  notes: [
    'SOURCE: a raw memory file, gzip of one, a block device or - (standard input).',
    'IMAGE: a file or - (standard output). Sizes take K, M, G, T (binary) or are 0x',
    'hexadecimal. Of FILE+OFFSET, a last +NUMBER is the offset; without it, a region',
    'starts where the region before it in the same file ends.',
  ],
  lastIsOutput: true,
  run: runSave,
};

async function runSave(context: CommandContext): Promise<number> {
  const { args, answer } = context;
  const regions = args.list('region').map(parseRegion);
  const { source, image } = files(context, regions);
  const options = saveOptions(context, regions);
  const { save } = await import('../../lib/index.js');
  const result = await save(source, image, options);
  context.talk.clearProgress();
  if (args.flag('json')) await answer.json(saveJson(result));
  else if (!args.flag('quiet') && image !== '-') await answer.lines(saveSummary(result));
  return exitCodeFor(result.warnings);
}

/** SOURCE may be left out, and then must be, if every region names its own file. */
function files({ args }: CommandContext, regions: readonly RegionOption[]): { source?: string; image: string } {
  const sourceless = regions.length > 0 && regions.every(({ file }) => file !== undefined);
  if (sourceless && args.positionals.length === 2) {
    throw new UsageError('SOURCE is given though every --region names its own FILE', 'leave SOURCE out');
  }
  if (sourceless) return { image: args.requirePositionals(['IMAGE'])[0]! };
  const [source, image] = args.requirePositionals(['SOURCE', 'IMAGE']);
  return { source: source!, image: image! };
}

function saveOptions(context: CommandContext, regions: readonly RegionOption[]): SaveOptions {
  const { args } = context;
  return {
    ...workOptions(context),
    // The words were checked against the lists above.
    codec: args.value('codec') as CodecName | undefined,
    detector: args.value('detector') as DetectorName | undefined,
    layout: args.value('layout') as LayoutName | undefined,
    level: args.integer('level', LEVEL_MIN, LEVEL_MAX),
    segmentSize: args.size('segment-size'),
    chunkSize: args.size('chunk-size'),
    regions: regions.length > 0 ? regions : undefined,
    name: args.value('name'),
    uuid: uuidOption(args.value('uuid')),
    labels: parseKeyValues('label', 'KEY=VALUE', args.list('label')),
    attachments: [...parseKeyValues('attach', 'NAME=FILE', args.list('attach'))].map(([name, file]) => ({
      name,
      file,
    })),
    frozen: args.flag('frozen'),
    force: args.flag('force'),
  };
}

function uuidOption(text: string | undefined): string | undefined {
  if (text === undefined || /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text?.toLowerCase();
  throw new UsageError(`--uuid cannot be ${JSON.stringify(text)}`, 'like 123e4567-e89b-12d3-a456-426614174000');
}

function saveSummary(result: SaveResult): string[] {
  const { memoryBytes, imageBytes, pages, run, codec, level } = result;
  const total = memoryBytes / result.pageSize;
  const rate = run.durationSeconds > 0 ? `, ${formatBytes(memoryBytes / run.durationSeconds)}/s` : '';
  const codecText = level === undefined ? codec : `${codec} level ${level}`;
  const threads = run.threads === 1 ? '1 thread' : `${run.threads} threads`;
  return [
    `${result.image}: ${formatBytes(memoryBytes)} of memory in ${formatBytes(imageBytes)} ` +
      `(${formatRatio(memoryBytes / imageBytes)} times smaller), ${formatDuration(run.durationSeconds)}${rate}`,
    `pages: ${formatShare(pages.data, total)} data, ${formatShare(pages.uniform, total)} uniform, ` +
      `${formatShare(pages.zero, total)} zero; ${codecText}, ${run.detector}, ${threads}`,
  ];
}

function saveJson(result: SaveResult): object {
  const { pages, run } = result;
  const { zero, data, uniform, reference, sameAsBase, absent } = pages;
  return {
    schema: 'vmsnap.save',
    schemaVersion: 1,
    image: result.image,
    identity: result.identity,
    memoryBytes: result.memoryBytes,
    imageBytes: result.imageBytes,
    pageSize: result.pageSize,
    pages: { zero, data, uniform, reference, sameAsBase, absent },
    regions: result.regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })),
    chunks: { count: result.chunks.count, storedBytes: result.chunks.stored, raw: result.chunks.raw },
    digest: result.digest,
    codec: result.codec,
    level: result.level ?? null,
    sourceMayHaveChanged: result.sourceMayHaveChanged,
    attachments: result.attachments,
    run: {
      detector: run.detector,
      threads: run.threads,
      durationSeconds: run.durationSeconds,
      readBytes: run.readBytes,
      holeBytes: run.holeBytes,
      sweptFiles: run.sweptFiles,
    },
    warnings: warningsJson(result.warnings),
  };
}
