/**
 * Snapshots of Cloud Hypervisor: a folder with config.json, state.json and memory-ranges. The last holds the memory ranges
 * that state.json lists, end to end in the order of the list and without any header.
 *
 * Zero-fill rule: memory-ranges is as long as all the ranges together; its holes are zero. Nothing is absent. What Cloud Hypervisor leaves
 * out, memory in files of its own that are shared, is not on the list; a snapshot of nothing else has no memory-ranges, and is refused.
 */

import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { VmsnapError, withSystemErrors } from '../../native/errors.js';
import { namedFileStats, openFileStats } from '../../native/fileStats.js';
import { countDataPages } from '../holes.js';
import type { ExtentPages, MemoryAttachment, MemoryFact, MemoryFile } from '../memoryFile.js';
import { readUpTo } from '../readUpTo.js';
import { corruptState, findMemoryRanges, type MemoryRange, parseJson } from './memoryRanges.js';

const PAGE_BYTES = 4096;
const CONFIG = 'config.json';
const STATE = 'state.json';
const MEMORY = 'memory-ranges';
/** A machine of 512 vCPUs has a state of some MiB. */
const JSON_MAX_BYTES = 32 * 1024 * 1024;

interface OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly sizeBytes: number;
}

/** Whether a folder is such a snapshot, by what is in it. */
export function isCloudHypervisor(folder: string): boolean {
  return [CONFIG, STATE].every((name) => namedFileStats(join(folder, name))?.isFile() ?? false);
}

export function openCloudHypervisor(folder: string): MemoryFile {
  const opened: OpenFile[] = [];
  const close = () => {
    for (const { fd } of opened) closeSync(fd);
    opened.length = 0;
  };
  const open = (name: string): OpenFile => {
    const file = openFile(join(folder, name));
    opened.push(file);
    return file;
  };
  try {
    const config = open(CONFIG);
    const state = open(STATE);
    const ranges = findMemoryRanges(readJson(state), state.path);
    checkRanges(ranges, state.path);
    requireMemory(folder, ranges);
    const memory = open(MEMORY);
    checkSize(memory, ranges);
    const { uuid, facts } = readConfig(config);
    return {
      format: 'cloud-hypervisor',
      version: undefined,
      facts,
      machine: { name: undefined, uuid },
      pageSize: PAGE_BYTES,
      regions: ranges.map(({ gpa, sizeBytes }) => ({ name: `ram-0x${gpa.toString(16)}`, gpa, sizeBytes })),
      pages: extentPages(memory, ranges),
      countPages: () => {
        const stored = countDataPages([memory], memory.sizeBytes, PAGE_BYTES);
        return { stored, zero: memory.sizeBytes / PAGE_BYTES - stored, absent: 0 };
      },
      attachments: [attachment(CONFIG, config), attachment(STATE, state)],
      files: opened.map(({ fd, path }) => ({ fd, path })),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function openFile(path: string): OpenFile {
  const fd = withSystemErrors('open', path, () => openSync(path, 'r'));
  const stats = openFileStats({ fd, path });
  if (stats.isFile()) return { fd, path, sizeBytes: stats.size };
  closeSync(fd);
  throw corruptState(path, 'it is no regular file');
}

function readJson(file: OpenFile): Buffer {
  const { path, sizeBytes } = file;
  if (sizeBytes > JSON_MAX_BYTES) throw corruptState(path, `it has ${sizeBytes} bytes (allowed: ${JSON_MAX_BYTES})`);
  const bytes = Buffer.alloc(sizeBytes);
  return bytes.subarray(0, readUpTo(file, 0, bytes));
}

function checkRanges(ranges: readonly MemoryRange[], path: string): void {
  for (const [i, { gpa, sizeBytes }] of ranges.entries()) {
    if (gpa % PAGE_BYTES === 0 && sizeBytes % PAGE_BYTES === 0) continue;
    throw corruptState(path, `range ${i} (gpa ${gpa}, length ${sizeBytes}) is no whole pages of ${PAGE_BYTES} bytes`);
  }
}

function requireMemory(folder: string, ranges: readonly MemoryRange[]): void {
  const path = join(folder, MEMORY);
  if (ranges.length > 0 && namedFileStats(path) !== undefined) return;
  const what = ranges.length > 0 ? `has no ${MEMORY}` : 'lists no memory';
  throw new VmsnapError('UNSUPPORTED', `the snapshot ${folder} ${what}: its memory is not in it`, {
    path: folder,
    hint: 'memory zones in shared files are no part of a snapshot: save those files themselves, with --region NAME=SIZE@GPA:FILE',
  });
}

function checkSize({ path, sizeBytes }: OpenFile, ranges: readonly MemoryRange[]): void {
  const wanted = ranges.reduce((sum, range) => sum + range.sizeBytes, 0);
  if (wanted === sizeBytes) return;
  throw new VmsnapError(
    'CORRUPT',
    `${path} has ${sizeBytes} bytes, and the ${ranges.length} ranges in ${STATE} take ${wanted}`,
    { path, offset: Math.min(wanted, sizeBytes), hint: 'are they of one snapshot, and whole?' },
  );
}

function extentPages({ fd, path }: OpenFile, ranges: readonly MemoryRange[]): ExtentPages {
  let fileOffset = 0;
  const regions = ranges.map(({ sizeBytes }) => {
    const extent = { fd, path, fileOffset, lengthBytes: sizeBytes };
    fileOffset += sizeBytes;
    return extent;
  });
  return { kind: 'extents', regions };
}

function attachment(name: string, { fd, path, sizeBytes }: OpenFile): MemoryAttachment {
  return { name, fd, path, offset: 0, sizeBytes };
}

interface Config {
  readonly cpus?: { readonly boot_vcpus?: unknown } | null;
  readonly platform?: { readonly uuid?: unknown } | null;
}

/** Nothing of it is needed for the memory. */
function readConfig(file: OpenFile): { uuid: string | undefined; facts: MemoryFact[] } {
  const config = parseJson(readJson(file).toString('utf8'), file.path, 'it') as Config | null;
  const vcpus = config?.cpus?.boot_vcpus;
  const uuid = config?.platform?.uuid;
  return {
    uuid: typeof uuid === 'string' ? uuid : undefined,
    facts: Number.isSafeInteger(vcpus) ? [{ key: 'vcpus', label: 'vCPUs', value: vcpus as number }] : [],
  };
}
