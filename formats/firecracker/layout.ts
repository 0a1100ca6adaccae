/** Where Firecracker puts the memory of an x86-64 machine (its src/vmm/src/arch/x86_64/layout.rs). */

const GIB = 2 ** 30;

/** Guest-physical windows [start, end), filled in this order: there are gaps at 3 to 4 GiB and at 256 to 512 GiB. */
export const FIRECRACKER_X86_WINDOWS: readonly (readonly [number, number])[] = [
  [0, 3 * GIB],
  [4 * GIB, 256 * GIB],
  [512 * GIB, Number.POSITIVE_INFINITY],
];
