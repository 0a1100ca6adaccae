/** Opens a memory file of another tool, by its content or as the format that was asked for, and checks what its reader says. */

import type { MemoryAttachment, MemoryFile, MemoryFormat } from '../../formats/memoryFile.js';
import { readUpTo } from '../../formats/readUpTo.js';
import { ATTACHMENTS_MAX, REGIONS_MAX } from '../../formats/vmsnap/layout.js';
import { fileNameFault, nameFault, type RegionManifest, regionsFault } from '../../formats/vmsnap/manifest.js';
import { VmsnapError } from '../../native/errors.js';
import type { SourceOptions } from '../types.js';
import { FOREIGN_FORMATS, type ForeignFile, type ForeignFormat, recognise, START_BYTES } from './recognise.js';
import { refuseUnread } from './unread.js';

/** What a memory file is taken for: by its content, raw whatever is in it, or one of a tool. */
export type FormatOption = 'auto' | 'raw' | MemoryFormat;

/** Whether it is a file of another tool. `forced`: it must be of this format. @throws USAGE if it is not. */
export function formatOf(file: ForeignFile, forced: FormatOption): ForeignFormat | undefined {
  if (forced === 'raw') return undefined;
  const start = Buffer.alloc(START_BYTES);
  const found = start.subarray(0, readUpTo(file, 0, start));
  if (forced === 'auto') return recogniseOrRefuse(found, file.sizeBytes, file.path);
  return requireFormat(forced, found, file.sizeBytes, file.path);
}

/** By content. @throws UNSUPPORTED for what is known and not read. */
export function recogniseOrRefuse(start: Uint8Array, sizeBytes: number, path: string): ForeignFormat | undefined {
  const entry = recognise(start, sizeBytes);
  if (entry === undefined) refuseUnread(start, path);
  return entry;
}

/** The format that was asked for. @throws USAGE if the bytes are not of it. */
export function requireFormat(forced: MemoryFormat, start: Uint8Array, sizeBytes: number, path: string): ForeignFormat {
  if (forced === 'cloud-hypervisor') {
    throw new VmsnapError('USAGE', `${path} is no folder, as a Cloud Hypervisor snapshot is`, { path });
  }
  const entry = FOREIGN_FORMATS.find(({ format }) => format === forced);
  if (entry?.is(start, sizeBytes)) return entry;
  const other = recognise(start, sizeBytes);
  throw new VmsnapError('USAGE', `${path} is ${other?.title ?? 'none of the formats known'}, and not ${forced}`, {
    path,
    hint: 'leave out --format, and the content decides',
  });
}

/** Opens and checks. @throws as the reader does, with a hint on raw memory if nobody said what it is. */
export async function openForeign(
  file: ForeignFile,
  entry: ForeignFormat,
  options: SourceOptions,
): Promise<MemoryFile> {
  try {
    return checkedMemoryFile(await entry.open(file, options), file.path);
  } catch (error) {
    throw (options.format ?? 'auto') === 'auto' ? withRawHint(error, file.path, entry) : error;
  }
}

/** A memory file that was opened just now; closed if it does not keep to what every reader must. */
export function checkedMemoryFile(opened: MemoryFile, path: string): MemoryFile {
  try {
    checkMemoryFile(opened, path);
    return opened;
  } catch (error) {
    opened.close();
    throw error;
  }
}

/** Memory may look like a file of another tool by chance: who is told that it is damaged must know the way out. */
export function orElseRaw<T>(path: string, entry: ForeignFormat, forced: FormatOption, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw forced === 'auto' ? withRawHint(error, path, entry) : error;
  }
}

export function withRawHint(error: unknown, path: string, { title }: ForeignFormat): unknown {
  if (!(error instanceof VmsnapError) || (error.code !== 'CORRUPT' && error.code !== 'UNSUPPORTED')) return error;
  const raw = `it begins like ${title}; if it is raw memory all the same, say so with --format raw`;
  const hint = error.hint === undefined ? raw : `${error.hint}; ${raw}`;
  return new VmsnapError(error.code, error.message, { path, offset: error.offset, hint, cause: error.cause });
}

/** What every reader must keep to, whatever stands in its file. */
export function checkMemoryFile(
  { format, pageSize, regions, attachments }: Pick<MemoryFile, 'format' | 'pageSize' | 'regions' | 'attachments'>,
  path: string,
): void {
  const fault = regionCountFault(regions) ?? regionsFault(regions, pageSize) ?? attachmentsFault(attachments);
  if (fault !== undefined) throw new VmsnapError('CORRUPT', `${path} (${format}): ${fault}`, { path });
}

function regionCountFault(regions: readonly RegionManifest[]): string | undefined {
  if (regions.length >= 1 && regions.length <= REGIONS_MAX) return undefined;
  return `it has ${regions.length} regions of memory (allowed: 1 to ${REGIONS_MAX})`;
}

function attachmentsFault(attachments: readonly MemoryAttachment[]): string | undefined {
  if (attachments.length > ATTACHMENTS_MAX)
    return `it has ${attachments.length} parts to attach (allowed: ${ATTACHMENTS_MAX})`;
  const names = new Set<string>();
  for (const { name } of attachments) {
    const fault = fileNameFault(name);
    if (fault !== undefined) return `the name ${JSON.stringify(name)} of a part of it ${fault}`;
    if (names.has(name)) return `two parts of it are named ${JSON.stringify(name)}`;
    names.add(name);
  }
  return undefined;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What a file calls its machine, where that is a name and a uuid as an image may have them. */
export function soundMachine({ name, uuid }: MemoryFile['machine']): MemoryFile['machine'] {
  const lower = uuid?.toLowerCase();
  return {
    name: name === undefined || nameFault(name) !== undefined ? undefined : name,
    uuid: lower !== undefined && UUID.test(lower) ? lower : undefined,
  };
}
