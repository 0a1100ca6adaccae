/**
 * The bytes of a kdump file by their offsets in the dump, wherever they lie in the file at hand: as they are, or as records of
 * the flattened format. Messages name offsets of the file at hand.
 */
import type { VmsnapError } from '../../native/errors.js';
import { damaged, notSupported, readAll } from '../foreignFile.js';
import { type FlatRecords, FlattenedBytes } from './flattenedBytes.js';

/** Plain data, for other threads. */
export type DumpPlace =
  | { readonly kind: 'plain'; readonly fd: number; readonly path: string; readonly sizeBytes: number }
  | { readonly kind: 'flattened'; readonly records: FlatRecords };

export interface DumpBytes {
  readonly path: string;
  /** What messages call it. */
  readonly format: string;
  /** Of the dump. */
  readonly sizeBytes: number;
  /** Fills `into` from an offset of the dump on. Bytes beyond the end of the dump are asked for by nobody. */
  read(offset: number, into: Uint8Array): void;
  /** Where a byte of the dump lies in the file at hand. */
  fileOffset(offset: number): number;
}

export function openDumpBytes(place: DumpPlace): DumpBytes {
  return place.kind === 'plain' ? new PlainBytes(place) : new FlattenedBytes(place.records);
}

class PlainBytes implements DumpBytes {
  readonly format = 'kdump';
  readonly path: string;
  readonly sizeBytes: number;
  readonly #fd: number;

  constructor({ fd, path, sizeBytes }: { fd: number; path: string; sizeBytes: number }) {
    this.#fd = fd;
    this.path = path;
    this.sizeBytes = sizeBytes;
  }

  read(offset: number, into: Uint8Array): void {
    readAll({ fd: this.#fd, path: this.path }, offset, into);
  }

  fileOffset(offset: number): number {
    return offset;
  }
}

export function damagedDump(dump: DumpBytes, offset: number, what: string): VmsnapError {
  return damaged(dump.format, dump.path, dump.fileOffset(offset), what);
}

export function unsupportedDump(dump: DumpBytes, offset: number, what: string, hint: string): VmsnapError {
  return notSupported(dump.format, dump.path, dump.fileOffset(offset), what, hint);
}
