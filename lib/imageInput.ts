/** Opens an image for reading, from a file or from standard input. */
import { closeSync, fstatSync } from 'node:fs';
import { corrupt } from '../formats/vmsnap/corrupt.js';
import { decodeHeader } from '../formats/vmsnap/header.js';
import {
  decodeHead,
  type ImageHead,
  type ImageTail,
  readHead,
  readTail,
  startManifestEnd,
} from '../formats/vmsnap/imageFile.js';
import { FOOTER_BYTES, HEADER_BYTES, MIB } from '../formats/vmsnap/layout.js';
import { requireKeys } from '../formats/vmsnap/seal.js';
import { native } from '../native/binding.js';
import { VmsnapError, withSystemErrors, wrapSystemError } from '../native/errors.js';
import { abortReason, linkSignal } from './abort.js';
import { openSeal } from './encryption/openSeal.js';
import { openToRead } from './files/namedPipe.js';
import { widenPipe } from './files/pipeCapacity.js';
import { createControl } from './pipeline/control.js';
import { runJobs } from './pipeline/workerPool.js';
import type { KeyOptions } from './types.js';

const STDIN_FD = 0;
/** Images below this size stay in the page cache. */
const DROP_BEHIND_BYTES = 64 * MIB;

export interface ImageInput {
  readonly fd: number;
  readonly path: string;
  readonly isStream: boolean;
  readonly head: ImageHead;
  /** Length of the file; undefined for a stream. */
  readonly fileBytes: number | undefined;
  /** The page cache held none of it before: a reader drops what it brought in. */
  readonly dropBehind: boolean;
  close(): void;
}

export interface ImageInputOptions extends KeyOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Encrypted images are opened by the keys of `options`, if there are any. @throws KEY if they do not fit; NOT_FOUND, CORRUPT, UNSUPPORTED: nothing else can be said about a file without a sound head. */
export async function openImageInput(path: string, options: ImageInputOptions = {}): Promise<ImageInput> {
  if (path === '-') return streamInput(STDIN_FD, 'standard input', options, () => {});
  const fd = withSystemErrors('open the image', path, () => openToRead(path));
  try {
    const stats = fstatSync(fd);
    if (stats.isDirectory()) throw new VmsnapError('USAGE', `the image ${path} is a folder`, { path });
    if (stats.isFIFO() || stats.isCharacterDevice() || stats.isSocket())
      return await streamInput(fd, path, options, () => closeSync(fd));
    const head = await openSeal(readHead({ fd, path }), options, path, options.signal);
    const dropBehind =
      stats.size >= DROP_BEHIND_BYTES && native.residentShare(fd, Math.floor(stats.size / 2), MIB) < 0.5;
    return { fd, path, isStream: false, head, fileBytes: stats.size, dropBehind, close: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw wrapSystemError(error, 'look at', path);
  }
}

async function streamInput(
  fd: number,
  path: string,
  options: ImageInputOptions,
  close: () => void,
): Promise<ImageInput> {
  const { signal } = options;
  widenPipe(fd);
  const headerBytes = await readStreamUpTo(fd, path, HEADER_BYTES, 0, signal);
  const header = decodeHeader(headerBytes, path);
  const manifest = await readStreamUpTo(fd, path, startManifestEnd(header) - HEADER_BYTES, HEADER_BYTES, signal);
  if (manifest.length < startManifestEnd(header) - HEADER_BYTES) {
    throw corrupt(path, HEADER_BYTES + manifest.length, 'truncated in the start manifest');
  }
  const head = await openSeal(decodeHead(header, headerBytes, manifest, path), options, path, signal);
  return { fd, path, isStream: true, head, fileBytes: undefined, dropBehind: false, close };
}

/** Reads `length` bytes, or what there is before the end. */
async function readStreamUpTo(
  fd: number,
  path: string,
  length: number,
  offset: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const control = createControl(1);
  const unlink = linkSignal(signal, control);
  try {
    const [bytes] = await runJobs<Uint8Array>([{ kind: 'streamRead', control, fd, path, length, offset }], control);
    return Buffer.from(bytes!);
  } catch (error) {
    throw abortReason(error, signal);
  } finally {
    unlink();
  }
}

/** Whether it is encrypted and was not opened. */
export function isLocked({ head }: ImageInput): boolean {
  return head.seal !== undefined && head.seal.keys === undefined;
}

/** @throws KEY if the image is encrypted and was not opened. */
export function requireUnlocked({ head, path }: ImageInput): void {
  if (head.seal !== undefined) requireKeys(head.seal, path);
}

/** The tail of an image in a file. */
export function readInputTail(input: ImageInput): ImageTail {
  return readTail(input, input.head);
}

/** Where the records of an image in a file end. */
export function recordsEnd(input: ImageInput): number {
  return input.fileBytes === undefined ? Number.MAX_SAFE_INTEGER : input.fileBytes - FOOTER_BYTES;
}
