/** What a file is, asked so that a refusal of the system names the file. */
import { type BigIntStats, fstatSync, type Stats, statSync } from 'node:fs';
import { withSystemErrors } from './errors.js';

interface OpenFile {
  readonly fd: number;
  /** For messages. */
  readonly path: string;
}

/** Of an open file. @throws VmsnapError IO, ... */
export function openFileStats({ fd, path }: OpenFile): Stats {
  return withSystemErrors('look at', path, () => fstatSync(fd));
}

/** The same with times in nanoseconds, and sizes and numbers of any size. */
export function exactFileStats({ fd, path }: OpenFile): BigIntStats {
  return withSystemErrors('look at', path, () => fstatSync(fd, { bigint: true }));
}

/** Of the file behind a name, links followed; undefined: there is none. @throws VmsnapError PERMISSION, IO, ... */
export function namedFileStats(path: string): Stats | undefined {
  return withSystemErrors('look at', path, () => statSync(path, { throwIfNoEntry: false }));
}
