/**
 * `verify`: walks the whole image, byte for byte, and names everything that is damaged.
 *
 * The walk covers what a load does not need (attachments, index blocks, order, padding); each segment record is decoded as a
 * load would and held against its index entry. Damage does not stop it: in a file it goes on behind the damaged place.
 *
 * Of a differential image, every base is walked first, each byte of it once; what a base has of its own bases is not put
 * together for it. Then the image itself is, with all of them, so that its whole memory is proven by its digest.
 */
import { corrupt } from '../formats/vmsnap/corrupt.js';
import type { ImageTail } from '../formats/vmsnap/imageFile.js';
import { readIndexBlock } from '../formats/vmsnap/imageFile.js';
import { decodeIndexEntry } from '../formats/vmsnap/imageIndex.js';
import {
  ATTACHMENT_PART_BYTES,
  INDEX_BLOCK_ENTRIES,
  INDEX_ENTRY_BYTES,
  KIND_ATTACHMENT,
  KIND_INDEX_BLOCK,
} from '../formats/vmsnap/layout.js';
import { imageGeometry } from '../formats/vmsnap/manifest.js';
import { sumHex, sumRegions } from '../formats/vmsnap/memoryDigest.js';
import { type PlainError, VmsnapError } from '../native/errors.js';
import { exactFileStats } from '../native/fileStats.js';
import { abortReason, linkSignal } from './abort.js';
import { closeImages, type OpenedImage, openBases } from './chain.js';
import { type ImageInput, isLocked, openImageInput, readInputTail, recordsEnd } from './imageInput.js';
import { checkLimits } from './limits.js';
import { checkThreads } from './options.js';
import {
  createControl,
  NUMBER_INPUT_RECORDS,
  type SharedControl,
  STAT_DONE_BYTES,
  sumStat,
} from './pipeline/control.js';
import {
  FINDINGS_MAX,
  type MetRecord,
  type ReadJob,
  type ReadWorkerResult,
  type SegmentTotals,
  type WorkerFinding,
} from './pipeline/readJob.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import { createReadJobs, planReadMemory, regionSizes } from './readJobs.js';
import type { Finding, Progress, VerifyOptions, VerifyResult } from './types.js';
import { verifySealed } from './verifySealed.js';
import { walkedTail } from './walkedTail.js';

/**
 * Checks an image, and the bases that it needs.
 * @param image the image file, or `-` for standard input.
 * @returns what was found; damage is a result and no exception. @throws NOT_FOUND, PERMISSION, IO, UNSUPPORTED, USAGE, and
 * BASE_MISMATCH if a base cannot be found, KEY if a key is given that does not fit, or a base needs one.
 */
export async function verify(image: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  const wanted = checkThreads(options.threads);
  const limits = checkLimits(options);
  options.signal?.throwIfAborted();
  const started = performance.now();
  let input: ImageInput;
  try {
    input = await openImageInput(image, options);
  } catch (error) {
    if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
    return headlessResult(image, error, started);
  }
  let bases: readonly OpenedImage[] = [];
  try {
    if (isLocked(input)) return await verifySealed(image, input, options, started);
    bases = await openBases(input, options);
    const threads = planReadMemory(input, undefined, bases, wanted, limits, 0);
    return await verifyChain(image, input, bases, threads, options, started);
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    closeImages(bases);
    input.close();
  }
}

async function verifyChain(
  image: string,
  input: ImageInput,
  bases: readonly OpenedImage[],
  threads: number,
  options: VerifyOptions,
  started: number,
): Promise<VerifyResult> {
  const progress = new ChainProgress([input, ...bases.map((base) => base.input)], options, started);
  const below: VerifyResult[] = [];
  for (const base of [...bases].reverse()) {
    const { path } = base.input;
    const key = knownKey(base.input, base.tail.footer.identity);
    const verified =
      options.known?.get(key) ??
      (await new Verify(path, base.input, undefined, threads, progress.optionsFor(base.input)).run());
    options.known?.set(key, verified);
    below.unshift(verified);
  }
  // Memory that lies in a damaged base cannot be put together; the base's own findings say where it is.
  const sound = below.every((result) => result.intact) && options.structureOnly !== true;
  const own = await new Verify(image, input, sound ? bases : undefined, threads, progress.optionsFor(input)).run();
  if (own.identity !== undefined) options.known?.set(knownKey(input, own.identity), own);
  const all = [own, ...below];
  const sum = (value: (result: VerifyResult) => number) => all.reduce((total, result) => total + value(result), 0);
  return {
    ...own,
    intact: all.every((result) => result.intact),
    findings: all.flatMap((result) => result.findings).slice(0, FINDINGS_MAX),
    findingCount: sum((result) => result.findingCount),
    bases: below.map((result) => ({
      path: result.image,
      identity: result.identity!,
      intact: result.intact,
      findingCount: result.findingCount,
    })),
    checked: {
      records: sum((result) => result.checked.records),
      chunks: sum((result) => result.checked.chunks),
      memoryBytes: own.checked.memoryBytes,
    },
    run: { threads, durationSeconds: (performance.now() - started) / 1000 },
  };
}

/** The open file, whatever its name: one of the same name and identity may be another copy. */
function knownKey(input: ImageInput, identity: string): string {
  const { dev, ino, size, mtimeNs } = exactFileStats(input);
  return [identity, dev, ino, size, mtimeNs].join(':');
}

/** Makes of the progress on each file one on all of them. */
class ChainProgress {
  readonly #options: VerifyOptions;
  readonly #started: number;
  readonly #totalBytes: number | undefined;
  #doneBytes = 0;

  constructor(inputs: readonly ImageInput[], options: VerifyOptions, started: number) {
    this.#options = options;
    this.#started = started;
    this.#totalBytes = inputs.reduce<number | undefined>(
      (sum, { fileBytes }) => (sum === undefined || fileBytes === undefined ? undefined : sum + fileBytes),
      0,
    );
  }

  /** For the file that comes next. */
  optionsFor({ fileBytes }: ImageInput): VerifyOptions {
    const { onProgress } = this.#options;
    const before = this.#doneBytes;
    this.#doneBytes += fileBytes ?? 0;
    if (onProgress === undefined) return this.#options;
    const report = (state: Progress) =>
      onProgress({
        ...state,
        doneBytes: before + state.doneBytes,
        imageBytes: before + state.imageBytes,
        totalBytes: this.#totalBytes,
        elapsedSeconds: (performance.now() - this.#started) / 1000,
      });
    return { ...this.#options, onProgress: report };
  }
}

/** Without a sound head nothing else can be told. */
function headlessResult(image: string, error: VmsnapError, started: number): VerifyResult {
  return {
    image,
    intact: false,
    sealed: false,
    findings: [{ path: image, structure: 'header', offset: error.offset ?? 0, message: error.message }],
    findingCount: 1,
    bases: [],
    imageBytes: 0,
    identity: undefined,
    digest: undefined,
    checked: { records: 0, chunks: 0, memoryBytes: 0 },
    run: { threads: 0, durationSeconds: (performance.now() - started) / 1000 },
  };
}

class Verify {
  readonly #image: string;
  readonly #input: ImageInput;
  readonly #bases: readonly OpenedImage[] | undefined;
  readonly #options: VerifyOptions;
  readonly #started = performance.now();
  readonly #threads: number;
  readonly #control: SharedControl;
  readonly #findings: Finding[] = [];
  #findingCount = 0;

  /** `bases` undefined: what they hold is not wanted. */
  constructor(
    image: string,
    input: ImageInput,
    bases: readonly OpenedImage[] | undefined,
    threads: number,
    options: VerifyOptions,
  ) {
    this.#image = image;
    this.#input = input;
    this.#bases = bases;
    this.#options = options;
    this.#threads = threads;
    this.#control = createControl(threads);
  }

  async run(): Promise<VerifyResult> {
    const tailBefore = this.#tryTail();
    const unlink = linkSignal(this.#options.signal, this.#control);
    const endReports = reportProgress('verify', this.#control, this.#input.fileBytes, this.#options);
    try {
      const results = await runJobs<ReadWorkerResult>(this.#jobs(tailBefore), this.#control);
      for (const finding of results.flatMap((result) => result.findings)) this.#take(finding, tailBefore);
      this.#findingCount += results.reduce((sum, result) => sum + result.findingCount - result.findings.length, 0);
      const tail = this.#checkTail(tailBefore, results);
      if (tail !== undefined) this.#checkAgainstTail(tail, results);
      return this.#result(tail, results);
    } finally {
      endReports();
      unlink();
    }
  }

  /** With a sound tail each record can be held against its index entry; without one the walk says where it breaks. */
  #tryTail(): ImageTail | undefined {
    if (this.#input.isStream) return undefined;
    try {
      return readInputTail(this.#input);
    } catch (error) {
      if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
      return undefined;
    }
  }

  #jobs(tail: ImageTail | undefined): ReadJob[] {
    return createReadJobs(this.#input, tail, this.#bases, this.#control, this.#threads, {
      order: 'walk',
      selection: regionSizes(this.#input, tail).map((size) => ({ from: 0, to: size, targetOffset: 0 })),
      sink: { kind: 'none' },
      collect: true,
      structureOnly: this.#options.structureOnly ?? false,
    });
  }

  #take(finding: WorkerFinding, tail: ImageTail | undefined): void {
    const { segment } = finding;
    const geometry = tail?.geometry ?? imageGeometry(this.#input.head.start, undefined);
    if (segment === undefined || segment >= geometry.segmentCount) {
      this.#note(finding.structure, finding.error);
      return;
    }
    const place = geometry.placeOf(segment);
    const ranges = finding.ranges ?? [{ offset: 0, length: place.sizeBytes }];
    this.#note(finding.structure, finding.error, {
      region: this.#input.head.start.regions[place.region]!.name,
      segment,
      ranges: ranges.map(({ offset, length }) => ({ offset: place.regionOffset + offset, length })),
    });
  }

  #note(structure: string, error: PlainError, place: Partial<Finding> = {}): void {
    this.#findingCount++;
    if (this.#findings.length >= FINDINGS_MAX) return;
    const path = error.path ?? this.#image;
    this.#findings.push({ path, structure, offset: error.offset ?? 0, message: error.message, ...place });
  }

  /** The tail that the walk met must be sound; in a file it is the one that was read from the end. */
  #checkTail(tailBefore: ImageTail | undefined, results: readonly ReadWorkerResult[]): ImageTail | undefined {
    try {
      const walked = walkedTail(this.#input, results);
      return tailBefore ?? walked;
    } catch (error) {
      if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
      this.#note('footer', error.toPlain());
      return tailBefore;
    }
  }

  #checkAgainstTail(tail: ImageTail, results: readonly ReadWorkerResult[]): void {
    const { path } = this.#input;
    const records = this.#control.numbers[NUMBER_INPUT_RECORDS]!;
    // Where records are damaged their number is off as well; that is no finding of its own.
    if (this.#findingCount === 0 && records !== tail.footer.recordCount) {
      this.#note(
        'footer',
        corrupt(path, tail.footer.fileBytes, `there are ${records} records, not ${tail.footer.recordCount}`),
      );
    }
    this.#checkIndex(tail, results);
    this.#checkAttachments(tail, results);
    if (this.#findingCount === 0) this.#checkTotals(tail, results);
    const isWhole = this.#input.head.start.base === undefined || this.#bases !== undefined;
    if (isWhole && !this.#options.structureOnly && this.#findingCount === 0) this.#checkDigest(tail, results);
  }

  #checkIndex(tail: ImageTail, results: readonly ReadWorkerResult[]): void {
    const { path, isStream } = this.#input;
    const blocks = results.flatMap((result) => result.others).filter(([kind]) => kind === KIND_INDEX_BLOCK);
    const listed = tail.indexList.filter((entry) => entry.offset !== 0).length;
    for (const [, block, offset, crc] of blocks) {
      const place = tail.indexList[block];
      if (place?.offset === offset && place.prefixCrc === crc) continue;
      this.#note('index', corrupt(path, offset, `index block ${block} is not the one that the index list names`));
    }
    if (this.#findingCount > 0 || isStream) return;
    if (blocks.length !== listed)
      this.#note('index', corrupt(path, tail.footer.indexListOffset, 'the index list names a block that is not there'));
    const met = results.reduce((sum, result) => sum + result.segmentRecords, 0);
    try {
      const named = this.#countEntries(tail);
      if (named === met) return;
      throw corrupt(path, tail.footer.indexListOffset, `the index names ${named} records, there are ${met}`);
    } catch (error) {
      if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
      this.#note('index', error);
    }
  }

  /** What the end manifest says of pages and chunks must be what the records have. */
  #checkTotals(tail: ImageTail, results: readonly ReadWorkerResult[]): void {
    const sum = (key: keyof SegmentTotals) => results.reduce((total, { totals }) => total + totals[key], 0);
    const { pages, chunks } = tail.end;
    // Without a base, pages without a record are zero; with one, they are the same as its own.
    const { base } = this.#input.head.start;
    const spread = base === undefined ? pages.sameAsBase === 0 : pages.zero === sum('zeroPages');
    const right =
      pages.data === sum('dataPages') &&
      pages.uniform === sum('uniformPages') &&
      pages.absent === sum('absentPages') &&
      pages.reference === sum('referencePages') &&
      spread &&
      chunks.count === sum('chunks') &&
      chunks.stored === sum('storedBytes') &&
      chunks.raw === sum('rawChunks');
    if (right) return;
    const message = 'end manifest: its counts of pages and chunks are not those of the records';
    this.#note('end', corrupt(this.#input.path, tail.footer.endOffset, message));
  }

  /** Entries of the whole index that name a record. @throws CORRUPT if a block or an entry is not sound. */
  #countEntries(tail: ImageTail): number {
    let named = 0;
    const { head, path } = this.#input;
    for (const [block, place] of tail.indexList.entries()) {
      const loaded = readIndexBlock(
        this.#input,
        head,
        block,
        place,
        tail.geometry.segmentCount,
        recordsEnd(this.#input),
      );
      const count = (loaded?.entries.length ?? 0) / INDEX_ENTRY_BYTES;
      for (let slot = 0; slot < count && slot < INDEX_BLOCK_ENTRIES; slot++) {
        if (decodeIndexEntry(loaded!.entries, slot, path, loaded!.entriesAt).offset !== 0) named++;
      }
    }
    return named;
  }

  /** The parts that the walk met must add up to the attachments of the end manifest. */
  #checkAttachments(tail: ImageTail, results: readonly ReadWorkerResult[]): void {
    const parts = results.flatMap((result) => result.others).filter(([kind]) => kind === KIND_ATTACHMENT);
    const byNumber = groupParts(parts);
    for (const [number, attachment] of tail.end.attachments.entries()) {
      const own = byNumber.get(number) ?? [];
      const bytes = own.reduce((sum, part) => sum + part[4], 0);
      const first = own[0]?.[2] ?? 0;
      const full = own.slice(0, -1).every((part) => part[4] === ATTACHMENT_PART_BYTES);
      const counted = own.every((part, i) => part[5] === i);
      if (bytes === attachment.sizeBytes && first === attachment.offset && full && counted) continue;
      this.#note(
        'attachment',
        corrupt(this.#input.path, attachment.offset, `attachment "${attachment.name}" is not whole`),
      );
    }
    const stray = parts.find(([, subject]) => subject >= tail.end.attachments.length);
    if (stray !== undefined)
      this.#note(
        'attachment',
        corrupt(this.#input.path, stray[2], 'an attachment that the end manifest does not name'),
      );
  }

  #checkDigest(tail: ImageTail, results: readonly ReadWorkerResult[]): void {
    const sums = sumRegions(
      results.map((result) => result.sums),
      tail.end.regions.length,
    );
    for (const [i, region] of tail.end.regions.entries()) {
      if (sumHex(sums, i) === region.sum) continue;
      const name = this.#input.head.start.regions[i]!.name;
      this.#note(
        'digest',
        corrupt(this.#input.path, tail.footer.endOffset, `region ${name}: the memory does not match its digest`),
        {
          region: name,
        },
      );
    }
  }

  #result(tail: ImageTail | undefined, results: readonly ReadWorkerResult[]): VerifyResult {
    return {
      image: this.#image,
      intact: this.#findingCount === 0,
      sealed: false,
      bases: [],
      findings: this.#findings.sort((a, b) => a.offset - b.offset),
      findingCount: this.#findingCount,
      imageBytes: this.#input.fileBytes ?? tail?.footer.fileBytes ?? 0,
      identity: tail?.footer.identity,
      digest: tail?.end.digest,
      checked: {
        records: this.#control.numbers[NUMBER_INPUT_RECORDS]!,
        chunks: results.reduce((sum, result) => sum + result.chunks, 0),
        memoryBytes: sumStat(this.#control, STAT_DONE_BYTES),
      },
      run: { threads: this.#threads, durationSeconds: (performance.now() - this.#started) / 1000 },
    };
  }
}

/** The parts of each attachment, in the order of the file. */
function groupParts(parts: readonly MetRecord[]): Map<number, MetRecord[]> {
  const groups = new Map<number, MetRecord[]>();
  for (const part of [...parts].sort((a, b) => a[2] - b[2])) {
    const group = groups.get(part[1]);
    if (group === undefined) groups.set(part[1], [part]);
    else group.push(part);
  }
  return groups;
}
