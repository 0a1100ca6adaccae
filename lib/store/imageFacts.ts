/**
 * What one file of a store says about itself: head and tail of an image, a few short reads. Damage is an answer here and
 * no exception.
 *
 * A file is an image by its first bytes. One that is named `.vmsnap` should be an image: if its first bytes are not those of one, or
 * cannot be read, it is not passed over.
 */

import { createHash } from 'node:crypto';
import { type BigIntStats, closeSync, constants, openSync } from 'node:fs';
import { basename } from 'node:path';
import { readUpTo } from '../../formats/readUpTo.js';
import { type ImageHead, readHead, readSealedFooter, readTail } from '../../formats/vmsnap/imageFile.js';
import { HEADER_MAGIC } from '../../formats/vmsnap/layout.js';
import { VmsnapError, wrapSystemError } from '../../native/errors.js';
import { exactFileStats } from '../../native/fileStats.js';
import type { FileStamp, StoreState } from './storeTypes.js';

const IMAGE_SUFFIX = '.vmsnap';
const TEXT_MAX_LENGTH = 1024;
const LABELS_MAX_LENGTH = 64 * 1024;

export interface ImageFacts {
  readonly path: string;
  /** Its chain is not looked at here: what is called good may still lack a base. */
  readonly state: Exclude<StoreState, 'broken-chain'>;
  readonly problem: { readonly code: string; readonly message: string } | undefined;
  readonly stamp: FileStamp;
  readonly fileBytes: number;
  readonly identity: string | undefined;
  readonly createdAt: string | undefined;
  readonly machine: { readonly name: string | undefined; readonly uuid: string | undefined };
  readonly sourceName: string | undefined;
  readonly group: string | undefined;
  readonly labels: ReadonlyMap<string, string>;
  readonly memoryBytes: number | undefined;
  readonly base: { readonly identity: string; readonly fileName: string } | undefined;
  /** The same for images that can be in one chain: pages, segments and regions. Undefined: it cannot be told. */
  readonly geometryKey: string | undefined;
}

/**
 * Looks at a file, or at that behind a link.
 * @returns undefined if it is no image, or is gone.
 */
export function readImageFacts(path: string): ImageFacts | undefined {
  let fd: number;
  try {
    // Never waits for the writer of a named pipe.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return unreadable(path, error);
  }
  try {
    const stats = exactFileStats({ fd, path });
    return stats.isFile() ? readFacts(fd, path, stats) : undefined;
  } catch (error) {
    return unreadable(path, error);
  } finally {
    closeSync(fd);
  }
}

function readFacts(fd: number, path: string, stats: BigIntStats): ImageFacts | undefined {
  const nothing = { ...NOTHING, path, stamp: stampOf(stats), fileBytes: Number(stats.size) };
  let head: ImageHead | undefined;
  try {
    if (!isNamedAsImage(path) && !hasMagic(fd, path)) return undefined;
    head = readHead({ fd, path });
    return { ...nothing, ...headFacts(head), ...tailFacts(head, tailOf(head, fd, path), path) };
  } catch (error) {
    const known = head === undefined ? {} : headFacts(head);
    return { ...nothing, ...known, ...faultOf(error) };
  }
}

/** What the end of an image says; of an encrypted one, for which nobody needs a key here, what is not sealed. */
interface TailOf {
  readonly identity: string;
  /** Undefined: only the key tells. */
  readonly regionSizes: readonly number[] | undefined;
}

function tailOf(head: ImageHead, fd: number, path: string): TailOf {
  if (head.seal === undefined) {
    const { footer, end } = readTail({ fd, path }, head);
    return { identity: footer.identity, regionSizes: end.regions.map(({ sizeBytes }) => sizeBytes) };
  }
  const { identity } = readSealedFooter({ fd, path }, head);
  const sizes = head.start.regions.map(({ sizeBytes }) => sizeBytes);
  return { identity, regionSizes: sizes.every((size) => size !== undefined) ? sizes : undefined };
}

const NOTHING = {
  identity: undefined,
  createdAt: undefined,
  machine: { name: undefined, uuid: undefined },
  sourceName: undefined,
  group: undefined,
  labels: new Map<string, string>(),
  memoryBytes: undefined,
  base: undefined,
  geometryKey: undefined,
} as const;

/**
 * An image that cannot be opened, or what may be one: a disk that fails hides what a file is. Undefined for a file of somebody else
 * that is not named as an image.
 */
function unreadable(path: string, error: unknown): ImageFacts | undefined {
  const { code, message } = asVmsnapError(wrapSystemError(error, 'open the image', path));
  if (code === 'NOT_FOUND' || (code === 'PERMISSION' && !isNamedAsImage(path))) return undefined;
  const stamp = { device: 0n, inode: 0n, sizeBytes: 0, modifiedNanoseconds: 0n };
  return { ...NOTHING, path, stamp, fileBytes: 0, state: 'unreadable', problem: { code, message } };
}

function faultOf(error: unknown): Pick<ImageFacts, 'state' | 'problem'> {
  const { code, message } = asVmsnapError(error);
  const state = code === 'CORRUPT' ? 'damaged' : code === 'UNSUPPORTED' ? 'unsupported' : 'unreadable';
  return { state, problem: { code, message } };
}

function asVmsnapError(error: unknown): VmsnapError {
  if (error instanceof VmsnapError) return error;
  throw error;
}

export function stampOf(stats: BigIntStats): FileStamp {
  return {
    device: stats.dev,
    inode: stats.ino,
    sizeBytes: Number(stats.size),
    modifiedNanoseconds: stats.mtimeNs,
  };
}

export function isSameFile(a: FileStamp, b: FileStamp): boolean {
  return (
    a.device === b.device &&
    a.inode === b.inode &&
    a.sizeBytes === b.sizeBytes &&
    a.modifiedNanoseconds === b.modifiedNanoseconds
  );
}

function isNamedAsImage(path: string): boolean {
  return basename(path).endsWith(IMAGE_SUFFIX);
}

function hasMagic(fd: number, path: string): boolean {
  const bytes = Buffer.alloc(HEADER_MAGIC.length);
  return readUpTo({ fd, path }, 0, bytes) === bytes.length && bytes.equals(HEADER_MAGIC);
}

function headFacts({ start }: ImageHead): Partial<ImageFacts> {
  const machine = { name: boundedText(start.machine.name), uuid: boundedText(start.machine.uuid) };
  const sourceName = boundedText(start.source.name);
  return {
    createdAt: timeOf(start.createdAt) === undefined ? undefined : start.createdAt,
    machine,
    sourceName,
    group: groupOf(machine, sourceName),
    labels: boundedLabels(start.labels),
    base: start.base,
  };
}

function tailFacts(
  head: ImageHead,
  { identity, regionSizes }: TailOf,
  path: string,
): Pick<ImageFacts, 'state' | 'problem' | 'identity' | 'memoryBytes' | 'geometryKey'> {
  const dated = timeOf(head.start.createdAt) !== undefined;
  const message = `${path} does not say when it was made: ${JSON.stringify(boundedText(head.start.createdAt))} is no time`;
  return {
    state: dated ? 'good' : 'damaged',
    problem: dated ? undefined : { code: 'CORRUPT', message },
    identity,
    memoryBytes: regionSizes?.reduce((sum, size) => sum + size, 0),
    geometryKey: regionSizes && geometryKeyOf(head, regionSizes),
  };
}

/** Milliseconds since 1970 of a time as images have it, or undefined if it is none. */
export function timeOf(createdAt: string): number | undefined {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(createdAt)) return undefined;
  const time = Date.parse(createdAt);
  return Number.isNaN(time) ? undefined : time;
}

/** The group of images that may be of any machine. */
export const NO_MACHINE = 'source:';

function groupOf(machine: ImageFacts['machine'], sourceName: string | undefined): string {
  if (machine.uuid !== undefined) return `uuid:${machine.uuid.toLowerCase()}`;
  if (machine.name !== undefined) return `name:${machine.name}`;
  return `${NO_MACHINE}${sourceName ?? ''}`;
}

function geometryKeyOf({ start }: ImageHead, regionSizes: readonly number[]): string {
  const hash = createHash('sha256').update(JSON.stringify([start.pageSize, start.segmentSize]));
  for (const [i, { name, gpa }] of start.regions.entries()) {
    hash.update(JSON.stringify([name, gpa, regionSizes[i]]));
  }
  return hash.digest('hex');
}

/** A manifest may have 16 MiB, and a folder any number of images: of each, little is kept. Different texts stay different. */
function boundedText(text: string | undefined): string | undefined {
  if (text === undefined || text.length <= TEXT_MAX_LENGTH) return text;
  return `${text.slice(0, TEXT_MAX_LENGTH - 65)}…${createHash('sha256').update(text).digest('hex')}`;
}

function boundedLabels(labels: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const kept = new Map<string, string>();
  let length = 0;
  for (const [key, value] of labels) {
    length += key.length + value.length;
    if (length > LABELS_MAX_LENGTH) break;
    kept.set(key, value);
  }
  return kept;
}
