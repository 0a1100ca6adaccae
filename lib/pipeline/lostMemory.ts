/**
 * What a salvage cannot bring back: noted by the thread that finds it, told at the end.
 *
 * Ranges of the segment at hand are collected until it is written, so that its damaged pages can be left out; spans of
 * regions stay. A span takes as much memory as a few bytes of the image that are damaged for it.
 */
import type { Geometry, SegmentPlace } from '../../formats/vmsnap/geometry.js';
import { STATE_ABSENT, STATE_DATA, STATE_UNIFORM, STATE_ZERO } from '../../formats/vmsnap/stateMap.js';
import type { LostSpan } from './readJob.js';
import type { DecodedSegment } from './sink.js';

export class LostMemory {
  readonly spans: { region: number; offset: number; length: number }[] = [];
  readonly #geometry: Geometry;
  readonly #pages: Uint8Array;
  #hasPages = false;

  constructor(geometry: Geometry) {
    this.#geometry = geometry;
    this.#pages = new Uint8Array(geometry.pagesPerSegment);
  }

  /** Byte ranges of the segment that is being decoded. */
  noteRanges(segment: number, ranges: readonly { readonly offset: number; readonly length: number }[]): void {
    const { pageSize } = this.#geometry;
    const place = this.#geometry.placeOf(segment);
    for (const { offset, length } of ranges) {
      this.#pages.fill(1, Math.floor(offset / pageSize), Math.ceil((offset + length) / pageSize));
      this.#hasPages = true;
      this.#add({ region: place.region, offset: place.regionOffset + offset, length });
    }
  }

  /** The pages of the segment at hand that are lost, or undefined. They are forgotten with the next call. */
  takePages({ sizeBytes }: SegmentPlace): Uint8Array | undefined {
    if (!this.#hasPages) return undefined;
    const pages = this.#pages.slice(0, sizeBytes / this.#geometry.pageSize);
    this.#forgetPages();
    return pages;
  }

  /** All of the segment at hand: nothing of it is written. */
  loseSegment(segment: number): void {
    this.#forgetPages();
    this.addSegments(segment, segment + 1);
  }

  /** Segments [from, end). */
  addSegments(from: number, end: number): void {
    for (let segment = from; segment < end; ) {
      const region = this.#geometry.regionOf(segment);
      const next = Math.min(end, region.firstSegment + region.segmentCount);
      const first = this.#geometry.placeOf(segment);
      const last = this.#geometry.placeOf(next - 1);
      const length = last.regionOffset + last.sizeBytes - first.regionOffset;
      this.#add({ region: first.region, offset: first.regionOffset, length });
      segment = next;
    }
  }

  #forgetPages(): void {
    this.#pages.fill(0);
    this.#hasPages = false;
  }

  #add(span: LostSpan): void {
    const last = this.spans.at(-1);
    if (last !== undefined && last.region === span.region && last.offset + last.length === span.offset)
      last.length += span.length;
    else this.spans.push({ ...span });
  }
}

/** All spans in the order of the memory, those that touch or overlap made one. */
export function mergeSpans(spans: readonly LostSpan[]): LostSpan[] {
  const merged: { region: number; offset: number; length: number }[] = [];
  for (const span of [...spans].sort((a, b) => a.region - b.region || a.offset - b.offset)) {
    const last = merged.at(-1);
    if (last === undefined || last.region !== span.region || last.offset + last.length < span.offset) {
      merged.push({ ...span });
      continue;
    }
    last.length = Math.max(last.length, span.offset + span.length - last.offset);
  }
  return merged;
}

/** Makes lost pages zero, in the arrays of `segment`. `lost[page]` is 1 where it is. */
export function leaveOut(lost: Uint8Array, segment: DecodedSegment, pageSize: number): DecodedSegment {
  const { states, data, words } = segment;
  const counts = { data: 0, uniform: 0, absent: 0 };
  let [fromData, fromWord] = [0, 0];
  for (let page = 0; page < lost.length; page++) {
    const state = states[page]!;
    const isLost = lost[page] === 1;
    if (isLost) states[page] = STATE_ZERO;
    if (state === STATE_DATA) {
      if (!isLost) data.copyWithin(counts.data++ * pageSize, fromData * pageSize, (fromData + 1) * pageSize);
      fromData++;
    } else if (state === STATE_UNIFORM) {
      if (!isLost) words[counts.uniform++] = words[fromWord]!;
      fromWord++;
    } else if (state === STATE_ABSENT && !isLost) {
      counts.absent++;
    }
  }
  return { states, data, words, dataPages: counts.data, absentPages: counts.absent };
}
