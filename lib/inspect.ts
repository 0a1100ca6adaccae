/**
 * `inspect`: what an image says about itself, from header, manifests and index alone. No memory is read, so it takes
 * milliseconds for an image of any size. Of a differential image, its bases are looked into as well, as far as they are found.
 */
import type { Stats } from 'node:fs';
import type { Footer } from '../formats/vmsnap/footer.js';
import type { Geometry } from '../formats/vmsnap/geometry.js';
import { type ImageTail, readIndexBlock, readSealedFooter } from '../formats/vmsnap/imageFile.js';
import { decodeIndexEntry, type IndexEntry } from '../formats/vmsnap/imageIndex.js';
import { FEATURE_NAMES, INDEX_BLOCK_ENTRIES, INDEX_ENTRY_BYTES, PREFIX_BYTES } from '../formats/vmsnap/layout.js';
import { VmsnapError } from '../native/errors.js';
import { openFileStats } from '../native/fileStats.js';
import { closeImages, findBases, type OpenedImage } from './chain.js';
import { recipientKinds } from './encryption/recipientKinds.js';
import { openImage } from './image.js';
import { type ImageInput, isLocked, openImageInput, readInputTail, recordsEnd } from './imageInput.js';
import { MACHINE_ATTACHMENT } from './qemu/machineDescription.js';
import { readMachineSummary } from './qemu/readDescription.js';
import { type RestoreCost, restoreCosts } from './restoreCost.js';
import type { ChainReport, HeatCell, InspectOptions, InspectRegion, InspectReport } from './types.js';

const HEAT_CELLS = 64;
const STAT_BLOCK_BYTES = 512;

type Problem = InspectReport['problems'][number];

/**
 * Describes an image.
 * @param image the image file, or `-` for standard input, of which only the beginning is read.
 * @throws VmsnapError if header or start manifest are not sound; later damage stands in `problems`.
 */
export async function inspect(image: string, options: InspectOptions = {}): Promise<InspectReport> {
  options.signal?.throwIfAborted();
  const input = await openImageInput(image, options);
  try {
    if (input.isStream) return buildReport(input, undefined, [], undefined);
    const problems: Problem[] = [];
    const stats = openFileStats(input);
    if (isLocked(input)) return buildReport(input, undefined, problems, stats, trySealedFooter(input, problems));
    const tail = tryTail(input, problems);
    const report = buildReport(input, tail, problems, stats);
    if (tail === undefined) return report;
    const hasMachine = tail.end.attachments.some(({ name }) => name === MACHINE_ATTACHMENT);
    return {
      ...report,
      chain: await chainReport(input, tail, options),
      qemu: hasMachine ? await readMachineSummary(() => openImage(image, options)) : undefined,
    };
  } finally {
    input.close();
  }
}

/** A base that is missing is no problem of the image itself. */
async function chainReport(input: ImageInput, tail: ImageTail, options: InspectOptions): Promise<ChainReport> {
  const { bases, problem } = await findBases(input, options);
  try {
    const chain = [{ input, tail }, ...bases];
    const found = problem === undefined ? tryCosts(chain) : { costs: undefined, problem };
    const trouble = found.problem;
    return {
      complete: trouble === undefined,
      problem: trouble && { code: trouble.code, path: trouble.path, message: trouble.message, hint: trouble.hint },
      images: chain.map((image, i) => ({
        path: image.input.path,
        identity: image.tail.footer.identity,
        fileBytes: image.tail.footer.fileBytes,
        restoreChunks: found.costs?.[i]?.chunks,
        restoreBytes: found.costs?.[i]?.bytes,
      })),
    };
  } finally {
    closeImages(bases);
  }
}

function tryCosts(chain: readonly OpenedImage[]): { costs?: RestoreCost[]; problem?: VmsnapError } {
  try {
    return { costs: restoreCosts(chain) };
  } catch (error) {
    if (!(error instanceof VmsnapError)) throw error;
    return { problem: error };
  }
}

function tryTail(input: ImageInput, problems: Problem[]): ImageTail | undefined {
  try {
    return readInputTail(input);
  } catch (error) {
    problems.push(asProblem(error));
    return undefined;
  }
}

function trySealedFooter(input: ImageInput, problems: Problem[]): Footer | undefined {
  try {
    return readSealedFooter(input, input.head);
  } catch (error) {
    problems.push(asProblem(error));
    return undefined;
  }
}

function asProblem(error: unknown): Problem {
  if (!(error instanceof VmsnapError)) throw error;
  return { code: error.code, offset: error.offset, message: error.message };
}

/**
 * All but the chain. `stats` undefined: the image comes from a stream, and nothing is known but its head. `sealedFooter`: of an
 * encrypted image that was not opened.
 */
export function buildReport(
  input: ImageInput,
  tail: ImageTail | undefined,
  problemsSoFar: readonly Problem[],
  stats: Stats | undefined,
  sealedFooter?: Footer,
): InspectReport {
  const { header, start } = input.head;
  const problems = [...problemsSoFar];
  const footer = tail?.footer ?? sealedFooter;
  const scan = tail === undefined ? undefined : scanIndex(input, tail, problems);
  const sizes = start.regions.map((region, i) => tail?.end.regions[i]?.sizeBytes ?? region.sizeBytes);
  const memoryBytes = sizes.some((size) => size === undefined)
    ? undefined
    : sizes.reduce<number>((sum, size) => sum + size!, 0);
  return {
    path: input.path,
    fileBytes: stats?.size ?? 0,
    allocatedBytes: stats === undefined ? undefined : stats.blocks * STAT_BLOCK_BYTES,
    complete: footer !== undefined,
    problems,
    trustedBytes: problems.length === 0 && stats !== undefined ? stats.size : input.head.bytes.length,
    format: {
      readVersion: header.readVersion,
      writeVersion: header.writeVersion,
      compatibleFeatures: featureNames(header.compatibleFeatures, []),
      incompatibleFeatures: featureNames(header.incompatibleFeatures, FEATURE_NAMES),
      alignmentBytes: header.alignmentBytes,
    },
    identity: footer?.identity,
    encryption: start.encryption && {
      opened: input.head.seal?.keys !== undefined,
      recipients: recipientKinds(start.encryption.wrappedKey),
    },
    base: start.base,
    chain: undefined,
    tool: start.tool,
    createdAt: start.createdAt,
    machine: start.machine,
    labels: start.labels,
    source: { ...start.source, mayHaveChanged: tail?.end.source.mayHaveChanged },
    memory: {
      sizeBytes: memoryBytes,
      pageSize: start.pageSize,
      segmentSize: start.segmentSize,
      segments: footer?.segmentCount,
      regions: start.regions.map(({ name, gpa }, i): InspectRegion => {
        const counts = scan?.regions[i];
        return {
          name,
          gpa,
          sizeBytes: sizes[i],
          sum: tail?.end.regions[i]?.sum,
          dataPages: counts?.dataPages,
          uniformPages: counts?.uniformPages,
          referencePages: counts?.referencePages,
          absentPages: counts?.absentPages,
          storedBytes: counts?.storedBytes,
        };
      }),
      pages: tail?.end.pages,
      digest: tail?.end.digest,
    },
    storage: {
      codec: start.codec.name,
      level: start.codec.level,
      chunkSize: start.chunkSize,
      chunks: tail?.end.chunks.count,
      rawChunks: tail?.end.chunks.raw,
      storedBytes: tail?.end.chunks.stored,
      dataRatio: tail === undefined ? undefined : ratio(tail.end.pages.data * start.pageSize, tail.end.chunks.stored),
      memoryRatio:
        memoryBytes === undefined || stats === undefined || footer === undefined
          ? undefined
          : ratio(memoryBytes, stats.size),
      indexBytes: scan?.indexBytes,
      records: footer?.recordCount,
    },
    qemu: undefined,
    attachments: tail?.end.attachments.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
    heat: scan?.heat,
  };
}

function ratio(whole: number, stored: number): number | undefined {
  return stored === 0 ? undefined : whole / stored;
}

function featureNames(features: bigint, names: readonly string[]): string[] {
  const found: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((features >> BigInt(bit)) & 1n) found.push(names[bit] ?? `bit ${bit}`);
  }
  return found;
}

interface Counts {
  dataPages: number;
  uniformPages: number;
  referencePages: number;
  absentPages: number;
  storedBytes: number;
}

interface IndexScan {
  readonly regions: readonly Counts[];
  readonly heat: readonly HeatCell[];
  readonly indexBytes: number;
}

/** Adds the index up by region and by cell of the heat bar. A damaged block is a problem, and its segments count nothing. */
function scanIndex(input: ImageInput, tail: ImageTail, problems: Problem[]): IndexScan {
  const { geometry } = tail;
  const regions: Counts[] = geometry.regions.map(() => ({
    dataPages: 0,
    uniformPages: 0,
    referencePages: 0,
    absentPages: 0,
    storedBytes: 0,
  }));
  const bar = new HeatBar(geometry);
  let indexBytes = 0;
  for (const [block, place] of tail.indexList.entries()) {
    try {
      const loaded = readIndexBlock(input, input.head, block, place, geometry.segmentCount, recordsEnd(input));
      if (loaded === undefined) continue;
      indexBytes += loaded.entriesAt - place.offset + loaded.entries.length;
      for (let slot = 0; slot * INDEX_ENTRY_BYTES < loaded.entries.length; slot++) {
        const entry = decodeIndexEntry(loaded.entries, slot, input.path, loaded.entriesAt);
        if (entry.offset === 0) continue;
        const segment = block * INDEX_BLOCK_ENTRIES + slot;
        addEntry(regions[geometry.regionOf(segment).number]!, entry);
        bar.add(segment, entry);
      }
    } catch (error) {
      problems.push(asProblem(error));
    }
  }
  indexBytes += tail.indexList.length === 0 ? 0 : tail.footer.fileBytes - tail.footer.indexListOffset - PREFIX_BYTES;
  return { regions, heat: bar.cells, indexBytes };
}

function addEntry(counts: Counts, entry: IndexEntry): void {
  counts.dataPages += entry.dataPages;
  counts.uniformPages += entry.uniformPages;
  counts.referencePages += entry.referencePages;
  counts.absentPages += entry.absentPages;
  counts.storedBytes += entry.payloadBytes;
}

/** 64 equal shares of the memory, regions end to end; a segment that lies in several cells is shared out among them. */
class HeatBar {
  readonly cells: ({ readonly pages: number } & Counts)[];
  readonly #geometry: Geometry;
  readonly #cellBytes: number;
  readonly #regionStarts: number[] = [];

  constructor(geometry: Geometry) {
    this.#geometry = geometry;
    const count = Math.min(HEAT_CELLS, Math.max(1, geometry.totalBytes / geometry.pageSize));
    this.#cellBytes = geometry.totalBytes / count;
    this.cells = Array.from({ length: count }, () => ({
      pages: this.#cellBytes / geometry.pageSize,
      dataPages: 0,
      uniformPages: 0,
      referencePages: 0,
      absentPages: 0,
      storedBytes: 0,
    }));
    let start = 0;
    for (const region of geometry.regions) {
      this.#regionStarts.push(start);
      start += region.sizeBytes;
    }
  }

  add(segment: number, entry: IndexEntry): void {
    const place = this.#geometry.placeOf(segment);
    const from = this.#regionStarts[place.region]! + place.regionOffset;
    const to = from + place.sizeBytes;
    const last = Math.min(this.cells.length - 1, Math.floor((to - 1) / this.#cellBytes));
    for (let i = Math.floor(from / this.#cellBytes); i <= last; i++) {
      const overlap = Math.min(to, (i + 1) * this.#cellBytes) - Math.max(from, i * this.#cellBytes);
      const share = overlap / place.sizeBytes;
      const cell = this.cells[i]!;
      cell.dataPages += entry.dataPages * share;
      cell.uniformPages += entry.uniformPages * share;
      cell.referencePages += entry.referencePages * share;
      cell.absentPages += entry.absentPages * share;
      cell.storedBytes += entry.payloadBytes * share;
    }
  }
}
