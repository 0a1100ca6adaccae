// How fast a comparison is, beside a load of the same image:
// node dist/bench/compare.js [--file MEMORY --later MEMORY] [--runs N] [--size-mib N] [--dir DIR] [--out FILE]
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CLI_PATH, runVmsnap } from '../test/guest/cli.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { type Job, type Measurement, measure } from './measure.js';
import { makeGuestMoments, makeOtherMemory } from './memory.js';
import { machineDescription, median } from './report.js';

const { values } = parseArgs({
  options: {
    file: { type: 'string' },
    later: { type: 'string' },
    runs: { type: 'string', default: '7' },
    'size-mib': { type: 'string', default: '2048' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    out: { type: 'string' },
  },
});

const folder = makeBenchFolder(values.dir);

const report = await run(Number(values.runs));
console.log(report);
if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);

interface Contest {
  readonly name: string;
  readonly job: Job;
  /** Done before each run, not measured. */
  readonly prepare: () => void;
}

async function run(roundCount: number): Promise<string> {
  const [memory, later, other] = await memories();
  const image = (name: string): string => join(folder, `${name}.vmsnap`);
  await save(memory, image('first'));
  await save(later, image('later'));
  await save(other, image('other'));
  const contests: Contest[] = [
    { name: 'load to a new file', job: load(image('first'), join(folder, 'target')), prepare: removeTarget },
    comparison('compare with the image of a later moment', image('first'), image('later')),
    comparison('compare with an image of which every data page is another', image('first'), image('other')),
    comparison('compare with the memory file itself', image('first'), memory),
    comparison('compare two memory files', memory, later),
    comparison('compare with a copy of the same image', image('first'), image('first')),
  ];
  const results = await race(contests, roundCount);
  const memoryBytes = statSync(memory).size;
  return [
    '## Comparing memory',
    '',
    `- ${memoryBytes.toLocaleString('en')} bytes of memory; changed from the first to the later moment: ${await changedShare(memory, later)}`,
    machineDescription(),
    `- ${roundCount} rounds after one to warm up, in turn in every round; files on ${values.dir}; zstd level 1`,
    '',
    '| | median s | min s | time / load | MB/s of memory | CPU s | peak MB |',
    '|---|--:|--:|--:|--:|--:|--:|',
    ...contests.map(({ name }, i) => row(name, results[i]!, results[0]!, memoryBytes)),
  ].join('\n');
}

async function memories(): Promise<[string, string, string]> {
  const first = values.file ?? join(folder, 'first');
  const later = values.later ?? join(folder, 'later');
  const other = join(folder, 'other');
  if (values.file === undefined || values.later === undefined)
    await makeGuestMoments(first, later, folder, Number(values['size-mib']));
  makeOtherMemory(first, other);
  return [first, later, other];
}

async function save(memory: string, image: string): Promise<void> {
  await runVmsnap('save', '--frozen', '--quiet', memory, image);
}

function load(image: string, target: string): Job {
  return { command: [process.execPath, CLI_PATH, 'load', image, target, '--quiet'] };
}

function removeTarget(): void {
  rmSync(join(folder, 'target'), { force: true });
}

/** Exit code 1 only says that they differ. */
function comparison(name: string, a: string, b: string): Contest {
  const line = '"$@"; test $? -le 1';
  const command = ['sh', '-c', line, 'sh', process.execPath, CLI_PATH, 'compare', '--quiet', a, b];
  return { name, job: { command }, prepare: removeTarget };
}

/** In turn, round by round, so that a slow minute of the machine meets all of them; every round starts with another. */
async function race(contests: readonly Contest[], roundCount: number): Promise<Measurement[][]> {
  const results = contests.map((): Measurement[] => []);
  for (let round = 0; round <= roundCount; round++) {
    for (let turn = 0; turn < contests.length; turn++) {
      const number = (turn + round) % contests.length;
      contests[number]!.prepare();
      const measurement = await measure(contests[number]!.job);
      if (round > 0) results[number]!.push(measurement);
    }
    console.error(`round ${round} of ${roundCount}${round === 0 ? ' (warm-up)' : ''} done`);
  }
  return results;
}

async function changedShare(memory: string, later: string): Promise<string> {
  const { compare } = await import('../lib/index.js');
  const { pages, comparedBytes, pageSize } = await compare(memory, later);
  const changed = pages.changed + pages.becameZero + pages.wasZero;
  return `${((changed / (comparedBytes / pageSize)) * 100).toFixed(1)} % of the pages`;
}

function row(name: string, own: readonly Measurement[], loads: readonly Measurement[], memoryBytes: number): string {
  const seconds = own.map(({ wallSeconds }) => wallSeconds);
  const ratios = own.map(({ wallSeconds }, round) => wallSeconds / loads[round]!.wallSeconds);
  const cells = [
    name,
    median(seconds).toFixed(2),
    Math.min(...seconds).toFixed(2),
    median(ratios).toFixed(2),
    (memoryBytes / 1e6 / median(seconds)).toFixed(0),
    median(own.map(({ cpuSeconds }) => cpuSeconds)).toFixed(2),
    (Math.max(...own.map(({ peakMemoryBytes }) => peakMemoryBytes)) / 1e6).toFixed(0),
  ];
  return `| ${cells.join(' | ')} |`;
}
