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
import { attachmentNameFault } from '../formats/vmsnap/manifest.js';
import { native } from '../native/binding.js';
import { VmsnapError } from '../native/errors.js';
import { type CodecSettings, LEVELS } from './codecs.js';
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
  readonly threads: number;
  readonly labels: ReadonlyMap<string, string>;
  readonly createdAt: string;
}

export function usage(message: string, hint?: string): VmsnapError {
  return new VmsnapError('USAGE', message, { hint });
}

export function checkSaveOptions(options: SaveOptions): SaveSettings {
  const pageSize = size('page size', options.pageSize ?? DEFAULT_PAGE_BYTES, PAGE_MIN_BYTES, PAGE_MAX_BYTES);
  const segmentSize = size(
    'segment size',
    options.segmentSize ?? DEFAULT_SEGMENT_BYTES,
    SEGMENT_MIN_BYTES,
    SEGMENT_MAX_BYTES,
  );
  const chunkDefault = Math.max(DEFAULT_CHUNK_BYTES, pageSize);
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
    detector: checkDetector(options.detector ?? 'auto'),
    threads: checkThreads(options.threads),
    labels: checkLabels(options.labels),
    createdAt: creationTime(),
  };
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

/** @throws ENGINE where a detector is demanded that cannot run here. */
function checkDetector(name: DetectorName): DetectorName {
  if (name === 'auto') return name;
  const detectors = native.detectors();
  const status = detectors.find((detector) => detector.name === name);
  if (status === undefined)
    throw usage(`there is no detector "${name}"`, `choose auto or one of ${detectors.map((d) => d.name).join(', ')}`);
  if (status.available) return name;
  throw new VmsnapError('ENGINE', `the detector ${name} cannot be used here: ${status.reason}`, {
    hint: 'use --detector auto',
  });
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
    const fault = attachmentNameFault(name);
    if (fault !== undefined) throw usage(`attachment name ${JSON.stringify(name)} ${fault}`);
    if (names.has(name)) throw usage(`two attachments are named "${name}"`);
    names.add(name);
  }
}

/** To the second; SOURCE_DATE_EPOCH (reproducible-builds.org) makes images reproducible. */
function creationTime(): string {
  const epoch = process.env.SOURCE_DATE_EPOCH;
  if (epoch === undefined || epoch === '') return isoSeconds(Date.now());
  const seconds = Number(epoch);
  if (!/^\d{1,12}$/.test(epoch)) throw usage(`SOURCE_DATE_EPOCH is "${epoch}", no number of seconds`);
  return isoSeconds(seconds * 1000);
}

function isoSeconds(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
