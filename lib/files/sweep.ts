/** Removes temporary files that killed runs left in a folder: those whose lock can be had. Neither pid nor age decides. */
import { closeSync, constants, fstatSync, openSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../../native/binding.js';
import { isStill } from './fileLock.js';

const SUFFIX = '.vmsnap-tmp';

export function temporaryName(name: string): string {
  return `.${name}${SUFFIX}`;
}

/** @returns the number of files removed. A file that cannot be looked at or removed is left to its owner. */
export function sweepFolder(folder: string): number {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return 0;
  }
  return names
    .filter((name) => name.startsWith('.') && name.endsWith(SUFFIX))
    .filter((name) => sweepFile(join(folder, name))).length;
}

function sweepFile(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    if (!fstatSync(fd).isFile() || native.tryLock(fd) !== 0 || !isStill(path, fd)) return false;
    unlinkSync(path);
    return true;
  } catch {
    return false;
  } finally {
    closeSync(fd);
  }
}
