/** Where DSA devices are looked for. Containers and tests may have them elsewhere. */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/** $VMSNAP_DSA_SYSFS, or the bus of the idxd driver. */
export function dsaSysfsRoot(): string {
  return process.env.VMSNAP_DSA_SYSFS || '/sys/bus/dsa/devices';
}

/** $VMSNAP_DSA_DEV, or where the nodes of work queues stand. */
export function dsaDeviceRoot(): string {
  return resolve(process.env.VMSNAP_DSA_DEV || '/dev/dsa');
}

/**
 * A queue's node as the driver names it, where a user gave a symbolic link to it or a relative path. What leads nowhere
 * near the folder of nodes stays as it is, so that errors name what was typed.
 */
export function dsaNode(path: string, deviceRoot = dsaDeviceRoot()): string {
  if (dirname(path) === deviceRoot) return path;
  if (dirname(resolve(path)) === deviceRoot) return resolve(path);
  try {
    const real = realpathSync(path);
    return dirname(real) === realpathSync(deviceRoot) ? join(deviceRoot, basename(real)) : path;
  } catch {
    return path;
  }
}
