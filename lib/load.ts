/**
 * `load`: an image in, memory out, bit for bit, proven by its digest before success is reported.
 *
 * From a file the workers go by the index; from a pipe they take the records as they come, and the tail is checked at the
 * end. Either way nothing gets its final name before every byte is checked and synced.
 */
import { corrupt } from '../formats/vmsnap/corrupt.js';
import { type ImageTail, mayOverride, mayRefer } from '../formats/vmsnap/imageFile.js';
import { sumHex, sumRegions } from '../formats/vmsnap/memoryDigest.js';
import { VmsnapError } from '../native/errors.js';
import { abortReason, linkSignal } from './abort.js';
import { closeImages, type OpenedImage, openBases } from './chain.js';
import { coreLayout, type ExportPlan, limeLayout, rawLayout, TARGET_FORMATS, type TargetLayout } from './exportAs.js';
import { coreFacts, hasNotes } from './exportFacts.js';
import { type ImageInput, openImageInput, readInputTail, requireUnlocked } from './imageInput.js';
import { checkLimits, pacerFor, peakMemoryBytes } from './limits.js';
import { checkThreads, usage } from './options.js';
import { requireOtherFile } from './otherFile.js';
import { writeAt } from './pipeline/commitLine.js';
import {
  createControl,
  type SharedControl,
  STAT_ABSENT_PAGES,
  STAT_DATA_BYTES,
  STAT_IMAGE_BYTES,
  sumStat,
} from './pipeline/control.js';
import type { ReadJob, ReadWorkerResult, RegionSelection, SinkDescription } from './pipeline/readJob.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import { createReadJobs, isOpenEnded, planReadMemory, regionSizes } from './readJobs.js';
import { isStreamTarget, type LoadTarget, openTarget } from './target.js';
import type {
  CommonOptions,
  LimitOptions,
  LoadOptions,
  LoadResult,
  RestoreDrillOptions,
  RestoreDrillResult,
  RunLimits,
  Warning,
} from './types.js';
import { walkedTail } from './walkedTail.js';
import { Warnings } from './warnings.js';

/**
 * Brings memory back from an image.
 * @param image the image file, or `-` for standard input.
 * @param target a file, a block device, or `-` for standard output. Regions stand in it end to end, unless `as` says otherwise.
 * @throws VmsnapError; a target that is not written in place is then as it was before.
 */
export function load(image: string, target: string, options: LoadOptions = {}): Promise<LoadResult> {
  return bringBack(image, target, options, () => openTarget(target, options));
}

/**
 * Proves that an image can be brought back: a whole load, with every chunk of it and of its bases decompressed and the digest of the
 * memory checked, that writes nothing.
 * @param image the image file.
 * @throws VmsnapError as a load does: CORRUPT, BASE_MISMATCH and the others.
 */
export async function restoreDrill(image: string, options: RestoreDrillOptions = {}): Promise<RestoreDrillResult> {
  const { target: _target, run, ...result } = await bringBack(image, undefined, options, async () => NOWHERE);
  return { ...result, image, run: { threads: run.threads, durationSeconds: run.durationSeconds } };
}

const NOWHERE: LoadTarget = {
  sink: { kind: 'none' },
  inPlace: false,
  resize: () => {},
  finish: async () => {},
  discard: () => {},
};

async function bringBack(
  image: string,
  target: string | undefined,
  options: LoadOptions,
  open: () => Promise<LoadTarget>,
): Promise<LoadResult> {
  const threads = checkThreads(options.threads);
  options.signal?.throwIfAborted();
  const input = await openImageInput(image, options);
  let opened: LoadTarget | undefined;
  let bases: readonly OpenedImage[] = [];
  try {
    requireUnlocked(input);
    const tail = input.isStream ? undefined : readInputTail(input);
    const plan = new LoadPlan(input, tail, options);
    bases = await openBases(input, options);
    const name = target ?? '-';
    for (const image of [input, ...bases.map((base) => base.input)]) requireOtherFile(image, name);
    const warnings = new Warnings(options);
    const isStream = target !== undefined && isStreamTarget(target);
    const layout = await layoutOf(input, tail, plan, isStream, options, warnings);
    opened = await open();
    requireOrder(input, name, opened);
    requireTargets(input, name, opened, plan, layout);
    return await new Load(input, tail, bases, name, opened, plan, layout, threads, options, warnings).run();
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    opened?.discard();
    closeImages(bases);
    input.close();
  }
}

/** Parts of the memory of an image in a file, and where they go. */
export interface LoadParts {
  /** One for each region; undefined: nothing of it is wanted. */
  readonly selection: readonly (RegionSelection | undefined)[];
  readonly target: LoadTarget;
  /** How messages call the target. */
  readonly name: string;
}

/**
 * Brings parts back into an opened target: whole regions are proven by their digests before `target.finish` is called. Image,
 * bases and target stay the caller's to close and, after a failure, to discard.
 */
export async function loadParts(
  { input, tail }: OpenedImage,
  bases: readonly OpenedImage[],
  { selection, target, name }: LoadParts,
  options: CommonOptions & LimitOptions,
): Promise<LoadResult> {
  const sizes = regionSizes(input, tail);
  const plan = { regionSizes: sizes, openEnded: false, selection, proven: provenBy(selection, sizes, true) };
  const threads = checkThreads(options.threads);
  const warnings = new Warnings(options);
  try {
    return await new Load(
      input,
      tail,
      bases,
      name,
      target,
      plan,
      rawLayout(selection),
      threads,
      options,
      warnings,
    ).run();
  } catch (error) {
    throw abortReason(error, options.signal);
  }
}

function provenBy(
  selection: PartPlan['selection'],
  sizes: readonly number[],
  ofRegions: boolean,
): LoadResult['proven'] {
  const whole = selection.every((part, i) => part === undefined || (part.from === 0 && part.to === sizes[i]));
  if (!whole) return 'leaves';
  return ofRegions ? 'region' : 'memory';
}

/** What of the memory is wanted. */
interface PartPlan {
  readonly regionSizes: readonly number[];
  /** The last region's size is told only at the end of the stream. */
  readonly openEnded: boolean;
  readonly selection: readonly (RegionSelection | undefined)[];
  readonly proven: LoadResult['proven'];
}

/** The same as options name it. */
class LoadPlan implements PartPlan {
  readonly regionSizes: readonly number[];
  readonly openEnded: boolean;
  readonly selection: readonly (RegionSelection | undefined)[];
  readonly proven: LoadResult['proven'];
  readonly #input: ImageInput;

  constructor(input: ImageInput, tail: ImageTail | undefined, options: LoadOptions) {
    this.#input = input;
    this.regionSizes = regionSizes(input, tail);
    this.openEnded = isOpenEnded(input, tail);
    const wanted = this.#wantedRegions(options.region);
    this.selection = this.#select(wanted, options.range);
    this.proven = provenBy(this.selection, this.regionSizes, options.region !== undefined);
  }

  #wantedRegions(name: string | undefined): number[] {
    const { regions } = this.#input.head.start;
    if (name === undefined) return regions.map((_, i) => i);
    const found = regions.findIndex((region) => region.name === name);
    if (found >= 0) return [found];
    throw new VmsnapError('NOT_FOUND', `${this.#input.path} has no region "${name}"`, {
      path: this.#input.path,
      hint: `it has ${regions.map((region) => region.name).join(', ')}`,
    });
  }

  /** Cuts the range out of the wanted regions, taken end to end. */
  #select(wanted: readonly number[], range: LoadOptions['range']): (RegionSelection | undefined)[] {
    const total = wanted.reduce((sum, i) => sum + this.regionSizes[i]!, 0);
    const from = range?.offset ?? 0;
    const to = range === undefined ? total : range.offset + range.length;
    const isWhole = (value: number) => Number.isSafeInteger(value) && value >= 0;
    if (!isWhole(from) || !isWhole(to) || to <= from)
      throw usage(`the range ${range?.offset}:${range?.length} is none`);
    if (to > total) throw usage(`the range ends at ${to}, beyond the ${total} bytes there are`);
    const selection: (RegionSelection | undefined)[] = this.regionSizes.map(() => undefined);
    let start = 0;
    for (const i of wanted) {
      const size = this.regionSizes[i]!;
      const partFrom = Math.max(from, start);
      const partTo = Math.min(to, start + size);
      if (partFrom < partTo)
        selection[i] = { from: partFrom - start, to: partTo - start, targetOffset: partFrom - from };
      start += size;
    }
    return selection;
  }
}

/** Bytes of memory that are wanted; `lastRegionBytes` is the true size of an open-ended last region. */
function selectedBytes(selection: PartPlan['selection'], lastRegionBytes: number): number {
  return selection.reduce((sum, part, i) => {
    if (part === undefined) return sum;
    const limit = i === selection.length - 1 ? lastRegionBytes : part.to;
    return sum + Math.max(0, Math.min(part.to, limit) - part.from);
  }, 0);
}

/** Where the parts go in a target of the wanted format. */
async function layoutOf(
  input: ImageInput,
  tail: ImageTail | undefined,
  plan: LoadPlan,
  toStream: boolean,
  options: LoadOptions,
  warnings: Warnings,
): Promise<TargetLayout> {
  const { selection, openEnded } = plan;
  const format = options.as ?? 'raw';
  if (format === 'raw') return rawLayout(selection);
  if (!TARGET_FORMATS.includes(format))
    throw usage(`there is no format "${format}"`, `choose one of ${TARGET_FORMATS.join(', ')}`);
  const exported: ExportPlan = { path: input.path, regions: input.head.start.regions, selection, openEnded, toStream };
  const warn = (warning: Warning) => warnings.add(warning);
  const layout = format === 'lime' ? limeLayout(exported) : coreLayout(exported, await coreFacts(input, tail, warn));
  if (layout.leftOut.length === 0) return layout;
  const message = `the guest-physical address of ${layout.leftOut.join(', ')} is not known: left out of the ${format} file`;
  warn({ code: 'region-left-out', message });
  return layout;
}

/** Into a stream memory goes from its beginning to its end; from a pipe, overriding records come in any order. */
function requireOrder(input: ImageInput, target: string, { sink }: LoadTarget): void {
  if (!input.isStream || sink.kind !== 'stream' || !mayOverride(input.head.header)) return;
  const message = `the segments of ${input.path} stand in no order: from a pipe it cannot be loaded into another, ${target}`;
  throw usage(message, 'put the image, or the memory, into a file');
}

/** From a pipe nothing can be read again: what a reference names must be in the target, which must be a file, and whole. */
function requireTargets(
  input: ImageInput,
  target: string,
  { sink }: LoadTarget,
  { proven }: LoadPlan,
  { leftOut }: TargetLayout,
): void {
  if (!input.isStream || !mayRefer(input.head.header)) return;
  if (sink.kind === 'file' && proven === 'memory' && leftOut.length === 0) return;
  const what = sink.kind === 'file' ? 'only whole' : 'only into a file';
  throw usage(
    `${input.path} stores duplicate pages once: from a pipe it can be loaded ${what}, not so to ${target}`,
    'give the name of the image file, or save it with --no-references',
  );
}

/** A stream, and a part of a segment, take the memory as it is; a stream of QEMU's takes it in records. */
function expandedSegments({ sink }: LoadTarget, { proven }: PartPlan): number {
  if (sink.kind === 'stream') return sink.records === undefined ? 1 : 2;
  return proven === 'leaves' ? 1 : 0;
}

class Load {
  readonly #input: ImageInput;
  readonly #tail: ImageTail | undefined;
  readonly #bases: readonly OpenedImage[];
  readonly #target: string;
  readonly #opened: LoadTarget;
  readonly #plan: PartPlan;
  readonly #layout: TargetLayout;
  readonly #threads: number;
  readonly #options: LoadOptions;
  readonly #warnings: Warnings;
  readonly #control: SharedControl;
  readonly #limits: RunLimits;
  readonly #started = performance.now();

  constructor(
    input: ImageInput,
    tail: ImageTail | undefined,
    bases: readonly OpenedImage[],
    target: string,
    opened: LoadTarget,
    plan: PartPlan,
    layout: TargetLayout,
    threads: number,
    options: LoadOptions,
    warnings: Warnings,
  ) {
    this.#input = input;
    this.#tail = tail;
    this.#bases = bases;
    this.#target = target;
    this.#opened = opened;
    this.#plan = plan;
    this.#layout = layout;
    this.#options = options;
    this.#warnings = warnings;
    this.#limits = checkLimits(options);
    const expanded = expandedSegments(opened, plan);
    this.#threads = planReadMemory(input, tail, bases, threads, this.#limits, expanded);
    this.#control = createControl(this.#threads, pacerFor(this.#limits));
  }

  async run(): Promise<LoadResult> {
    const plan = this.#plan;
    const knownBytes = plan.openEnded ? undefined : this.#memoryBytes(plan.regionSizes.at(-1)!);
    if (knownBytes !== undefined) this.#prepareTarget(plan.regionSizes.at(-1)!);
    const unlink = linkSignal(this.#options.signal, this.#control);
    const endReports = reportProgress('load', this.#control, knownBytes, this.#options);
    try {
      const results = await runJobs<ReadWorkerResult>(this.#jobs(), this.#control);
      const tail = this.#tail ?? walkedTail(this.#input, results);
      this.#prove(tail, results);
      const lastRegionBytes = tail.end.regions.at(-1)!.sizeBytes;
      const memoryBytes = this.#memoryBytes(lastRegionBytes);
      this.#requireRangeInside(memoryBytes);
      if (knownBytes === undefined) this.#prepareTarget(lastRegionBytes);
      endReports();
      await this.#opened.finish();
      return this.#result(tail, memoryBytes);
    } finally {
      endReports();
      unlink();
    }
  }

  #memoryBytes(lastRegionBytes: number): number {
    return selectedBytes(this.#layout.selection, lastRegionBytes);
  }

  /** Gives a file its size, and its headers. A stream gets them in passing. */
  #prepareTarget(lastRegionBytes: number): void {
    const { sink } = this.#opened;
    this.#opened.resize(this.#memoryBytes(lastRegionBytes) + this.#layout.headerBytes);
    if (sink.kind !== 'file') return;
    for (const { bytes, offset } of this.#layout.headers(lastRegionBytes)) writeAt(sink, bytes, bytes.length, offset);
  }

  #sink(): SinkDescription {
    const { sink } = this.#opened;
    if (sink.kind !== 'stream' || this.#plan.openEnded) return sink;
    const inserts: (Uint8Array | undefined)[] = [];
    for (const { region, bytes } of this.#layout.headers(this.#plan.regionSizes.at(-1)!)) inserts[region] = bytes;
    return { ...sink, inserts };
  }

  #jobs(): ReadJob[] {
    return createReadJobs(this.#input, this.#tail, this.#bases, this.#control, this.#threads, {
      order: this.#input.isStream ? 'walk' : 'index',
      selection: this.#layout.selection,
      sink: this.#sink(),
      collect: false,
      structureOnly: false,
    });
  }

  /** The leaves of every segment were checked on the way; their sum proves that no segment was left out. */
  #prove(tail: ImageTail, results: readonly ReadWorkerResult[]): void {
    const sums = sumRegions(
      results.map((result) => result.sums),
      this.#plan.regionSizes.length,
    );
    for (const [i, region] of tail.end.regions.entries()) {
      const part = this.#layout.selection[i];
      const whole = this.#input.isStream || (part?.from === 0 && part.to === region.sizeBytes);
      if (!whole || sumHex(sums, i) === region.sum) continue;
      const { path, head } = this.#input;
      throw corrupt(
        path,
        tail.footer.endOffset,
        `region ${head.start.regions[i]!.name}: the memory does not match its digest`,
      );
    }
  }

  /** A range of a stream of unknown length can be checked only when that is known. */
  #requireRangeInside(memoryBytes: number): void {
    const { range } = this.#options;
    if (range === undefined || memoryBytes === range.length) return;
    throw usage(`the range ends at ${range.offset + range.length}, beyond the memory`);
  }

  #absentWarning(pages: number): Warning {
    const bytes = pages * this.#input.head.start.pageSize;
    const message = `${this.#input.path} does not know the contents of ${pages} pages (${bytes} bytes), which were excluded or unplugged when they were saved: they are zero now`;
    return { code: 'absent-pages', message };
  }

  #result(tail: ImageTail, memoryBytes: number): LoadResult {
    const absentPages = sumStat(this.#control, STAT_ABSENT_PAGES);
    if (absentPages > 0) this.#warnings.add(this.#absentWarning(absentPages));
    if (tail.end.source.mayHaveChanged) {
      const message = `${this.#input.path} was saved from a source that may have been written meanwhile: its memory may be torn`;
      this.#warnings.add({ code: 'source-may-have-changed', message });
    }
    if (this.#layout.format === 'elf' && this.#tail === undefined && hasNotes(tail)) {
      const message = `the notes of the ELF core in ${this.#input.path} are left out, because it is a stream: they stand behind the memory`;
      this.#warnings.add({ code: 'notes-left-out', message });
    }
    return {
      target: this.#target,
      format: this.#layout.format,
      memoryBytes,
      dataBytes: sumStat(this.#control, STAT_DATA_BYTES),
      absentPages,
      imageBytes: sumStat(this.#control, STAT_IMAGE_BYTES),
      bases: this.#bases.map(({ input }) => input.path),
      digest: tail.end.digest,
      // A region that was left out was not read.
      proven: this.#layout.leftOut.length > 0 && this.#plan.proven === 'memory' ? 'region' : this.#plan.proven,
      run: {
        threads: this.#threads,
        limits: this.#limits,
        peakMemoryBytes: peakMemoryBytes(),
        durationSeconds: (performance.now() - this.#started) / 1000,
        inPlace: this.#opened.inPlace,
      },
      warnings: this.#warnings.list,
    };
  }
}
