// Compares vmsnap with what else brings a VM's memory into a small file and back:
// node dist/bench/peers.js [--file MEMORY] [--runs N] [--size-mib N] [--dir DIR] [--only TEXT] [--out FILE]
import { existsSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { firstDifference } from '../test/guest/compare.js';
import { type Contender, contenders, REFERENCE } from './contenders.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { makeGuestMemory, touch, zeroPageShare } from './memory.js';
import { type Race, runRace } from './race.js';
import { machineDescription, missingList, raceTable } from './report.js';

// The memory, a target, and the images of all contenders, one of them hardly smaller than its data.
const NEEDED_SPACE_FACTOR = 5;
// The programs that fill the guest have to fit into it twice.
const SMALLEST_GUEST_MIB = 512;

const { values } = parseArgs({
  options: {
    file: { type: 'string' },
    runs: { type: 'string', default: '5' },
    'size-mib': { type: 'string', default: '2048' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    only: { type: 'string', default: '' },
    out: { type: 'string' },
  },
});

const folder = makeBenchFolder(values.dir);

const report = await compareAll(wholeNumber('runs', values.runs), wholeNumber('size-mib', values['size-mib']));
console.log(report);
if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);

async function compareAll(roundCount: number, memoryMiB: number): Promise<string> {
  const memoryFile = values.file ?? join(folder, 'memory');
  if (memoryMiB < SMALLEST_GUEST_MIB)
    throw new Error(`--size-mib is ${SMALLEST_GUEST_MIB} or more, and not ${memoryMiB}`);
  requireSpace(values.file === undefined ? memoryMiB * 2 ** 20 : statSync(memoryFile).size);
  const origin = values.file === undefined ? await makeGuestMemory(memoryFile, folder, memoryMiB) : 'a file';
  const memoryBytes = statSync(memoryFile).size;
  const zeroPercent = (zeroPageShare(memoryFile) * 100).toFixed(1);

  const all = contenders().filter(({ name }) => name.includes(values.only) || name === REFERENCE);
  const present = all.filter((contender) => contender.missing === undefined);
  const tables: string[] = [];
  for (const race of races(memoryFile, memoryBytes)) {
    tables.push(raceTable(race.title, await runRace(race, present, roundCount), memoryBytes));
  }
  return [
    '## vmsnap and its peers',
    '',
    `- ${origin}: ${memoryBytes.toLocaleString('en')} bytes, ${zeroPercent} % zero pages`,
    machineDescription(),
    `- ${roundCount} rounds after one to warm up, contenders in turn in every round; files on ${values.dir}`,
    missingList(all.filter((contender) => contender.missing !== undefined)),
    ...tables,
  ].join('\n');
}

/** The saves come first: the loads read what the first of them wrote. */
function races(memoryFile: string, memoryBytes: number): Race[] {
  const image = (contender: Contender): string => join(folder, `${contender.name.replaceAll(' ', '_')}.image`);
  const reusedImage = join(folder, 'reused.image');
  const target = join(folder, 'target');
  const isRestored = async (contender: Contender): Promise<void> => {
    const difference = await firstDifference(memoryFile, target);
    if (difference !== undefined) throw new Error(`${contender.name}: the load differs at byte ${difference}`);
  };
  return [
    {
      title: 'Save to a new file',
      job: (contender) => contender.saveToNewFile(memoryFile, image(contender)),
      prepare: (contender) => rmSync(image(contender), { force: true }),
      check: async () => {},
      outputBytes: (contender) => statSync(image(contender)).size,
    },
    {
      title: 'Save over a file that is there (standard output, not truncated)',
      job: (contender) => contender.saveInPlace?.(memoryFile, reusedImage),
      prepare: () => touchOnce(reusedImage, memoryBytes),
      check: async () => {},
      outputBytes: (_contender, measurement) => measurement.stdoutBytes,
    },
    {
      title: 'Load to a new file',
      job: (contender) => contender.loadToNewFile(image(contender), target),
      prepare: () => {
        rmSync(reusedImage, { force: true });
        rmSync(target, { force: true });
      },
      check: isRestored,
      outputBytes: () => statSync(target).size,
    },
    {
      title: 'Load over a file that is there',
      job: (contender) => contender.loadInPlace(image(contender), target),
      prepare: () => touch(target, memoryBytes),
      check: isRestored,
      outputBytes: () => statSync(target).size,
    },
  ];
}

function touchOnce(path: string, sizeBytes: number): void {
  if (!existsSync(path)) touch(path, sizeBytes);
}

function requireSpace(memoryBytes: number): void {
  const { bavail, bsize } = statfsSync(values.dir);
  const neededBytes = memoryBytes * NEEDED_SPACE_FACTOR;
  if (bavail * bsize >= neededBytes) return;
  throw new Error(`${values.dir} has less than ${neededBytes} bytes free: name another folder with --dir`);
}

function wholeNumber(name: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`--${name} is a whole number from 1 on, and not ${value}`);
  return number;
}
