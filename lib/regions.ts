/** Where guest-physical memory lies in the bytes of a source: the layouts of machines, and explicit regions. */
import { REGIONS_MAX } from '../formats/vmsnap/layout.js';
import { regionsFault } from '../formats/vmsnap/manifest.js';
import { VmsnapError } from '../native/errors.js';
import type { LayoutName, RegionOption } from './types.js';

const GIB = 2 ** 30;

/** A region before its file is opened; `file` undefined: SOURCE. */
export interface PlannedRegion {
  readonly name: string;
  readonly gpa: number;
  readonly sizeBytes: number;
  readonly file: string | undefined;
  readonly fileOffset: number;
}

/**
 * Splits `sizeBytes` of RAM as the machine does. Below 4 GiB: q35 keeps 2 GiB once RAM is 2.75 GiB or more, i440fx 3 GiB once it is
 * 3.5 GiB or more (QEMU hw/i386/pc_q35.c, pc_piix.c); Firecracker leaves gaps at 3 to 4 GiB and 256 to 512 GiB.
 */
export function layoutRegions(layout: LayoutName, sizeBytes: number): PlannedRegion[] {
  switch (layout) {
    case 'flat':
      return split(sizeBytes, [[0, Number.POSITIVE_INFINITY]]);
    case 'pc-q35':
      return split(sizeBytes, belowAndAbove(sizeBytes, 2.75 * GIB, 2 * GIB));
    case 'pc-i440fx':
      return split(sizeBytes, belowAndAbove(sizeBytes, 3.5 * GIB, 3 * GIB));
    case 'firecracker-x86':
      return split(sizeBytes, [
        [0, 3 * GIB],
        [4 * GIB, 256 * GIB],
        [512 * GIB, Number.POSITIVE_INFINITY],
      ]);
  }
}

function belowAndAbove(sizeBytes: number, threshold: number, below: number): [number, number][] {
  if (sizeBytes < threshold) return [[0, Number.POSITIVE_INFINITY]];
  return [
    [0, below],
    [4 * GIB, Number.POSITIVE_INFINITY],
  ];
}

const SPLIT_NAMES = ['ram', 'ram-above-4g', 'ram-above-512g'];

/** Fills guest-physical windows [start, end) with the source's bytes in order. */
function split(sizeBytes: number, windows: readonly (readonly [number, number])[]): PlannedRegion[] {
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
    const numbers = { size: sizeBytes, address: gpa, 'file offset': fileOffset };
    for (const [what, value] of Object.entries(numbers)) {
      if (!Number.isSafeInteger(value) || value < 0)
        return `the ${what} of region ${name} is ${value}, no whole number`;
    }
  }
  return undefined;
}
