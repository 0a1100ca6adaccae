// What differential images cost beside full ones, through the library in one process, so that starting Node takes no part:
// node dist/bench/chain.js [--file MEMORY] [--runs N] [--size-mib N] [--changed PERCENT] [--links N] [--dir DIR] [--out FILE]
//
// A guest's memory as it lies under QEMU, where what it never touched is holes, and the same without holes, as of a guest that has
// touched all of it. At any time there are three copies of the memory in DIR.
import { createHash } from 'node:crypto';
import { createReadStream, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { flatten, load, save } from '../lib/index.js';
import { changePages, type Pattern } from './changes.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { copyWithHoles, copyWithoutHoles, makeGuestMemory, touch } from './memory.js';
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

const STAT_BLOCK_BYTES = 512;
const folder = makeBenchFolder(values.dir);
const target = join(folder, 'target');

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
  const memory = join(folder, 'memory');
  if (values.file === undefined) {
    await makeGuestMemory(memory, folder, Number(values['size-mib']), { holes: true });
  } else {
    copyWithHoles(values.file, memory);
  }
  const percent = (share * 100).toFixed(0);
  const tables: string[] = [];
  for (const holes of ['as it lies under QEMU', 'without holes']) {
    if (holes === 'without holes') fillHoles(memory);
    const allocated = (statSync(memory).blocks * STAT_BLOCK_BYTES) / statSync(memory).size;
    for (const pattern of PATTERNS) {
      tables.push('', `### ${holes} (${(allocated * 100).toFixed(0)} % allocated), ${pattern} changes`, '');
      tables.push(...(await contest(memory, pattern, share, links, roundCount)));
    }
  }
  return [
    '## Differential images',
    '',
    `- ${statSync(memory).size.toLocaleString('en')} bytes of memory; ${percent} % of the data pages change from each image to the next`,
    machineDescription(),
    `- ${roundCount} rounds after one to warm up, in turn in every round; files on ${values.dir}; zstd level 1`,
    ...tables,
  ].join('\n');
}

function fillHoles(memory: string): void {
  copyWithoutHoles(memory, target);
  copyWithHoles(target, memory);
  rmSync(target);
}

async function contest(
  memory: string,
  pattern: Pattern,
  share: number,
  links: number,
  roundCount: number,
): Promise<string[]> {
  const memoryBytes = statSync(memory).size;
  await save(memory, image('base'), { frozen: true, force: true });
  const lastDigest = await makeChain(memory, pattern, share, links);
  const changed = join(folder, 'changed');
  const saves = [saving('full', changed, undefined), saving('against its base', changed, image('base'))];
  const saved = await race(saves, roundCount);
  rmSync(changed);
  touch(target, memoryBytes);
  const loads = [
    loading('full', image('base')),
    loading('1 difference', image('1')),
    loading(`${links} differences`, image(String(links))),
    loading(`${links} differences, flattened`, image('flat')),
  ];
  const loaded = await race(loads, roundCount);
  await load(image(String(links)), target, { inPlace: true });
  if ((await digestOf(target)) !== lastDigest) throw new Error(`the chain (${pattern}) gives other memory`);
  rmSync(target);
  return [...table('save', saves, saved, memoryBytes), '', ...table('load in place', loads, loaded, memoryBytes)];
}

function image(name: string): string {
  return join(folder, `${name}.vmsnap`);
}

/** Each memory is the one before with changes; the first is kept, as `changed`. @returns a digest of the last. */
async function makeChain(memory: string, pattern: Pattern, share: number, links: number): Promise<string> {
  const work = join(folder, 'work');
  copyWithHoles(memory, work);
  for (let link = 1; link <= links; link++) {
    changePages(work, pattern, share, link);
    if (link === 1) copyWithHoles(work, join(folder, 'changed'));
    const base = image(link === 1 ? 'base' : String(link - 1));
    await save(work, image(String(link)), { frozen: true, force: true, base });
  }
  await flatten(image(String(links)), image('flat'), { force: true });
  const digest = await digestOf(work);
  rmSync(work);
  return digest;
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}

function saving(name: string, memory: string, base: string | undefined): Contest {
  const made = image('new');
  const run = async () => (await save(memory, made, { frozen: true, force: true, base })).run.durationSeconds;
  return { name, run, bytes: () => statSync(made).size };
}

function loading(name: string, path: string): Contest {
  const run = async () => (await load(path, target, { inPlace: true })).run.durationSeconds;
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
