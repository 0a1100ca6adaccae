/**
 * Opens what is to be saved and finds out what it is: files and devices become extents that all workers read at once,
 * pipes and gzip files become one stream.
 */
import { closeSync, fstatSync, readSync, type Stats } from 'node:fs';
import { basename } from 'node:path';
import { gunzipSync, constants as zlibConstants } from 'node:zlib';
import type { RegionManifest } from '../formats/vmsnap/manifest.js';
import { HUGETLBFS_MAGIC, native } from '../native/binding.js';
import { errnoError, VmsnapError, wrapSystemError } from '../native/errors.js';
import { openToRead } from './files/namedPipe.js';
import type { GuardedFile } from './files/sourceGuard.js';
import { notWholePages, type SourceDescription, type SourceExtent } from './pipeline/saveWorker.js';
import { explicitRegions, layoutRegions, type PlannedRegion } from './regions.js';
import type { SaveOptions } from './types.js';

const TMPFS_MAGIC = 0x01021994;
const PIPE_BYTES = 1024 * 1024;

export interface OpenedSource {
  readonly description: SourceDescription;
  readonly manifest: { readonly kind: string; readonly name: string | undefined };
  readonly regions: readonly RegionManifest[];
  /** Files whose writers matter. */
  readonly guarded: readonly GuardedFile[];
  /** A gzip file to inflate into the stream of the description. Whoever takes it closes outputFd. */
  takeGunzip(): GunzipInput | undefined;
  close(): void;
}

export interface GunzipInput {
  readonly inputFd: number;
  readonly inputPath: string;
  readonly outputFd: number;
}

interface OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly stats: Stats;
}

export function openSource(source: string | undefined, options: SaveOptions, pageSize: number): OpenedSource {
  const files: OpenFile[] = [];
  const close = () => {
    for (const file of files) closeSync(file.fd);
    files.length = 0;
  };
  try {
    return new SourceOpener(source, options, pageSize, files, close).open();
  } catch (error) {
    close();
    throw error;
  }
}

class SourceOpener {
  readonly #source: string | undefined;
  readonly #options: SaveOptions;
  readonly #pageSize: number;
  readonly #files: OpenFile[];
  readonly #close: () => void;

  constructor(
    source: string | undefined,
    options: SaveOptions,
    pageSize: number,
    files: OpenFile[],
    close: () => void,
  ) {
    this.#source = source;
    this.#options = options;
    this.#pageSize = pageSize;
    this.#files = files;
    this.#close = close;
  }

  open(): OpenedSource {
    const source = this.#source;
    if (source === '-') return this.#stream(0, 'standard input', undefined);
    const main = source === undefined ? undefined : this.#openFile(source);
    if (main !== undefined && (main.stats.isFIFO() || main.stats.isCharacterDevice() || main.stats.isSocket())) {
      return this.#stream(main.fd, main.path, basename(main.path));
    }
    if (main !== undefined && this.#options.regions === undefined && isGzip(main)) return this.#gzip(main);
    return this.#extents(main);
  }

  #openFile(path: string): OpenFile {
    const known = this.#files.find((file) => file.path === path);
    if (known !== undefined) return known;
    let fd: number;
    try {
      fd = openToRead(path);
    } catch (error) {
      throw wrapSystemError(error, 'open the source', path);
    }
    const file = { fd, path, stats: fstatSync(fd) };
    this.#files.push(file);
    if (file.stats.isDirectory()) {
      throw new VmsnapError('USAGE', `the source ${path} is a folder`, { path, hint: 'give a memory file' });
    }
    return file;
  }

  #extents(main: OpenFile | undefined): OpenedSource {
    const planned = this.#plan(main);
    const extents = planned.map((region) => this.#extentOf(region, main));
    const used = this.#files.filter((file) => extents.some((extent) => extent.fd === file.fd));
    return {
      description: { kind: 'extents', regions: extents, cached: used.some(hasPageCache) },
      manifest: { kind: 'raw', name: main === undefined ? undefined : basename(main.path) },
      regions: planned.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })),
      guarded: used.map(({ fd, path }) => ({ fd, path })),
      takeGunzip: () => undefined,
      close: this.#close,
    };
  }

  #plan(main: OpenFile | undefined): PlannedRegion[] {
    const { regions, layout } = this.#options;
    if (regions !== undefined) return explicitRegions(regions, this.#pageSize);
    if (main === undefined)
      throw new VmsnapError('USAGE', 'there is no source', { hint: 'name a memory file, "-", or files with --region' });
    const sizeBytes = sizeOf(main);
    if (sizeBytes === 0)
      throw new VmsnapError('USAGE', `${main.path} is empty: there is no memory to save`, { path: main.path });
    if (sizeBytes % this.#pageSize !== 0) throw notWholePages(main.path, sizeBytes, this.#pageSize);
    return layoutRegions(layout ?? 'flat', sizeBytes);
  }

  #extentOf(region: PlannedRegion, main: OpenFile | undefined): SourceExtent {
    const file = region.file === undefined ? main : this.#openFile(region.file);
    if (file === undefined) {
      throw new VmsnapError('USAGE', `region ${region.name} names no file, and there is no SOURCE`, {
        hint: 'write :FILE behind its address',
      });
    }
    const sizeBytes = sizeOf(file);
    if (region.fileOffset + region.sizeBytes > sizeBytes) {
      throw new VmsnapError(
        'USAGE',
        `region ${region.name} ends at offset ${region.fileOffset + region.sizeBytes} of ${file.path}, which has ${sizeBytes} bytes`,
        { path: file.path, offset: sizeBytes, hint: 'check the size and the offset of the region' },
      );
    }
    return { fd: file.fd, path: file.path, fileOffset: region.fileOffset, lengthBytes: region.sizeBytes };
  }

  #stream(fd: number, path: string, name: string | undefined): OpenedSource {
    const { regions, openEnded } = this.#streamRegions(path);
    return {
      description: { kind: 'stream', fd, path, openEnded },
      manifest: { kind: 'stream', name },
      regions,
      guarded: [],
      takeGunzip: () => undefined,
      close: this.#close,
    };
  }

  #streamRegions(path: string): { regions: RegionManifest[]; openEnded: boolean } {
    const { regions, layout } = this.#options;
    if (regions === undefined && (layout ?? 'flat') === 'flat') {
      return { regions: [{ name: 'ram', gpa: 0, sizeBytes: undefined }], openEnded: true };
    }
    if (regions === undefined) {
      throw new VmsnapError('USAGE', `--layout ${layout} needs the size of the memory, which ${path} does not tell`, {
        hint: 'name the regions with --region NAME=SIZE@GPA',
      });
    }
    const planned = explicitRegions(regions, this.#pageSize);
    const own = planned.find((region) => region.file !== undefined);
    if (own !== undefined) {
      throw new VmsnapError('USAGE', `region ${own.name} names a file, but the memory comes from ${path}`, {
        hint: 'leave out the :FILE',
      });
    }
    return { regions: planned.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })), openEnded: false };
  }

  #gzip(main: OpenFile): OpenedSource {
    const pipe = native.pipe(PIPE_BYTES);
    if (typeof pipe === 'number') throw errnoError(pipe, 'open a pipe for', main.path);
    const [readFd, outputFd] = pipe;
    let gunzip: GunzipInput | undefined = { inputFd: main.fd, inputPath: main.path, outputFd };
    const take = () => {
      const taken = gunzip;
      gunzip = undefined;
      return taken;
    };
    const stream = this.#stream(readFd, main.path, basename(main.path));
    return {
      ...stream,
      manifest: { kind: 'gzip', name: basename(main.path) },
      guarded: [{ fd: main.fd, path: main.path }],
      takeGunzip: take,
      close: () => {
        closeSync(readFd);
        if (take() !== undefined) closeSync(outputFd);
        this.#close();
      },
    };
  }
}

function sizeOf(file: OpenFile): number {
  if (file.stats.isFile()) return file.stats.size;
  if (!file.stats.isBlockDevice()) {
    throw new VmsnapError('USAGE', `${file.path} is neither a file nor a block device`, { path: file.path });
  }
  const size = native.blockDeviceSize(file.fd);
  if (size < 0) throw errnoError(size, 'find out the size of', file.path);
  return size;
}

/** Memory file systems are their own page cache: there is nothing to keep clean. */
function hasPageCache(file: OpenFile): boolean {
  const type = native.fileSystemType(file.fd);
  return type !== TMPFS_MAGIC && type !== HUGETLBFS_MAGIC;
}

const GZIP_SNIFF_BYTES = 4096;

/** Told by content: the magic alone could stand in memory, so the beginning must inflate as well. */
function isGzip(file: OpenFile): boolean {
  if (!file.stats.isFile()) return false;
  const bytes = Buffer.alloc(GZIP_SNIFF_BYTES);
  const start = bytes.subarray(0, readSync(file.fd, bytes, 0, bytes.length, 0));
  const hasMagic =
    start.length > 18 && start[0] === 0x1f && start[1] === 0x8b && start[2] === 8 && (start[3]! & 0xe0) === 0;
  if (!hasMagic) return false;
  try {
    gunzipSync(start, { finishFlush: zlibConstants.Z_SYNC_FLUSH, maxOutputLength: 64 * 1024 * 1024 });
    return true;
  } catch {
    return false;
  }
}
