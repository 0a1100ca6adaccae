/** What the readers of foreign formats share: reading from the file at hand, and one style of message for what is wrong with it. */

import { VmsnapError } from '../native/errors.js';
import { readUpTo } from './readUpTo.js';

/** A file that the caller has opened, and closes. */
export interface ForeignFile {
  readonly fd: number;
  readonly path: string;
  readonly sizeBytes: number;
}

/** Pages of the formats that do not name a size. */
export const FOREIGN_PAGE_BYTES = 4096;

/** More regions than an image can have (SPEC.md, "Limits") are refused. */
export const FOREIGN_REGIONS_MAX = 65_535;

/** `format` as people call it: "ELF core". `what`: what was found, and what was expected. */
export function damaged(format: string, path: string, offset: number, what: string): VmsnapError {
  return new VmsnapError('CORRUPT', `${path} is a damaged ${format} file, at offset ${offset}: ${what}`, {
    path,
    offset,
    hint: 'nothing was saved; make the dump again, or take another copy of it',
  });
}

export function notSupported(format: string, path: string, offset: number, what: string, hint: string): VmsnapError {
  return new VmsnapError(
    'UNSUPPORTED',
    `${path} is ${withArticle(format)} file that cannot be read, offset ${offset}: ${what}`,
    {
      path,
      offset,
      hint,
    },
  );
}

/** Fills `into`, which lies within the file as it was when it was opened. */
export function readAll(file: { readonly fd: number; readonly path: string }, offset: number, into: Uint8Array): void {
  const got = readUpTo(file, offset, into);
  if (got === into.length) return;
  throw new VmsnapError(
    'SOURCE_CHANGED',
    `${file.path} became shorter while it was read: it ends at offset ${offset + got}`,
    {
      path: file.path,
      offset: offset + got,
      hint: 'nothing was saved; wait until the file is whole, and save again',
    },
  );
}

/** A u64 as a number; beyond 2^53 the nearest one that a number can hold, so that comparisons with limits stay right. */
export function numberAt(bytes: Buffer, offset: number): number {
  return Number(bytes.readBigUInt64LE(offset));
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function withArticle(format: string): string {
  return `${/^[AEIO]/.test(format) ? 'an' : 'a'} ${format}`;
}
