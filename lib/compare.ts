/**
 * `compare`: two states of a machine's memory held against each other, page by page. Each side is an image, with the images
 * below it, or raw memory.
 *
 * Regions belong together if name and guest-physical address, or the lack of one, are the same; what one side has and the other has not is a
 * difference. The workers claim stretches of what both have (pipeline/compareWorker.ts); every page is told by its bytes.
 */
import {
  CHANGE_BECAME_ZERO,
  CHANGE_BOTH_ZERO,
  CHANGE_CHANGED,
  CHANGE_COUNT,
  CHANGE_SAME,
  CHANGE_WAS_ZERO,
} from '../native/binding.js';
import { VmsnapError } from '../native/errors.js';
import { abortReason, linkSignal } from './abort.js';
import type { SizedRegion } from './chain.js';
import { type OpenedSide, openSide, segmentSizeOf, takeRegions } from './compareSide.js';
import { checkThreads, usage } from './options.js';
import {
  addHeat,
  type CommonRange,
  type CompareJob,
  type CompareWorkerResult,
  RUN_NUMBERS,
} from './pipeline/compareWorker.js';
import { createControl } from './pipeline/control.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import type {
  CompareCounts,
  CompareOptions,
  ComparePages,
  CompareRegion,
  CompareResult,
  Difference,
  MemoryChange,
} from './types.js';

/** Ranges that a result holds at most. */
const RANGES_MAX = 65_536;
const HEAT_CELLS = 64;
const HEAT_CELLS_MAX = 4096;

const CHANGE_NAMES: Readonly<Record<number, MemoryChange>> = {
  [CHANGE_CHANGED]: 'changed',
  [CHANGE_BECAME_ZERO]: 'became-zero',
  [CHANGE_WAS_ZERO]: 'was-zero',
};

/**
 * Compares two memories, from `a` to `b`.
 * @param a an image, a raw memory file or a block device. @param b likewise.
 * @returns what differs; a difference is a result and no exception. @throws VmsnapError where one cannot be read.
 */
export async function compare(a: string, b: string, options: CompareOptions = {}): Promise<CompareResult> {
  const threads = checkThreads(options.threads);
  const heatCells = checkHeatCells(options.heatCells ?? HEAT_CELLS);
  options.signal?.throwIfAborted();
  const started = performance.now();
  const sides: OpenedSide[] = [];
  try {
    sides.push(await openSide(a, options));
    sides.push(await openSide(b, options));
    const [sideA, sideB] = sides as [OpenedSide, OpenedSide];
    const plan = new ComparePlan([a, b], sideA, sideB, options);
    const results = await runWorkers(plan, sideA, sideB, threads, heatCells, options);
    return {
      a: { path: a, ...sideA.about, absentPages: sum(results.map(({ absentPages }) => absentPages.a)) },
      b: { path: b, ...sideB.about, absentPages: sum(results.map(({ absentPages }) => absentPages.b)) },
      ...summarize(plan, results, heatCells),
      run: { threads: results.length, durationSeconds: (performance.now() - started) / 1000 },
    };
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    for (const side of sides) side.close();
  }
}

function checkHeatCells(cells: number): number {
  if (Number.isInteger(cells) && cells >= 1 && cells <= HEAT_CELLS_MAX) return cells;
  throw usage(`${cells} cells of a heat bar are not possible; choose 1 to ${HEAT_CELLS_MAX}`);
}

/** A part of one region that is wanted, on one side or on both. */
interface Part {
  readonly region: SizedRegion;
  readonly regionA: number | undefined;
  readonly regionB: number | undefined;
  /** Offsets in the region. */
  readonly from: number;
  readonly to: number;
  /** Where `from` stands among all that is wanted. */
  readonly heatFrom: number;
}

/** What of the two memories is compared, and with what. */
class ComparePlan {
  readonly pageSize: number;
  readonly segmentSize: { readonly a: number; readonly b: number };
  readonly regionsA: readonly SizedRegion[];
  readonly regionsB: readonly SizedRegion[];
  /** In the order of A, then what only B has; of each region first what both have. */
  readonly parts: readonly Part[];
  readonly totalBytes: number;

  constructor(paths: readonly string[], a: OpenedSide, b: OpenedSide, options: CompareOptions) {
    this.pageSize = Math.min(a.pageSize, b.pageSize);
    this.segmentSize = { a: segmentSizeOf(a, b), b: segmentSizeOf(b, a) };
    this.regionsA = takeRegions(a, b);
    this.regionsB = takeRegions(b, a);
    const all = this.#allParts().filter(({ region }) => (options.region ?? region.name) === region.name);
    if (all.length === 0) throw noSuchRegion(paths, options.region!, [...this.regionsA, ...this.regionsB]);
    this.parts = place(options.range === undefined ? all : this.#cut(all, options.range));
    this.totalBytes = this.parts.reduce((sum, { from, to }) => sum + to - from, 0);
  }

  get common(): CommonRange[] {
    return this.parts.flatMap(({ regionA, regionB, from, to, heatFrom }) =>
      regionA === undefined || regionB === undefined ? [] : [{ regionA, regionB, from, to, heatFrom }],
    );
  }

  #allParts(): Part[] {
    const partnerOf = new Map(this.regionsB.map((region, i) => [keyOf(region), i]));
    const parts: Part[] = [];
    for (const [regionA, region] of this.regionsA.entries()) {
      const regionB = partnerOf.get(keyOf(region));
      partnerOf.delete(keyOf(region));
      parts.push(...pairParts(region, regionA, this.regionsB[regionB ?? -1], regionB));
    }
    for (const regionB of partnerOf.values()) {
      const region = this.regionsB[regionB]!;
      parts.push({ region, regionA: undefined, regionB, from: 0, to: region.sizeBytes, heatFrom: 0 });
    }
    return parts;
  }

  /** A range counts the memory of A, or of B where A has none of it. */
  #cut(parts: readonly Part[], range: NonNullable<CompareOptions['range']>): Part[] {
    const hasA = parts.some(({ regionA }) => regionA !== undefined);
    const counted = parts.filter(({ regionA }) => !hasA || regionA !== undefined);
    const total = counted.reduce((sum, { from, to }) => sum + to - from, 0);
    const [start, end] = [range.offset, range.offset + range.length];
    if (![start, end].every((value) => Number.isSafeInteger(value) && value >= 0) || end <= start)
      throw usage(`the range ${range.offset}:${range.length} is none`);
    if (end > total) throw usage(`the range ends at ${end}, beyond the ${total} bytes there are`);
    const wanted: Part[] = [];
    let before = 0;
    for (const part of counted) {
      const { from, to } = part;
      const length = to - from;
      const cutFrom = from + roundDown(Math.max(0, start - before), this.pageSize);
      const cutTo = Math.min(to, from + roundUpTo(end - before, this.pageSize));
      if (cutFrom < cutTo) wanted.push({ ...part, from: cutFrom, to: cutTo });
      before += length;
    }
    return wanted;
  }
}

function keyOf({ name, gpa }: SizedRegion): string {
  return `${gpa ?? '?'}=${name}`;
}

function pairParts(
  region: SizedRegion,
  regionA: number,
  other: SizedRegion | undefined,
  regionB: number | undefined,
): Part[] {
  const heatFrom = 0;
  const common = Math.min(region.sizeBytes, other?.sizeBytes ?? 0);
  const parts: Part[] = [];
  if (common > 0) parts.push({ region, regionA, regionB, from: 0, to: common, heatFrom });
  if (region.sizeBytes > common)
    parts.push({ region, regionA, regionB: undefined, from: common, to: region.sizeBytes, heatFrom });
  if (other !== undefined && other.sizeBytes > common)
    parts.push({ region: other, regionA: undefined, regionB, from: common, to: other.sizeBytes, heatFrom });
  return parts;
}

function place(parts: readonly Part[]): Part[] {
  let heatFrom = 0;
  return parts.map((part) => {
    const placed = { ...part, heatFrom };
    heatFrom += part.to - part.from;
    return placed;
  });
}

function roundDown(value: number, multiple: number): number {
  return Math.floor(value / multiple) * multiple;
}

function roundUpTo(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

function noSuchRegion(paths: readonly string[], name: string, regions: readonly SizedRegion[]): VmsnapError {
  const names = [...new Set(regions.map((region) => region.name))];
  return new VmsnapError('NOT_FOUND', `neither ${paths.join(' nor ')} has a region "${name}"`, {
    path: paths[0],
    hint: `there is ${names.join(', ')}`,
  });
}

async function runWorkers(
  plan: ComparePlan,
  a: OpenedSide,
  b: OpenedSide,
  threads: number,
  heatCells: number,
  options: CompareOptions,
): Promise<CompareWorkerResult[]> {
  const ranges = plan.common;
  const commonBytes = ranges.reduce((sum, { from, to }) => sum + to - from, 0);
  const claims = Math.ceil(commonBytes / Math.max(plan.segmentSize.a, plan.segmentSize.b));
  const count = Math.max(1, Math.min(threads, claims));
  const control = createControl(count);
  const shared: Omit<CompareJob, 'worker'> = {
    kind: 'compare',
    control,
    a: a.describe(plan.regionsA, plan.segmentSize.a),
    b: b.describe(plan.regionsB, plan.segmentSize.b),
    pageSize: plan.pageSize,
    ranges,
    heatCells,
    heatBytes: plan.totalBytes,
    runsMax: RANGES_MAX,
  };
  const unlink = linkSignal(options.signal, control);
  const endReports = reportProgress('compare', control, commonBytes, options);
  try {
    const jobs = Array.from({ length: count }, (_, worker): CompareJob => ({ ...shared, worker }));
    return await runJobs<CompareWorkerResult>(jobs, control);
  } finally {
    endReports();
    unlink();
  }
}

type Summary = Omit<CompareResult, 'a' | 'b' | 'run'>;

function summarize(plan: ComparePlan, results: readonly CompareWorkerResult[], heatCells: number): Summary {
  const { pageSize } = plan;
  const regions = regionCounts(plan, results);
  const pages = addUp(regions.map((region) => region.pages));
  const onlyInABytes = sum(regions.map((region) => region.onlyInABytes));
  const onlyInBBytes = sum(regions.map((region) => region.onlyInBBytes));
  const { ranges, rangesCut } = listRanges(plan, results);
  return {
    equal: pages.changed + pages.becameZero + pages.wasZero + onlyInABytes + onlyInBBytes === 0,
    pageSize,
    comparedBytes: (pages.same + pages.changed + pages.becameZero + pages.wasZero) * pageSize,
    pages,
    onlyInABytes,
    onlyInBBytes,
    regions,
    ranges,
    rangesCut,
    heat: heatOf(plan, results, heatCells),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function addUp(all: readonly ComparePages[]): ComparePages {
  return {
    same: sum(all.map(({ same }) => same)),
    bothZero: sum(all.map(({ bothZero }) => bothZero)),
    changed: sum(all.map(({ changed }) => changed)),
    becameZero: sum(all.map(({ becameZero }) => becameZero)),
    wasZero: sum(all.map(({ wasZero }) => wasZero)),
  };
}

/** A region that differs in size stands once: what both have, and what one side has more. */
function regionCounts(plan: ComparePlan, results: readonly CompareWorkerResult[]): CompareRegion[] {
  const sizesA = sizesByKey(plan.regionsA);
  const sizesB = sizesByKey(plan.regionsB);
  const regions = new Map<string, CompareRegion>();
  let range = 0;
  for (const { region, regionA, regionB, from, to } of plan.parts) {
    const isCommon = regionA !== undefined && regionB !== undefined;
    const pages = isCommon ? pagesOf(results, range++) : NO_PAGES;
    const onlyInABytes = regionB === undefined ? to - from : 0;
    const onlyInBBytes = regionA === undefined ? to - from : 0;
    const key = keyOf(region);
    const known = regions.get(key);
    regions.set(key, {
      name: region.name,
      gpa: region.gpa,
      sizeBytesA: sizesA.get(key),
      sizeBytesB: sizesB.get(key),
      pages: known === undefined ? pages : addUp([known.pages, pages]),
      onlyInABytes: (known?.onlyInABytes ?? 0) + onlyInABytes,
      onlyInBBytes: (known?.onlyInBBytes ?? 0) + onlyInBBytes,
    });
  }
  return [...regions.values()];
}

function sizesByKey(regions: readonly SizedRegion[]): ReadonlyMap<string, number> {
  return new Map(regions.map((region) => [keyOf(region), region.sizeBytes]));
}

const NO_PAGES: ComparePages = { same: 0, bothZero: 0, changed: 0, becameZero: 0, wasZero: 0 };

function pagesOf(results: readonly CompareWorkerResult[], range: number): ComparePages {
  const count = (change: number) => sum(results.map(({ counts }) => counts[range * CHANGE_COUNT + change]!));
  const bothZero = count(CHANGE_BOTH_ZERO);
  return {
    same: count(CHANGE_SAME) + bothZero,
    bothZero,
    changed: count(CHANGE_CHANGED),
    becameZero: count(CHANGE_BECAME_ZERO),
    wasZero: count(CHANGE_WAS_ZERO),
  };
}

/** A range of memory that differs, by its place among the parts. */
interface PlacedRun {
  readonly part: number;
  readonly from: number;
  length: number;
  readonly change: MemoryChange;
}

/** In the order of the memory, and as far as it is known without a gap: up to the first run that had no room. */
function listRanges(plan: ComparePlan, results: readonly CompareWorkerResult[]): Pick<Summary, 'ranges' | 'rangesCut'> {
  const commonParts = plan.parts.flatMap(({ regionA, regionB }, i) =>
    regionA === undefined || regionB === undefined ? [] : [i],
  );
  const runs: PlacedRun[] = plan.parts.flatMap(({ regionA, regionB, from, to }, part) => {
    if (regionA !== undefined && regionB !== undefined) return [];
    return [{ part, from, length: to - from, change: regionA === undefined ? 'only-in-b' : 'only-in-a' }];
  });
  let cut: { part: number; from: number } | undefined;
  for (const { runs: own, cutAt } of results) {
    for (let at = 0; at < own.length; at += RUN_NUMBERS) {
      const part = commonParts[own[at]!]!;
      runs.push({ part, from: own[at + 1]!, length: own[at + 2]!, change: CHANGE_NAMES[own[at + 3]!]! });
    }
    const place = cutAt === undefined ? undefined : { part: commonParts[cutAt[0]]!, from: cutAt[1] };
    if (place !== undefined && (cut === undefined || order(place, cut) < 0)) cut = place;
  }
  const whole = joined(runs.sort(order).filter((run) => cut === undefined || order(run, cut) < 0));
  return {
    ranges: whole.slice(0, RANGES_MAX).map((run) => difference(plan, run)),
    rangesCut: cut !== undefined || whole.length > RANGES_MAX,
  };
}

function order(a: { part: number; from: number }, b: { part: number; from: number }): number {
  return a.part - b.part || a.from - b.from;
}

/** Runs that ended only where a claim did. */
function joined(runs: readonly PlacedRun[]): PlacedRun[] {
  const whole: PlacedRun[] = [];
  for (const run of runs) {
    const last = whole.at(-1);
    if (
      last !== undefined &&
      last.part === run.part &&
      last.change === run.change &&
      last.from + last.length === run.from
    )
      last.length += run.length;
    else whole.push({ ...run });
  }
  return whole;
}

function difference(plan: ComparePlan, { part, from, length, change }: PlacedRun): Difference {
  return { region: plan.parts[part]!.region.name, offset: from, length, change };
}

function heatOf(plan: ComparePlan, results: readonly CompareWorkerResult[], cells: number): CompareCounts[] {
  const { pageSize, totalBytes } = plan;
  const different = new Float64Array(cells);
  for (const { heat } of results) for (let cell = 0; cell < cells; cell++) different[cell]! += heat[cell]!;
  for (const { regionA, regionB, from, to, heatFrom } of plan.parts) {
    if (regionA === undefined || regionB === undefined)
      addHeat(different, heatFrom, to - from, cells, totalBytes, pageSize);
  }
  const pages = totalBytes / pageSize / cells;
  return Array.from(different, (differentPages) => ({ pages, differentPages: Math.min(pages, differentPages) }));
}
