/**
 * `salvage`: of a damaged image, every page that is whole, and a list of those that are not.
 *
 * Where the end of the image and its index are sound, the index says what every segment is: a load that goes on after
 * damage. Where they are not (an image that was cut off, the temporary file of a killed save), the records are walked, past
 * damaged places, to the end of the file. Each record names the stored segment before it, so also there it is known which
 * segments had no record; all others that were not met are lost.
 *
 * Nothing is guessed. A page is written if its record's tables and its chunk have their checksums, and its leaf its digest if
 * all of that leaf could be read; every other page is a hole, and listed.
 */
import { Geometry } from '../formats/vmsnap/geometry.js';
import { type ImageTail, mayOverride, readIndexBlock } from '../formats/vmsnap/imageFile.js';
import { decodeIndexEntry } from '../formats/vmsnap/imageIndex.js';
import { INDEX_ENTRY_BYTES } from '../formats/vmsnap/layout.js';
import { imageGeometry } from '../formats/vmsnap/manifest.js';
import { sumHex, sumRegions } from '../formats/vmsnap/memoryDigest.js';
import { VmsnapError } from '../native/errors.js';
import { namedFileStats } from '../native/fileStats.js';
import { abortReason, linkSignal } from './abort.js';
import { closeImages, type OpenedImage, openBases } from './chain.js';
import { type ImageInput, openImageInput, readInputTail, recordsEnd, requireUnlocked } from './imageInput.js';
import { checkLimits, pacerFor, peakMemoryBytes } from './limits.js';
import { checkThreads, usage } from './options.js';
import { requireOtherFile } from './otherFile.js';
import {
  createControl,
  NUMBER_INPUT_PREVIOUS_SEGMENT,
  NUMBER_INPUT_SEGMENTS_END,
  NUMBER_LAST_REGION_BYTES,
  type SharedControl,
  STAT_ABSENT_PAGES,
  STAT_DATA_BYTES,
  STAT_IMAGE_BYTES,
  sumStat,
} from './pipeline/control.js';
import { LostMemory, mergeSpans } from './pipeline/lostMemory.js';
import type { LostSpan, ReadJob, ReadWorkerResult } from './pipeline/readJob.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import { createReadJobs, isOpenEnded, planReadMemory, regionSizes } from './readJobs.js';
import { isStreamTarget, type LoadTarget, openTarget } from './target.js';
import type { RunLimits, SalvageOptions, SalvageResult, Warning } from './types.js';
import { walkedTail } from './walkedTail.js';

/**
 * Brings back what can be brought back. The target has the size of the memory and gets its name also where pages are lost.
 * @param image the image file. @param target a new file; regions stand in it end to end.
 * @returns what was lost: nothing is only if `lost` is empty.
 * @throws CORRUPT if the head of the image is damaged: nothing can be told then. UNSUPPORTED if what the image says last of its
 * memory cannot be told. BASE_MISMATCH, CORRUPT if a base cannot be used. EXISTS, USAGE, NO_SPACE, ...
 */
export async function salvage(image: string, target: string, options: SalvageOptions = {}): Promise<SalvageResult> {
  const threads = checkThreads(options.threads);
  options.signal?.throwIfAborted();
  const input = await openImageInput(image, options);
  let opened: LoadTarget | undefined;
  let bases: readonly OpenedImage[] = [];
  try {
    requireFiles(input, target);
    requireUnlocked(input);
    requireOtherFile(input, target);
    const tail = usableTail(input);
    if (tail === undefined) requireOneRecordEach(input);
    bases = await openBases(input, options);
    for (const base of bases) requireOtherFile(base.input, target);
    opened = await openTarget(target, options);
    if (opened.inPlace) throw usage('a salvage makes a new file', 'give the name of a file in an ordinary folder');
    return await new Salvage(input, tail, bases, target, opened, threads, options).run();
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    opened?.discard();
    closeImages(bases);
    input.close();
  }
}

function requireFiles(input: ImageInput, target: string): void {
  if (input.isStream) throw usage(`${input.path} cannot be read again`, 'put the image into a file');
  const isDevice = target !== '-' && namedFileStats(target)?.isBlockDevice() === true;
  if (isDevice || isStreamTarget(target)) throw usage('a salvage makes a new file', 'give the name of one as TARGET');
}

/** The end of the image, if it and every index block are sound. */
function usableTail(input: ImageInput): ImageTail | undefined {
  try {
    const tail = readInputTail(input);
    requireSoundIndex(input, tail);
    return tail;
  } catch (error) {
    if (error instanceof VmsnapError && error.code === 'CORRUPT') return undefined;
    throw error;
  }
}

function requireSoundIndex(input: ImageInput, tail: ImageTail): void {
  const { head, path } = input;
  for (const [block, place] of tail.indexList.entries()) {
    const loaded = readIndexBlock(input, head, block, place, tail.geometry.segmentCount, recordsEnd(input));
    const count = (loaded?.entries.length ?? 0) / INDEX_ENTRY_BYTES;
    for (let slot = 0; slot < count; slot++) decodeIndexEntry(loaded!.entries, slot, path, loaded!.entriesAt);
  }
}

/** A record that is lost may have stood for a segment of which an older one is still there. */
function requireOneRecordEach(input: ImageInput): void {
  if (!mayOverride(input.head.header)) return;
  const message = `the end or the index of ${input.path} is damaged, and its segments may have several records: which is the last cannot be told`;
  throw new VmsnapError('UNSUPPORTED', message, { path: input.path, hint: 'restore the image from another copy' });
}

class Salvage {
  readonly #input: ImageInput;
  /** Undefined: the records are walked. */
  readonly #tail: ImageTail | undefined;
  readonly #bases: readonly OpenedImage[];
  readonly #target: string;
  readonly #opened: LoadTarget;
  readonly #threads: number;
  readonly #options: SalvageOptions;
  readonly #control: SharedControl;
  readonly #limits: RunLimits;
  readonly #openEnded: boolean;
  /** Of the memory as far as it is known before the walk. */
  readonly #sizes: readonly number[];
  readonly #warnings: Warning[] = [];
  readonly #started = performance.now();

  constructor(
    input: ImageInput,
    tail: ImageTail | undefined,
    bases: readonly OpenedImage[],
    target: string,
    opened: LoadTarget,
    threads: number,
    options: SalvageOptions,
  ) {
    this.#input = input;
    this.#tail = tail;
    this.#bases = bases;
    this.#target = target;
    this.#opened = opened;
    this.#limits = checkLimits(options);
    // Pages that are left out are taken out of a copy.
    this.#threads = planReadMemory(input, tail, bases, threads, this.#limits, 1);
    this.#options = options;
    this.#control = createControl(this.#threads, pacerFor(this.#limits));
    this.#openEnded = isOpenEnded(input, tail);
    this.#sizes = regionSizes(input, tail);
  }

  async run(): Promise<SalvageResult> {
    const knownBytes = this.#openEnded ? undefined : sum(this.#sizes);
    if (knownBytes !== undefined) this.#opened.resize(knownBytes);
    const unlink = linkSignal(this.#options.signal, this.#control);
    const endReports = reportProgress('load', this.#control, knownBytes, this.#options);
    try {
      const results = await runJobs<ReadWorkerResult>(this.#jobs(), this.#control);
      const sizes = this.#finalSizes(results);
      const lost = this.#lostSpans(results, sizes);
      if (knownBytes === undefined) this.#opened.resize(sum(sizes));
      endReports();
      await this.#opened.finish();
      return this.#result(results, sizes, lost);
    } finally {
      endReports();
      unlink();
    }
  }

  #jobs(): ReadJob[] {
    let targetOffset = 0;
    const selection = this.#sizes.map((size) => {
      const part = { from: 0, to: size, targetOffset };
      targetOffset += size;
      return part;
    });
    return createReadJobs(this.#input, this.#tail, this.#bases, this.#control, this.#threads, {
      order: this.#tail === undefined ? 'walk' : 'index',
      selection,
      sink: this.#opened.sink,
      collect: true,
      structureOnly: false,
      salvage: true,
    });
  }

  /** A last region whose end is lost reaches as far as anything is known of it. */
  #finalSizes(results: readonly ReadWorkerResult[]): readonly number[] {
    if (!this.#openEnded) return this.#sizes;
    const told = this.#control.numbers[NUMBER_LAST_REGION_BYTES]!;
    return [...this.#sizes.slice(0, -1), told > 0 ? told : this.#metBytes(results)];
  }

  #metBytes(results: readonly ReadWorkerResult[]): number {
    const { pageSize } = this.#input.head.start;
    const geometry = imageGeometry(this.#input.head.start, undefined);
    const region = geometry.regions.at(-1)!;
    const ends = results.flatMap(({ openSegments: { last }, lost }) => [
      ...(last === undefined ? [] : [geometry.placeOf(last.segment).regionOffset + last.pageCount * pageSize]),
      ...lost.filter((span) => span.region === region.number).map((span) => span.offset + span.length),
    ]);
    this.#warnings.push({
      code: 'size-unknown',
      message: `${this.#input.path} ends before it tells the size of its memory: what comes after the last record is not known`,
    });
    return ends.reduce((most, end) => Math.max(most, end), 0);
  }

  #lostSpans(results: readonly ReadWorkerResult[], sizes: readonly number[]): LostSpan[] {
    const spans = mergeSpans([...results.flatMap(({ lost }) => lost), ...this.#unreached(sizes)]);
    return spans
      .map((span) => ({ ...span, length: Math.min(span.length, sizes[span.region]! - span.offset) }))
      .filter(({ length }) => length > 0);
  }

  /** What comes after the last record of a walk that did not meet the end. */
  #unreached(sizes: readonly number[]): readonly LostSpan[] {
    if (this.#tail !== undefined || this.#openEnded) return [];
    const { numbers } = this.#control;
    const { pageSize, segmentSize, chunkSize } = this.#input.head.start;
    const geometry = new Geometry(pageSize, segmentSize, chunkSize, sizes);
    const reached = Math.max(numbers[NUMBER_INPUT_PREVIOUS_SEGMENT]! + 1, numbers[NUMBER_INPUT_SEGMENTS_END]!);
    const behind = new LostMemory(geometry);
    behind.addSegments(reached, geometry.segmentCount);
    return behind.spans;
  }

  #result(results: readonly ReadWorkerResult[], sizes: readonly number[], lost: readonly LostSpan[]): SalvageResult {
    const tail = this.#tail ?? this.#metTail(results);
    const { regions: heads } = this.#input.head.start;
    const proven = this.#provenRegions(tail, results);
    const regions = sizes.map((sizeBytes, i) => {
      const lostBytes = sum(lost.filter(({ region }) => region === i).map(({ length }) => length));
      return { name: heads[i]!.name, sizeBytes, lostBytes, proven: lostBytes === 0 && proven[i] === true };
    });
    const memoryBytes = sum(sizes);
    const lostBytes = sum(regions.map((region) => region.lostBytes));
    this.#warn(tail, regions, results);
    return {
      image: this.#input.path,
      target: this.#target,
      way: this.#tail === undefined ? 'walk' : 'index',
      memoryBytes,
      wholeBytes: memoryBytes - lostBytes,
      lostBytes,
      lost: lost.map(({ region, offset, length }) => ({ region: heads[region]!.name, offset, length })),
      regions,
      dataBytes: sumStat(this.#control, STAT_DATA_BYTES),
      absentPages: sumStat(this.#control, STAT_ABSENT_PAGES),
      imageBytes: sumStat(this.#control, STAT_IMAGE_BYTES),
      bases: this.#bases.map(({ input }) => input.path),
      digest: tail?.end.digest,
      run: {
        threads: this.#threads,
        limits: this.#limits,
        peakMemoryBytes: peakMemoryBytes(),
        durationSeconds: (performance.now() - this.#started) / 1000,
      },
      warnings: this.#warnings,
    };
  }

  #metTail(results: readonly ReadWorkerResult[]): ImageTail | undefined {
    try {
      return walkedTail(this.#input, results);
    } catch (error) {
      if (error instanceof VmsnapError && error.code === 'CORRUPT') return undefined;
      throw error;
    }
  }

  /** Of each region: whether its digest is that of what was read; undefined where no digest is left. */
  #provenRegions(tail: ImageTail | undefined, results: readonly ReadWorkerResult[]): readonly (boolean | undefined)[] {
    const sums = sumRegions(
      results.map((result) => result.sums),
      this.#sizes.length,
    );
    return this.#sizes.map((_, i) => tail && sumHex(sums, i) === tail.end.regions[i]!.sum);
  }

  #warn(tail: ImageTail | undefined, regions: SalvageResult['regions'], results: readonly ReadWorkerResult[]): void {
    const { path } = this.#input;
    const wrong = regions.filter(({ lostBytes, proven }) => tail !== undefined && lostBytes === 0 && !proven);
    for (const { name } of wrong)
      this.#add('digest-wrong', `region ${name}: no damage was found, but the memory does not match its digest`);
    const isDamaged = this.#tail === undefined || results.some(({ findingCount }) => findingCount > 0);
    if (isDamaged) this.#add('image-damaged', `${path} is damaged; "vmsnap verify" tells where`);
    if (tail?.end.source.mayHaveChanged === true)
      this.#add('source-may-have-changed', `${path} was saved from a source that may have been written meanwhile`);
    const absentPages = sumStat(this.#control, STAT_ABSENT_PAGES);
    if (absentPages > 0)
      this.#add('absent-pages', `${path} does not know the contents of ${absentPages} pages: they are zero now`);
  }

  #add(code: string, message: string): void {
    const warning: Warning = { code, message };
    this.#warnings.push(warning);
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
