/** `vmsnap inspect`: what an image, or a memory file of another tool, says about itself, without reading its payload. */
import type { CommandContext, CommandSpec } from '../command.js';
import { printChunks } from '../inspect/chunks.js';
import { printHistogram } from '../inspect/histogram.js';
import { printMap } from '../inspect/map.js';
import { printRegions } from '../inspect/regions.js';
import { printReports } from '../inspect/reports.js';
import { UsageError } from '../usageError.js';
import { BASE_DIR_OPTION, FIRECRACKER_OPTIONS, FORMAT_OPTION, JSON_OPTION } from './commonOptions.js';
import { requireOneStdin } from './imageList.js';
import { KEY_OPTIONS } from './keyOptions.js';

const STATES = ['zero', 'data', 'uniform', 'reference', 'same-as-base', 'absent'];

export const inspectCommand: CommandSpec = {
  name: 'inspect',
  summary: 'look into images and memory files without reading their payload',
  usage: [
    'inspect [--bytes] [--json] [--format F] IMAGE|FILE...',
    'inspect --regions|--map|--chunks|--histogram [options] IMAGE',
  ],
  options: [
    { name: 'regions', kind: 'flag', text: 'every region: address, size, pages, digest' },
    { name: 'map', kind: 'flag', text: 'runs of pages of one state' },
    { name: 'range', kind: 'value', text: 'OFFSET:LENGTH; with --map: only this part of the memory' },
    { name: 'state', kind: 'value', text: `with --map: only ${STATES.slice(0, 3).join(', ')} ...`, choices: STATES },
    { name: 'limit', kind: 'value', text: 'N; with --map or --chunks: at most N lines' },
    { name: 'chunks', kind: 'flag', text: 'every chunk: where it is stored, how well it shrank' },
    { name: 'histogram', kind: 'flag', text: 'how well chunks shrank, how long runs of pages are' },
    { name: 'bytes', kind: 'flag', text: 'exact numbers of bytes instead of KiB, MiB, GiB' },
    BASE_DIR_OPTION,
    ...KEY_OPTIONS,
    FORMAT_OPTION,
    ...FIRECRACKER_OPTIONS,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap inspect guest.vmsnap', 'one screen'],
    ['vmsnap inspect /backup/*.vmsnap', 'a line for each, and totals'],
    ['vmsnap inspect --map --state data g.vmsnap', 'where the data is'],
    ['vmsnap inspect --json guest.vmsnap | jq .memory', 'for programs'],
  ],
  notes: [
    'FILE: a memory file of another tool (docs/formats.md), or the folder of a Cloud',
    'Hypervisor snapshot. Of standard input (-), only the beginning of an image is',
    'read. Offsets of --range count the regions end to end. Exit code 14: the file is',
    'damaged; of an image, what can be trusted is printed. 15: it is too new.',
  ],
  lastIsOutput: false,
  run: runInspect,
};

type View = (context: CommandContext, image: string) => Promise<number>;

const VIEWS: Readonly<Record<string, View>> = {
  regions: printRegions,
  map: printMap,
  chunks: printChunks,
  histogram: printHistogram,
};

function runInspect(context: CommandContext): Promise<number> {
  const { args } = context;
  const images = args.requireImages();
  requireOneStdin(images);
  const views = Object.keys(VIEWS).filter((name) => args.flag(name));
  requireFitting(context, views);
  const [view] = views;
  requireOneSnapshot(context, images);
  if (view === undefined) return printReports(context, images);
  if (images.length > 1) throw new UsageError(`--${view} takes one image`, 'call it once for each');
  if (images[0] === '-')
    throw new UsageError(`--${view} needs an image that is a file`, 'save the stream to a file first');
  return VIEWS[view]!(context, images[0]!);
}

/** The parts of a Firecracker snapshot belong to one memory file. */
function requireOneSnapshot({ args }: CommandContext, images: readonly string[]): void {
  const option = ['vmstate', 'diff-base'].find((name) => args.value(name) !== undefined);
  if (option === undefined || images.length === 1) return;
  throw new UsageError(`--${option} belongs to one snapshot`, 'inspect it by itself');
}

function requireFitting({ args }: CommandContext, views: readonly string[]): void {
  if (views.length > 1) throw new UsageError(`--${views.join(' and --')} exclude each other`, 'choose one');
  const [view] = views;
  for (const name of ['range', 'state']) {
    if (args.value(name) !== undefined && view !== 'map') throw new UsageError(`--${name} goes with --map`);
  }
  if (args.value('limit') === undefined || view === 'map' || view === 'chunks') return;
  throw new UsageError('--limit goes with --map or --chunks');
}
