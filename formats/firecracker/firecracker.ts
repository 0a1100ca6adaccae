/**
 * Snapshots of Firecracker: a memory file without any header, the regions of the machine end to end in the order of their addresses; and beside it a
 * file with the state of the machine (vmstate). Which regions there are follows from the size and the layout of x86-64;
 * the list itself stands in the state file, whose encoding (bitcode) nobody can read who has not the same Rust types. So that is
 * kept as it is, after its checksum: CRC-64 over the whole file is 0.
 *
 * A diff snapshot's memory file is of the same size and holds only the pages that were written since; its holes say "as in
 * the file before". It is read over that file. A page of which any byte is stored is taken from the diff whole.
 *
 * Zero-fill rule: a hole of a full file is zero (untouched, or a slot of hotplug memory that is not plugged); a hole of a diff is what the base
 * has there, which again may be a hole, and zero. Nothing is absent, and nothing is stale.
 */

import { closeSync, openSync } from 'node:fs';
import { VmsnapError, withSystemErrors } from '../../native/errors.js';
import { openFileStats } from '../../native/fileStats.js';
import { countDataPages } from '../holes.js';
import type { ExtentPages, KnownPages, MemoryFact, MemoryFile, SourceExtent } from '../memoryFile.js';
import { readUpTo } from '../readUpTo.js';
import type { RegionManifest } from '../vmsnap/manifest.js';
import { crc64 } from './crc64.js';
import type { FirecrackerDiffPages } from './diffFinder.js';
import { requireHoles } from './diffFinder.js';
import { FIRECRACKER_X86_WINDOWS } from './layout.js';

const PAGE_BYTES = 4096;
/** Firecracker itself reads no more. */
const VMSTATE_MAX_BYTES = 10_000_000;
const CRC_BYTES = 8;
const REGION_NAMES = ['ram', 'ram-above-4g', 'ram-above-512g'];

interface OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly sizeBytes: number;
}

export interface FirecrackerParts {
  /** The state file. */
  readonly vmstate?: string | undefined;
  /** The full memory file below a diff. */
  readonly diffBase?: string | undefined;
}

/** Opens a memory file, and what belongs to it. */
export function openFirecracker(file: OpenFile, parts: FirecrackerParts): MemoryFile {
  const opened: OpenFile[] = [];
  const close = () => {
    for (const { fd } of opened) closeSync(fd);
    opened.length = 0;
  };
  const open = (path: string, what: string): OpenFile => {
    const own = openFile(path, what);
    opened.push(own);
    return own;
  };
  try {
    const regions = regionsOf(file);
    const vmstate = parts.vmstate === undefined ? undefined : open(parts.vmstate, 'state file');
    if (vmstate !== undefined) checkVmstate(vmstate);
    const base = parts.diffBase === undefined ? undefined : open(parts.diffBase, 'base of the diff');
    if (base !== undefined) checkBase(file, base);
    return {
      format: 'firecracker',
      version: undefined,
      facts: factsOf(file, base, vmstate),
      machine: { name: undefined, uuid: undefined },
      pageSize: PAGE_BYTES,
      regions,
      pages: base === undefined ? fullPages(file, regions) : diffPages(file, base, regions),
      countPages: () => knownPages(base === undefined ? [file] : [file, base], file.sizeBytes),
      attachments: vmstate === undefined ? [] : [{ ...vmstate, name: 'vmstate', offset: 0 }],
      files: [file, ...opened].map(({ fd, path }) => ({ fd, path })),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function openFile(path: string, what: string): OpenFile {
  const fd = withSystemErrors(`open the ${what}`, path, () => openSync(path, 'r'));
  const stats = openFileStats({ fd, path });
  if (stats.isFile()) return { fd, path, sizeBytes: stats.size };
  closeSync(fd);
  throw new VmsnapError('USAGE', `the ${what} ${path} is no regular file`, { path });
}

function regionsOf({ path, sizeBytes }: OpenFile): RegionManifest[] {
  if (sizeBytes === 0 || sizeBytes % PAGE_BYTES !== 0) {
    throw new VmsnapError(
      'CORRUPT',
      `${path} has ${sizeBytes} bytes: no memory file of Firecracker, which is whole pages of ${PAGE_BYTES} bytes`,
      { path, offset: sizeBytes, hint: 'is it whole?' },
    );
  }
  const regions: RegionManifest[] = [];
  let left = sizeBytes;
  for (const [i, [start, end]] of FIRECRACKER_X86_WINDOWS.entries()) {
    const size = Math.min(left, end - start);
    if (size > 0) regions.push({ name: REGION_NAMES[i]!, gpa: start, sizeBytes: size });
    left -= size;
  }
  return regions;
}

function checkVmstate(file: OpenFile): void {
  const { path, sizeBytes } = file;
  if (sizeBytes > VMSTATE_MAX_BYTES || sizeBytes <= CRC_BYTES) {
    throw notVmstate(path, sizeBytes, `it has ${sizeBytes} bytes (allowed: 9 to ${VMSTATE_MAX_BYTES})`);
  }
  const bytes = Buffer.alloc(sizeBytes);
  const got = readUpTo(file, 0, bytes);
  if (got < sizeBytes)
    throw notVmstate(path, got, `it ends at offset ${got}, and had ${sizeBytes} bytes when it was opened`);
  const crc = crc64(bytes);
  if (crc === 0n) return;
  throw notVmstate(path, sizeBytes - CRC_BYTES, `its CRC-64 is 0x${crc.toString(16)} and not 0`);
}

function notVmstate(path: string, offset: number, fault: string): VmsnapError {
  return new VmsnapError('CORRUPT', `${path} is no sound state file of Firecracker: ${fault}`, {
    path,
    offset,
    hint: 'give the snapshot_path of the same snapshot; or leave out --vmstate and attach it unchecked with --attach vmstate=FILE',
  });
}

/** The format has no checksum by which to tell that base and diff belong together: only their sizes can be compared. */
function checkBase(diff: OpenFile, base: OpenFile): void {
  const [own, other] = [openFileStats(diff), openFileStats(base)];
  if (own.ino === other.ino && own.dev === other.dev) {
    throw new VmsnapError('USAGE', `the diff and its base are the same file, ${base.path}`, { path: base.path });
  }
  if (diff.sizeBytes !== base.sizeBytes) {
    throw new VmsnapError(
      'BASE_MISMATCH',
      `${base.path} has ${base.sizeBytes} bytes and the diff ${diff.path} ${diff.sizeBytes}: they are not of one machine`,
      { path: base.path, hint: 'give the memory file of the full snapshot before it, with older diffs merged' },
    );
  }
  requireHoles(diff);
}

function fullPages({ fd, path }: OpenFile, regions: readonly RegionManifest[]): ExtentPages {
  let fileOffset = 0;
  const extents = regions.map(({ sizeBytes }): SourceExtent => {
    const extent = { fd, path, fileOffset, lengthBytes: sizeBytes! };
    fileOffset += sizeBytes!;
    return extent;
  });
  return { kind: 'extents', regions: extents };
}

function diffPages(diff: OpenFile, base: OpenFile, regions: readonly RegionManifest[]): FirecrackerDiffPages {
  let offset = 0;
  const regionOffsets = regions.map(({ sizeBytes }) => {
    offset += sizeBytes!;
    return offset - sizeBytes!;
  });
  return {
    kind: 'firecracker-diff',
    diff: { fd: diff.fd, path: diff.path },
    base: { fd: base.fd, path: base.path },
    regionOffsets,
    longExtents: [base, diff].map(({ fd, path, sizeBytes }) => ({ fd, path, fileOffset: 0, lengthBytes: sizeBytes })),
  };
}

/** Whatever neither file has data of is zero. */
function knownPages(files: readonly OpenFile[], sizeBytes: number): KnownPages {
  const stored = countDataPages(files, sizeBytes, PAGE_BYTES);
  return { stored, zero: sizeBytes / PAGE_BYTES - stored, absent: 0 };
}

function factsOf(file: OpenFile, base: OpenFile | undefined, vmstate: OpenFile | undefined): MemoryFact[] {
  const facts: MemoryFact[] = [{ key: 'snapshotType', label: 'snapshot', value: base === undefined ? 'full' : 'diff' }];
  if (base !== undefined) facts.push({ key: 'diffBase', label: 'base', value: base.path });
  const { blocks } = openFileStats(file);
  facts.push({ key: 'allocatedBytes', label: 'allocated bytes', value: blocks * 512 });
  if (vmstate !== undefined) facts.push({ key: 'vmstate', label: 'state file', value: vmstate.path });
  return facts;
}
