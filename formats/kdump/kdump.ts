/**
 * kdump-compressed files: makedumpfile's, and QEMU's dump-guest-memory in the formats kdump-zlib, kdump-snappy and so on; as they are, or
 * flattened (flatIndex.ts).
 *
 * Bitmap 1 says which page frames are memory, bitmap 2 which of them are stored. A page of memory that is not stored was excluded:
 * it is absent, whatever the dump level says of why. (Zero pages are not among them: they share one that is stored.) What is not in
 * bitmap 1 is no memory. Runs of bitmap 1 are the regions.
 */

import { closeSync } from 'node:fs';
import type { ForeignFile } from '../foreignFile.js';
import type { MemoryAttachment, MemoryFact, MemoryFile } from '../memoryFile.js';
import { namedRegions } from '../ranges/planRanges.js';
import { shared } from '../ranges/rangePages.js';
import { readUpTo } from '../readUpTo.js';
import { type BitmapFacts, readBitmaps } from './bitmaps.js';
import { type DumpBytes, type DumpPlace, damagedDump, openDumpBytes, unsupportedDump } from './dumpBytes.js';
import { FLAT_MAGIC, indexFlattened } from './flatIndex.js';
import {
  DESCRIPTOR_BYTES,
  FLAG_SNAPPY,
  FLAG_ZLIB,
  FLAG_ZSTD,
  KDUMP_MAGIC,
  type KdumpHeader,
  type Part,
  readKdumpHeader,
} from './kdumpHeader.js';
import { KDUMP_PAGES, type KdumpPages } from './kdumpPages.js';

/** Notes of 4,096 CPUs take 3 MiB. */
const ATTACHMENT_MAX_BYTES = 64 * 2 ** 20;

export function isKdump(start: Uint8Array, _sizeBytes: number): boolean {
  return begins(start, KDUMP_MAGIC) || begins(start, FLAT_MAGIC);
}

function begins(start: Uint8Array, magic: Uint8Array): boolean {
  return start.length >= magic.length && magic.every((byte, i) => start[i] === byte);
}

export function openKdump(file: ForeignFile): MemoryFile {
  const start = Buffer.alloc(FLAT_MAGIC.length);
  readUpTo(file, 0, start);
  const place: DumpPlace = begins(start, FLAT_MAGIC)
    ? { kind: 'flattened', records: indexFlattened(file) }
    : { kind: 'plain', fd: file.fd, path: file.path, sizeBytes: file.sizeBytes };
  const close = () => {
    if (place.kind === 'flattened') closeSync(place.records.spillFd);
  };
  try {
    return openDump(file, place, close);
  } catch (error) {
    close();
    throw error;
  }
}

function openDump(file: ForeignFile, place: DumpPlace, close: () => void): MemoryFile {
  const dump = openDumpBytes(place);
  const header = readKdumpHeader(dump);
  const bitmaps = readBitmaps(dump, header);
  if (bitmaps.runs.length === 0) throw damagedDump(dump, header.bitmapAt, 'its bitmap lists no memory');
  const { blockBytes, descriptorsAt, bitmapAt, bitmapBytes } = header;
  const dataAt = descriptorsAt + bitmaps.storedPages * DESCRIPTOR_BYTES;
  if (dataAt > dump.sizeBytes) {
    throw damagedDump(
      dump,
      descriptorsAt,
      `${bitmaps.storedPages} page descriptors end at offset ${dataAt}, and the dump has ${dump.sizeBytes} bytes`,
    );
  }
  const firstFrames = shared(bitmaps.runs.length);
  firstFrames.set(bitmaps.runs.map(({ first }) => first));
  const absentPages = framesIn(bitmaps) - bitmaps.storedPages;
  const pages: KdumpPages = {
    kind: KDUMP_PAGES,
    mayHaveAbsent: absentPages > 0,
    place,
    pageSize: blockBytes,
    firstFrames,
    ranks: bitmaps.ranks,
    bitmapAt: bitmapAt + bitmapBytes,
    descriptorsAt,
    dataAt,
  };
  return {
    format: 'kdump',
    version: String(header.version),
    facts: factsOf(header, bitmaps, place),
    machine: { name: undefined, uuid: undefined },
    pageSize: blockBytes,
    regions: namedRegions(bitmaps.runs.map(({ first, end }) => ({ start: first * blockBytes, end: end * blockBytes }))),
    pages,
    countPages: () => ({ stored: bitmaps.storedPages, zero: undefined, absent: absentPages }),
    attachments: attachmentsOf(file, place, dump, header),
    files: [{ fd: file.fd, path: file.path }],
    close,
  };
}

/** Those of the regions; more than there are of memory if gaps were joined (frameRuns.ts). */
function framesIn({ runs }: BitmapFacts): number {
  return runs.reduce((sum, { first, end }) => sum + end - first, 0);
}

function factsOf(header: KdumpHeader, bitmaps: BitmapFacts, place: DumpPlace): MemoryFact[] {
  return [
    { key: 'flattened', label: 'flattened', value: place.kind === 'flattened' },
    { key: 'bits', label: 'bits', value: header.bits },
    { key: 'compression', label: 'compression', value: compressionOf(header.status) },
    { key: 'dumpLevel', label: 'dump level', value: header.dumpLevel },
    { key: 'memoryPages', label: 'pages of memory', value: bitmaps.memoryPages },
    { key: 'storedPages', label: 'stored pages', value: bitmaps.storedPages },
    { key: 'excludedPages', label: 'excluded pages', value: bitmaps.memoryPages - bitmaps.storedPages },
    { key: 'cpus', label: 'CPUs', value: header.cpuCount },
    { key: 'kernel', label: 'kernel', value: header.system.kernel },
    { key: 'architecture', label: 'architecture', value: header.system.architecture },
    { key: 'vmcoreinfo', label: 'VMCOREINFO', value: header.vmcoreinfo.sizeBytes > 0 },
  ];
}

function compressionOf(status: number): string {
  if ((status & FLAG_ZLIB) !== 0) return 'zlib';
  if ((status & FLAG_SNAPPY) !== 0) return 'snappy';
  if ((status & FLAG_ZSTD) !== 0) return 'zstd';
  return 'none';
}

function attachmentsOf(file: ForeignFile, place: DumpPlace, dump: DumpBytes, header: KdumpHeader): MemoryAttachment[] {
  const parts: [string, Part][] = [
    ['elf-notes', header.notes],
    ['vmcoreinfo', header.vmcoreinfo],
    ['eraseinfo', header.eraseinfo],
  ];
  return parts
    .filter(([, { sizeBytes }]) => sizeBytes > 0)
    .map(([name, { offset, sizeBytes }]) => {
      if (place.kind === 'plain') return { name, fd: file.fd, path: file.path, offset, sizeBytes };
      if (sizeBytes > ATTACHMENT_MAX_BYTES) {
        throw unsupportedDump(
          dump,
          offset,
          `${name} of ${sizeBytes} bytes, and at most ${ATTACHMENT_MAX_BYTES} are read of a flattened dump`,
          'unflatten it with "makedumpfile -R"',
        );
      }
      const bytes = new Uint8Array(sizeBytes);
      dump.read(offset, bytes);
      return { name, bytes };
    });
}
