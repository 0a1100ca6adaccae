/**
 * `save`: a source in, one image out.
 *
 * Opens and checks everything first, so that a mistake costs nothing; lets the workers scan, compress and write
 * (pipeline/); then writes attachments, end manifest, index list and footer, syncs, reads the footer back and renames.
 */
import { fstatSync, statSync } from 'node:fs';
import { encodeFooter, imageBinding, imageIdentity } from '../formats/vmsnap/footer.js';
import { Geometry } from '../formats/vmsnap/geometry.js';
import { encodeHeader } from '../formats/vmsnap/header.js';
import { readExactly, readHead, readTail } from '../formats/vmsnap/imageFile.js';
import { encodeIndexList } from '../formats/vmsnap/imageIndex.js';
import {
  alignmentOf,
  FOOTER_BYTES,
  FORMAT_VERSION,
  HEADER_BYTES,
  KIND_END,
  KIND_INDEX_LIST,
  roundUp,
} from '../formats/vmsnap/layout.js';
import {
  type EndManifest,
  encodeEndManifest,
  encodeStartManifest,
  type PageCounts,
  type StartManifest,
} from '../formats/vmsnap/manifest.js';
import { memoryDigest, sumHex, sumRegions } from '../formats/vmsnap/memoryDigest.js';
import { native } from '../native/binding.js';
import { VmsnapError } from '../native/errors.js';
import { abortReason, linkSignal } from './abort.js';
import { closeAttachments, type OpenedAttachment, openAttachments, storeAttachments } from './attachments.js';
import { ReplacementFile } from './files/replacementFile.js';
import { SourceGuard } from './files/sourceGuard.js';
import { checkSaveOptions, type SaveSettings } from './options.js';
import { CommitLine, type CommitShared, createCommitShared, type OutputDescription } from './pipeline/commitLine.js';
import {
  createControl,
  NUMBER_CHUNKS,
  NUMBER_CHUNKS_RAW,
  NUMBER_CHUNKS_STORED,
  NUMBER_OUTPUT_OFFSET,
  NUMBER_OUTPUT_RECORDS,
  NUMBER_PAGES_DATA,
  NUMBER_PAGES_UNIFORM,
  type SharedControl,
  STAT_DONE_BYTES,
  STAT_HOLE_BYTES,
  STAT_READ_BYTES,
  sumStat,
} from './pipeline/control.js';
import { OPEN_ENDED_BYTES } from './pipeline/readJob.js';
import {
  OUTPUT_BUFFERS_PER_WORKER,
  outputBufferBytes,
  type SaveJob,
  type SaveWorkerResult,
} from './pipeline/saveWorker.js';
import type { Job } from './pipeline/worker.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import { type OpenedSource, openSource } from './source.js';
import type { SaveOptions, SaveResult, Warning } from './types.js';
import { version } from './version.js';

const STDOUT_FD = 1;

/**
 * Saves memory into an image.
 * @param source a memory file, a block device, `-` for standard input; undefined if every region names its file.
 * @param image the image file, or `-` for standard output.
 * @throws VmsnapError; the image's name is then as it was before.
 */
export async function save(source: string | undefined, image: string, options: SaveOptions = {}): Promise<SaveResult> {
  const settings = checkSaveOptions(options);
  options.signal?.throwIfAborted();
  const opened = openSource(source, options, settings.pageSize);
  let attachments: readonly OpenedAttachment[] = [];
  let file: ReplacementFile | undefined;
  try {
    attachments = openAttachments(options.attachments ?? []);
    if (image !== '-') {
      requireOtherFile(opened.guarded, 'source', image);
      requireOtherFile(attachments, 'attachment', image);
      file = ReplacementFile.open(image, { what: 'image', force: options.force ?? false });
    }
    return await new Save(image, options, settings, opened, attachments, file).run();
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    file?.discard();
    closeAttachments(attachments);
    opened.close();
  }
}

/** An image that replaces its own source would leave the machine without memory. */
function requireOtherFile(inputs: readonly { readonly fd: number }[], what: string, image: string): void {
  const target = statSync(image, { throwIfNoEntry: false });
  if (target === undefined) return;
  for (const { fd } of inputs) {
    const stats = fstatSync(fd);
    if (stats.ino !== target.ino || stats.dev !== target.dev) continue;
    throw new VmsnapError('USAGE', `${what} and image are the same file, ${image}`, {
      path: image,
      hint: 'give the image another name',
    });
  }
}

/** A save whose last byte is written, but not yet synced. */
interface Finished {
  readonly manifest: EndManifest;
  readonly geometry: Geometry;
  readonly identity: string;
  readonly footer: Buffer;
  readonly imageBytes: number;
}

class Save {
  readonly #image: string;
  readonly #options: SaveOptions;
  readonly #settings: SaveSettings;
  readonly #source: OpenedSource;
  readonly #attachments: readonly OpenedAttachment[];
  readonly #file: ReplacementFile | undefined;
  readonly #started = performance.now();
  readonly #warnings: Warning[] = [];
  readonly #control: SharedControl;
  readonly #start: StartManifest;
  readonly #alignmentBytes: number;
  readonly #openEnded: boolean;
  /** With a stand-in for the size of a region that is not known yet. */
  readonly #geometry: Geometry;

  constructor(
    image: string,
    options: SaveOptions,
    settings: SaveSettings,
    source: OpenedSource,
    attachments: readonly OpenedAttachment[],
    file: ReplacementFile | undefined,
  ) {
    this.#image = image;
    this.#options = options;
    this.#settings = settings;
    this.#source = source;
    this.#attachments = attachments;
    this.#file = file;
    this.#control = createControl(settings.threads + 1);
    const { pageSize, segmentSize, chunkSize, codec, labels, createdAt } = settings;
    this.#start = {
      tool: `vmsnap ${version}`,
      createdAt,
      pageSize,
      segmentSize,
      chunkSize,
      codec,
      machine: { name: options.name, uuid: options.uuid },
      labels,
      source: source.manifest,
      regions: source.regions,
    };
    this.#alignmentBytes = alignmentOf(codec.name);
    this.#openEnded = source.regions.at(-1)!.sizeBytes === undefined;
    const sizes = source.regions.map((region) => region.sizeBytes ?? OPEN_ENDED_BYTES);
    this.#geometry = new Geometry(pageSize, segmentSize, chunkSize, sizes);
    if (!this.#openEnded && !this.#geometry.withinLimits) {
      throw new VmsnapError('USAGE', 'the memory has more segments than an image can hold', {
        hint: 'use a larger --segment-size',
      });
    }
  }

  async run(): Promise<SaveResult> {
    const head = this.#encodeHead();
    const output: OutputDescription = {
      fd: this.#file?.fd ?? STDOUT_FD,
      path: this.#file === undefined ? 'standard output' : this.#image,
      isStream: this.#file === undefined,
      binding: imageBinding(head),
      alignmentBytes: this.#alignmentBytes,
    };
    const shared = this.#createShared(output);
    const line = new CommitLine(shared);
    line.start(head.length, head.readUInt32LE(60));
    const unlink = linkSignal(this.#options.signal, this.#control);
    const guard = new SourceGuard(this.#source.guarded, this.#options.frozen ?? false, (warning) =>
      this.#warn(warning),
    );
    const endReports = reportProgress(
      'save',
      this.#control,
      this.#openEnded ? undefined : this.#geometry.totalBytes,
      this.#options,
    );
    try {
      line.write(head, 0);
      const results = await this.#runWorkers(shared);
      const mayHaveChanged = guard.finish();
      const end = await this.#finish(line, head, results, mayHaveChanged);
      endReports();
      await this.#file?.publish(() => this.#readBack(head, end.footer, end.geometry));
      return this.#result(end, results);
    } finally {
      endReports();
      guard.close();
      unlink();
    }
  }

  #encodeHead(): Buffer {
    const json = encodeStartManifest(this.#start);
    const bytes = Buffer.alloc(roundUp(HEADER_BYTES + json.length, this.#alignmentBytes));
    json.copy(bytes, HEADER_BYTES);
    const header = encodeHeader({
      readVersion: FORMAT_VERSION,
      writeVersion: FORMAT_VERSION,
      alignmentBytes: this.#alignmentBytes,
      compatibleFeatures: 0n,
      incompatibleFeatures: 0n,
      manifestBytes: json.length,
      manifestCrc: native.crc32c(bytes, HEADER_BYTES, bytes.length - HEADER_BYTES, 0),
    });
    header.copy(bytes);
    return bytes;
  }

  get #threads(): number {
    // More threads than segments would only be started and stopped.
    return Math.max(1, Math.min(this.#settings.threads, this.#geometry.segmentCount));
  }

  #createShared(output: OutputDescription): CommitShared {
    return createCommitShared(
      this.#control,
      output,
      this.#openEnded ? undefined : this.#geometry.indexBlockCount,
      this.#threads * OUTPUT_BUFFERS_PER_WORKER,
      outputBufferBytes(this.#geometry, this.#alignmentBytes),
    );
  }

  async #runWorkers(shared: CommitShared): Promise<SaveWorkerResult[]> {
    const { pageSize, segmentSize, chunkSize, codec, detector } = this.#settings;
    const jobs: Job[] = Array.from(
      { length: this.#threads },
      (_, worker): SaveJob => ({
        kind: 'save',
        worker,
        commit: shared,
        source: this.#source.description,
        pageSize,
        segmentSize,
        chunkSize,
        regionSizes: this.#geometry.regions.map((region) => region.sizeBytes),
        codec,
        detector,
      }),
    );
    const gunzip = this.#source.takeGunzip();
    if (gunzip !== undefined) jobs.push({ kind: 'gunzip', control: this.#control, ...gunzip });
    const results = await runJobs<SaveWorkerResult>(jobs, this.#control);
    return results.slice(0, this.#threads);
  }

  async #finish(
    line: CommitLine,
    head: Buffer,
    results: readonly SaveWorkerResult[],
    mayHaveChanged: boolean,
  ): Promise<Finished> {
    const { numbers } = this.#control;
    const sizes = this.#trueSizes();
    const { pageSize, segmentSize, chunkSize } = this.#settings;
    const geometry = new Geometry(pageSize, segmentSize, chunkSize, sizes);
    const indexList = line.finishIndex(geometry.segmentCount);
    const attachments = await storeAttachments(
      this.#attachments,
      line,
      this.#settings.codec,
      this.#alignmentBytes,
      this.#options.signal,
    );
    const sums = sumRegions(
      results.map((result) => result.sums),
      sizes.length,
    );
    const regions = sizes.map((sizeBytes, i) => ({ sizeBytes, sum: sumHex(sums, i) }));
    const manifest: EndManifest = {
      regions,
      digest: memoryDigest(regions),
      pages: this.#pageCounts(geometry),
      chunks: {
        count: numbers[NUMBER_CHUNKS]!,
        stored: numbers[NUMBER_CHUNKS_STORED]!,
        raw: numbers[NUMBER_CHUNKS_RAW]!,
      },
      source: { mayHaveChanged },
      attachments,
    };
    const endRecord = line.append(KIND_END, 0, 1, encodeEndManifest(manifest));
    const listRecord = line.append(KIND_INDEX_LIST, 0, indexList.length, encodeIndexList(indexList));
    const footerOffset = numbers[NUMBER_OUTPUT_OFFSET]!;
    const identity = imageIdentity(head, endRecord.bytes, listRecord.bytes);
    const footer = encodeFooter({
      fileBytes: footerOffset + FOOTER_BYTES,
      endOffset: endRecord.offset,
      indexListOffset: listRecord.offset,
      segmentCount: geometry.segmentCount,
      recordCount: numbers[NUMBER_OUTPUT_RECORDS]!,
      binding: imageBinding(head),
      chain: listRecord.crc,
      identity,
    });
    line.write(footer, footerOffset);
    return { manifest, geometry, identity, footer, imageBytes: footerOffset + FOOTER_BYTES };
  }

  /** The size of an open-ended region is what the workers have seen of it. */
  #trueSizes(): number[] {
    if (!this.#openEnded) return this.#geometry.regions.map((region) => region.sizeBytes);
    const known = this.#geometry.regions.slice(0, -1).map((region) => region.sizeBytes);
    const done = sumStat(this.#control, STAT_DONE_BYTES);
    return [...known, done - known.reduce((sum, sizeBytes) => sum + sizeBytes, 0)];
  }

  #pageCounts(geometry: Geometry): PageCounts {
    const data = this.#control.numbers[NUMBER_PAGES_DATA]!;
    const uniform = this.#control.numbers[NUMBER_PAGES_UNIFORM]!;
    const zero = geometry.totalBytes / geometry.pageSize - data - uniform;
    return { zero, data, uniform, reference: 0, sameAsBase: 0, absent: 0 };
  }

  /** What is about to get the final name must open as the image that was meant. */
  #readBack(head: Buffer, footer: Buffer, geometry: Geometry): void {
    const file = { fd: this.#file!.fd, path: this.#image };
    const readHeadBack = readHead(file);
    const tail = readTail(file, readHeadBack);
    const offset = tail.footer.fileBytes - FOOTER_BYTES;
    const same =
      readHeadBack.bytes.equals(head) &&
      tail.geometry.segmentCount === geometry.segmentCount &&
      readExactly(file, offset, FOOTER_BYTES, 'the footer').equals(footer);
    if (!same)
      throw new VmsnapError('IO', `${this.#image} does not read back as it was written`, { path: this.#image });
  }

  #warn(warning: Warning): void {
    this.#warnings.push(warning);
    this.#options.onWarning?.(warning);
  }

  #result(end: Finished, results: readonly SaveWorkerResult[]): SaveResult {
    const { manifest, identity, imageBytes, geometry } = end;
    return {
      image: this.#image,
      identity,
      memoryBytes: geometry.totalBytes,
      imageBytes,
      pages: manifest.pages,
      pageSize: geometry.pageSize,
      regions: this.#start.regions.map(({ name, gpa }, i) => ({
        name,
        gpa,
        sizeBytes: manifest.regions[i]!.sizeBytes,
      })),
      chunks: manifest.chunks,
      digest: manifest.digest,
      codec: this.#settings.codec.name,
      level: this.#settings.codec.level,
      sourceMayHaveChanged: manifest.source.mayHaveChanged,
      attachments: manifest.attachments.length,
      run: {
        detector: results[0]!.detector,
        threads: this.#threads,
        durationSeconds: (performance.now() - this.#started) / 1000,
        readBytes: sumStat(this.#control, STAT_READ_BYTES),
        holeBytes: sumStat(this.#control, STAT_HOLE_BYTES),
        sweptFiles: this.#file?.sweptFiles ?? 0,
      },
      warnings: this.#warnings,
    };
  }
}
