/** Reads any part of a memory that lies in files, for a save, an estimate or a comparison: one a thread. */
import type { Geometry } from '../../../formats/vmsnap/geometry.js';
import type { ScanOutput, SegmentScanner } from '../../../native/binding.js';
import { createPageFinder } from '../pageFinders.js';
import { ExtentReader } from './extentReader.js';
import { PageReader } from './pageReader.js';
import type { RandomDescription } from './sourceDescription.js';

export interface MemoryReader {
  /**
   * First offset in [from, end) of a region that may hold data or is absent, or `end`. May be early, never late. Under a
   * lock: by one thread at a time.
   */
  nextUsed(region: number, from: number, end: number): number;
  /** Hands a stretch to the device, if it can look at it. The slot is free. */
  submitAhead(region: number, offset: number, sizeBytes: number, slot: number): void;
  /**
   * Scans whole pages, at most a segment, into `output`. `slot`: where they were handed to the device.
   * @returns how many have the state "absent". @throws VmsnapError with path and offset.
   */
  scan(region: number, offset: number, sizeBytes: number, output: ScanOutput, slot?: number | undefined): number;
}

/** `deviceSlots`: stretches that may be with a device at a time; 0: there is none. */
export function createReader(
  description: RandomDescription,
  scanner: SegmentScanner,
  geometry: Geometry,
  deviceSlots = 0,
): MemoryReader {
  const hasDevice = deviceSlots > 0;
  if (description.kind === 'extents') return new ExtentReader(description, scanner, geometry.pageSize, hasDevice);
  return new PageReader(createPageFinder(description.pages), description, scanner, geometry, deviceSlots);
}
