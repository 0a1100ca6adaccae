/** `vmsnap bench`: what vmsnap does on this machine. */
import { writeFileSync } from 'node:fs';
import type { BenchReport, BenchStep, BenchTable } from '../../lib/index.js';
import { benchPlot } from '../bench/plot.js';
import { benchScreen } from '../bench/screen.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { parseSize } from '../options/sizes.js';
import { UsageError } from '../usageError.js';
import { JSON_OPTION, QUIET_OPTION, THREADS_OPTION, threadsOption } from './commonOptions.js';

const TABLES: readonly BenchTable[] = ['scan', 'codecs', 'zeros', 'share', 'compare'];
const ROUNDS_MAX = 100;

export const benchCommand: CommandSpec = {
  name: 'bench',
  summary: 'measure vmsnap on this machine',
  usage: ['bench [options] [SOURCE]'],
  options: [
    { name: 'table', kind: 'list', text: 'scan, codecs, zeros, share or compare; default all', choices: TABLES },
    { name: 'size', kind: 'value', text: 'SIZE; of the memory that is made up; default 512M' },
    { name: 'share-size', kind: 'list', text: 'SIZE; of the table share, a multiple of SOURCE, repeatable' },
    { name: 'rounds', kind: 'value', text: 'N; default 3, and one to warm up' },
    { name: 'folder', kind: 'value', text: 'FOLDER; for memory and images; default /dev/shm' },
    { name: 'plot', kind: 'value', text: 'FILE; draw it, as SVG' },
    THREADS_OPTION,
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap bench', 'with memory that is made up'],
    ['vmsnap bench --plot bench.svg guest.mem', 'with that of a guest'],
    ['vmsnap bench --table scan --json', 'only the detectors'],
  ],
  notes: [
    'scan: each detector, and what a thread reads at most. codecs: saves and loads.',
    'zeros: half zero and all zero memory. share: of the zero check in whole saves,',
    'at growing sizes. compare: the CPU and DSA (emulated where there is none, and',
    'marked so). All take turns; figures are medians.',
  ],
  lastIsOutput: false,
  run: runBench,
};

async function runBench(context: CommandContext): Promise<number> {
  const { args, answer, talk, signal } = context;
  if (args.positionals.length > 1) args.requirePositionals(['SOURCE']);
  const shareSizes = args.list('share-size').map((text) => parseSize(text, '--share-size'));
  const tables = args.list('table') as readonly BenchTable[];
  const progress = talk.showsProgress && !args.flag('quiet');
  const plot = args.value('plot');
  const { bench } = await import('../../lib/bench/bench.js');
  const report = await bench({
    source: args.positionals[0],
    threads: threadsOption(context),
    signal,
    sizeBytes: args.size('size'),
    rounds: args.integer('rounds', 1, ROUNDS_MAX),
    folder: args.value('folder'),
    tables: tables.length === 0 ? undefined : tables,
    shareSizesBytes: shareSizes.length === 0 ? undefined : shareSizes,
    onStep: progress ? (step) => talk.progress(stepLine(step)) : undefined,
  });
  talk.clearProgress();
  if (plot !== undefined) writePlot(plot, report);
  if (args.flag('json')) await answer.json(benchJson(report));
  else if (!args.flag('quiet')) await answer.lines(benchScreen(report));
  return 0;
}

function stepLine({ table, what, round, rounds }: BenchStep): string {
  return `${table}: ${what}, ${round === 0 ? 'warm-up' : `round ${round} of ${rounds}`}`;
}

function writePlot(path: string, report: BenchReport): void {
  if (report.scan === undefined && report.codecs === undefined) {
    throw new UsageError('there is nothing to plot', 'the plot is of the tables scan and codecs');
  }
  writeFileSync(path, benchPlot(report));
}

function benchJson(report: BenchReport): object {
  const { machine, setup, scan, codecs, zeros, share, compare } = report;
  return {
    schema: 'vmsnap.bench',
    schemaVersion: 1,
    machine,
    setup: { ...setup, source: setup.source ?? null },
    scan: scan && {
      ...scan,
      detectors: scan.detectors.map((row) => ({
        ...row,
        memoryBytesPerSecond: row.memoryBytesPerSecond ?? null,
        memoryCpuSecondsPerGigabyte: row.memoryCpuSecondsPerGigabyte ?? null,
        bandwidthShare: row.bandwidthShare ?? null,
      })),
    },
    codecs: codecs?.map((row) => ({ ...row, level: row.level ?? null })),
    zeros,
    share,
    compare,
  };
}
