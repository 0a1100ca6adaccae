/**
 * Where a load goes: a new or replaced file (temporary file and rename), one written in place, or a stream. One interface,
 * so that the load does not care.
 */
import { closeSync, ftruncateSync, type Stats, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { HUGETLBFS_MAGIC } from '../native/binding.js';
import { VmsnapError, withSystemErrors, wrapSystemError } from '../native/errors.js';
import { namedFileStats } from '../native/fileStats.js';
import { InPlaceTarget } from './files/inPlaceTarget.js';
import { openToWrite } from './files/namedPipe.js';
import { widenPipe } from './files/pipeCapacity.js';
import { ReplacementFile } from './files/replacementFile.js';
import type { SinkDescription } from './pipeline/readJob.js';
import type { LoadOptions } from './types.js';

const STDOUT_FD = 1;
const DEFAULT_MODE = 0o600;

export interface LoadTarget {
  readonly sink: SinkDescription;
  readonly inPlace: boolean;
  /** Makes room for so many bytes; called once before the first write, and again where the size is known only at the end. */
  resize(sizeBytes: number): void;
  /** Everything is written and proven: make it durable. */
  finish(): Promise<void>;
  /** After a failure; does nothing after `finish`. */
  discard(): void;
}

export async function openTarget(path: string, options: LoadOptions): Promise<LoadTarget> {
  if (path === '-') return streamTarget(STDOUT_FD, 'standard output', () => {});
  const stats = namedFileStats(path);
  if (stats?.isDirectory())
    throw new VmsnapError('USAGE', `the target ${path} is a folder`, { path, hint: 'give the name of a file in it' });
  if (stats !== undefined && isStream(stats)) {
    const fd = await openStream(path, options.signal);
    return streamTarget(fd, path, () => closeSync(fd));
  }
  if (options.inPlace || stats?.isBlockDevice() || isOnHugetlbfs(path)) return inPlaceTarget(path, stats, options);
  return replacementTarget(path, options);
}

/** Whether the target takes its bytes in order. */
export function isStreamTarget(path: string): boolean {
  if (path === '-') return true;
  const stats = namedFileStats(path);
  return stats !== undefined && isStream(stats);
}

function isStream(stats: Stats): boolean {
  return stats.isFIFO() || stats.isCharacterDevice();
}

/** Memory that a machine maps, and devices, hold memory and nothing else. */
function requireRaw(path: string, { as = 'raw' }: LoadOptions): void {
  if (as === 'raw') return;
  throw new VmsnapError('USAGE', `--as ${as} makes a new file; ${path} would be written in place`, {
    path,
    hint: 'give the name of a new file, or "-"',
  });
}

async function openStream(path: string, signal: AbortSignal | undefined): Promise<number> {
  try {
    return await openToWrite(path, signal);
  } catch (error) {
    throw wrapSystemError(error, 'open the target', path);
  }
}

function streamTarget(fd: number, path: string, close: () => void): LoadTarget {
  widenPipe(fd);
  let open = true;
  // The descriptor may be another file's already when `discard` follows `finish`.
  const closeOnce = () => {
    if (open) close();
    open = false;
  };
  return {
    sink: { kind: 'stream', fd, path },
    inPlace: false,
    resize: () => {},
    finish: async () => closeOnce(),
    discard: closeOnce,
  };
}

function replacementTarget(path: string, options: LoadOptions): LoadTarget {
  const { force = false, mode, owner } = options;
  const file = ReplacementFile.open(path, { what: 'target', force, mode: mode ?? DEFAULT_MODE, owner });
  return {
    sink: { kind: 'file', fd: file.fd, path, overwrite: false, punch: true },
    inPlace: false,
    resize: (sizeBytes) => withSystemErrors('resize', path, () => ftruncateSync(file.fd, sizeBytes)),
    finish: () => file.publish(),
    discard: () => file.discard(),
  };
}

async function inPlaceTarget(path: string, stats: Stats | undefined, options: LoadOptions): Promise<LoadTarget> {
  requireRaw(path, options);
  if (stats !== undefined && !options.inPlace && !options.force) {
    throw new VmsnapError('EXISTS', `the target ${path} exists already and can only be written where it stands`, {
      path,
      hint: 'use --in-place to overwrite it',
    });
  }
  if (options.owner !== undefined) {
    throw new VmsnapError('USAGE', `--owner does not go with a target that is written in place, ${path}`, { path });
  }
  const target = await InPlaceTarget.open(path, options.mode ?? DEFAULT_MODE);
  const { fd, hadContents, isHugetlbfs } = target;
  return {
    // Holes of a hugetlbfs file would give its pages back to the pool.
    sink: { kind: 'file', fd, path, overwrite: hadContents, punch: !isHugetlbfs },
    inPlace: true,
    resize: (sizeBytes) => target.resize(sizeBytes),
    finish: () => target.finish(),
    discard: () => target.discard(),
  };
}

function isOnHugetlbfs(path: string): boolean {
  const folder = dirname(path);
  try {
    return statfsSync(folder).type === HUGETLBFS_MAGIC;
  } catch {
    return false;
  }
}
