/**
 * Where the pages of a migration stream lie, by the table that the index pass wrote (native/qemu/stream_index.h).
 *
 * A page is where its last record stands. One that was sent as zero is zero; one that was never sent (the guest had given it
 * away through free page hints, or the stream left out its block) is absent.
 */
import { readSync } from 'node:fs';
import { QEMU_NEVER_SENT, QEMU_SENT_ZERO } from '../../native/binding.js';
import { VmsnapError, wrapSystemError } from '../../native/errors.js';
import { addExtent, NO_FILE, type PageFinder, type PageSource, type StretchExtents } from '../memoryFile.js';

export const QEMU_PAGE_BYTES = 4096;
const ENTRY_BYTES = 8;
/** Entries that are read at a time to find the next page that is used: of 32 MiB of memory. */
const AHEAD_ENTRIES = 8192;

export interface QemuStreamPages extends PageSource {
  readonly kind: 'qemu-stream';
  readonly fd: number;
  readonly table: { readonly fd: number; readonly path: string };
  /** Of each region: the number of its first page in the table. */
  readonly firstPages: readonly number[];
}

export class QemuStreamFinder implements PageFinder {
  readonly #pages: QemuStreamPages;
  #entries = new Uint32Array(2 * AHEAD_ENTRIES);

  constructor(pages: QemuStreamPages) {
    this.#pages = pages;
  }

  nextUsed(region: number, from: number, end: number): number {
    const first = this.#pages.firstPages[region]!;
    for (let page = from / QEMU_PAGE_BYTES; page < end / QEMU_PAGE_BYTES; page += AHEAD_ENTRIES) {
      const count = Math.min(AHEAD_ENTRIES, end / QEMU_PAGE_BYTES - page);
      const entries = this.#read(first + page, count);
      for (let i = 0; i < count; i++) {
        if (entries[2 * i] !== QEMU_SENT_ZERO || entries[2 * i + 1] !== 0) return (page + i) * QEMU_PAGE_BYTES;
      }
    }
    return end;
  }

  find(
    region: number,
    offset: number,
    sizeBytes: number,
    extents: StretchExtents,
    _into: Uint8Array,
    absent: Uint8Array,
  ): 'extents' {
    const count = sizeBytes / QEMU_PAGE_BYTES;
    const entries = this.#read(this.#pages.firstPages[region]! + offset / QEMU_PAGE_BYTES, count);
    for (let i = 0; i < count; i++) {
      const place = entries[2 * i]! + entries[2 * i + 1]! * 2 ** 32;
      if (place === QEMU_NEVER_SENT) absent[i] = 1;
      const isNowhere = place === QEMU_NEVER_SENT || place === QEMU_SENT_ZERO;
      addExtent(extents, isNowhere ? NO_FILE : this.#pages.fd, place, QEMU_PAGE_BYTES);
    }
    return 'extents';
  }

  /** Two words (low, high) an entry; what lies behind the end of the table was never sent. */
  #read(firstEntry: number, count: number): Uint32Array {
    if (this.#entries.length < 2 * count) this.#entries = new Uint32Array(2 * count);
    const bytes = new Uint8Array(this.#entries.buffer, 0, count * ENTRY_BYTES);
    const { fd, path } = this.#pages.table;
    for (let done = 0; done < bytes.length; ) {
      const got = readTable(fd, path, bytes, done, firstEntry * ENTRY_BYTES + done);
      if (got === 0) {
        bytes.fill(0, done);
        break;
      }
      done += got;
    }
    return this.#entries;
  }
}

function readTable(fd: number, path: string, bytes: Uint8Array, done: number, position: number): number {
  try {
    return readSync(fd, bytes, done, bytes.length - done, position);
  } catch (error) {
    throw error instanceof VmsnapError ? error : wrapSystemError(error, 'read the page table in', path);
  }
}
