/**
 * `load`: an image in, memory out, bit for bit, proven by its digest before success is reported.
 *
 * From a file the workers go by the index; from a pipe they take the records as they come, and the tail is checked at the
 * end. Either way nothing gets its final name before every byte is checked and synced.
 */
import { fstatSync, statSync } from 'node:fs';
import { corrupt } from '../formats/vmsnap/corrupt.js';
import { Geometry } from '../formats/vmsnap/geometry.js';
import type { ImageTail } from '../formats/vmsnap/imageFile.js';
import { sumHex, sumRegions } from '../formats/vmsnap/memoryDigest.js';
import { VmsnapError } from '../native/errors.js';
import { abortReason, linkSignal } from './abort.js';
import { type ImageInput, openImageInput, readInputTail } from './imageInput.js';
import { checkThreads, usage } from './options.js';
import { createControl, type SharedControl, STAT_DATA_BYTES, STAT_IMAGE_BYTES, sumStat } from './pipeline/control.js';
import type { ReadJob, ReadWorkerResult, RegionSelection } from './pipeline/readJob.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import { createReadJobs, isOpenEnded, regionSizes } from './readJobs.js';
import { type LoadTarget, openTarget } from './target.js';
import type { LoadOptions, LoadResult, Warning } from './types.js';
import { walkedTail } from './walkedTail.js';

/**
 * Brings memory back from an image.
 * @param image the image file, or `-` for standard input.
 * @param target a file, a block device, or `-` for standard output. Regions stand in it end to end.
 * @throws VmsnapError; a target that is not written in place is then as it was before.
 */
export async function load(image: string, target: string, options: LoadOptions = {}): Promise<LoadResult> {
  const threads = checkThreads(options.threads);
  options.signal?.throwIfAborted();
  const input = await openImageInput(image, options.signal);
  let opened: LoadTarget | undefined;
  try {
    const tail = input.isStream ? undefined : readInputTail(input);
    const plan = new LoadPlan(input, tail, options);
    requireOtherFile(input, target);
    opened = await openTarget(target, options);
    return await new Load(input, tail, target, opened, plan, threads, options).run();
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    opened?.discard();
    input.close();
  }
}

/** What of the memory is wanted, and where each part goes. */
class LoadPlan {
  readonly regionSizes: readonly number[];
  /** The last region's size is told only at the end of the stream. */
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
    const whole = this.selection.every(
      (part, i) => part === undefined || (part.from === 0 && part.to === this.regionSizes[i]),
    );
    this.proven = !whole ? 'leaves' : options.region === undefined ? 'memory' : 'region';
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

  /** Bytes of the target; `lastRegionBytes` is the true size of an open-ended last region. */
  targetBytes(lastRegionBytes: number): number {
    return this.selection.reduce((sum, part, i) => {
      if (part === undefined) return sum;
      const limit = i === this.selection.length - 1 ? lastRegionBytes : part.to;
      return sum + Math.max(0, Math.min(part.to, limit) - part.from);
    }, 0);
  }
}

function requireOtherFile(input: ImageInput, target: string): void {
  if (input.isStream || target === '-') return;
  const existing = statSync(target, { throwIfNoEntry: false });
  const own = fstatSync(input.fd);
  if (existing?.ino !== own.ino || existing.dev !== own.dev) return;
  throw new VmsnapError('USAGE', `image and target are the same file, ${target}`, {
    path: target,
    hint: 'give the target another name',
  });
}

class Load {
  readonly #input: ImageInput;
  readonly #tail: ImageTail | undefined;
  readonly #target: string;
  readonly #opened: LoadTarget;
  readonly #plan: LoadPlan;
  readonly #threads: number;
  readonly #options: LoadOptions;
  readonly #control: SharedControl;
  readonly #started = performance.now();

  constructor(
    input: ImageInput,
    tail: ImageTail | undefined,
    target: string,
    opened: LoadTarget,
    plan: LoadPlan,
    threads: number,
    options: LoadOptions,
  ) {
    this.#input = input;
    this.#tail = tail;
    this.#target = target;
    this.#opened = opened;
    this.#plan = plan;
    this.#options = options;
    const { pageSize, segmentSize, chunkSize } = input.head.start;
    const geometry = new Geometry(pageSize, segmentSize, chunkSize, plan.regionSizes);
    this.#threads = Math.max(1, Math.min(threads, geometry.segmentCount));
    this.#control = createControl(this.#threads);
  }

  async run(): Promise<LoadResult> {
    const plan = this.#plan;
    const knownBytes = plan.openEnded ? undefined : plan.targetBytes(plan.regionSizes.at(-1)!);
    if (knownBytes !== undefined) this.#opened.resize(knownBytes);
    const unlink = linkSignal(this.#options.signal, this.#control);
    const endReports = reportProgress('load', this.#control, knownBytes, this.#options);
    try {
      const results = await runJobs<ReadWorkerResult>(this.#jobs(), this.#control);
      const tail = this.#tail ?? walkedTail(this.#input, results);
      this.#prove(tail, results);
      const memoryBytes = plan.targetBytes(tail.end.regions.at(-1)!.sizeBytes);
      this.#requireRangeInside(memoryBytes);
      if (knownBytes === undefined) this.#opened.resize(memoryBytes);
      endReports();
      await this.#opened.finish();
      return this.#result(tail, memoryBytes);
    } finally {
      endReports();
      unlink();
    }
  }

  #jobs(): ReadJob[] {
    return createReadJobs(this.#input, this.#tail, this.#control, this.#threads, {
      order: this.#input.isStream ? 'walk' : 'index',
      selection: this.#plan.selection,
      sink: this.#opened.sink,
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
      const part = this.#plan.selection[i];
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

  #result(tail: ImageTail, memoryBytes: number): LoadResult {
    const warnings: Warning[] = [];
    if (tail.end.source.mayHaveChanged) {
      const message = `${this.#input.path} was saved from a source that may have been written meanwhile: its memory may be torn`;
      warnings.push({ code: 'source-may-have-changed', message });
    }
    for (const warning of warnings) this.#options.onWarning?.(warning);
    return {
      target: this.#target,
      memoryBytes,
      dataBytes: sumStat(this.#control, STAT_DATA_BYTES),
      imageBytes: this.#input.isStream ? tail.footer.fileBytes : sumStat(this.#control, STAT_IMAGE_BYTES),
      digest: tail.end.digest,
      proven: this.#plan.proven,
      run: {
        threads: this.#threads,
        durationSeconds: (performance.now() - this.#started) / 1000,
        inPlace: this.#opened.inPlace,
      },
      warnings,
    };
  }
}
