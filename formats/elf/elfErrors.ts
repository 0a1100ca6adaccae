import type { VmsnapError } from '../../native/errors.js';
import { damaged, type ForeignFile, notSupported } from '../foreignFile.js';

export function damagedElf(file: ForeignFile, offset: number, what: string): VmsnapError {
  return damaged('ELF core', file.path, offset, what);
}

export function unsupportedElf(file: ForeignFile, offset: number, what: string, hint: string): VmsnapError {
  return notSupported('ELF core', file.path, offset, what, hint);
}
