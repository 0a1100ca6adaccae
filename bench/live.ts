// How long a machine stands still for a live save, beside a save of the stopped machine, through the library:
// node dist/bench/live.js [--file MEMORY] [--runs N] [--size-mib N] [--changed PERCENT] [--dir DIR] [--out FILE]
//
// All changes are made after everything has been stored once, so that none of them is met by chance.
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { load, save } from '../lib/index.js';
import { firstDifference } from '../test/guest/compare.js';
import { changePages, type Pattern } from './changes.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { measure } from './measure.js';
import { makeGuestMemory } from './memory.js';
import { machineDescription, median } from './report.js';

const SCRIPT = fileURLToPath(import.meta.url);
const PATTERNS: readonly Pattern[] = ['clustered', 'scattered'];

const { values } = parseArgs({
  options: {
    file: { type: 'string' },
    runs: { type: 'string', default: '5' },
    'size-mib': { type: 'string', default: '2048' },
    changed: { type: 'string', default: '5' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    out: { type: 'string' },
    /** What a run of its own does, as JSON: a step of this benchmark. */
    step: { type: 'string' },
  },
});

type Step = SaveStep | ChangeStep;

interface SaveStep {
  readonly kind: 'plain' | 'live';
  readonly memory: string;
  readonly image: string;
  readonly answer: string;
  readonly change: ChangeStep;
}

interface ChangeStep {
  readonly kind: 'change';
  readonly memory: string;
  readonly pattern: Pattern;
  readonly share: number;
  readonly seed: number;
}

interface Answer {
  readonly pauseSeconds: number;
  /** Processor time within the pause: what other work on the machine changes least. */
  readonly pauseCpuSeconds: number;
  readonly saveSeconds: number;
  readonly changedPages: number;
}

if (values.step !== undefined) await runStep(JSON.parse(values.step) as Step);
else await runAll();

async function runStep(step: Step): Promise<void> {
  if (step.kind === 'change') changePages(step.memory, step.pattern, step.share, step.seed);
  else writeFileSync(step.answer, JSON.stringify(await (step.kind === 'plain' ? savePlain(step) : saveLive(step))));
}

async function savePlain({ memory, image }: SaveStep): Promise<Answer> {
  const before = process.cpuUsage();
  const { run } = await save(memory, image, { frozen: true, force: true });
  const pauseCpuSeconds = cpuSecondsSince(before);
  return { pauseSeconds: run.durationSeconds, pauseCpuSeconds, saveSeconds: run.durationSeconds, changedPages: 0 };
}

async function saveLive({ memory, image, change }: SaveStep): Promise<Answer> {
  let stopped = 0;
  let pauseSeconds = 0;
  let before = process.cpuUsage();
  let pauseCpuSeconds = 0;
  const stop = async (): Promise<void> => {
    execFileSync(process.execPath, [SCRIPT, '--step', JSON.stringify(change)]);
    before = process.cpuUsage();
    stopped = performance.now();
  };
  const memoryRead = async (): Promise<void> => {
    pauseSeconds = (performance.now() - stopped) / 1000;
    pauseCpuSeconds = cpuSecondsSince(before);
  };
  const { run } = await save(memory, image, { force: true, live: { stop, memoryRead } });
  return { pauseSeconds, pauseCpuSeconds, saveSeconds: run.durationSeconds, changedPages: run.live!.changedPages };
}

function cpuSecondsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

interface Contest {
  readonly name: string;
  readonly kind: SaveStep['kind'];
  readonly pattern: Pattern;
  readonly rounds: (Answer & { readonly peakMemoryBytes: number })[];
  imageBytes: number;
}

async function runAll(): Promise<void> {
  const folder = makeBenchFolder(values.dir);
  const memory = join(folder, 'memory');
  if (values.file !== undefined) copyFileSync(values.file, memory);
  else await makeGuestMemory(memory, folder, Number(values['size-mib']));
  const contests: Contest[] = [
    { name: 'machine stopped', kind: 'plain', pattern: 'clustered', rounds: [], imageBytes: 0 },
    ...PATTERNS.map(
      (pattern): Contest => ({ name: `live, ${pattern}`, kind: 'live', pattern, rounds: [], imageBytes: 0 }),
    ),
  ];
  const roundCount = Number(values.runs);
  for (let round = 0; round <= roundCount; round++) {
    for (const contest of contests) await runOne(contest, folder, memory, round);
    console.error(`round ${round} of ${roundCount}${round === 0 ? ' (warm-up)' : ''} done`);
  }
  const report = describe(contests, statSync(memory).size, roundCount);
  console.log(report);
  if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);
}

async function runOne(contest: Contest, folder: string, memory: string, round: number): Promise<void> {
  const image = join(folder, 'image.vmsnap');
  const answer = join(folder, 'answer');
  const share = Number(values.changed) / 100;
  const change: ChangeStep = { kind: 'change', memory, pattern: contest.pattern, share, seed: round + 1 };
  const step: SaveStep = { kind: contest.kind, memory, image, answer, change };
  const { peakMemoryBytes } = await measure({ command: [process.execPath, SCRIPT, '--step', JSON.stringify(step)] });
  contest.imageBytes = statSync(image).size;
  if (round === 0) await requireSame(image, memory, join(folder, 'check'));
  else contest.rounds.push({ ...(JSON.parse(readFileSync(answer, 'utf8')) as Answer), peakMemoryBytes });
}

async function requireSame(image: string, memory: string, target: string): Promise<void> {
  await load(image, target, { force: true });
  const difference = await firstDifference(target, memory);
  if (difference !== undefined) throw new Error(`the image gives other memory from ${difference} on`);
}

function describe(contests: readonly Contest[], memoryBytes: number, roundCount: number): string {
  const reference = contests[0]!.rounds;
  const rows = contests.map(({ name, rounds, imageBytes }) => {
    const pauses = rounds.map(({ pauseSeconds }) => pauseSeconds);
    const ratios = rounds.map(({ pauseSeconds }, i) => pauseSeconds / reference[i]!.pauseSeconds);
    const cpu = rounds.map(({ pauseCpuSeconds }) => pauseCpuSeconds);
    const cpuRatios = cpu.map((seconds, i) => seconds / reference[i]!.pauseCpuSeconds);
    const cells = [
      name,
      median(pauses).toFixed(3),
      Math.max(...pauses).toFixed(3),
      median(ratios).toFixed(3),
      median(cpu).toFixed(3),
      median(cpuRatios).toFixed(3),
      median(rounds.map(({ saveSeconds }) => saveSeconds)).toFixed(2),
      Math.max(...rounds.map(({ changedPages }) => changedPages)).toLocaleString('en'),
      imageBytes.toLocaleString('en'),
      (Math.max(...rounds.map(({ peakMemoryBytes }) => peakMemoryBytes)) / 1e6).toFixed(0),
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    '## Live saves',
    '',
    `- ${memoryBytes.toLocaleString('en')} bytes of memory; ${values.changed} % of the data pages change while it is saved`,
    machineDescription(),
    `- ${roundCount} rounds after one to warm up, in turn in every round; files on ${values.dir}; zstd level 1`,
    '- save s of a live save has in it what the benchmark takes to make the changes',
    '',
    '| | pause s, median | max | / stopped | pause CPU s | / stopped | save s | changed pages | image bytes | peak MB |',
    '|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|',
    ...rows,
    '',
  ].join('\n');
}
