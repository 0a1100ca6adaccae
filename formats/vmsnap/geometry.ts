/**
 * Geometry of an image: how regions divide into segments, pages, leaves and chunks (SPEC.md, "Conventions" and "Start
 * manifest"). Pure arithmetic; the sizes come from a manifest that has been checked.
 */
import { INDEX_BLOCK_ENTRIES, LEAF_BYTES, SEGMENTS_MAX } from './layout.js';

export interface RegionGeometry {
  readonly number: number;
  readonly sizeBytes: number;
  /** Global number of the region's first segment. */
  readonly firstSegment: number;
  readonly segmentCount: number;
}

export interface SegmentPlace {
  readonly region: number;
  /** Offset of the segment's first byte in its region. */
  readonly regionOffset: number;
  readonly sizeBytes: number;
}

export class Geometry {
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly chunkSize: number;
  readonly pagesPerSegment: number;
  readonly pagesPerChunk: number;
  readonly leavesPerSegment: number;
  readonly regions: readonly RegionGeometry[];
  readonly segmentCount: number;
  readonly totalBytes: number;

  /** `regionSizes` in manifest order. */
  constructor(pageSize: number, segmentSize: number, chunkSize: number, regionSizes: readonly number[]) {
    this.pageSize = pageSize;
    this.segmentSize = segmentSize;
    this.chunkSize = chunkSize;
    this.pagesPerSegment = segmentSize / pageSize;
    this.pagesPerChunk = chunkSize / pageSize;
    this.leavesPerSegment = segmentSize / LEAF_BYTES;
    const regions: RegionGeometry[] = [];
    let firstSegment = 0;
    let totalBytes = 0;
    for (const [number, sizeBytes] of regionSizes.entries()) {
      const segmentCount = Math.ceil(sizeBytes / segmentSize);
      regions.push({ number, sizeBytes, firstSegment, segmentCount });
      firstSegment += segmentCount;
      totalBytes += sizeBytes;
    }
    this.regions = regions;
    this.segmentCount = firstSegment;
    this.totalBytes = totalBytes;
  }

  get indexBlockCount(): number {
    return Math.ceil(this.segmentCount / INDEX_BLOCK_ENTRIES);
  }

  get withinLimits(): boolean {
    return this.segmentCount <= SEGMENTS_MAX && Number.isSafeInteger(this.totalBytes);
  }

  /** The region that holds a segment. */
  regionOf(segment: number): RegionGeometry {
    let low = 0;
    let high = this.regions.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.regions[middle]!.firstSegment <= segment) low = middle;
      else high = middle - 1;
    }
    return this.regions[low]!;
  }

  placeOf(segment: number): SegmentPlace {
    const region = this.regionOf(segment);
    const regionOffset = (segment - region.firstSegment) * this.segmentSize;
    return {
      region: region.number,
      regionOffset,
      sizeBytes: Math.min(this.segmentSize, region.sizeBytes - regionOffset),
    };
  }

  pagesIn(segment: number): number {
    return this.placeOf(segment).sizeBytes / this.pageSize;
  }

  chunksFor(dataPages: number): number {
    return Math.ceil(dataPages / this.pagesPerChunk);
  }
}

export function leavesIn(sizeBytes: number): number {
  return Math.ceil(sizeBytes / LEAF_BYTES);
}
