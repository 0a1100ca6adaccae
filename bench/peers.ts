// Compares vmsnap with what else brings a VM's memory into a small file and back, and holds it against the figures it aims at:
// node dist/bench/peers.js [--file MEMORY] [--rounds N] [--size-mib N] [--dir DIR] [--disk-dir DIR] [--only TEXT] [--out FILE]
//
// Without --file a guest is booted: with the QEMU that VMSNAP_QEMU10 names (test/guest/qemu10.sh unpacks one), which has mapped-ram
// files, else with the installed one. In 8 minutes on two quiet cores.
import { closeSync, openSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { contenders, REFERENCE, zlibContenders } from './contenders.js';
import { type Figure, figureTable, timesAsFast } from './figures.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { copyPart, makeGuestMemory, zeroPageShare } from './memory.js';
import { type Migration, raceMigration } from './migration.js';
import { loadSeconds, measureParts, type Parts, partsTable, saveSeconds } from './parts.js';
import { type RaceResult, runRace } from './race.js';
import { imageOf, type Place, races } from './races.js';
import { machineDescription, median, missingList, raceTable, timesOf } from './report.js';
import { measureScale, peakFigure } from './scale.js';
import { measureStartUp, type StartUp } from './startUp.js';
import { measureZeroMemory } from './zeroMemory.js';

// The memory, a target, and the images of all contenders, one of them hardly smaller than its data.
const NEEDED_SPACE_FACTOR = 5;
// The programs that fill the guest have to fit into it twice.
const SMALLEST_GUEST_MIB = 512;
const ZLIB_LEVELS = [1, 6, 9];
const ZLIB_SLICE_BYTES = 2 ** 27;
const ZLIB_ROUNDS = 2;
const DISK_ROUNDS = 2;
const QEMU_IMG = 'qemu-img qcow2 zstd -W';
const LEVEL_1 = 'vmsnap zstd 1';

const { values } = parseArgs({
  options: {
    file: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    'size-mib': { type: 'string', default: '2048' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    'disk-dir': { type: 'string', default: fileURLToPath(new URL('../', import.meta.url)) },
    only: { type: 'string', default: '' },
    out: { type: 'string' },
  },
});

const startedAt = performance.now();
const folder = makeBenchFolder(values.dir);
const diskFolder = makeBenchFolder(values['disk-dir']);
const roundCount = wholeNumber('rounds', values.rounds);
const memoryMiB = wholeNumber('size-mib', values['size-mib']);
if (memoryMiB < SMALLEST_GUEST_MIB)
  throw new Error(`--size-mib is ${SMALLEST_GUEST_MIB} or more, and not ${memoryMiB}`);

const report = await compareAll();
console.log(report);
if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);

async function compareAll(): Promise<string> {
  const { memoryFile, origin, migration } = await prepareMemory();
  const memoryBytes = statSync(memoryFile).size;
  const zeroPercent = (zeroPageShare(memoryFile) * 100).toFixed(1);
  const all = contenders().filter(({ name }) => name.includes(values.only) || name === REFERENCE);
  const present = all.filter((contender) => contender.missing === undefined);
  const tmpfs: Place = { name: values.dir, folder, synced: false };
  const disk: Place = { name: `${fileSystemName(values['disk-dir'])}, synced`, folder: diskFolder, synced: true };

  const onTmpfs: RaceResult[][] = [];
  const tables: string[] = [];
  for (const race of races(tmpfs, memoryFile, memoryBytes)) {
    onTmpfs.push(await runRace(race, present, roundCount));
    tables.push(raceTable(race.title, onTmpfs.at(-1)!, memoryBytes));
  }
  const levelOne = present.find(({ name }) => name === LEVEL_1);
  const startUp = levelOne === undefined ? undefined : await measureStartUp(folder, imageOf(tmpfs, levelOne));
  for (const contender of present) rmSync(imageOf(tmpfs, contender), { force: true });
  rmSync(join(folder, 'target'), { force: true });

  const short = present.filter(({ isShort }) => isShort);
  const onDisk: RaceResult[][] = [];
  for (const race of races(disk, memoryFile, memoryBytes)) {
    onDisk.push(await runRace(race, short, Math.min(DISK_ROUNDS, roundCount)));
    tables.push(raceTable(race.title, onDisk.at(-1)!, memoryBytes));
  }
  for (const contender of short) rmSync(imageOf(disk, contender), { force: true });
  rmSync(join(diskFolder, 'target'), { force: true });

  const zlib = await raceZlib(tmpfs, memoryFile);
  say('the parts of a save and a load');
  const parts = measureParts(memoryFile, folder);
  say('memory with nothing in it');
  const zero = await measureZeroMemory(folder);
  say('scale');
  const scale = await measureScale(folder, memoryFile);
  const peakBytes = Math.max(scale.peakBytes, ...[...onTmpfs, ...onDisk].flatMap(vmsnapPeaks));
  const figures = [
    ...(startUp === undefined ? [] : figuresOf(onTmpfs, 'tmpfs', parts, startUp)),
    ...(startUp === undefined ? [] : diskFigures(onDisk, parts, startUp)),
    ...(migration?.figures ?? []),
    ...zlib.figures,
    ...zero.figures,
    peakFigure(peakBytes),
    ...(startUp?.figures ?? []),
  ];
  return [
    '# vmsnap and its peers',
    '',
    `Written by \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}, in ${minutes()} minutes. Read ratios, not seconds.`,
    '',
    `- ${origin}: ${memoryBytes.toLocaleString('en')} bytes, ${zeroPercent} % zero pages, ${(parts.dataBytes / 1e6).toFixed(0)} MB in data pages; it lies in the page cache`,
    machineDescription(),
    `- ${roundCount} rounds (${Math.min(DISK_ROUNDS, roundCount)} on disk) after one to warm up, contenders in turn in every round`,
    missingList(all.filter((contender) => contender.missing !== undefined)),
    '## What is aimed at',
    '',
    figureTable(figures),
    '## Start',
    '',
    startUp?.text ?? '',
    '## Races',
    '',
    ...tables,
    '### Levels of zlib',
    '',
    zlib.text,
    "### QEMU's file migration of the paused guest",
    '',
    migration?.text ?? 'Not measured: that takes a guest and a QEMU with mapped-ram files (VMSNAP_QEMU10).\n',
    '## The parts, each alone on one thread',
    '',
    'What the libraries and the kernel need; what they need together, by the number of cores, and the start of Node are the limit that the figures name.',
    '',
    partsTable(parts),
    '## Memory with nothing in it',
    '',
    zero.text,
    '## How it grows',
    '',
    scale.text,
    'bench/SCALE.md says what bounds it on larger machines.',
  ].join('\n');
}

interface Prepared {
  readonly memoryFile: string;
  readonly origin: string;
  readonly migration: Migration | undefined;
}

async function prepareMemory(): Promise<Prepared> {
  if (values.file !== undefined) {
    requireSpace(statSync(values.file).size);
    return { memoryFile: values.file, origin: 'a file', migration: undefined };
  }
  requireSpace(memoryMiB * 2 ** 20);
  const memoryFile = join(folder, 'memory');
  let migration: Migration | undefined;
  const origin = await makeGuestMemory(memoryFile, folder, memoryMiB, {
    qemu: process.env.VMSNAP_QEMU10,
    whilePaused: async (guest) => {
      say("QEMU's file migration");
      migration = await raceMigration(guest, folder, roundCount);
    },
  });
  return { memoryFile, origin, migration };
}

/** Of a part of the memory, because pigz takes long at its higher levels. */
async function raceZlib(place: Place, memoryFile: string): Promise<{ text: string; figures: Figure[] }> {
  const slice = join(folder, 'slice');
  const sliceBytes = Math.min(ZLIB_SLICE_BYTES, statSync(memoryFile).size);
  copyDensestSlice(memoryFile, slice, sliceBytes);
  const present = zlibContenders(ZLIB_LEVELS).filter(({ missing }) => missing === undefined);
  const [race] = races(place, slice, sliceBytes);
  const results = await runRace(race!, present, ZLIB_ROUNDS);
  for (const contender of present) rmSync(imageOf(place, contender), { force: true });
  rmSync(slice);
  const figures = ZLIB_LEVELS.map((level) => {
    const value = fasterThan(results, `vmsnap zlib ${level}`, `pigz -${level} -p2`);
    return timesAsFast(`save with zlib ${level} against \`pigz -${level} -p2\``, 1, value);
  });
  return { text: raceTable(`${race!.title}: ${sliceBytes / 2 ** 20} MiB of the memory`, results, sliceBytes), figures };
}

function figuresOf(
  [saves, _savesInPlace, loads, loadsInPlace]: RaceResult[][],
  where: string,
  parts: Parts,
  startUp: StartUp,
): Figure[] {
  const reference = saves!.find(({ contender }) => contender.name === REFERENCE);
  const referenceBytes = reference?.outputBytes ?? 0;
  const noLarger = saves!.filter(
    ({ contender, outputBytes }) => contender.name.startsWith('vmsnap') && outputBytes <= referenceBytes,
  );
  const fastest = Math.max(0, ...noLarger.map(({ contender }) => fasterThan(saves!, contender.name, REFERENCE) ?? 0));
  const one = saves!.find(({ contender }) => contender.name === LEVEL_1);
  const limit = saveLimit(saves!, parts, startUp);
  return [
    timesAsFast(`save, ${where}: a file no larger than that of \`${REFERENCE}\``, 3, fastest, limit),
    timesAsFast(`save, ${where}: level 1 against \`${REFERENCE}\``, 2.2, fasterThan(saves!, LEVEL_1, REFERENCE), limit),
    sizeFigure((one?.outputBytes ?? 0) / referenceBytes),
    ...loadFigures(loads!, `load to a new file, ${where}`, parts, startUp),
    ...loadFigures(loadsInPlace!, `load in place, ${where}`, parts, startUp),
  ];
}

function diskFigures([saves, loads, loadsInPlace]: RaceResult[][], parts: Parts, startUp: StartUp): Figure[] {
  const save = fasterThan(saves!, LEVEL_1, REFERENCE);
  return [
    timesAsFast(`save, disk: level 1 against \`${REFERENCE}\``, 2.2, save, saveLimit(saves!, parts, startUp)),
    ...loadFigures(loads!, 'load to a new file, disk', parts, startUp),
    ...loadFigures(loadsInPlace!, 'load in place, disk', parts, startUp),
  ];
}

function loadFigures(results: RaceResult[], what: string, parts: Parts, startUp: StartUp): Figure[] {
  const against = (peer: string, name: string) =>
    timesAsFast(
      `${what}, against ${name}`,
      3,
      fasterThan(results, LEVEL_1, peer),
      limitText(results, peer, loadSeconds(parts), startUp, 'reading, decompressing and writing'),
    );
  return [against(REFERENCE, '`zstd -d`'), against(QEMU_IMG, '`qemu-img convert -W`')];
}

function sizeFigure(share: number): Figure {
  const what = `size at level 1, of that of \`${REFERENCE}\``;
  return { what, wanted: 'at most 0.94', got: share.toFixed(3), reached: share <= 0.94 };
}

function saveLimit(results: RaceResult[], parts: Parts, startUp: StartUp): string {
  return limitText(results, REFERENCE, saveSeconds(parts), startUp, 'reading, compressing and writing');
}

/** The speed that nothing could exceed which does the parts on all cores and starts as Node does. */
function limitText(results: RaceResult[], peer: string, cpuSeconds: number, startUp: StartUp, work: string): string {
  const peerSeconds = medianSeconds(results, peer);
  const least = cpuSeconds / cpus().length + startUp.nodeSeconds;
  const times = peerSeconds === undefined ? '' : `, ${(peerSeconds / least).toFixed(2)} times`;
  return `${work} take ${cpuSeconds.toFixed(2)} s of processor time and Node's start ${startUp.nodeSeconds.toFixed(2)} s, so the limit is ${least.toFixed(2)} s${times}`;
}

function medianSeconds(results: RaceResult[], name: string): number | undefined {
  const found = results.find(({ contender }) => contender.name === name)?.measurements;
  return found === undefined || found.length === 0 ? undefined : median(found.map(({ wallSeconds }) => wallSeconds));
}

function fasterThan(results: RaceResult[], name: string, peer: string): number | undefined {
  const of = (wanted: string) => results.find(({ contender }) => contender.name === wanted)?.measurements ?? [];
  return timesOf(of(peer), of(name));
}

function vmsnapPeaks(results: RaceResult[]): number[] {
  return results
    .filter(({ contender }) => contender.name.startsWith('vmsnap'))
    .flatMap(({ measurements }) => measurements.map(({ peakMemoryBytes }) => peakMemoryBytes));
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
  return names[statfsSync(path).type] ?? 'disk';
}

function requireSpace(memoryBytes: number): void {
  for (const dir of [values.dir, values['disk-dir']]) {
    const { bavail, bsize } = statfsSync(dir);
    const neededBytes = memoryBytes * NEEDED_SPACE_FACTOR;
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

function wholeNumber(name: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`--${name} is a whole number from 1 on, and not ${value}`);
  return number;
}
