/** What stands in the way before there is a device: drivers, the folder of the bus, and nodes that nobody knows. */
import { getSystemErrorName } from 'node:util';
import { driverCommands } from './mends.js';
import type { Diagnosis, DoctorDevice, PciDevice, SystemFacts } from './report.js';
import { kernelOlderThan } from './systemFacts.js';

/** MADV_POPULATE_READ came with Linux 5.14. Without it no page can be made reachable for a device. */
export function kernelDiagnoses(devices: readonly DoctorDevice[], system: SystemFacts, emulated: boolean): Diagnosis[] {
  if (emulated || devices.length === 0 || !kernelOlderThan(system, 5, 14)) return [];
  return [
    {
      severity: 'fault',
      code: 'kernel-too-old',
      subject: `Linux ${system.kernel}`,
      message: 'this kernel cannot make the pages of a file reachable for a device (MADV_POPULATE_READ, Linux 5.14)',
      advice: 'take Linux 5.18 or later, which shared queues want too',
      commands: [],
    },
  ];
}

/** A device that is bound elsewhere is a fault only where there is no other: it may be meant for a guest. */
export function pciDiagnoses(
  pci: readonly PciDevice[],
  devices: readonly DoctorDevice[],
  system: SystemFacts,
): Diagnosis[] {
  return pci
    .filter(({ driver }) => driver !== 'idxd')
    .map((device) => ({
      severity: devices.length === 0 ? 'fault' : 'remark',
      code: device.driver === undefined ? 'pci-no-driver' : 'pci-other-driver',
      subject: device.address,
      message: driverMessage(device, system),
      advice: device.driver === 'vfio-pci' ? 'if a guest is to have the device, leave it so' : '',
      commands: driverCommands(device, system),
    }));
}

function driverMessage({ driver }: PciDevice, { idxdLoaded }: SystemFacts): string {
  if (driver === 'vfio-pci') return 'this DSA device is bound to vfio-pci, which hands it to a guest';
  if (driver !== undefined) return `this DSA device is bound to ${driver}, not to idxd`;
  return idxdLoaded ? 'this DSA device has no driver' : 'this DSA device has no driver: the module idxd is not loaded';
}

/** `error` is a negative errno. That the folder is missing is none: there is no driver then. */
export function sysfsDiagnoses(error: number, sysfsRoot: string): Diagnosis[] {
  if (error === 0) return [];
  const name = getSystemErrorName(error);
  if (name === 'ENOENT') return [];
  return [
    {
      severity: 'fault',
      code: 'sysfs-unreadable',
      subject: sysfsRoot,
      message: `the devices cannot be listed (${name})`,
      advice: 'see that /sys is mounted and readable, also in this container or unit',
      commands: [],
    },
  ];
}

export function unknownNodeDiagnoses(nodes: readonly string[], devices: readonly DoctorDevice[]): Diagnosis[] {
  const known = devices.flatMap(({ queues }) => queues.map(({ node }) => node));
  return nodes
    .filter((node) => !known.includes(node))
    .map((node) => ({
      severity: 'fault',
      code: 'no-such-queue',
      subject: node,
      message: 'this is no work queue of a DSA device here',
      advice: known.length === 0 ? 'there is none here' : `there are ${known.join(', ')}`,
      commands: [],
    }));
}
