/**
 * LiME, version 1: ranges of physical memory, each a header of 32 bytes and its bytes. The kernel module LiME writes it, and
 * AVML without --compress.
 *
 * Header, little endian: u32 0x4c694d45, u32 version 1, u64 first address, u64 last address (inclusive), 8 zero bytes.
 *
 * What lies between ranges is no memory, with one exception: AVML cuts a range into blocks of 16 MiB and leaves out those that are
 * zero. So behind a block of exactly 16 MiB, a gap of whole 16 MiB is zero memory (and should it be none after all, it reads as
 * it would have). Zero blocks at the beginning or the end of a range leave no trace. Nothing is absent.
 */

import { damaged, FOREIGN_PAGE_BYTES, type ForeignFile, hex, notSupported } from '../foreignFile.js';
import type { MemoryFact, MemoryFile } from '../memoryFile.js';
import { type MemoryRange, planRanges, RANGES_MAX } from '../ranges/planRanges.js';
import { rangePages } from '../ranges/rangePages.js';
import { countPages } from '../ranges/rangePieces.js';
import { readUpTo } from '../readUpTo.js';

export const LIME_MAGIC = Buffer.from('454d694c01000000', 'hex');
export const LIME_HEADER_BYTES = 32;

const FORMAT = 'LiME';
const AVML_BLOCK_BYTES = 2 ** 24;

/** Of any version: one that cannot be read is refused by name, and not taken for raw memory. */
export function isLime(start: Uint8Array, sizeBytes: number): boolean {
  return sizeBytes >= LIME_HEADER_BYTES && start.length >= 8 && [0, 1, 2, 3].every((i) => start[i] === LIME_MAGIC[i]);
}

export function openLime(file: ForeignFile): MemoryFile {
  const ranges = readRanges(file);
  const plan = planRanges(ranges, {
    damaged: (offset, what) => damaged(FORMAT, file.path, offset, what),
    notSupported: (offset, what) => unsupported(file, offset, what),
    isZeroGap,
  });
  return {
    format: 'lime',
    version: '1',
    facts: factsOf(ranges, plan.regions.length),
    machine: { name: undefined, uuid: undefined },
    pageSize: FOREIGN_PAGE_BYTES,
    regions: plan.regions,
    pages: rangePages(file, plan),
    countPages: () => countPages(plan),
    attachments: [],
    files: [{ fd: file.fd, path: file.path }],
    close: () => {},
  };
}

/** The rule of the opening comment. */
export function isZeroGap(before: MemoryRange, after: MemoryRange): boolean {
  const gap = after.start - before.start - before.memoryBytes;
  return before.memoryBytes === AVML_BLOCK_BYTES && gap % AVML_BLOCK_BYTES === 0;
}

function factsOf(ranges: readonly MemoryRange[], regions: number): MemoryFact[] {
  return [
    { key: 'ranges', label: 'ranges', value: ranges.length },
    { key: 'joinedRanges', label: 'ranges that continue another', value: ranges.length - regions },
  ];
}

/** Checked header of a range: first address and bytes. LiME's and AVML's differ in the first 8 bytes, which the caller knows. */
export function rangeHeader(
  format: string,
  file: ForeignFile,
  at: number,
  header: Buffer,
): { readonly start: number; readonly memoryBytes: number } {
  const start = header.readBigUInt64LE(8);
  const last = header.readBigUInt64LE(16);
  if (start > last) {
    throw damaged(
      format,
      file.path,
      at + 8,
      `a range begins at ${hex64(start)} and ends before that, at ${hex64(last)}`,
    );
  }
  if (header.readBigUInt64LE(24) !== 0n) {
    throw damaged(format, file.path, at + 24, 'the reserved bytes of a range are not zero, as was expected');
  }
  const memoryBytes = Number(last - start + 1n);
  if (last >= BigInt(Number.MAX_SAFE_INTEGER)) {
    throw damaged(format, file.path, at + 16, `a range ends at the address ${hex64(last)}, beyond 2^53`);
  }
  return { start: Number(start), memoryBytes };
}

function readRanges(file: ForeignFile): MemoryRange[] {
  const header = Buffer.alloc(LIME_HEADER_BYTES);
  const ranges: MemoryRange[] = [];
  let at = 0;
  while (at < file.sizeBytes) {
    const got = readUpTo(file, at, header);
    if (got < LIME_HEADER_BYTES) {
      throw damaged(
        FORMAT,
        file.path,
        at,
        `the file ends after ${got} bytes of a range's header, and 32 were expected`,
      );
    }
    if (!LIME_MAGIC.equals(header.subarray(0, LIME_MAGIC.length))) throw noHeader(file, at, header);
    const { start, memoryBytes } = rangeHeader(FORMAT, file, at, header);
    const fileOffset = at + LIME_HEADER_BYTES;
    if (fileOffset + memoryBytes > file.sizeBytes) {
      throw damaged(
        FORMAT,
        file.path,
        at,
        `the range at ${hex(start)} takes ${memoryBytes} bytes, and the file ends after ${file.sizeBytes - fileOffset} of them`,
      );
    }
    if (ranges.length === RANGES_MAX) throw unsupported(file, at, `more than ${RANGES_MAX} ranges`);
    ranges.push({ start, memoryBytes, fileOffset, toldAt: at });
    at = fileOffset + memoryBytes;
  }
  return ranges;
}

function noHeader(file: ForeignFile, at: number, header: Buffer) {
  const magic = header.readUInt32LE(0);
  const version = header.readUInt32LE(4);
  if (magic === LIME_MAGIC.readUInt32LE(0)) {
    return unsupported(file, at + 4, `version ${version} of a range, and 1 was expected`);
  }
  return damaged(
    FORMAT,
    file.path,
    at,
    `the magic of a range is ${hex(magic)}, and ${hex(LIME_MAGIC.readUInt32LE(0))} was expected`,
  );
}

function unsupported(file: ForeignFile, at: number, what: string) {
  return notSupported(FORMAT, file.path, at, what, 'make the dump again with LiME 1.x or AVML');
}

function hex64(value: bigint): string {
  return `0x${value.toString(16)}`;
}
