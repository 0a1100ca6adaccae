/** Opens one side of a comparison: an image with the images below it, or raw memory, told apart by its first bytes. */

import { closeSync, type Stats, statSync } from 'node:fs';
import type { SourceExtent } from '../formats/memoryFile.js';
import { readUpTo } from '../formats/readUpTo.js';
import { HEADER_MAGIC, SEGMENT_MIN_BYTES } from '../formats/vmsnap/layout.js';
import { withSystemErrors } from '../native/errors.js';
import { closeImages, imageRegions, openBases, openWholeImage, type SizedRegion } from './chain.js';
import { openToRead } from './files/namedPipe.js';
import { usage } from './options.js';
import { isRandom, type RandomDescription } from './pipeline/feeds/sourceDescription.js';
import type { SideDescription } from './pipeline/memorySide.js';
import { describeLink } from './readJobs.js';
import { type OpenedSource, openSource } from './source.js';
import type { CompareOptions, CompareSide } from './types.js';

/** What a page of raw memory is. */
const RAW_PAGE_BYTES = 4096;
const RAW_SEGMENT_BYTES = 4 * 1024 * 1024;

export interface OpenedSide {
  readonly about: Omit<CompareSide, 'path' | 'absentPages'>;
  /** Of raw memory: one region, until {@link takeRegions} says better. */
  readonly regions: readonly SizedRegion[];
  /** Raw memory, which does not say what regions it has. */
  readonly isRaw: boolean;
  readonly pageSize: number;
  /** Undefined: it takes that of the other side. */
  readonly segmentSize: number | undefined;
  describe(regions: readonly SizedRegion[], segmentSize: number): SideDescription;
  close(): void;
}

/** @throws USAGE for what cannot be read at random; else as opening an image or a source does. */
export async function openSide(path: string, options: CompareOptions): Promise<OpenedSide> {
  if (path === '-') throw notComparable('standard input');
  const stats = withSystemErrors('look at', path, () => statSync(path));
  return isImage(path, stats) ? await openImageSide(path, options) : await openMemorySide(path, stats, options);
}

function notComparable(what: string): Error {
  return usage(`${what} cannot be compared: it can be read only once, from the front`, 'put it into a file first');
}

/** By its first bytes. */
export function isImage(path: string, stats: Stats): boolean {
  if (!stats.isFile()) return false;
  const fd = withSystemErrors('open', path, () => openToRead(path));
  try {
    const start = Buffer.alloc(HEADER_MAGIC.length);
    return readUpTo({ fd, path }, 0, start) === start.length && start.equals(HEADER_MAGIC);
  } finally {
    closeSync(fd);
  }
}

async function openImageSide(path: string, options: CompareOptions): Promise<OpenedSide> {
  const image = await openWholeImage(path, options);
  const { input, tail } = image;
  try {
    const bases = await openBases(input, options);
    const chain = [image, ...bases];
    return {
      about: {
        kind: 'image',
        format: undefined,
        memoryBytes: tail.geometry.totalBytes,
        identity: tail.footer.identity,
        bases: bases.map((base) => base.input.path),
      },
      regions: imageRegions(image),
      isRaw: false,
      pageSize: tail.geometry.pageSize,
      segmentSize: tail.geometry.segmentSize,
      describe: () => ({
        kind: 'image',
        links: chain.map(describeLink),
        identities: chain.map((link) => link.tail.footer.identity),
      }),
      close: () => closeImages(chain),
    };
  } catch (error) {
    input.close();
    throw error;
  }
}

async function openMemorySide(path: string, stats: Stats, options: CompareOptions): Promise<OpenedSide> {
  if (stats.isFIFO() || stats.isCharacterDevice() || stats.isSocket()) throw notComparable(path);
  const { format, onRecognised, signal, onProgress, progressIntervalSeconds } = options;
  const source = await openSource(
    path,
    { format, onRecognised, signal, onProgress, progressIntervalSeconds },
    RAW_PAGE_BYTES,
  );
  const { description } = source;
  if (!isRandom(description)) {
    source.close();
    throw notComparable(`${path}, a compressed file,`);
  }
  return source.recognised === undefined ? rawSide(source, description) : foreignSide(source, description);
}

function foreignSide(source: OpenedSource, description: RandomDescription): OpenedSide {
  const regions = source.regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes: sizeBytes! }));
  const memoryBytes = regions.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const pageSize = source.pageSize ?? RAW_PAGE_BYTES;
  return {
    about: { kind: 'memory', format: source.manifest.kind, memoryBytes, identity: undefined, bases: [] },
    regions,
    isRaw: false,
    pageSize,
    // Those of the other side might be smaller than a page.
    segmentSize: pageSize > SEGMENT_MIN_BYTES ? RAW_SEGMENT_BYTES : undefined,
    describe: (_, segmentSize) => ({
      kind: 'memory',
      source: description,
      regionSizes: regions.map(({ sizeBytes }) => sizeBytes),
      pageSize,
      segmentSize,
    }),
    close: () => source.close(),
  };
}

function rawSide(source: OpenedSource, description: RandomDescription): OpenedSide {
  const { regions: extents, cached } = description as Extract<RandomDescription, { kind: 'extents' }>;
  const whole = extents[0]!;
  return {
    about: { kind: 'memory', format: 'raw', memoryBytes: whole.lengthBytes, identity: undefined, bases: [] },
    regions: [{ name: 'ram', gpa: 0, sizeBytes: whole.lengthBytes }],
    isRaw: true,
    pageSize: RAW_PAGE_BYTES,
    segmentSize: undefined,
    describe: (regions, segmentSize) => ({
      kind: 'memory',
      source: { kind: 'extents', regions: cut(whole, regions), cached },
      regionSizes: regions.map(({ sizeBytes }) => sizeBytes),
      pageSize: RAW_PAGE_BYTES,
      segmentSize,
    }),
    close: () => source.close(),
  };
}

/** Regions end to end, as a load writes them. */
function cut(whole: SourceExtent, regions: readonly SizedRegion[]): SourceExtent[] {
  let { fileOffset } = whole;
  return regions.map(({ sizeBytes }) => {
    const extent = { ...whole, fileOffset, lengthBytes: sizeBytes };
    fileOffset += sizeBytes;
    return extent;
  });
}

/** Raw memory does not say what regions it has: those of the other side, if they take it up to the last byte. */
export function takeRegions(side: OpenedSide, other: OpenedSide): readonly SizedRegion[] {
  const fits = side.isRaw && side.about.memoryBytes === other.about.memoryBytes;
  return fits ? other.regions : side.regions;
}

/** Segments of both sides: raw memory takes the other's. */
export function segmentSizeOf(side: OpenedSide, other: OpenedSide): number {
  return side.segmentSize ?? other.segmentSize ?? RAW_SEGMENT_BYTES;
}
