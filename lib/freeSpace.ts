/**
 * Whether an image has room in the file system that it is to be written to, asked before the first byte is.
 *
 * Where even a source of nothing but data that does not shrink would fit, that is all. Else a sample of it is scanned and compressed
 * (estimate.ts): if not even the lower bound fits, the save is refused; if the likely size does not, it is warned of. An
 * image that is replaced stays until the new one is whole, so its space does not count. A pipe, whose size nobody
 * knows, and a differential image, which may be far smaller than any estimate without its base, are not checked.
 */
import { realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import type { MemoryAttachment } from '../formats/memoryFile.js';
import { MIB } from '../formats/vmsnap/layout.js';
import { VmsnapError } from '../native/errors.js';
import { namedFileStats, openFileStats } from '../native/fileStats.js';
import { type EstimateSource, estimateOpened, freeBytesOf } from './estimate.js';
import type { SaveSettings } from './options.js';
import { isRandom, type RandomDescription } from './pipeline/feeds/sourceDescription.js';
import type { SaveOptions, Warning } from './types.js';

/** Less than a whole estimate takes: the save is waiting. */
const SAMPLE_BYTES = 64 * MIB;
const SAMPLE_PIECES = 64;
/** What an image has beside its data, at most: tables, index, manifests. */
const OVERHEAD_SHARE = 0.02;
const OVERHEAD_BYTES = 2 * MIB;
const STAT_BLOCK_BYTES = 512;

/** @throws NO_SPACE if the image cannot fit. */
export async function requireRoom(
  image: string,
  source: EstimateSource,
  settings: SaveSettings,
  options: SaveOptions,
  warn: (warning: Warning) => void,
): Promise<void> {
  const { description, regions } = source;
  if (!isRandom(description) || options.base !== undefined) return;
  const free = freeBytesOf(folderOf(image));
  if (free === undefined) return;
  const mostData = mostMemory(description, regions) + attachedBytes(options, source);
  if (mostData * (1 + OVERHEAD_SHARE) + OVERHEAD_BYTES <= free) return;
  const sampleBytes = Math.max(SAMPLE_BYTES, SAMPLE_PIECES * settings.chunkSize);
  const { name, uuid, signal } = options;
  const { imageBytes } = await estimateOpened(source, settings, { sampleBytes, name, uuid, signal });
  if (imageBytes.low > free) throw noRoom(image, imageBytes.low, free);
  if (imageBytes.likely <= free) return;
  const message = `${image} will likely not fit: it takes about ${imageBytes.likely} bytes, and its file system has ${free} left`;
  warn({ code: 'target-may-be-too-small', message });
}

function noRoom(image: string, needed: number, free: number): VmsnapError {
  return new VmsnapError(
    'NO_SPACE',
    `no space left for ${image}: it would take at least ${needed} bytes, and its file system has ${free} left`,
    {
      path: image,
      hint: 'free some space, or choose another file system; "vmsnap estimate" tells what a save takes at other levels',
    },
  );
}

/** Where the temporary file stands: behind a symbolic link, in the folder that it leads to. */
function folderOf(image: string): string {
  try {
    return dirname(realpathSync(image));
  } catch {
    return dirname(image);
  }
}

function attachedBytes({ attachments }: SaveOptions, source: EstimateSource): number {
  const files = (attachments ?? []).map(({ file }) => namedFileStats(file)?.size ?? 0);
  const parts = (source.attachments ?? []).map((part) => partBytes(part) ?? 0);
  return [...files, ...parts].reduce((sum, sizeBytes) => sum + sizeBytes, 0);
}

/** Undefined where only its end will tell. */
function partBytes(part: MemoryAttachment): number | undefined {
  if ('bytes' in part) return part.bytes.length;
  return 'sizeBytes' in part ? part.sizeBytes : undefined;
}

/** Bytes of memory that may be data, at most: of plain files, what is no hole; of others, that may be compressed, all. */
function mostMemory(description: RandomDescription, regions: EstimateSource['regions']): number {
  if (description.kind === 'pages') return regions.reduce((sum, { sizeBytes }) => sum + sizeBytes!, 0);
  const wanted = new Map<number, { readonly path: string; readonly bytes: number }>();
  for (const { fd, path, lengthBytes } of description.regions)
    wanted.set(fd, { path, bytes: (wanted.get(fd)?.bytes ?? 0) + lengthBytes });
  let sum = 0;
  for (const [fd, { path, bytes }] of wanted) {
    const stats = openFileStats({ fd, path });
    sum += stats.isFile() ? Math.min(bytes, stats.blocks * STAT_BLOCK_BYTES) : bytes;
  }
  return sum;
}
