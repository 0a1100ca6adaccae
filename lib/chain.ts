/**
 * The chain of a differential image: finds each base by its file name, proves by its identity that it is the one, and
 * holds it open, so that nothing can take its place under the same name.
 *
 * A base is sought beside the image that names it, then in the given folders. What lies under its name but is something
 * else is passed over, and named in the error if nothing better is found.
 */
import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ImageTail } from '../formats/vmsnap/imageFile.js';
import { BASES_MAX, FEATURE_ABSENT } from '../formats/vmsnap/layout.js';
import type { BaseManifest, RegionManifest } from '../formats/vmsnap/manifest.js';
import { VmsnapError } from '../native/errors.js';
import { namedFileStats } from '../native/fileStats.js';
import { type ImageInput, type ImageInputOptions, openImageInput, readInputTail } from './imageInput.js';
import type { BaseDirOptions } from './types.js';

/** Where bases are sought, and what opens them. */
export type ChainOptions = BaseDirOptions & ImageInputOptions;

/** An image in a file, its tail read and sound. */
export interface OpenedImage {
  readonly input: ImageInput;
  readonly tail: ImageTail;
}

/** Opens an image that must lie in a file. The caller closes its input. @throws KEY if it is encrypted and no key opens it. */
export async function openWholeImage(path: string, options: ImageInputOptions = {}): Promise<OpenedImage> {
  const input = await openImageInput(path, options);
  try {
    if (input.isStream) {
      throw new VmsnapError('USAGE', `${input.path} cannot be read at random`, { path, hint: 'give an image file' });
    }
    return { input, tail: readInputTail(input) };
  } catch (error) {
    input.close();
    throw error;
  }
}

/** Whether pages of this image, its bases left aside, may be absent. */
export function mayHaveAbsent({ input }: OpenedImage): boolean {
  return (input.head.header.incompatibleFeatures & FEATURE_ABSENT) !== 0n;
}

export function closeImages(images: readonly OpenedImage[]): void {
  for (const { input } of images) input.close();
}

/**
 * Opens the bases of an image, nearest first; none if it is whole by itself. The caller closes them.
 * @throws KEY if one is encrypted and no key opens it; BASE_MISMATCH if one is missing, damaged beyond telling what it is, another image, or does not fit.
 */
export async function openBases(input: ImageInput, options: ChainOptions = {}): Promise<OpenedImage[]> {
  const { bases, problem } = await findBases(input, options);
  if (problem === undefined) return bases;
  closeImages(bases);
  throw problem;
}

/** The same, as far as it goes: `problem` is what ends the search before its end. The caller closes `bases`. */
export async function findBases(
  input: ImageInput,
  options: ChainOptions = {},
): Promise<{ bases: OpenedImage[]; problem: VmsnapError | undefined }> {
  const bases: OpenedImage[] = [];
  try {
    for (let child = input; child.head.start.base !== undefined; child = bases.at(-1)!.input) {
      if (bases.length === BASES_MAX) throw chainTooLong(input.path);
      const base = await findBase(child, child.head.start.base, options);
      const difference = geometryDifference(child, base);
      if (difference !== undefined) {
        base.input.close();
        throw unfitBase(child.path, base.input.path, difference);
      }
      bases.push(base);
    }
    return { bases, problem: undefined };
  } catch (error) {
    if (error instanceof VmsnapError) return { bases, problem: error };
    closeImages(bases);
    throw error;
  }
}

function chainTooLong(path: string): VmsnapError {
  return new VmsnapError('BASE_MISMATCH', `${path} has more than ${BASES_MAX} bases below it`, {
    path,
    hint: 'the format allows no more; make one of its bases whole with "vmsnap flatten"',
  });
}

/** @throws BASE_MISMATCH, which tells what was sought where, and what was found there. */
async function findBase(child: ImageInput, base: BaseManifest, options: ChainOptions): Promise<OpenedImage> {
  const found: string[] = [];
  const folders = searchFolders(child, options.baseDirs ?? []);
  for (const folder of folders) {
    options.signal?.throwIfAborted();
    const path = join(folder, base.fileName);
    const candidate = await tryCandidate(path, base.identity, options);
    if (typeof candidate !== 'string') return candidate;
    found.push(candidate);
  }
  const where = folders.length === 0 ? 'a stream has no folder beside it, and no other is given' : found.join('; ');
  const message = `${child.path} needs its base ${base.fileName} (identity ${base.identity}): ${where}`;
  throw new VmsnapError('BASE_MISMATCH', message, {
    path: child.path,
    hint: 'put the base beside the image under that name, or name the folder it is in with --base-dir',
  });
}

/** Beside the image, and beside the file itself where the image's name is a link to it. */
function searchFolders(child: ImageInput, baseDirs: readonly string[]): string[] {
  const own = child.isStream ? [] : [dirname(child.path), dirname(realPath(child.path))];
  const folders: string[] = [];
  const seen = new Set<string>();
  for (const folder of [...own, ...baseDirs]) {
    const real = realPath(folder);
    if (!seen.has(real)) folders.push(folder);
    seen.add(real);
  }
  return folders;
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** The image at `path` if it is the one, else what is there. */
async function tryCandidate(path: string, identity: string, options: ChainOptions): Promise<OpenedImage | string> {
  let opened: OpenedImage;
  try {
    // Not a named pipe, which an open would wait for.
    if (namedFileStats(path)?.isFile() === false) return `${path} is no regular file`;
    opened = await openWholeImage(path, options);
  } catch (error) {
    if (!(error instanceof VmsnapError) || error.code === 'KEY') throw error;
    return error.code === 'NOT_FOUND' ? `there is no ${path}` : error.message;
  }
  const found = opened.tail.footer.identity;
  if (found === identity) return opened;
  opened.input.close();
  return `${path} is another image (identity ${found})`;
}

/** What makes it impossible that `child` is a difference to `base`, or undefined. */
function geometryDifference(child: ImageInput, base: OpenedImage): string | undefined {
  const own = child.head.start;
  const theirs = base.input.head.start;
  if (theirs.encryption !== undefined && own.encryption === undefined) return 'encryption, which the image has not';
  if (own.pageSize !== theirs.pageSize) return `pages of ${theirs.pageSize} bytes, not ${own.pageSize}`;
  if (own.segmentSize !== theirs.segmentSize) return `segments of ${theirs.segmentSize} bytes, not ${own.segmentSize}`;
  return regionsDifference(own.regions, imageRegions(base));
}

export interface SizedRegion {
  readonly name: string;
  readonly gpa: number | undefined;
  readonly sizeBytes: number;
}

/** The regions of an image with their true sizes. */
export function imageRegions({ input, tail }: OpenedImage): SizedRegion[] {
  return input.head.start.regions.map(({ name, gpa }, i) => ({
    name,
    gpa,
    sizeBytes: tail.end.regions[i]!.sizeBytes,
  }));
}

/** In what the base's regions differ from `own`, or undefined. */
export function regionsDifference(own: readonly RegionManifest[], base: readonly SizedRegion[]): string | undefined {
  if (own.length !== base.length) return `${countRegions(base.length)}, not ${own.length}`;
  for (const [i, region] of own.entries()) {
    const other = base[i]!;
    if (region.name === other.name && region.gpa === other.gpa && region.sizeBytes === other.sizeBytes) continue;
    return `the region ${regionText(other)}, not ${regionText(region)}`;
  }
  return undefined;
}

function countRegions(count: number): string {
  return count === 1 ? '1 region' : `${count} regions`;
}

function regionText({ name, gpa, sizeBytes }: RegionManifest): string {
  return `${name}=${sizeBytes ?? '?'}@${gpa === undefined ? '?' : `0x${gpa.toString(16)}`}`;
}

export function unfitBase(child: string, base: string, difference: string): VmsnapError {
  return new VmsnapError('BASE_MISMATCH', `${base} cannot be the base of ${child}: it has ${difference}`, {
    path: base,
    hint: 'an image and its base are of the same machine: same regions, pages and segments',
  });
}
