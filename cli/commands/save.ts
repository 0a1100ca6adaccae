/** `vmsnap save`: the memory of a VM into an image. */
import { basename } from 'node:path';
import type {
  CodecName,
  DetectorName,
  DsaOptions,
  DsaRun,
  LayoutName,
  MachineOptions,
  MachineRun,
  RegionOption,
  SaveOptions,
  SaveResult,
} from '../../lib/index.js';
import { CODECS, DETECTORS, LAYOUTS } from '../../lib/optionWords.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { parseKeyValues } from '../options/keyValueOption.js';
import { parseRegion } from '../options/regionOption.js';
import { dsaLog } from '../output/dsaLog.js';
import { formatBytes, formatDuration, formatRatio, formatShare } from '../output/units.js';
import { UsageError } from '../usageError.js';
import {
  BASE_DIR_OPTION,
  exitCodeFor,
  FIRECRACKER_OPTIONS,
  FORMAT_OPTION,
  JSON_OPTION,
  LIMIT_OPTIONS,
  limitLines,
  limitOptions,
  limitsJson,
  QUIET_OPTION,
  snapshotOptions,
  THREADS_OPTION,
  tellResult,
  warningsJson,
  workOptions,
} from './commonOptions.js';
import { ENCRYPTION_OPTIONS, encryptionOptions, imageOptions } from './keyOptions.js';

export const LEVEL_MIN = -100;
export const LEVEL_MAX = 22;
const AFTER = ['resume', 'pause', 'quit'];
const DSA_COUNT_MAX = 65_536;

export const saveCommand: CommandSpec = {
  name: 'save',
  summary: 'save the memory of a VM into an image',
  usage: ['save [options] SOURCE IMAGE', 'save --region NAME=SIZE@GPA:FILE ... [options] IMAGE'],
  options: [
    { name: 'codec', kind: 'value', text: 'zstd (default), zlib or none', choices: CODECS },
    { name: 'level', kind: 'value', text: 'N; zstd -100 to 22, zlib 1 to 9; default 1' },
    THREADS_OPTION,
    ...LIMIT_OPTIONS,
    { name: 'base', kind: 'value', text: 'IMAGE; store only what differs from it; it stays needed' },
    BASE_DIR_OPTION,
    ...ENCRYPTION_OPTIONS,
    { name: 'region', kind: 'list', text: 'NAME=SIZE@GPA[:FILE[+OFFSET]]; memory range, repeatable' },
    { name: 'layout', kind: 'value', text: 'flat (default), pc-q35, pc-i440fx or firecracker-x86', choices: LAYOUTS },
    FORMAT_OPTION,
    ...FIRECRACKER_OPTIONS.map((option) => ({ ...option, rare: true })),
    { name: 'name', kind: 'value', text: "TEXT; the machine's name" },
    { name: 'uuid', kind: 'value', text: "UUID; the machine's uuid", rare: true },
    { name: 'label', kind: 'list', text: 'KEY=VALUE; repeatable' },
    { name: 'attach', kind: 'list', text: 'NAME=FILE; a file to keep in the image, repeatable' },
    { name: 'live', kind: 'flag', text: 'store its memory while the machine runs' },
    { name: 'after', kind: 'value', text: 'resume, pause or quit; default as found', choices: AFTER },
    { name: 'while-paused', kind: 'value', text: 'COMMAND; run while the machine is stopped' },
    { name: 'max-pause', kind: 'value', text: 'DURATION; give up and resume after it, as 10s', rare: true },
    { name: 'quiesce', kind: 'flag', text: "the guest agent holds the guest's file systems still" },
    { name: 'agent', kind: 'value', text: "SOCKET; the guest agent's, for --quiesce", rare: true },
    { name: 'frozen', kind: 'flag', text: 'the VM is paused: nobody writes SOURCE' },
    { name: 'no-references', kind: 'flag', text: 'store duplicate pages each time', rare: true },
    { name: 'force', kind: 'flag', text: 'replace IMAGE if it is there' },
    { name: 'segment-size', kind: 'value', text: 'SIZE; unit of work, 1M to 64M; default 4M' },
    { name: 'chunk-size', kind: 'value', text: 'SIZE; unit of random access, 4K to 4M; default 256K', rare: true },
    {
      name: 'detector',
      kind: 'value',
      text: 'auto (default), dsa, dsa-emulated, avx2, neon or scalar',
      choices: DETECTORS,
    },
    { name: 'dsa', kind: 'list', text: 'NODE, as /dev/dsa/wq0.0; a queue to use, repeatable', rare: true },
    { name: 'batch-pages', kind: 'value', text: 'N; pages in one batch for DSA; default 128', rare: true },
    { name: 'depth', kind: 'value', text: 'N; entries of a DSA queue to use; default all', rare: true },
    { name: 'self-check', kind: 'flag', text: 'the CPU checks what the DSA device says', rare: true },
    {
      name: 'normal-page-ratio',
      kind: 'value',
      text: 'N; percent of zero pages to store as data (analysis)',
      rare: true,
    },
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap save /dev/shm/guest.mem guest.vmsnap', 'a memory file'],
    ['vmsnap save qemu:/run/vm.qmp vm.vmsnap', 'a running machine (QMP)'],
    ['vmsnap save --base mon.vmsnap ram tue.vmsnap', 'what changed since'],
  ],
  notes: [
    'SOURCE: raw memory (a file, compressed too, a block device, -), a memory file of',
    'another tool (docs/formats.md), or qemu:SOCKET, libvirt:DOMAIN (docs/qemu.md).',
    'Sizes take K, M, G, T (binary), or are 0x... More options: docs/reference.md',
  ],
  lastIsOutput: true,
  run: runSave,
};

async function runSave(context: CommandContext): Promise<number> {
  const { args } = context;
  const regions = args.list('region').map(parseRegion);
  const { source, image } = files(context, regions);
  const { parseDuration } = await import('../../lib/duration.js');
  const options = saveOptions(context, regions, parseDuration);
  const { save } = await import('../../lib/save.js');
  const result = await save(source, image, options);
  await tellResult(
    context,
    image,
    () => saveJson(result),
    () => saveSummary(result),
  );
  if (!args.flag('quiet')) tellDetector(context, result);
  return exitCodeFor(result.warnings);
}

/** JSON has all of it. */
function tellDetector({ args, talk }: CommandContext, { run }: SaveResult): void {
  if (run.dsaPresent === true) talk.note(`detector ${run.detector}: ${run.detectorReason}`);
  if (run.dsa !== undefined && !args.flag('json')) for (const line of dsaLog(run.dsa)) talk.info(line);
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

function saveOptions(
  context: CommandContext,
  regions: readonly RegionOption[],
  parseDuration: (text: string, option: string) => number,
): SaveOptions {
  const { args } = context;
  return {
    ...workOptions(context),
    ...snapshotOptions(context),
    ...limitOptions(context),
    // The words were checked against the lists above.
    codec: args.value('codec') as CodecName | undefined,
    detector: args.value('detector') as DetectorName | undefined,
    dsa: dsaOptions(context),
    normalPageRatio: args.integer('normal-page-ratio', 0, 100),
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
    base: args.value('base'),
    ...imageOptions(context),
    encryption: encryptionOptions(context),
    frozen: args.flag('frozen'),
    references: args.flag('no-references') ? false : undefined,
    force: args.flag('force'),
    machine: machineOptions(context, parseDuration),
  };
}

/** Undefined if none is given: the library refuses them for files. */
function machineOptions(
  { args }: CommandContext,
  parseDuration: (text: string, option: string) => number,
): MachineOptions | undefined {
  const maxPause = args.value('max-pause');
  const options = {
    // The words were checked against the list above.
    live: args.flag('live') || undefined,
    after: args.value('after') as MachineOptions['after'],
    whilePaused: args.value('while-paused'),
    quiesce: args.flag('quiesce') || undefined,
    agent: args.value('agent'),
    maxPauseSeconds: maxPause === undefined ? undefined : parseDuration(maxPause, '--max-pause'),
  };
  return Object.values(options).some((value) => value !== undefined) ? options : undefined;
}

/** Undefined if none is given: the library refuses them for detectors of the CPU. */
function dsaOptions({ args }: CommandContext): DsaOptions | undefined {
  const nodes = args.list('dsa');
  const batchPages = args.integer('batch-pages', 1, DSA_COUNT_MAX);
  const depth = args.integer('depth', 1, DSA_COUNT_MAX);
  const selfCheck = args.flag('self-check');
  if (nodes.length === 0 && batchPages === undefined && depth === undefined && !selfCheck) return undefined;
  return { nodes: nodes.length > 0 ? nodes : undefined, batchPages, depth, selfCheck: selfCheck || undefined };
}

function uuidOption(text: string | undefined): string | undefined {
  if (text === undefined || /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text?.toLowerCase();
  throw new UsageError(`--uuid cannot be ${JSON.stringify(text)}`, 'like 123e4567-e89b-12d3-a456-426614174000');
}

function saveSummary(result: SaveResult): string[] {
  const { memoryBytes, imageBytes, pages, run, codec, level, base } = result;
  const total = memoryBytes / result.pageSize;
  const rate = run.durationSeconds > 0 ? `, ${formatBytes(memoryBytes / run.durationSeconds)}/s` : '';
  const codecText = level === undefined ? codec : `${codec} level ${level}`;
  const same = base === undefined ? '' : `, ${formatShare(pages.sameAsBase, total)} same as ${base.path}`;
  const again = pages.reference === 0 ? '' : `, ${formatShare(pages.reference, total)} duplicates of it`;
  const absent = pages.absent === 0 ? '' : `, ${formatShare(pages.absent, total)} absent`;
  const threads = run.threads === 1 ? '1 thread' : `${run.threads} threads`;
  const lines = [
    `${result.image}: ${formatBytes(memoryBytes)} of memory in ${formatBytes(imageBytes)} ` +
      `(${formatRatio(memoryBytes / imageBytes)} times smaller), ${formatDuration(run.durationSeconds)}${rate}`,
    `pages: ${formatShare(pages.data, total)} data${again}, ${formatShare(pages.uniform, total)} uniform, ` +
      `${formatShare(pages.zero, total)} zero${absent}${same}; ${codecText}, ${run.detector}, ${threads}`,
  ];
  if (run.dsa !== undefined) lines.push(dsaSummary(run.dsa));
  if (result.machine !== undefined) lines.push(machineSummary(result.machine));
  if (result.encryption !== undefined) lines.push(encryptionSummary(result.encryption));
  lines.push(...limitLines(run));
  return lines;
}

function encryptionSummary({ recipients }: NonNullable<SaveResult['encryption']>): string {
  if (recipients.includes('scrypt')) return 'encrypted with a passphrase';
  return `encrypted for ${recipients.length === 1 ? '1 recipient' : `${recipients.length} recipients`}`;
}

function machineSummary(machine: MachineRun): string {
  const { qemuVersion, machineType, found, left, pauseSeconds, memory, memoryReason, frozenFileSystems } = machine;
  const pause = pauseSeconds === undefined ? '' : `, paused for ${formatDuration(pauseSeconds)}${withoutLive(machine)}`;
  const way = memory === 'files' ? 'memory read from its file' : `memory through QEMU (${memoryReason})`;
  const frozen = frozenFileSystems === undefined ? '' : `; ${fileSystems(frozenFileSystems)} held still`;
  return `machine: ${machineType}, QEMU ${qemuVersion}, found ${found}, left ${left}${pause}; ${way}${frozen}`;
}

function fileSystems(count: number): string {
  return count === 1 ? '1 file system' : `${count} file systems`;
}

function withoutLive({ live }: MachineRun): string {
  if (live === undefined) return '';
  const { atLeast, atMost } = live.pauseWithoutSeconds;
  return ` (estimate without --live: ${formatDuration(atLeast)} to ${formatDuration(atMost)})`;
}

function machineJson(machine: MachineRun | undefined): object | null {
  if (machine === undefined) return null;
  const { pauseSeconds, memoryReason, frozenFileSystems } = machine;
  return {
    ...machine,
    pauseSeconds: pauseSeconds ?? null,
    live: machine.live ?? null,
    memoryReason: memoryReason ?? null,
    frozenFileSystems: frozenFileSystems ?? null,
  };
}

function dsaSummary({ queues, pagesZero, pagesCheckedByCpu, emulated }: DsaRun): string {
  const used = queues.filter(({ way }) => way !== 'none').map(({ node, way }) => `${basename(node)} by ${way}`);
  const note = emulated ? '; emulated, so its speed means nothing' : '';
  return `dsa: ${used.join(', ')}; ${pagesZero} pages zero, ${pagesCheckedByCpu} left to the CPU${note}`;
}

function baseJson({ base }: SaveResult): object | null {
  return base === undefined ? null : { path: base.path, identity: base.identity, chainLength: base.chainLength };
}

function saveJson(result: SaveResult): object {
  const { pages, run } = result;
  const { zero, data, uniform, reference, sameAsBase, absent } = pages;
  return {
    schema: 'vmsnap.save',
    schemaVersion: 1,
    image: result.image,
    identity: result.identity,
    source: { kind: result.source.kind, name: result.source.name ?? null },
    memoryBytes: result.memoryBytes,
    imageBytes: result.imageBytes,
    pageSize: result.pageSize,
    pages: { zero, data, uniform, reference, sameAsBase, absent },
    regions: result.regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa: gpa ?? null, sizeBytes })),
    chunks: { count: result.chunks.count, storedBytes: result.chunks.stored, raw: result.chunks.raw },
    digest: result.digest,
    codec: result.codec,
    level: result.level ?? null,
    sourceMayHaveChanged: result.sourceMayHaveChanged,
    attachments: result.attachments,
    base: baseJson(result),
    encryption: result.encryption === undefined ? null : { recipients: [...result.encryption.recipients] },
    machine: machineJson(result.machine),
    run: {
      detector: run.detector,
      detectorReason: run.detectorReason,
      dsaPresent: run.dsaPresent ?? null,
      dsa: run.dsa === undefined ? null : dsaJson(run.dsa),
      threads: run.threads,
      ...limitsJson(run),
      durationSeconds: run.durationSeconds,
      readBytes: run.readBytes,
      holeBytes: run.holeBytes,
      sweptFiles: run.sweptFiles,
      live: run.live ?? null,
    },
    warnings: warningsJson(result.warnings),
  };
}

function dsaJson({ emulated, queues, times, pagesZero, pagesCheckedByCpu, selfCheck }: DsaRun): object {
  return {
    emulated,
    queues: queues.map(({ node, numaNode, way, batches, depth, batchPages, sick, reason, counters }) => ({
      node,
      numaNode,
      way,
      batches,
      depth,
      batchPages,
      sick,
      reason: reason === '' ? null : reason,
      counters,
    })),
    times: { ...times, emulatorCpuSeconds: times.emulatorCpuSeconds ?? null },
    pagesZero,
    pagesCheckedByCpu,
    selfCheck: selfCheck === undefined ? null : { pages: selfCheck.pages, wrong: selfCheck.wrong },
  };
}
