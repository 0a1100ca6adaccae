/** `vmsnap flatten`: a differential image and its bases into one image that needs no other. */
import type { CodecName, FlattenOptions, SaveResult } from '../../lib/index.js';
import { CODECS } from '../../lib/optionWords.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { formatBytes, formatDuration, formatRatio, formatShare } from '../output/units.js';
import { UsageError } from '../usageError.js';
import {
  BASE_DIR_OPTION,
  exitCodeFor,
  JSON_OPTION,
  LIMIT_OPTIONS,
  limitLines,
  limitOptions,
  limitsJson,
  QUIET_OPTION,
  THREADS_OPTION,
  tellResult,
  warningsJson,
  workOptions,
} from './commonOptions.js';
import { ENCRYPTION_OPTIONS, encryptionOptions, imageOptions } from './keyOptions.js';
import { LEVEL_MAX, LEVEL_MIN } from './save.js';

export const flattenCommand: CommandSpec = {
  name: 'flatten',
  summary: 'make a differential image whole by itself',
  usage: ['flatten [options] IMAGE OUT'],
  options: [
    { name: 'codec', kind: 'value', text: 'zstd, zlib or none; default: as IMAGE', choices: CODECS },
    { name: 'level', kind: 'value', text: 'N; zstd -100 to 22, zlib 1 to 9; default: as IMAGE' },
    THREADS_OPTION,
    ...LIMIT_OPTIONS,
    BASE_DIR_OPTION,
    ...ENCRYPTION_OPTIONS,
    { name: 'decrypt', kind: 'flag', text: 'write what an encrypted IMAGE holds in the clear' },
    { name: 'force', kind: 'flag', text: 'replace OUT if it is there' },
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap flatten tue.vmsnap tue-whole.vmsnap', 'tue.vmsnap without its base'],
    ['vmsnap flatten --codec none g.vmsnap raw.vmsnap', 'stored as it is'],
  ],
  notes: [
    'IMAGE: a file, differential or not; it stays as it is. OUT: a file or -.',
    'Time, machine, labels, source and attachments are those of IMAGE; the',
    'digest of the memory is checked before OUT appears.',
  ],
  lastIsOutput: true,
  run: runFlatten,
};

async function runFlatten(context: CommandContext): Promise<number> {
  const { args } = context;
  const [image, out] = args.requirePositionals(['IMAGE', 'OUT']);
  if (image === '-') throw new UsageError('flatten needs an image that is a file', 'save the stream to a file first');
  const options: FlattenOptions = {
    ...workOptions(context),
    ...limitOptions(context),
    codec: args.value('codec') as CodecName | undefined,
    level: args.integer('level', LEVEL_MIN, LEVEL_MAX),
    ...imageOptions(context),
    encryption: args.flag('decrypt') ? undefined : encryptionOptions(context),
    decrypt: args.flag('decrypt'),
    force: args.flag('force'),
  };
  const { flatten } = await import('../../lib/flatten.js');
  const result = await flatten(image!, out!, options);
  await tellResult(
    context,
    out!,
    () => flattenJson(image!, result),
    () => flattenSummary(result),
  );
  return exitCodeFor(result.warnings);
}

function flattenSummary({ image, memoryBytes, imageBytes, pages, pageSize, run }: SaveResult): string[] {
  const data = formatShare(pages.data, memoryBytes / pageSize);
  const ratio = formatRatio(memoryBytes / imageBytes);
  return [
    `${image}: ${formatBytes(memoryBytes)} of memory, ${data} data, in ${formatBytes(imageBytes)} ` +
      `(${ratio} times smaller), ${formatDuration(run.durationSeconds)}; it needs no base`,
    ...limitLines(run),
  ];
}

function flattenJson(source: string, result: SaveResult): object {
  const { pages, chunks, run } = result;
  const { zero, data, uniform, reference, sameAsBase, absent } = pages;
  return {
    schema: 'vmsnap.flatten',
    schemaVersion: 1,
    source,
    image: result.image,
    identity: result.identity,
    memoryBytes: result.memoryBytes,
    imageBytes: result.imageBytes,
    pages: { zero, data, uniform, reference, sameAsBase, absent },
    chunks: { count: chunks.count, storedBytes: chunks.stored, raw: chunks.raw },
    digest: result.digest,
    codec: result.codec,
    level: result.level ?? null,
    attachments: result.attachments,
    encryption: result.encryption === undefined ? null : { recipients: [...result.encryption.recipients] },
    run: {
      threads: run.threads,
      ...limitsJson(run),
      durationSeconds: run.durationSeconds,
      readBytes: run.readBytes,
    },
    warnings: warningsJson(result.warnings),
  };
}
