// What differential images cost beside full ones, through the library in one process, so that starting Node takes no part:
// node dist/bench/chain.js [--file MEMORY] [--runs N] [--size-mib N] [--changed PERCENT] [--links N] [--dir DIR] [--out FILE]
import { copyFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { flatten, load, save } from '../lib/index.js';
import { firstDifference } from '../test/guest/compare.js';
import { changePages, type Pattern } from './changes.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { makeGuestMemory, touch } from './memory.js';
import { machineDescription, median } from './report.js';

const { values } = parseArgs({
  options: {
    file: { type: 'string' },
    runs: { type: 'string', default: '7' },
    'size-mib': { type: 'string', default: '2048' },
    changed: { type: 'string', default: '5' },
    links: { type: 'string', default: '8' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    out: { type: 'string' },
  },
});

const folder = makeBenchFolder(values.dir);

const PATTERNS: readonly Pattern[] = ['clustered', 'scattered'];

const report = await run(Number(values.runs), Number(values.changed) / 100, Number(values.links));
console.log(report);
if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);

interface Contest {
  readonly name: string;
  /** Gives the seconds that it took. */
  readonly run: () => Promise<number>;
  /** Size of the image that it wrote or read. */
  readonly bytes: () => number;
}

async function run(roundCount: number, share: number, links: number): Promise<string> {
  const memory = values.file ?? join(folder, 'memory');
  if (values.file === undefined) await makeGuestMemory(memory, folder, Number(values['size-mib']));
  const memoryBytes = statSync(memory).size;
  await save(memory, image('base'), { frozen: true });
  for (const pattern of PATTERNS) await makeChain(memory, pattern, share, links);
  const saves = [
    saving('full', memory, undefined),
    ...PATTERNS.map((pattern) => saving(`against its base, ${pattern}`, changed(pattern, 1), image('base'))),
  ];
  const loads = [
    loading('full', image('base')),
    ...PATTERNS.flatMap((pattern) => [
      loading(`1 difference, ${pattern}`, image(`${pattern}-1`)),
      loading(`${links} differences, ${pattern}`, image(`${pattern}-${links}`)),
      loading(`${links} differences, ${pattern}, flattened`, image(`${pattern}-flat`)),
    ]),
  ];
  touch(join(folder, 'target'), memoryBytes);
  const saved = await race(saves, roundCount);
  const loaded = await race(loads, roundCount);
  for (const pattern of PATTERNS) await requireSame(pattern, links);
  const percent = (share * 100).toFixed(0);
  return [
    '## Differential images',
    '',
    `- ${memoryBytes.toLocaleString('en')} bytes of memory; ${percent} % of the data pages change from each image to the next`,
    machineDescription(),
    `- ${roundCount} rounds after one to warm up, in turn in every round; files on ${values.dir}; zstd level 1`,
    '',
    ...table('save', saves, saved, memoryBytes),
    '',
    ...table('load in place', loads, loaded, memoryBytes),
  ].join('\n');
}

function image(name: string): string {
  return join(folder, `${name}.vmsnap`);
}

function changed(pattern: Pattern, link: number): string {
  return join(folder, `${pattern}-${link}.mem`);
}

/** Each memory is the one before with changes; only the first and the last are kept. */
async function makeChain(memory: string, pattern: Pattern, share: number, links: number): Promise<void> {
  for (let link = 1; link <= links; link++) {
    const before = link === 1 ? memory : changed(pattern, link - 1);
    const base = link === 1 ? image('base') : image(`${pattern}-${link - 1}`);
    copyFileSync(before, changed(pattern, link));
    changePages(changed(pattern, link), pattern, share, link);
    await save(changed(pattern, link), image(`${pattern}-${link}`), { frozen: true, base });
    if (link > 2) rmSync(changed(pattern, link - 1));
  }
  await flatten(image(`${pattern}-${links}`), image(`${pattern}-flat`));
}

async function requireSame(pattern: Pattern, links: number): Promise<void> {
  const target = join(folder, 'check');
  await load(image(`${pattern}-${links}`), target, { force: true });
  const difference = await firstDifference(target, changed(pattern, links));
  if (difference !== undefined) throw new Error(`the chain (${pattern}) gives other memory from ${difference} on`);
}

function saving(name: string, memory: string, base: string | undefined): Contest {
  const target = image('new');
  const run = async () => (await save(memory, target, { frozen: true, force: true, base })).run.durationSeconds;
  return { name, run, bytes: () => statSync(target).size };
}

function loading(name: string, path: string): Contest {
  const run = async () => (await load(path, join(folder, 'target'), { inPlace: true })).run.durationSeconds;
  return { name, run, bytes: () => statSync(path).size };
}

/** In turn, round by round, so that a slow minute of the machine meets all of them; every round starts with another. */
async function race(contests: readonly Contest[], roundCount: number): Promise<Result[]> {
  const results = contests.map((): Result => ({ measurements: [], bytes: 0 }));
  for (let round = 0; round <= roundCount; round++) {
    for (let turn = 0; turn < contests.length; turn++) {
      const number = (turn + round) % contests.length;
      const result = results[number]!;
      const before = process.cpuUsage();
      const wallSeconds = await contests[number]!.run();
      const { user, system } = process.cpuUsage(before);
      result.bytes = contests[number]!.bytes();
      if (round > 0) result.measurements.push({ wallSeconds, cpuSeconds: (user + system) / 1e6 });
    }
    console.error(`round ${round} of ${roundCount}${round === 0 ? ' (warm-up)' : ''} done`);
  }
  return results;
}

interface Measurement {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

interface Result {
  readonly measurements: Measurement[];
  bytes: number;
}

/** The first contest is what the others are measured by. */
function table(what: string, contests: readonly Contest[], results: readonly Result[], memoryBytes: number): string[] {
  const reference = results[0]!;
  return [
    `| ${what} | median s | min s | time / full | MB/s of memory | CPU s | CPU / full | image bytes | size / full |`,
    '|---|--:|--:|--:|--:|--:|--:|--:|--:|',
    ...contests.map(({ name }, i) => row(name, results[i]!, reference, memoryBytes)),
  ];
}

function row(name: string, { measurements, bytes }: Result, reference: Result, memoryBytes: number): string {
  const wall = measurements.map(({ wallSeconds }) => wallSeconds);
  const cpu = measurements.map(({ cpuSeconds }) => cpuSeconds);
  const cells = [
    name,
    median(wall).toFixed(2),
    Math.min(...wall).toFixed(2),
    median(
      inRounds(
        wall,
        reference.measurements.map(({ wallSeconds }) => wallSeconds),
      ),
    ).toFixed(2),
    (memoryBytes / 1e6 / median(wall)).toFixed(0),
    median(cpu).toFixed(2),
    median(
      inRounds(
        cpu,
        reference.measurements.map(({ cpuSeconds }) => cpuSeconds),
      ),
    ).toFixed(2),
    bytes.toLocaleString('en'),
    (bytes / reference.bytes).toFixed(3),
  ];
  return `| ${cells.join(' | ')} |`;
}

/** Ratios within each round: what slows a whole round down cancels out. */
function inRounds(values: readonly number[], reference: readonly number[]): number[] {
  return values.map((value, round) => value / reference[round]!);
}
