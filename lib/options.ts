/** Options of a save checked and filled in, with one style of message. */
import {
  CHUNK_MAX_BYTES,
  CHUNK_MIN_BYTES,
  type CodecName,
  isPowerOfTwo,
  PAGE_MAX_BYTES,
  PAGE_MIN_BYTES,
  SEGMENT_MAX_BYTES,
  SEGMENT_MIN_BYTES,
} from '../formats/vmsnap/layout.js';
import { fileNameFault } from '../formats/vmsnap/manifest.js';
import { VmsnapError } from '../native/errors.js';
import { currentTime } from './clock.js';
import { type CodecSettings, LEVELS } from './codecs.js';
import { checkDetectorOptions } from './detector.js';
import { defaultThreads } from './threads.js';
import type { DetectorName, SaveOptions } from './types.js';

const DEFAULT_PAGE_BYTES = 4096;
const DEFAULT_SEGMENT_BYTES = 4 * 1024 * 1024;
const DEFAULT_CHUNK_BYTES = 256 * 1024;
const THREADS_MAX = 1024;

export interface SaveSettings {
  readonly codec: CodecSettings;
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly chunkSize: number;
  readonly detector: DetectorName;
  readonly normalPageRatio: number;
  readonly threads: number;
  readonly labels: ReadonlyMap<string, string>;
  readonly createdAt: string;
}

export function usage(message: string, hint?: string): VmsnapError {
  return new VmsnapError('USAGE', message, { hint });
}

/** Sizes that hold where none are given. */
export interface SizeDefaults {
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly chunkSize: number;
}

const SIZE_DEFAULTS: SizeDefaults = {
  pageSize: DEFAULT_PAGE_BYTES,
  segmentSize: DEFAULT_SEGMENT_BYTES,
  chunkSize: DEFAULT_CHUNK_BYTES,
};

export function checkSaveOptions(options: SaveOptions, defaults = SIZE_DEFAULTS): SaveSettings {
  const pageSize = size('page size', options.pageSize ?? defaults.pageSize, PAGE_MIN_BYTES, PAGE_MAX_BYTES);
  const segmentSize = size(
    'segment size',
    options.segmentSize ?? (options.live === undefined ? defaults.segmentSize : liveSegmentSize(options, pageSize)),
    SEGMENT_MIN_BYTES,
    SEGMENT_MAX_BYTES,
  );
  const chunkDefault = Math.max(defaults.chunkSize, pageSize);
  const chunkSize = size('chunk size', options.chunkSize ?? chunkDefault, CHUNK_MIN_BYTES, CHUNK_MAX_BYTES);
  if (segmentSize < pageSize) throw usage(`a segment of ${segmentSize} bytes is smaller than a page of ${pageSize}`);
  if (chunkSize < pageSize) throw usage(`a chunk of ${chunkSize} bytes is smaller than a page of ${pageSize}`);
  if (chunkSize > segmentSize) throw usage(`a chunk of ${chunkSize} bytes is larger than a segment of ${segmentSize}`);
  checkAttachments(options);
  return {
    codec: checkCodec(options.codec ?? 'zstd', options.level),
    pageSize,
    segmentSize,
    chunkSize,
    detector: checkDetectorOptions(options),
    normalPageRatio: checkRatio(options.normalPageRatio),
    threads: checkThreads(options.threads),
    labels: checkLabels(options.labels),
    createdAt: isoSeconds(options.createdAt?.getTime() ?? currentTime()),
  };
}

/** Where one page changes, its segment is stored twice: the smaller segments are, the less that is. */
function liveSegmentSize({ chunkSize = 0 }: SaveOptions, pageSize: number): number {
  return Math.max(SEGMENT_MIN_BYTES, pageSize, chunkSize);
}

function size(what: string, value: number, min: number, max: number): number {
  if (isPowerOfTwo(value) && value >= min && value <= max) return value;
  throw usage(`the ${what} is ${value}; it must be a power of two from ${min} to ${max}`);
}

function checkCodec(name: CodecName, level: number | undefined): CodecSettings {
  const levels = Object.hasOwn(LEVELS, name) ? LEVELS[name] : undefined;
  if (levels === undefined)
    throw usage(`there is no codec "${name}"`, `choose one of ${Object.keys(LEVELS).join(', ')}`);
  if (name === 'none') {
    if (level !== undefined) throw usage('the codec "none" has no levels');
    return { name, level: undefined };
  }
  const chosen = level ?? levels.default!;
  if (Number.isInteger(chosen) && chosen >= levels.min && chosen <= levels.max) return { name, level: chosen };
  throw usage(`level ${chosen} of ${name} does not exist; levels go from ${levels.min} to ${levels.max}`);
}

function checkRatio(percent: number | undefined): number {
  if (percent === undefined) return 0;
  if (Number.isInteger(percent) && percent >= 0 && percent <= 100) return percent;
  throw usage(`a normal page ratio of ${percent} is not possible; choose 0 to 100`);
}

export function checkThreads(threads: number | undefined): number {
  if (threads === undefined) return Math.min(defaultThreads(), THREADS_MAX);
  if (Number.isInteger(threads) && threads >= 1 && threads <= THREADS_MAX) return threads;
  throw usage(`${threads} threads are not possible; choose 1 to ${THREADS_MAX}`);
}

function checkLabels(labels: SaveOptions['labels']): ReadonlyMap<string, string> {
  const entries = labels instanceof Map ? [...labels] : Object.entries(labels ?? {});
  for (const [key, value] of entries) {
    if (key === '' || typeof value !== 'string') throw usage(`label "${key}" is not KEY=VALUE`);
  }
  return new Map(entries);
}

function checkAttachments(options: SaveOptions): void {
  const names = new Set<string>();
  for (const { name } of options.attachments ?? []) {
    const fault = fileNameFault(name);
    if (fault !== undefined) throw usage(`attachment name ${JSON.stringify(name)} ${fault}`);
    if (names.has(name)) throw usage(`two attachments are named "${name}"`);
    names.add(name);
  }
}

/** As images have it: UTC, to the second. */
export function isoSeconds(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
