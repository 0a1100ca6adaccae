/** Where DSA devices are looked for. Containers and tests may have them elsewhere. */

/** $VMSNAP_DSA_SYSFS, or the bus of the idxd driver. */
export function dsaSysfsRoot(): string {
  return process.env.VMSNAP_DSA_SYSFS || '/sys/bus/dsa/devices';
}

/** $VMSNAP_DSA_DEV, or where the nodes of work queues stand. */
export function dsaDeviceRoot(): string {
  return process.env.VMSNAP_DSA_DEV || '/dev/dsa';
}
