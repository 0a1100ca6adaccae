/** `vmsnap load`: the memory in an image back into a file, a device or a pipe. */
import type { LoadOptions, LoadResult, SalvageOptions, TargetFormat } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { parseMode, parseOwner } from '../options/ownerOption.js';
import { parseRange } from '../options/rangeOption.js';
import { formatBytes, formatDuration } from '../output/units.js';
import { salvageExitCode, salvageJson, salvageLines } from '../salvage/salvageAnswer.js';
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
import { imageOptions, KEY_OPTIONS } from './keyOptions.js';
import { runLoadMachine } from './loadMachine.js';

const FORMATS: readonly TargetFormat[] = ['raw', 'elf', 'lime'];

export const loadCommand: CommandSpec = {
  name: 'load',
  summary: 'bring the memory in an image back, bit for bit',
  usage: ['load [options] IMAGE TARGET', 'load --machine FOLDER [options] IMAGE'],
  options: [
    { name: 'as', kind: 'value', text: 'raw (default), elf (a core for gdb, crash, drgn) or lime', choices: FORMATS },
    { name: 'region', kind: 'value', text: 'NAME; only this region' },
    { name: 'range', kind: 'value', text: 'OFFSET:LENGTH; only this part of the memory, or of the region' },
    { name: 'machine', kind: 'value', text: 'FOLDER; all that QEMU needs to bring the machine back' },
    { name: 'in-place', kind: 'flag', text: 'write where TARGET stands: no temporary file, no rename' },
    { name: 'salvage', kind: 'flag', text: 'of a damaged image: all that is whole, and a list of the rest' },
    THREADS_OPTION,
    ...LIMIT_OPTIONS,
    { name: 'force', kind: 'flag', text: 'replace TARGET if it is there' },
    BASE_DIR_OPTION,
    ...KEY_OPTIONS,
    { name: 'owner', kind: 'value', text: 'USER[:GROUP] of a new TARGET, names or numbers' },
    { name: 'mode', kind: 'value', text: 'MODE; permissions of a new TARGET in octal; default 600' },
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap load guest.vmsnap /dev/shm/guest.mem', 'into a new, sparse file'],
    ['vmsnap load --in-place g.vmsnap /dev/hugepages/ram', 'into a hugetlbfs file'],
    ['ssh host cat g.vmsnap | vmsnap load - ram', 'from a pipe'],
    ['vmsnap load --range 1M:4K g.vmsnap - | xxd', 'one page'],
    ['vmsnap load --machine vm g.vmsnap', 'for QEMU'],
    ['vmsnap load --as elf g.vmsnap g.core', 'for gdb, crash and drgn'],
  ],
  notes: [
    'IMAGE: a file or - (standard input). TARGET: a file, a block device or -',
    '(standard output); it holds the regions end to end. Exit code 0 means that the',
    'digest of the memory was checked and is right. With --as elf or lime TARGET is',
    'a new file or a pipe, and regions of unknown address are left out. --salvage',
    'leaves holes for what is lost, lists it, and ends with 14.',
  ],
  lastIsOutput: true,
  run: runLoad,
};

async function runLoad(context: CommandContext): Promise<number> {
  const { args } = context;
  const folder = args.value('machine');
  if (folder !== undefined) return runLoadMachine(context, folder);
  const [image, target] = args.requirePositionals(['IMAGE', 'TARGET']);
  if (args.flag('salvage')) return runSalvage(context, image!, target!);
  const options = loadOptions(context);
  const { load } = await import('../../lib/load.js');
  const result = await load(image!, target!, options);
  await tellResult(
    context,
    target!,
    () => loadJson(result),
    () => loadSummary(result),
  );
  return exitCodeFor(result.warnings);
}

const NOT_WITH_SALVAGE = ['as', 'region', 'range'] as const;

async function runSalvage(context: CommandContext, image: string, target: string): Promise<number> {
  const { args, answer, talk } = context;
  const other = args.flag('in-place') ? 'in-place' : NOT_WITH_SALVAGE.find((name) => args.value(name) !== undefined);
  if (other !== undefined)
    throw new UsageError(`--salvage does not go with --${other}`, 'salvage all memory into a new file first');
  const { baseDirs, keys, force, owner, mode, ...work } = loadOptions(context);
  const options: SalvageOptions = { ...work, baseDirs, keys, force, owner, mode };
  const { salvage } = await import('../../lib/salvage.js');
  const result = await salvage(image, target, options);
  talk.clearProgress();
  for (const { message } of result.warnings) talk.warning(message);
  const isWhole = salvageExitCode(result) === 0;
  if (args.flag('json')) await answer.json(salvageJson(result));
  else if (!(args.flag('quiet') && isWhole)) await answer.lines(salvageLines(result));
  return salvageExitCode(result);
}

function loadOptions(context: CommandContext): LoadOptions {
  const { args } = context;
  const range = args.value('range');
  const owner = args.value('owner');
  const mode = args.value('mode');
  return {
    ...workOptions(context),
    ...limitOptions(context),
    as: args.value('as') as TargetFormat | undefined,
    region: args.value('region'),
    range: range === undefined ? undefined : parseRange(range),
    inPlace: args.flag('in-place'),
    ...imageOptions(context),
    force: args.flag('force'),
    owner: owner === undefined ? undefined : parseOwner(owner),
    mode: mode === undefined ? undefined : parseMode(mode),
  };
}

const PROOF: Readonly<Record<LoadResult['proven'], string>> = {
  memory: 'the digest of the whole memory is right',
  region: "the region's digest is right",
  leaves: 'the digests of its whole MiBs are right',
};

function loadSummary({ target, memoryBytes, dataBytes, proven, run }: LoadResult): string[] {
  const rate = run.durationSeconds > 0 ? `, ${formatBytes(memoryBytes / run.durationSeconds)}/s` : '';
  return [
    `${target}: ${formatBytes(memoryBytes)} of memory, ${formatBytes(dataBytes)} of it data, ` +
      `${formatDuration(run.durationSeconds)}${rate}`,
    `proven: ${PROOF[proven]}`,
    ...limitLines(run),
  ];
}

function loadJson(result: LoadResult): object {
  const { run } = result;
  return {
    schema: 'vmsnap.load',
    schemaVersion: 1,
    target: result.target,
    format: result.format,
    memoryBytes: result.memoryBytes,
    dataBytes: result.dataBytes,
    absentPages: result.absentPages,
    imageBytes: result.imageBytes,
    bases: [...result.bases],
    digest: result.digest,
    proven: result.proven,
    run: {
      threads: run.threads,
      ...limitsJson(run),
      durationSeconds: run.durationSeconds,
      inPlace: run.inPlace,
    },
    warnings: warningsJson(result.warnings),
  };
}
