/**
 * Memory in files of other tools: what every reader of such a format gives.
 *
 * A reader opens a file, checks its structures, and answers with a {@link MemoryFile}: facts for people, regions, attachments,
 * and a {@link PageSource} that can be handed to other threads (plain data, shared arrays and file descriptors only). There
 * each thread makes a {@link PageFinder} of it, which says where the pages of a stretch of a region lie, or reads them where
 * they are compressed. Readers take bounded memory, however large the file is: what grows with the memory is read when a
 * stretch is asked for, or lies in a spill file.
 */
import type { RegionManifest } from './vmsnap/manifest.js';

/** Stable names, as `inspect --json` and the manifest's `source.kind` have them. */
export type MemoryFormat =
  | 'qemu-stream'
  | 'qemu-mapped-ram'
  | 'libvirt-save'
  | 'elf-core'
  | 'kdump'
  | 'lime'
  | 'avml'
  | 'firecracker'
  | 'cloud-hypervisor';

export interface MemoryFile {
  readonly format: MemoryFormat;
  /** As the format counts, e.g. "3" of a QEMU stream. */
  readonly version: string | undefined;
  /** For `inspect`, in the order in which they are shown. Values never hold memory contents. */
  readonly facts: readonly MemoryFact[];
  readonly machine: { readonly name: string | undefined; readonly uuid: string | undefined };
  /** An image of this memory has pages of this size, but where `pages` are {@link ExtentPages}. */
  readonly pageSize: number;
  /** Whole pages, in the order of the file; sizes are known but for a stream whose end has not been seen. */
  readonly regions: readonly RegionManifest[];
  readonly pages: PageSource;
  /** What the file tells of its pages without the memory being read; for who looks into it, not for who saves it. */
  countPages?(): KnownPages;
  readonly attachments: readonly MemoryAttachment[];
  /** Files whose writers matter, and whose descriptors `pages` and `attachments` use. */
  readonly files: readonly { readonly fd: number; readonly path: string }[];
  /** Closes what the reader opened itself (spill files, other files of the snapshot), not the fd that it was given. */
  close(): void;
}

/** Numbers of pages, each undefined where the file does not tell. */
export interface KnownPages {
  /** Whose bytes the file holds, whatever they are. */
  readonly stored: number | undefined;
  /** That it says are zero, or in holes of which the format says so. */
  readonly zero: number | undefined;
  /** Whose contents it does not know. */
  readonly absent: number | undefined;
}

export interface MemoryFact {
  /** As JSON key, camelCase: "machineType". */
  readonly key: string;
  /** For people: "machine type". */
  readonly label: string;
  readonly value: string | number | boolean;
}

/** A part of a file, or bytes, that belongs to the machine and is no memory: XML, device state, notes. */
export type MemoryAttachment =
  | {
      readonly name: string;
      readonly fd: number;
      readonly path: string;
      readonly offset: number;
      readonly sizeBytes: number;
    }
  | { readonly name: string; readonly bytes: Uint8Array }
  /** Read once, after the memory, from a pipe: fills `into`, and gives fewer bytes only at the end. */
  | { readonly name: string; read(into: Uint8Array): Promise<number> };

/** A part of a file that holds a part of a region. */
export interface SourceExtent {
  readonly fd: number;
  readonly path: string;
  readonly fileOffset: number;
  readonly lengthBytes: number;
}

/** Where pages lie; each kind belongs to one PageFinder (lib/pipeline/pageFinders.ts knows which). */
export interface PageSource {
  readonly kind: string;
  /**
   * Parts of files in which most of the memory lies in long pieces, so that a DSA device may look at it there. Its finder
   * answers 'extents' only. Undefined: pages are compressed, or lie too scattered.
   */
  readonly longExtents?: readonly SourceExtent[] | undefined;
  /** Its finder may call pages absent: the image says so before the first one is read. */
  readonly mayHaveAbsent?: boolean | undefined;
}

/**
 * The plainest kind: region i lies in one piece of a file, zero pages and holes included. It has no finder: it is read as a
 * raw memory file is. No page of it is absent, and the image may have pages of any size that the regions are multiples of.
 */
export interface ExtentPages extends PageSource {
  readonly kind: 'extents';
  readonly regions: readonly SourceExtent[];
}

export function isExtentPages(pages: PageSource): pages is ExtentPages {
  return pages.kind === 'extents';
}

/**
 * Bytes of one stretch, in rising order and end to end: file ranges, or zeros that no file holds (fd -1), as
 * native/binding.ts (scanExtents) takes them. Reused from stretch to stretch.
 */
export interface StretchExtents {
  /** fd, file offset, length in bytes; three numbers each. */
  numbers: Float64Array;
  count: number;
}

/** Says that no file holds the bytes of an extent. */
export const NO_FILE = -1;

/** Appends the bytes that come next; what goes on where the extent before ended becomes one with it. */
export function addExtent(extents: StretchExtents, fd: number, fileOffset: number, lengthBytes: number): void {
  if (lengthBytes === 0) return;
  let at = extents.count * 3;
  const { numbers } = extents;
  const goesOn =
    at > 0 && numbers[at - 3] === fd && (fd === NO_FILE || numbers[at - 2]! + numbers[at - 1]! === fileOffset);
  if (goesOn) {
    numbers[at - 1]! += lengthBytes;
    return;
  }
  if (at === numbers.length) {
    extents.numbers = new Float64Array(Math.max(48, 2 * numbers.length));
    extents.numbers.set(numbers);
  }
  extents.numbers[at++] = fd;
  extents.numbers[at++] = fd === NO_FILE ? 0 : fileOffset;
  extents.numbers[at] = lengthBytes;
  extents.count++;
}

/** One thread's view of a PageSource. Throws VmsnapError (CORRUPT, SOURCE_CHANGED, IO) with path and offset. */
export interface PageFinder {
  /**
   * First byte offset in [from, end) of a region that may hold data or is absent, a multiple of the page size; `end` if
   * there is none. May be early, never late. Called under a lock by one thread at a time: it must be quick.
   */
  nextUsed(region: number, from: number, end: number): number;
  /**
   * Where a stretch of at most one segment lies: whole pages, `sizeBytes` of them from `offset` on. Either fills `extents`
   * (empty on entry; {@link addExtent} appends), or, where pages are compressed, `into` (then it returns 'bytes'; every byte
   * of the stretch is written, zeros too). `absent`: one byte a page of MemoryFile.pageSize, set to 1 for each page whose
   * contents the file does not know; its bytes must be zero. All zero on entry. Called by its own thread, without a lock.
   */
  find(
    region: number,
    offset: number,
    sizeBytes: number,
    extents: StretchExtents,
    into: Uint8Array,
    absent: Uint8Array,
  ): 'extents' | 'bytes';
}
