/** Holes of sparse files. A file system that has none calls everything data. */
import { native } from '../native/binding.js';
import { errnoError } from '../native/errors.js';

interface NamedFile {
  readonly fd: number;
  readonly path: string;
}

/** Where the first data in [from, end) begins; `end` if there is none. */
export function seekData({ fd, path }: NamedFile, from: number, end: number): number {
  const data = native.seekData(fd, from, end);
  if (data < 0) throw errnoError(data, 'read', path, from);
  return data;
}

/** Where the first hole in [from, end) begins; `end` if there is none. */
export function seekHole({ fd, path }: NamedFile, from: number, end: number): number {
  const hole = native.seekHole(fd, from, end);
  if (hole < 0) throw errnoError(hole, 'look for holes in', path, from);
  return hole;
}

/** Pages of [0, sizeBytes) of which at least one of the files has data. */
export function countDataPages(files: readonly NamedFile[], sizeBytes: number, pageBytes: number): number {
  let bytes = 0;
  const next = files.map(() => -1);
  for (let at = 0; at < sizeBytes; ) {
    for (const [i, file] of files.entries()) if (next[i]! < at) next[i] = seekData(file, at, sizeBytes);
    const first = Math.min(...next);
    if (first >= sizeBytes) break;
    const end = seekHole(files[next.indexOf(first)]!, first, sizeBytes);
    const to = Math.ceil(end / pageBytes) * pageBytes;
    bytes += to - Math.floor(first / pageBytes) * pageBytes;
    at = to;
  }
  return bytes / pageBytes;
}
