/** What the races of one guest say of the figures that vmsnap aims at, and of those that it misses, what stands in the way. */
import { cpus } from 'node:os';
import { REFERENCE } from './contenders.js';
import { type Figure, timesAsFast } from './figures.js';
import { loadSeconds, type Parts, saveSeconds } from './parts.js';
import type { RaceResult } from './race.js';
import { median, timesOf } from './report.js';

const QEMU_IMG = 'qemu-img qcow2 zstd -W';
const LEVEL_1 = 'vmsnap zstd 1';
const SIZE_SHARE_MAX = 0.94;

/** What the limits are reckoned from. */
export interface Limits {
  readonly parts: Parts;
  /** Of `node -e 0`. */
  readonly nodeSeconds: number;
}

/** `where`: the guest and the file system. */
export function saveFigures(saves: readonly RaceResult[], where: string, limits: Limits): Figure[] {
  const referenceBytes = saves.find(({ contender }) => contender.name === REFERENCE)?.outputBytes ?? 0;
  const noLarger = saves.filter(
    ({ contender, outputBytes, measurements }) =>
      contender.name.startsWith('vmsnap') && measurements.length > 0 && outputBytes <= referenceBytes,
  );
  const fastest = noLarger
    .map(({ contender: { name } }) => ({ name, times: fasterThan(saves, name, REFERENCE) ?? 0 }))
    .sort((a, b) => b.times - a.times)[0];
  const one = saves.find(({ contender }) => contender.name === LEVEL_1)?.outputBytes ?? 0;
  const limit = limitText(
    saves,
    REFERENCE,
    saveSeconds(limits.parts),
    limits,
    'reading, compressing at level 1 and writing',
  );
  const which = fastest === undefined ? '' : ` (${fastest.name})`;
  return [
    timesAsFast(`save, ${where}: a file no larger than that of \`${REFERENCE}\`${which}`, 3, fastest?.times, limit),
    timesAsFast(`save, ${where}: level 1 against \`${REFERENCE}\``, 2.2, fasterThan(saves, LEVEL_1, REFERENCE), limit),
    sizeFigure(one / referenceBytes, where),
  ];
}

export function loadFigures(loads: readonly RaceResult[], what: string, limits: Limits): Figure[] {
  const against = (peer: string, name: string) => {
    const limit = limitText(loads, peer, loadSeconds(limits.parts), limits, 'reading, decompressing and writing');
    return timesAsFast(`${what}, against ${name}`, 3, fasterThan(loads, LEVEL_1, peer), limit);
  };
  return [against(REFERENCE, '`zstd -d`'), against(QEMU_IMG, '`qemu-img convert -W`')];
}

/** At the same level of zlib; undefined if either is missing. */
export function zlibFigure(saves: readonly RaceResult[], level: number): Figure {
  const value = fasterThan(saves, `vmsnap zlib ${level}`, `pigz -${level} -p2`);
  return timesAsFast(`save with zlib ${level} against \`pigz -${level} -p2\``, 1, value);
}

export function vmsnapPeaks(results: readonly RaceResult[]): number[] {
  return results
    .filter(({ contender }) => contender.name.startsWith('vmsnap'))
    .flatMap(({ measurements }) => measurements.map(({ peakMemoryBytes }) => peakMemoryBytes));
}

function sizeFigure(share: number, where: string): Figure {
  return {
    what: `size at level 1, ${where}, of that of \`${REFERENCE}\``,
    wanted: `at most ${SIZE_SHARE_MAX}`,
    got: Number.isFinite(share) ? share.toFixed(3) : 'not measured: a program is missing',
    reached: share <= SIZE_SHARE_MAX,
    limit:
      share <= SIZE_SHARE_MAX
        ? undefined
        : 'the share of duplicate pages decides: both compress alike, and duplicates are stored once',
  };
}

/** The speed that nothing could exceed which does the parts on all cores and starts as Node does. */
function limitText(
  results: readonly RaceResult[],
  peer: string,
  cpuSeconds: number,
  { nodeSeconds }: Limits,
  work: string,
): string {
  const peerSeconds = medianSeconds(results, peer);
  const least = cpuSeconds / cpus().length + nodeSeconds;
  const times = peerSeconds === undefined ? '' : `, ${(peerSeconds / least).toFixed(2)} times`;
  return `${work} take ${cpuSeconds.toFixed(2)} s of processor time and Node's start ${nodeSeconds.toFixed(2)} s, so the limit is ${least.toFixed(2)} s${times}`;
}

function medianSeconds(results: readonly RaceResult[], name: string): number | undefined {
  const found = results.find(({ contender }) => contender.name === name)?.measurements;
  return found === undefined || found.length === 0 ? undefined : median(found.map(({ wallSeconds }) => wallSeconds));
}

function fasterThan(results: readonly RaceResult[], name: string, peer: string): number | undefined {
  const of = (wanted: string) => results.find(({ contender }) => contender.name === wanted)?.measurements ?? [];
  return timesOf(of(peer), of(name));
}
