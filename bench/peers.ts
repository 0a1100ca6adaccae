// Compares vmsnap with what else brings a VM's memory into a small file and back, and holds it against the figures it aims at:
// node dist/bench/peers.js [--parts PART,...] [--file MEMORY] [--rounds N] [--size-mib N] [--large-size-mib N] [--dir DIR]
//                          [--disk-dir DIR] [--only TEXT] [--out FILE]
//
// The parts, in this order (default all): tmpfs, disk, zlib (of a guest whose pages are all written), migration (QEMU's, of the
// same guest while it is paused), zero, scale, large (a larger guest with the holes that QEMU leaves; tmpfs and disk).
// Without --file guests are booted: with the QEMU that VMSNAP_QEMU10 names (test/guest/qemu10.sh unpacks one), which has mapped-ram
// files, else with the installed one. With --file there is neither a migration nor a large guest. It ends with 1 if anything failed;
// what was measured is written all the same.
import { closeSync, openSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { contenders, REFERENCE, vmsnap, zlibContenders } from './contenders.js';
import { type Figure, figureTable } from './figures.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { measure } from './measure.js';
import { copyPart, makeGuestMemory, zeroPageShare } from './memory.js';
import { type Migration, raceMigration } from './migration.js';
import { measureParts, type Parts, partsTable } from './parts.js';
import { type RaceResult, runRace } from './race.js';
import { type Limits, loadFigures, saveFigures, vmsnapPeaks, zlibFigure } from './raceFigures.js';
import { imageOf, type Place, races } from './races.js';
import { machineDescription, missingList, raceTable } from './report.js';
import { measureScale, peakFigure } from './scale.js';
import { measureStartUp, type StartUp } from './startUp.js';
import { measureZeroMemory } from './zeroMemory.js';

const PARTS = ['tmpfs', 'disk', 'zlib', 'migration', 'zero', 'scale', 'large'] as const;
type Part = (typeof PARTS)[number];

// The memory, a target, and the images of all contenders, one of them hardly smaller than its data.
const NEEDED_SPACE_FACTOR = 4;
// What the guest has not touched, two thirds of it, takes no room.
const NEEDED_SPACE_FACTOR_LARGE = 2;
// The programs that fill the guest have to fit into it twice.
const SMALLEST_GUEST_MIB = 512;
const ZLIB_SLICE_LEVELS = [6, 9];
const ZLIB_SLICE_BYTES = 2 ** 27;
const SHORT_ROUNDS = 2;

const { values } = parseArgs({
  options: {
    parts: { type: 'string', default: PARTS.join(',') },
    file: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    'size-mib': { type: 'string', default: '2048' },
    'large-size-mib': { type: 'string', default: '8192' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    'disk-dir': { type: 'string', default: fileURLToPath(new URL('../', import.meta.url)) },
    only: { type: 'string', default: '' },
    out: { type: 'string' },
  },
});

const startedAt = performance.now();
const parts = chosenParts(values.parts);
const roundCount = wholeNumber('rounds', values.rounds);
const memoryMiB = guestSize('size-mib');
const largeMiB = guestSize('large-size-mib');
const folder = makeBenchFolder(values.dir);
const diskFolder = makeBenchFolder(values['disk-dir']);
const all = contenders().filter(({ name }) => name.includes(values.only) || name === REFERENCE);
const present = all.filter((contender) => contender.missing === undefined);
const short = present.filter(({ isShort }) => isShort);
const failures: string[] = [];

const report = await compareAll();
console.log(report);
if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);
if (failures.length > 0) {
  console.error(`failed: ${failures.join('; ')}`);
  process.exitCode = 1;
}

/** What one part of the run adds to the report. */
interface Section {
  readonly title: string;
  readonly text: string;
  readonly figures: readonly Figure[];
  /** Of vmsnap's own processes. */
  readonly peaks: readonly number[];
}

async function compareAll(): Promise<string> {
  const guest = await prepareMemory();
  const { memoryFile } = guest;
  const startUp = await measureStart(memoryFile);
  say('the parts of a save and a load');
  const alone = measureParts(memoryFile, folder);
  const limits: Limits = { parts: alone, nodeSeconds: startUp.nodeSeconds };
  const size = sizeText(memoryFile);
  const sections = [
    await section('tmpfs', () => raceAll(tmpfs(), memoryFile, size, present, roundCount, limits)),
    await section('disk', () => raceAll(disk(), memoryFile, size, short, shortRounds(), limits)),
    await section('zlib', () => raceZlib(tmpfs(), memoryFile)),
    guest.migration && migrationSection(guest.migration),
    await section('zero', async () => ({
      title: '## Memory with nothing in it',
      ...(await measureZeroMemory(folder)),
      peaks: [],
    })),
    await section('scale', async () => {
      const { text, peakBytes } = await measureScale(folder, memoryFile);
      const more = 'bench/SCALE.md says what bounds it on larger machines.';
      return { title: '## How it grows', text: `${text}\n${more}\n`, figures: [], peaks: [peakBytes] };
    }),
  ].filter((found) => found !== undefined);
  const facts = `- ${guest.origin}: ${memoryFacts(memoryFile)}, ${(alone.dataBytes / 1e6).toFixed(0)} MB in data pages`;
  if (values.file === undefined) rmSync(memoryFile);
  const large = values.file === undefined ? await section('large', () => raceLarge(startUp)) : undefined;
  return reportText(facts, startUp, alone, large === undefined ? sections : [...sections, large]);
}

function reportText(facts: string, startUp: StartUp, alone: Parts, sections: readonly Section[]): string {
  const peaks = sections.flatMap((section) => section.peaks);
  const figures = [
    ...sections.flatMap((section) => section.figures),
    ...(peaks.length === 0 ? [] : [peakFigure(Math.max(...peaks))]),
    ...startUp.figures,
  ];
  const left = PARTS.filter((part) => !parts.has(part));
  return [
    '# vmsnap and its peers',
    '',
    `Written by \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}, in ${minutes()} minutes. Read ratios, not seconds.`,
    '',
    facts,
    machineDescription(),
    `- ${roundCount} rounds (${shortRounds()} on disk, of zlib and with the large guest) after one to warm up, contenders in turn in every round; all memory lies in the page cache`,
    ...(left.length === 0 ? [] : [`- left out: ${left.join(', ')}`]),
    ...failures.map((failure) => `- FAILED: ${failure}`),
    missingList(all.filter((contender) => contender.missing !== undefined)),
    '## What is aimed at',
    '',
    figureTable(figures),
    '## Start',
    '',
    startUp.text,
    '## The parts, each alone on one thread',
    '',
    'What the libraries and the kernel need; what they need together, by the number of cores, and the start of Node are the limit that the figures name.',
    '',
    partsTable(alone),
    ...sections.flatMap(({ title, text }) => [title, '', text]),
  ].join('\n');
}

/** One part, if it was chosen. What fails in it does not take the others along. */
async function section(part: Part, work: () => Promise<Section>): Promise<Section | undefined> {
  if (!parts.has(part)) return undefined;
  say(part);
  try {
    return await work();
  } catch (error) {
    failures.push(`${part}: ${(error as Error).message}`);
    return undefined;
  }
}

interface Prepared {
  readonly memoryFile: string;
  readonly origin: string;
  readonly migration: Migration | undefined;
}

async function prepareMemory(): Promise<Prepared> {
  if (values.file !== undefined) {
    requireSpace(statSync(values.file).size * NEEDED_SPACE_FACTOR);
    return { memoryFile: values.file, origin: 'a file', migration: undefined };
  }
  requireSpace(memoryMiB * 2 ** 20 * NEEDED_SPACE_FACTOR);
  say('a guest boots');
  const memoryFile = join(folder, 'memory');
  let migration: Migration | undefined;
  const origin = await makeGuestMemory(memoryFile, folder, memoryMiB, {
    qemu: process.env.VMSNAP_QEMU10,
    whilePaused: async (guest) => {
      if (!parts.has('migration')) return;
      say('migration');
      try {
        migration = await raceMigration(guest, folder, roundCount);
      } catch (error) {
        failures.push(`migration: ${(error as Error).message}`);
      }
    },
  });
  return { memoryFile, origin: `${origin}, all pages written`, migration };
}

function migrationSection({ text, figures }: Migration): Section {
  return { title: "## QEMU's file migrations of the paused guest", text, figures, peaks: [] };
}

async function measureStart(memoryFile: string): Promise<StartUp> {
  say('start');
  const image = join(folder, 'start.vmsnap');
  await measure(vmsnap('zstd', 1).saveToNewFile(memoryFile, image));
  const startUp = await measureStartUp(folder, image);
  rmSync(image);
  return startUp;
}

/** Saves and loads in one place; the images and the target go when they are done. */
async function raceAll(
  place: Place,
  memoryFile: string,
  size: string,
  taking: typeof present,
  rounds: number,
  limits: Limits,
): Promise<Section> {
  const memoryBytes = statSync(memoryFile).size;
  const where = `${size}, ${place.name}`;
  const found: RaceResult[][] = [];
  const tables: string[] = [];
  const figures: Figure[] = [];
  for (const race of races(place, memoryFile, memoryBytes)) {
    const results = await runRace(race, taking, rounds);
    found.push(results);
    tables.push(raceTable(race.title, results, memoryBytes));
    noteFailures(race.title, results);
    if (race.kind === 'save') figures.push(...saveFigures(results, where, limits));
    else if (race.kind === 'load') figures.push(...loadFigures(results, `load to a new file, ${where}`, limits));
    else if (race.kind === 'load-in-place') figures.push(...loadFigures(results, `load in place, ${where}`, limits));
    if (race.kind === 'save' && taking.some(({ name }) => name.startsWith('pigz')))
      figures.push(zlibFigure(results, 1));
  }
  for (const contender of taking) rmSync(imageOf(place, contender), { force: true });
  rmSync(join(place.folder, 'target'), { force: true });
  return { title: `## Races: ${where}`, text: tables.join('\n'), figures, peaks: found.flatMap(vmsnapPeaks) };
}

/** Of a part of the memory, because pigz takes long at its higher levels; level 1 is among the races. */
async function raceZlib(place: Place, memoryFile: string): Promise<Section> {
  const slice = join(folder, 'slice');
  const sliceBytes = Math.min(ZLIB_SLICE_BYTES, statSync(memoryFile).size);
  copyDensestSlice(memoryFile, slice, sliceBytes);
  const taking = zlibContenders(ZLIB_SLICE_LEVELS).filter(({ missing }) => missing === undefined);
  const [race] = races(place, slice, sliceBytes);
  const results = await runRace(race!, taking, shortRounds());
  for (const contender of taking) rmSync(imageOf(place, contender), { force: true });
  rmSync(slice);
  noteFailures('zlib', results);
  const title = `${race!.title}: ${sliceBytes / 2 ** 20} MiB of the memory`;
  return {
    title: '## Levels of zlib',
    text: raceTable(title, results, sliceBytes),
    figures: ZLIB_SLICE_LEVELS.map((level) => zlibFigure(results, level)),
    peaks: vmsnapPeaks(results),
  };
}

async function raceLarge({ nodeSeconds }: StartUp): Promise<Section> {
  requireSpace(largeMiB * 2 ** 20 * NEEDED_SPACE_FACTOR_LARGE);
  const memoryFile = join(folder, 'large');
  const origin = await makeGuestMemory(memoryFile, folder, largeMiB, { qemu: process.env.VMSNAP_QEMU10, holes: true });
  say('the parts of a save and a load of the large guest');
  const limits: Limits = { parts: measureParts(memoryFile, folder), nodeSeconds };
  const size = sizeText(memoryFile);
  const facts = `- ${origin}, with the holes that QEMU leaves: ${memoryFacts(memoryFile)}, ${(limits.parts.dataBytes / 1e6).toFixed(0)} MB in data pages\n`;
  const onTmpfs = await raceAll(tmpfs(), memoryFile, size, short, shortRounds(), limits);
  const onDisk = await raceAll(disk(), memoryFile, size, short, 1, limits);
  rmSync(memoryFile);
  return {
    title: '## A large guest',
    text: [facts, ...[onTmpfs, onDisk].map(({ title, text }) => `${title}\n\n${text}`)].join('\n'),
    figures: [...onTmpfs.figures, ...onDisk.figures],
    peaks: [...onTmpfs.peaks, ...onDisk.peaks],
  };
}

function noteFailures(title: string, results: readonly RaceResult[]): void {
  for (const { contender, failure } of results) {
    if (failure !== undefined) failures.push(`${title}: ${contender.name}`);
  }
}

function tmpfs(): Place {
  return { name: fileSystemName(values.dir), folder, synced: false };
}

function disk(): Place {
  return { name: `${fileSystemName(values['disk-dir'])}, synced`, folder: diskFolder, synced: true };
}

function shortRounds(): number {
  return Math.min(SHORT_ROUNDS, roundCount);
}

function sizeText(memoryFile: string): string {
  return `${Math.round(statSync(memoryFile).size / 2 ** 20)} MiB`;
}

function memoryFacts(memoryFile: string): string {
  const { size, blocks } = statSync(memoryFile);
  const zeroPercent = (zeroPageShare(memoryFile) * 100).toFixed(1);
  return `${size.toLocaleString('en')} bytes, ${(blocks * 512).toLocaleString('en')} of them allocated, ${zeroPercent} % zero pages`;
}

/** The part with the fewest zero pages of those that begin at multiples of its size. */
function copyDensestSlice(from: string, to: string, sizeBytes: number): void {
  const shares = [];
  for (let at = 0; at + sizeBytes <= statSync(from).size; at += sizeBytes) {
    shares.push({ at, share: zeroPageShare(from, at, sizeBytes) });
  }
  shares.sort((a, b) => a.share - b.share);
  const target = openSync(to, 'w', 0o600);
  try {
    copyPart(from, target, shares[0]!.at, sizeBytes);
  } finally {
    closeSync(target);
  }
}

function fileSystemName(path: string): string {
  const names: Record<number, string> = { 61267: 'ext4', 1481003842: 'xfs', 2435016766: 'btrfs', 16914836: 'tmpfs' };
  return names[statfsSync(path).type] ?? path;
}

function requireSpace(neededBytes: number): void {
  for (const dir of [values.dir, values['disk-dir']]) {
    const { bavail, bsize } = statfsSync(dir);
    if (bavail * bsize >= neededBytes) continue;
    throw new Error(`${dir} has less than ${neededBytes} bytes free: name another folder with --dir or --disk-dir`);
  }
}

function say(what: string): void {
  console.error(`${what} (after ${minutes()} minutes)`);
}

function minutes(): string {
  return ((performance.now() - startedAt) / 60_000).toFixed(1);
}

function chosenParts(text: string): ReadonlySet<Part> {
  const words = text.split(',').filter((word) => word !== '');
  const unknown = words.find((word) => !PARTS.some((part) => part === word));
  if (unknown !== undefined) throw new Error(`--parts: there is no "${unknown}"; choose of ${PARTS.join(', ')}`);
  return new Set(words as Part[]);
}

function guestSize(name: 'size-mib' | 'large-size-mib'): number {
  const size = wholeNumber(name, values[name]);
  if (size < SMALLEST_GUEST_MIB) throw new Error(`--${name} is ${SMALLEST_GUEST_MIB} or more, and not ${size}`);
  return size;
}

function wholeNumber(name: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`--${name} is a whole number from 1 on, and not ${value}`);
  return number;
}
