/** Where machines put their RAM into guest-physical memory. */
import { FIRECRACKER_X86_WINDOWS } from './firecracker/layout.js';

const GIB = 2 ** 30;

/** Guest-physical ranges [start, end) that RAM fills in this order. */
export type RamWindows = readonly (readonly [start: number, end: number])[];

export type MachineLayout = 'flat' | 'pc-q35' | 'pc-i440fx' | 'firecracker-x86';

/**
 * Below 4 GiB, q35 keeps 2 GiB once RAM is 2.75 GiB or more, i440fx 3 GiB once it is 3.5 GiB or more (QEMU hw/i386/pc_q35.c,
 * pc_piix.c).
 */
export function ramWindows(layout: MachineLayout, sizeBytes: number): RamWindows {
  switch (layout) {
    case 'flat':
      return [[0, Number.POSITIVE_INFINITY]];
    case 'pc-q35':
      return belowAndAbove(sizeBytes, 2.75 * GIB, 2 * GIB);
    case 'pc-i440fx':
      return belowAndAbove(sizeBytes, 3.5 * GIB, 3 * GIB);
    case 'firecracker-x86':
      return FIRECRACKER_X86_WINDOWS;
  }
}

function belowAndAbove(sizeBytes: number, threshold: number, below: number): RamWindows {
  if (sizeBytes < threshold) return [[0, Number.POSITIVE_INFINITY]];
  return [
    [0, below],
    [4 * GIB, Number.POSITIVE_INFINITY],
  ];
}
