/** Finds pages of a diff snapshot of Firecracker: what the diff file stores, and elsewhere the file below it. */
import { VmsnapError } from '../../native/errors.js';
import { seekData, seekHole } from '../holes.js';
import { addExtent, type PageFinder, type PageSource, type StretchExtents } from '../memoryFile.js';

const PAGE_BYTES = 4096;

interface NamedFile {
  readonly fd: number;
  readonly path: string;
}

export interface FirecrackerDiffPages extends PageSource {
  readonly kind: 'firecracker-diff';
  readonly diff: NamedFile;
  /** Of the same size. */
  readonly base: NamedFile;
  /** Where each region begins in both. */
  readonly regionOffsets: readonly number[];
}

/** @throws USAGE if the diff stores all its pages, so that nothing of a base could be seen. */
export function requireHoles(file: NamedFile & { readonly sizeBytes: number }): void {
  const { path, sizeBytes } = file;
  if (seekHole(file, 0, sizeBytes) < sizeBytes) return;
  throw new VmsnapError('USAGE', `the diff ${path} has no holes, so nothing of its base would be seen`, {
    path,
    hint: 'if a copy filled its holes, take the original (cp --sparse=auto keeps them); if all of it was written, save it without --diff-base',
  });
}

export class FirecrackerDiffFinder implements PageFinder {
  readonly #pages: FirecrackerDiffPages;
  /**
   * What was found of the diff last: a hole from #knownFrom on, then data, whole pages of both. So SEEK_HOLE is asked once
   * for each stretch of data.
   */
  #knownFrom = 0;
  #dataFrom = 0;
  #dataEnd = 0;

  constructor(pages: FirecrackerDiffPages) {
    this.#pages = pages;
  }

  nextUsed(region: number, from: number, end: number): number {
    const start = this.#pages.regionOffsets[region]!;
    const inDiff = seekData(this.#pages.diff, start + from, start + end);
    if (inDiff === start + from) return from;
    return Math.min(inDiff, seekData(this.#pages.base, start + from, start + end)) - start;
  }

  find(region: number, offset: number, sizeBytes: number, extents: StretchExtents): 'extents' {
    const { diff, base, regionOffsets } = this.#pages;
    const end = regionOffsets[region]! + offset + sizeBytes;
    for (let at = regionOffsets[region]! + offset; at < end; ) {
      if (at < this.#knownFrom || at >= this.#dataEnd) this.#findData(at);
      if (at >= this.#dataFrom) {
        const dataEnd = Math.min(this.#dataEnd, end);
        addExtent(extents, diff.fd, at, dataEnd - at);
        at = dataEnd;
      } else {
        const holeEnd = Math.min(this.#dataFrom, end);
        addExtent(extents, base.fd, at, holeEnd - at);
        at = holeEnd;
      }
    }
    return 'extents';
  }

  /** Finds the first data at or after `at`, and where it ends; behind the last there is none, as far as numbers go. */
  #findData(at: number): void {
    const { diff } = this.#pages;
    const end = Number.MAX_SAFE_INTEGER;
    const from = seekData(diff, at, end);
    this.#knownFrom = at;
    if (from === end) {
      this.#dataFrom = end;
      this.#dataEnd = end;
      return;
    }
    const hole = seekHole(diff, from, end);
    // Blocks of the file system may be smaller than pages.
    this.#dataFrom = Math.floor(from / PAGE_BYTES) * PAGE_BYTES;
    this.#dataEnd = Math.ceil(hole / PAGE_BYTES) * PAGE_BYTES;
  }
}
