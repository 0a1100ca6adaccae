/** `inspect` of a memory file of another tool: what its reader finds out without reading the memory. */
import { statSync } from 'node:fs';
import { isCloudHypervisor } from '../formats/cloudHypervisor/cloudHypervisor.js';
import type { KnownPages, MemoryAttachment, MemoryFile } from '../formats/memoryFile.js';
import { withSystemErrors } from '../native/errors.js';
import { openFileStats } from '../native/fileStats.js';
import { isImage } from './compareSide.js';
import { usage } from './options.js';
import { openSource } from './source.js';
import type { InspectMemoryOptions, MemoryFileReport, RecognisedSource } from './types.js';

const PAGE_BYTES = 4096;
const STAT_BLOCK_BYTES = 512;
const NOTHING_KNOWN: KnownPages = { stored: undefined, zero: undefined, absent: undefined };

/**
 * Describes a memory file of another tool: a QEMU migration stream, an ELF core, a snapshot of Firecracker, ...
 * @param path a file, or the folder of a Cloud Hypervisor snapshot. Nothing is read of a pipe.
 * @returns undefined if it is none that its content tells: an image of vmsnap, raw memory, something else.
 * @throws VmsnapError: CORRUPT if its structures are not sound, UNSUPPORTED for what no reader understands, USAGE if
 * `format` names another than it is.
 */
export async function inspectMemoryFile(
  path: string,
  options: InspectMemoryOptions = {},
): Promise<MemoryFileReport | undefined> {
  const { format = 'auto', signal, vmstate, diffBase } = options;
  if (format === 'raw') throw usage('raw memory says nothing of itself', 'leave out --format raw');
  if (path === '-') return undefined;
  const stats = withSystemErrors('look at', path, () => statSync(path));
  if (!stats.isFile() && !stats.isDirectory()) return undefined;
  if (format === 'auto' && (stats.size === 0 || isImage(path, stats))) return undefined;
  if (stats.isDirectory() && format === 'auto' && !isCloudHypervisor(path)) return undefined;
  const source = await openSource(path, { format, signal, vmstate, diffBase }, PAGE_BYTES);
  try {
    const { memoryFile, recognised } = source;
    return memoryFile === undefined ? undefined : describe(path, memoryFile, recognised!);
  } finally {
    source.close();
  }
}

function describe(path: string, file: MemoryFile, { title }: RecognisedSource): MemoryFileReport {
  const stats = file.files.map((open) => openFileStats(open));
  const regions = file.regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes: sizeBytes! }));
  return {
    path,
    format: file.format,
    title,
    version: file.version,
    fileBytes: sum(stats.map(({ size }) => size)),
    allocatedBytes: sum(stats.map(({ blocks }) => blocks * STAT_BLOCK_BYTES)),
    machine: file.machine,
    facts: file.facts,
    memory: {
      sizeBytes: sum(regions.map(({ sizeBytes }) => sizeBytes)),
      pageSize: file.pageSize,
      regions,
      pages: file.countPages?.() ?? NOTHING_KNOWN,
    },
    attachments: file.attachments.flatMap(describeAttachment),
  };
}

/** One that comes out of a pipe has no size before it is stored. */
function describeAttachment(part: MemoryAttachment): { name: string; sizeBytes: number }[] {
  if ('bytes' in part) return [{ name: part.name, sizeBytes: part.bytes.length }];
  return 'sizeBytes' in part ? [{ name: part.name, sizeBytes: part.sizeBytes }] : [];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
