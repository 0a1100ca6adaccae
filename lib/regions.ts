/** Where guest-physical memory lies in the bytes of a source: the layouts of machines, and explicit regions. */
import { type RamWindows, ramWindows } from '../formats/machineLayout.js';
import { REGIONS_MAX } from '../formats/vmsnap/layout.js';
import { regionsFault } from '../formats/vmsnap/manifest.js';
import { VmsnapError } from '../native/errors.js';
import type { LayoutName, RegionOption } from './types.js';

/** A region before its file is opened; `file` undefined: SOURCE. */
export interface PlannedRegion {
  readonly name: string;
  readonly gpa: number | undefined;
  readonly sizeBytes: number;
  readonly file: string | undefined;
  readonly fileOffset: number;
}

/** Splits `sizeBytes` of RAM as the machine does. */
export function layoutRegions(layout: LayoutName, sizeBytes: number): PlannedRegion[] {
  return split(sizeBytes, ramWindows(layout, sizeBytes));
}

const SPLIT_NAMES = ['ram', 'ram-above-4g', 'ram-above-512g'];

/** Fills guest-physical windows [start, end) with the source's bytes in order. */
function split(sizeBytes: number, windows: RamWindows): PlannedRegion[] {
  const regions: PlannedRegion[] = [];
  let fileOffset = 0;
  for (const [i, [start, end]] of windows.entries()) {
    const size = Math.min(sizeBytes - fileOffset, end - start);
    if (size <= 0) break;
    regions.push({ name: SPLIT_NAMES[i]!, gpa: start, sizeBytes: size, file: undefined, fileOffset });
    fileOffset += size;
  }
  return regions;
}

/** Gives each explicit region its place: by default where the region before it in the same file ends. */
export function explicitRegions(options: readonly RegionOption[], pageSize: number): PlannedRegion[] {
  const ends = new Map<string | undefined, number>();
  const regions = options.map(({ name, gpa, sizeBytes, file, fileOffset }) => {
    const offset = fileOffset ?? ends.get(file) ?? 0;
    ends.set(file, offset + sizeBytes);
    return { name, gpa, sizeBytes, file, fileOffset: offset };
  });
  const fault = numberFault(regions) ?? regionsFault(regions, pageSize);
  if (fault !== undefined)
    throw new VmsnapError('USAGE', `--region: ${fault}`, { hint: 'write it as NAME=SIZE@GPA[:FILE[+OFFSET]]' });
  return regions;
}

function numberFault(regions: readonly PlannedRegion[]): string | undefined {
  if (regions.length < 1 || regions.length > REGIONS_MAX)
    return `${regions.length} regions (allowed: 1 to ${REGIONS_MAX})`;
  for (const { name, gpa, sizeBytes, fileOffset } of regions) {
    const numbers = { size: sizeBytes, address: gpa ?? 0, 'file offset': fileOffset };
    for (const [what, value] of Object.entries(numbers)) {
      if (!Number.isSafeInteger(value) || value < 0)
        return `the ${what} of region ${name} is ${value}, no whole number`;
    }
  }
  return undefined;
}
