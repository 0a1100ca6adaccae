/**
 * Opens what is to be saved and finds out what it is: files and devices become extents that all workers read at once,
 * pipes and compressed files (wrapped/) become one stream, and memory files of other tools (foreign/) what their readers say.
 */

import { closeSync, fstatSync, type Stats } from 'node:fs';
import { basename } from 'node:path';
import { isCloudHypervisor, openCloudHypervisor } from '../formats/cloudHypervisor/cloudHypervisor.js';
import { openFirecracker } from '../formats/firecracker/firecracker.js';
import { readSaveImage, type SaveImage, saveImageMemory } from '../formats/libvirt/saveImage.js';
import { isExtentPages, type MemoryAttachment, type MemoryFile, type SourceExtent } from '../formats/memoryFile.js';
import { QEMU_PAGE_BYTES } from '../formats/qemu/streamPages.js';
import { readUpTo } from '../formats/readUpTo.js';
import { type RegionManifest, regionsFault } from '../formats/vmsnap/manifest.js';
import { HUGETLBFS_MAGIC, native } from '../native/binding.js';
import { errnoError, VmsnapError, wrapSystemError } from '../native/errors.js';
import type { SizedRegion } from './chain.js';
import { openToRead } from './files/namedPipe.js';
import type { GuardedFile } from './files/sourceGuard.js';
import {
  checkedMemoryFile,
  checkMemoryFile,
  formatOf,
  openForeign,
  orElseRaw,
  recogniseOrRefuse,
  requireFormat,
  soundMachine,
  withRawHint,
} from './foreign/openForeign.js';
import { PipeInput, type PipeSource } from './foreign/pipeInput.js';
import {
  FOREIGN_FORMATS,
  type ForeignFile,
  type ForeignFormat,
  SIZE_UNKNOWN,
  START_BYTES,
} from './foreign/recognise.js';
import type { SourceDescription } from './pipeline/feeds/sourceDescription.js';
import { notWholePages } from './pipeline/feeds/sourceFiles.js';
import { explicitRegions, layoutRegions, type PlannedRegion } from './regions.js';
import type { RecognisedSource, SourceOptions } from './types.js';
import { Unwrapping } from './wrapped/unwrapping.js';
import { type Wrapper, type WrapperKind, wrapperNamed, wrapperOf } from './wrapped/wrappers.js';

const TMPFS_MAGIC = 0x01021994;

export interface OpenedSource {
  readonly description: SourceDescription;
  readonly manifest: { readonly kind: string; readonly name: string | undefined };
  readonly regions: readonly RegionManifest[];
  /** Files whose writers matter. */
  readonly guarded: readonly GuardedFile[];
  /** What the source itself knows beside its memory. */
  readonly machine: { readonly name: string | undefined; readonly uuid: string | undefined };
  readonly attachments: readonly MemoryAttachment[];
  /** The pages that it counts in, and an image of it must; undefined: any. */
  readonly pageSize: number | undefined;
  /** Pages of it may be absent. */
  readonly mayHaveAbsent: boolean;
  /** Undefined: raw memory. */
  readonly recognised: RecognisedSource | undefined;
  /** What its reader says, where it is a file (or a folder) and not a pipe. */
  readonly memoryFile: MemoryFile | undefined;
  /** What writes into the pipe of the description, where the source is a compressed file; closed with the source. */
  readonly unwrapping: Unwrapping | undefined;
  close(): void;
}

interface OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly stats: Stats;
}

const CLOUD_HYPERVISOR_TITLE = 'a Cloud Hypervisor snapshot';
const FIRECRACKER_TITLE = 'the memory of a Firecracker snapshot';

/** What raw memory knows beside its bytes. */
const RAW = {
  machine: { name: undefined, uuid: undefined },
  attachments: [],
  pageSize: undefined,
  mayHaveAbsent: false,
  recognised: undefined,
  unwrapping: undefined,
  memoryFile: undefined,
} as const;

/**
 * `pageSize`: of raw memory. `baseRegions`: those of the image that this save is a difference to; they stand in for a layout
 * that is not given.
 */
export async function openSource(
  source: string | undefined,
  options: SourceOptions,
  pageSize: number,
  baseRegions?: readonly SizedRegion[],
): Promise<OpenedSource> {
  const files: OpenFile[] = [];
  const close = () => {
    for (const file of files) closeSync(file.fd);
    files.length = 0;
  };
  try {
    const opened = await new SourceOpener(source, options, pageSize, baseRegions, files, close).open();
    if (opened.recognised !== undefined) options.onRecognised?.(opened.recognised);
    return opened;
  } catch (error) {
    close();
    throw error;
  }
}

class SourceOpener {
  readonly #source: string | undefined;
  readonly #options: SourceOptions;
  readonly #pageSize: number;
  readonly #baseRegions: readonly SizedRegion[] | undefined;
  readonly #files: OpenFile[];
  readonly #close: () => void;

  constructor(
    source: string | undefined,
    options: SourceOptions,
    pageSize: number,
    baseRegions: readonly SizedRegion[] | undefined,
    files: OpenFile[],
    close: () => void,
  ) {
    this.#source = source;
    this.#options = options;
    this.#pageSize = pageSize;
    this.#baseRegions = options.regions === undefined && options.layout === undefined ? baseRegions : undefined;
    this.#files = files;
    this.#close = close;
  }

  async open(): Promise<OpenedSource> {
    const source = this.#source;
    const { stream } = this.#options;
    if (stream !== undefined) return await this.#pipe(stream.fd, stream.name, stream.name);
    if (source === '-' && isFirecracker(this.#options)) throw firecrackerPipe();
    if (source === '-') return await this.#pipe(0, 'standard input', undefined);
    if (source === undefined) return this.#extents(undefined);
    const main = this.#openFile(source);
    if (main.stats.isDirectory()) return this.#folder(source);
    if (isFirecracker(this.#options)) return this.#firecracker(main);
    if (main.stats.isFIFO() || main.stats.isCharacterDevice() || main.stats.isSocket())
      return await this.#pipe(main.fd, main.path, basename(main.path));
    if (!main.stats.isFile()) return this.#extents(main);
    const file = { fd: main.fd, path: main.path, sizeBytes: main.stats.size };
    const foreign = formatOf(file, this.#format);
    if (foreign?.format === 'libvirt-save') return await this.#libvirtSave(main, foreign);
    if (foreign !== undefined) return await this.#foreign(file, foreign);
    const wrapper = this.#format === 'auto' && this.#options.regions === undefined ? wrapperOfFile(file) : undefined;
    return wrapper === undefined ? this.#extents(main) : await this.#wrapped(main, wrapper);
  }

  get #format() {
    return this.#options.format ?? 'auto';
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
    try {
      const file = { fd, path, stats: fstatSync(fd) };
      this.#files.push(file);
      return file;
    } catch (error) {
      closeSync(fd);
      throw wrapSystemError(error, 'look at', path);
    }
  }

  #extents(main: OpenFile | undefined): OpenedSource {
    const planned = this.#plan(main);
    const extents = planned.map((region) => this.#extentOf(region, main));
    const used = this.#files.filter((file) => extents.some((extent) => extent.fd === file.fd));
    return {
      description: { kind: 'extents', regions: extents, cached: used.some(hasPageCache) },
      ...RAW,
      manifest: { kind: 'raw', name: main === undefined ? undefined : basename(main.path) },
      regions: planned.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })),
      guarded: used.map(({ fd, path }) => ({ fd, path })),
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
    const baseBytes = this.#baseRegions?.reduce((sum, region) => sum + region.sizeBytes, 0);
    if (baseBytes === sizeBytes) return endToEnd(this.#baseRegions!);
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

  #folder(path: string): OpenedSource {
    const format = this.#format;
    if (format === 'cloud-hypervisor' || (format === 'auto' && isCloudHypervisor(path))) {
      this.#requireNoLayout(path, CLOUD_HYPERVISOR_TITLE);
      const memory = checkedMemoryFile(openCloudHypervisor(path), path);
      return this.#memory(memory, path, CLOUD_HYPERVISOR_TITLE);
    }
    throw new VmsnapError('USAGE', `the source ${path} is a folder, and no Cloud Hypervisor snapshot`, {
      path,
      hint: 'give a memory file',
    });
  }

  /** Its memory file looks like any raw memory: the caller says what it is. */
  #firecracker(main: OpenFile): OpenedSource {
    const { path } = main;
    if (this.#options.layout !== 'firecracker-x86') this.#requireNoLayout(path, FIRECRACKER_TITLE);
    if (!main.stats.isFile())
      throw new VmsnapError('USAGE', `${path} is no regular file, as the memory of a Firecracker snapshot is`, {
        path,
      });
    const memory = openFirecracker({ fd: main.fd, path, sizeBytes: main.stats.size }, this.#options);
    return this.#memory(memory, path, FIRECRACKER_TITLE);
  }

  async #libvirtSave(main: OpenFile, entry: ForeignFormat): Promise<OpenedSource> {
    const file = { fd: main.fd, path: main.path, sizeBytes: main.stats.size };
    const image = orElseRaw(main.path, entry, this.#format, () => readSaveImage(file));
    const kind = image.streamFormat;
    if (kind === 'raw' || kind === 'sparse') return await this.#foreign(file, entry);
    return await this.#compressedSave(main, entry, image, kind);
  }

  async #foreign(file: ForeignFile, entry: ForeignFormat): Promise<OpenedSource> {
    this.#requireNoLayout(file.path, entry.title);
    return this.#memory(await openForeign(file, entry, this.#options), file.path, entry.title);
  }

  /** A memory file that is open; closed with the source. */
  #memory(memory: MemoryFile, path: string, title: string): OpenedSource {
    const { format, version, pages, regions, files, attachments } = memory;
    const isPlain = isExtentPages(pages);
    const fault = isPlain ? regionsFault(regions, this.#pageSize) : undefined;
    if (fault !== undefined) {
      memory.close();
      throw new VmsnapError('USAGE', `${path} (${format}): ${fault}`, { path });
    }
    const cached = files.some(hasPageCache);
    return {
      description: isPlain
        ? { kind: 'extents', regions: pages.regions, cached }
        : { kind: 'pages', pages, files: files.map(({ fd, path }) => ({ fd, path })), cached },
      manifest: { kind: format, name: basename(path) },
      regions,
      guarded: files,
      machine: soundMachine(memory.machine),
      attachments,
      pageSize: isPlain ? undefined : memory.pageSize,
      mayHaveAbsent: pages.mayHaveAbsent ?? false,
      recognised: { path, format, title, version },
      memoryFile: memory,
      unwrapping: undefined,
      close: () => {
        memory.close();
        this.#close();
      },
    };
  }

  /** A memory file of another tool says itself where its memory belongs. */
  #requireNoLayout(path: string, title: string): void {
    const { regions, layout } = this.#options;
    const option = regions !== undefined ? '--region' : layout !== undefined ? '--layout' : undefined;
    if (option === undefined) return;
    throw new VmsnapError('USAGE', `${path} is ${title}, which tells its regions itself: ${option} is for raw memory`, {
      path,
      hint: `leave out ${option}; or if it is raw memory all the same, say so with --format raw`,
    });
  }

  /** Looks at the beginning of a pipe. */
  async #pipe(fd: number, path: string, name: string | undefined): Promise<OpenedSource> {
    const format = this.#format;
    const input = new PipeInput(fd, path, this.#options.signal);
    if (format === 'raw') return this.#stream(fd, path, name, input.start);
    const start = await input.readStart();
    const entry =
      format === 'auto'
        ? recogniseOrRefuse(start, SIZE_UNKNOWN, path)
        : requireFormat(format, start, SIZE_UNKNOWN, path);
    const wrapper = format === 'auto' && this.#options.regions === undefined ? wrapperOf(start) : undefined;
    if (wrapper !== undefined) throw wrappedPipe(path, wrapper);
    return entry === undefined ? this.#stream(fd, path, name, start) : await this.#foreignPipe(input, entry, name);
  }

  async #foreignPipe(input: PipeInput, entry: ForeignFormat, name: string | undefined): Promise<OpenedSource> {
    const { path } = input;
    this.#requireNoLayout(path, entry.title);
    if (entry.openPipe === undefined) throw notFromPipe(path, entry);
    let opened: PipeSource | undefined;
    try {
      opened = await entry.openPipe(input);
      checkMemoryFile(opened, path);
      const { format, version, description, regions, machine, attachments, pageSize, mayHaveAbsent } = opened;
      const closePart = opened.close;
      return {
        description,
        manifest: { kind: format, name },
        regions,
        guarded: [],
        machine: soundMachine(machine),
        attachments,
        pageSize,
        mayHaveAbsent,
        recognised: { path, format, title: entry.title, version },
        memoryFile: undefined,
        unwrapping: undefined,
        close: () => {
          closePart?.();
          this.#close();
        },
      };
    } catch (error) {
      opened?.close?.();
      throw this.#format === 'auto' ? withRawHint(error, path, entry) : error;
    }
  }

  #stream(fd: number, path: string, name: string | undefined, prefix: Uint8Array): OpenedSource {
    const { regions, openEnded } = this.#streamRegions(path);
    return {
      ...RAW,
      description: { kind: 'stream', fd, path, openEnded, prefix },
      manifest: { kind: 'stream', name },
      regions,
      guarded: [],
      close: this.#close,
    };
  }

  #streamRegions(path: string): { regions: RegionManifest[]; openEnded: boolean } {
    const { regions, layout } = this.#options;
    if (this.#baseRegions !== undefined) return { regions: [...this.#baseRegions], openEnded: false };
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

  /** A compressed file, whose contents come through a pipe. */
  async #wrapped(main: OpenFile, wrapper: Wrapper): Promise<OpenedSource> {
    const { path } = main;
    return await this.#unwrapped(main, wrapper, 0, async (unwrapping) => {
      const inside = await this.#pipe(unwrapping.fd, path, basename(path));
      if (inside.recognised !== undefined) return inside;
      return { ...inside, manifest: { kind: wrapper.kind, name: basename(path) } };
    });
  }

  /** A libvirt save image with a compressed stream. */
  async #compressedSave(main: OpenFile, entry: ForeignFormat, image: SaveImage, kind: WrapperKind) {
    const { path } = main;
    this.#requireNoLayout(path, entry.title);
    return await this.#unwrapped(main, wrapperNamed(kind), image.streamOffset, async (unwrapping) => {
      const input = new PipeInput(unwrapping.fd, path, this.#options.signal);
      const stream = requireStream(await input.readStart(), path, image.streamOffset);
      const inside = await this.#foreignPipe(input, stream, basename(path));
      const memory = describedSave(image, inside, { fd: main.fd, path });
      checkMemoryFile(memory, path);
      const { format, version, machine, attachments } = memory;
      return {
        ...inside,
        manifest: { kind: format, name: basename(path) },
        machine: soundMachine(machine),
        attachments,
        recognised: { path, format, title: entry.title, version },
        memoryFile: memory,
      };
    });
  }

  /** `open` takes what comes out of the file; what it opens is closed with the source. */
  async #unwrapped(
    { fd, path }: OpenFile,
    wrapper: Wrapper,
    offset: number,
    open: (unwrapping: Unwrapping) => Promise<OpenedSource>,
  ): Promise<OpenedSource> {
    const unwrapping = Unwrapping.start({ fd, path, offset }, wrapper.start);
    try {
      const inside = await open(unwrapping);
      const close = () => {
        unwrapping.close();
        inside.close();
      };
      return { ...inside, guarded: [{ fd, path }], unwrapping, close };
    } catch (error) {
      const cause = await unwrapping.cause(error);
      unwrapping.close();
      throw cause;
    }
  }
}

function endToEnd(regions: readonly SizedRegion[]): PlannedRegion[] {
  let fileOffset = 0;
  return regions.map(({ name, gpa, sizeBytes }) => {
    const planned = { name, gpa, sizeBytes, file: undefined, fileOffset };
    fileOffset += sizeBytes;
    return planned;
  });
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

/** @throws USAGE for its options with another format. */
function isFirecracker({ format = 'auto', vmstate, diffBase }: SourceOptions): boolean {
  const option = vmstate !== undefined ? '--vmstate' : diffBase !== undefined ? '--diff-base' : undefined;
  if (format === 'firecracker') return true;
  if (option === undefined) return false;
  if (format === 'auto') return true;
  throw new VmsnapError('USAGE', `${option} goes with a Firecracker snapshot, not with --format ${format}`);
}

function firecrackerPipe(): VmsnapError {
  return new VmsnapError('USAGE', 'the memory of a Firecracker snapshot cannot come through a pipe', {
    hint: 'name its file, which has holes where nothing was ever written',
  });
}

function notFromPipe(what: string, { title }: ForeignFormat, path = what): VmsnapError {
  return new VmsnapError('UNSUPPORTED', `${what} is ${title}, which cannot be read from front to back`, {
    path,
    hint: 'put it into a file first, and save that; or if it is raw memory all the same, say so with --format raw',
  });
}

/** Compressed bytes saved as memory would be of no use, and a pipe is not decompressed: its programs take files. */
function wrappedPipe(path: string, { kind }: Wrapper): VmsnapError {
  return new VmsnapError('UNSUPPORTED', `${path} is compressed with ${kind}, which is read from a file alone`, {
    path,
    hint: `put "${kind} -dc" before vmsnap in the pipe; or if it is raw memory all the same, say so with --format raw`,
  });
}

/** Memory file systems are their own page cache: there is nothing to keep clean. */
export function hasPageCache({ fd }: { readonly fd: number }): boolean {
  const type = native.fileSystemType(fd);
  return type !== TMPFS_MAGIC && type !== HUGETLBFS_MAGIC;
}

/** Told by its beginning. */
function wrapperOfFile(file: ForeignFile): Wrapper | undefined {
  const bytes = Buffer.alloc(START_BYTES);
  return wrapperOf(bytes.subarray(0, readUpTo(file, 0, bytes)));
}

/** What a compressed libvirt image must hold. */
function requireStream(start: Uint8Array, path: string, offset: number): ForeignFormat {
  const entry = FOREIGN_FORMATS.find(({ format }) => format === 'qemu-stream');
  if (entry?.is(start, SIZE_UNKNOWN)) return entry;
  throw new VmsnapError(
    'CORRUPT',
    `${path} (libvirt save image) is damaged at offset ${offset}: what is compressed there is no QEMU migration stream`,
    { path, offset, hint: 'was the file copied whole?' },
  );
}

/** As `inspect` shows it: of the stream itself, only its head has been read. */
function describedSave(image: SaveImage, inside: OpenedSource, file: GuardedFile): MemoryFile {
  return saveImageMemory(image, {
    format: 'qemu-stream',
    version: undefined,
    facts: [],
    machine: inside.machine,
    pageSize: inside.pageSize ?? QEMU_PAGE_BYTES,
    regions: inside.regions,
    pages: { kind: 'stream' },
    attachments: inside.attachments,
    files: [file],
    close: () => {},
  });
}
