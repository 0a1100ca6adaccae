/** `vmsnap compare`: two memories held against each other. */
import type { CompareOptions, CompareResult, CompareSide } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { compareLines } from '../compare/compareLines.js';
import { describeFailure, failureJson } from '../failure.js';
import { parseRange } from '../options/rangeOption.js';
import {
  BASE_DIR_OPTION,
  FORMAT_OPTION,
  JSON_OPTION,
  QUIET_OPTION,
  sourceOptions,
  THREADS_OPTION,
  workOptions,
} from './commonOptions.js';
import { imageOptions, KEY_OPTIONS } from './keyOptions.js';

const EXIT_EQUAL = 0;
const EXIT_DIFFERENT = 1;
const EXIT_IO = 20;
const RANGES_SHOWN = 10;
/** Left and right of the heat bar: its indentation, and the last column, after which some terminals wrap. */
const HEAT_MARGIN = 3;
const HEAT_CELLS = 64;
const HEAT_CELLS_MAX = 4096;

export const compareCommand: CommandSpec = {
  name: 'compare',
  summary: 'tell what differs between two memories, page by page',
  usage: ['compare [options] A B'],
  options: [
    { name: 'region', kind: 'value', text: 'NAME; only this region' },
    { name: 'range', kind: 'value', text: "OFFSET:LENGTH; only this part of A's memory, or of the region" },
    BASE_DIR_OPTION,
    ...KEY_OPTIONS,
    FORMAT_OPTION,
    { name: 'limit', kind: 'value', text: `N; at most N ranges as text; default ${RANGES_SHOWN}` },
    THREADS_OPTION,
    { ...QUIET_OPTION, text: 'no answer but the exit code' },
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap compare monday.vmsnap tuesday.vmsnap', 'what changed since'],
    ['vmsnap compare --quiet g.vmsnap /dev/shm/g.mem', 'is it the same?'],
    ['vmsnap compare --json a.vmsnap b.vmsnap | jq .ranges', 'for programs'],
  ],
  notes: [
    'A, B: images, raw memory files, memory files of other tools or block devices, in',
    'any mix; --format is for what is no image. Regions belong together if name and',
    'address are the same; a raw file takes the regions of another side of its size.',
    'Every page is told by its bytes. Exit code 0: equal. 1: different. An error has',
    'a code of 2 or more.',
  ],
  lastIsOutput: false,
  run: runCompare,
};

async function runCompare(context: CommandContext): Promise<number> {
  const { args, answer, talk } = context;
  const [a, b] = args.requirePositionals(['A', 'B']);
  const limit = args.integer('limit', 0, Number.MAX_SAFE_INTEGER) ?? RANGES_SHOWN;
  const options = compareOptions(context);
  try {
    const { compare } = await import('../../lib/compare.js');
    const result = await compare(a!, b!, options);
    talk.clearProgress();
    if (args.flag('json')) await answer.json(compareJson(result));
    else if (!args.flag('quiet')) await answer.lines(compareLines(result, limit));
    return result.equal ? EXIT_EQUAL : EXIT_DIFFERENT;
  } catch (error) {
    return await failed(context, error);
  }
}

/** A failure of no other kind has the code 1 elsewhere. Here that would be a difference. */
async function failed({ args, answer, talk }: CommandContext, error: unknown): Promise<number> {
  const failure = describeFailure(error);
  if (failure.exitCode !== EXIT_DIFFERENT) throw error;
  const told = { ...failure, code: 'IO', exitCode: EXIT_IO };
  if (args.flag('json')) await answer.json(failureJson(told));
  else talk.failure(told);
  return EXIT_IO;
}

function compareOptions(context: CommandContext): CompareOptions {
  const { args, answer } = context;
  const range = args.value('range');
  const width = args.flag('json') ? undefined : answer.columns;
  return {
    ...workOptions(context),
    ...sourceOptions(context),
    region: args.value('region'),
    range: range === undefined ? undefined : parseRange(range),
    ...imageOptions(context),
    heatCells: width === undefined ? HEAT_CELLS : Math.min(HEAT_CELLS_MAX, Math.max(1, width - HEAT_MARGIN)),
  };
}

function compareJson(result: CompareResult): object {
  const { same, bothZero, changed, becameZero, wasZero } = result.pages;
  return {
    schema: 'vmsnap.compare',
    schemaVersion: 1,
    a: sideJson(result.a),
    b: sideJson(result.b),
    equal: result.equal,
    pageSize: result.pageSize,
    comparedBytes: result.comparedBytes,
    pages: { same, bothZero, changed, becameZero, wasZero },
    onlyInABytes: result.onlyInABytes,
    onlyInBBytes: result.onlyInBBytes,
    regions: result.regions.map(({ name, gpa, sizeBytesA, sizeBytesB, pages, onlyInABytes, onlyInBBytes }) => ({
      name,
      gpa: gpa ?? null,
      sizeBytesA: sizeBytesA ?? null,
      sizeBytesB: sizeBytesB ?? null,
      pages: {
        same: pages.same,
        bothZero: pages.bothZero,
        changed: pages.changed,
        becameZero: pages.becameZero,
        wasZero: pages.wasZero,
      },
      onlyInABytes,
      onlyInBBytes,
    })),
    ranges: result.ranges.map(({ region, offset, length, change }) => ({ region, offset, length, change })),
    rangesCut: result.rangesCut,
    heat: result.heat.map(({ pages, differentPages }) => ({ pages, differentPages })),
    run: { threads: result.run.threads, durationSeconds: result.run.durationSeconds },
  };
}

function sideJson({ path, kind, format, memoryBytes, identity, bases, absentPages }: CompareSide): object {
  return {
    path,
    kind,
    format: format ?? null,
    memoryBytes,
    identity: identity ?? null,
    bases: [...bases],
    absentPages,
  };
}
