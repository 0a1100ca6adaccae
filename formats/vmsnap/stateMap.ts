/** The state map of a segment (SPEC.md, "Page states"): runs of one state, each a varint of (pages - 1) * 16 + state. */
import { corrupt, unsupported } from './corrupt.js';
import { FEATURE_ABSENT, FEATURE_BASE, FEATURE_REFERENCES } from './layout.js';

export const STATE_ZERO = 0;
export const STATE_DATA = 1;
export const STATE_UNIFORM = 2;
export const STATE_REFERENCE = 3;
export const STATE_SAME_AS_BASE = 4;
export const STATE_EARLIER = 5;
export const STATE_ABSENT = 6;
export const STATE_UNREADABLE = 7;

export const STATE_NAMES: readonly string[] = [
  'zero',
  'data',
  'uniform',
  'reference',
  'same-as-base',
  'earlier-record',
  'absent',
  'unreadable',
];

/**
 * One bit for each state that an image with these incompatible features (header.ts) may have. What a reader does not know,
 * and what the header has not announced, is refused alike.
 */
export function allowedStates(features: bigint): number {
  let states = (1 << STATE_ZERO) | (1 << STATE_DATA) | (1 << STATE_UNIFORM);
  if ((features & FEATURE_REFERENCES) !== 0n) states |= 1 << STATE_REFERENCE;
  if ((features & FEATURE_BASE) !== 0n) states |= 1 << STATE_SAME_AS_BASE;
  if ((features & FEATURE_ABSENT) !== 0n) states |= 1 << STATE_ABSENT;
  return states;
}

/** An upper bound of the map's bytes: a run of up to 8 pages is one byte, so a byte a page. */
export function stateMapMaxBytes(pageCount: number): number {
  return pageCount + 2;
}

/** Writes the map of `states[0..pageCount)` to `out[offset..]`. @returns the bytes written. */
export function encodeStateMap(states: Uint8Array, pageCount: number, out: Uint8Array, offset: number): number {
  let at = offset;
  let page = 0;
  while (page < pageCount) {
    const state = states[page]!;
    let end = page + 1;
    while (end < pageCount && states[end] === state) end++;
    let value = (end - page - 1) * 16 + state;
    while (value >= 0x80) {
      out[at++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    out[at++] = value;
    page = end;
  }
  return at - offset;
}

/**
 * Expands the map in `bytes[start, end)` into one state a page. The caller's `states` holds as many pages as a full
 * segment; `fileOffset` is where `bytes[0]` lies in the file, for messages.
 * @returns the number of pages. @throws UNSUPPORTED for a state that is not among `allowed` ({@link allowedStates}).
 */
export function decodeStateMap(
  bytes: Uint8Array,
  start: number,
  end: number,
  states: Uint8Array,
  allowed: number,
  path: string,
  fileOffset: number,
): number {
  let at = start;
  let page = 0;
  let previous = -1;
  while (at < end) {
    const runStart = at;
    let value = 0;
    let shift = 0;
    let byte: number;
    do {
      if (at >= end || shift > 14) throw corrupt(path, fileOffset + runStart, 'state map: run is cut off or too long');
      byte = bytes[at++]!;
      value |= (byte & 0x7f) << shift;
      shift += 7;
    } while (byte & 0x80);
    if (byte === 0 && shift > 7) throw corrupt(path, fileOffset + runStart, 'state map: run with superfluous bytes');
    const state = value & 15;
    const pages = (value >>> 4) + 1;
    if (((allowed >>> state) & 1) === 0)
      throw unsupported(path, fileOffset + runStart, `page state ${STATE_NAMES[state] ?? state} is not known here`);
    if (state === previous) throw corrupt(path, fileOffset + runStart, 'state map: neighbouring runs of one state');
    if (page + pages > states.length)
      throw corrupt(path, fileOffset + runStart, 'state map: more pages than the segment has');
    states.fill(state, page, page + pages);
    page += pages;
    previous = state;
  }
  return page;
}
