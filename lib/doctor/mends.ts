/** Commands that mend what is not accel-config's: kernel command line, PCI driver, permissions. To be run as root. */
import { userInfo } from 'node:os';
import type { NodeFacts, PciDevice, SystemFacts } from './report.js';

const GROUP = 'dsa';
const GRUB_FILE = '/etc/default/grub.d/vmsnap-dsa.cfg';
const UDEV_FILE = '/etc/udev/rules.d/60-vmsnap-dsa.rules';
const GROUP_WRITE = 0o060;

/** Debian and Ubuntu; docs/dsa.md has the others. */
export function scalableModeCommands(): string[] {
  return [
    `echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on,sm_on"' > ${GRUB_FILE}`,
    'update-grub && reboot',
  ];
}

export function driverCommands({ address, driver }: PciDevice, { idxdLoaded }: SystemFacts): string[] {
  const device = `/sys/bus/pci/devices/${address}`;
  return [
    ...(driver === undefined ? [] : [`echo ${address} > ${device}/driver/unbind`, `echo > ${device}/driver_override`]),
    ...(idxdLoaded ? [] : ['modprobe idxd']),
    // Loading the module binds every device that has no driver.
    ...(idxdLoaded || driver !== undefined ? [`echo ${address} > /sys/bus/pci/drivers/idxd/bind`] : []),
  ];
}

/** Lets the members of a group use the queue, now and after the next start. */
export function permissionCommands(node: string, facts: NodeFacts | undefined): string[] {
  const user = userName();
  const group = facts?.group;
  const groupMayUse = ((facts?.mode ?? 0) & GROUP_WRITE) === GROUP_WRITE && group !== undefined && group !== 'root';
  if (groupMayUse) return [`usermod -aG ${group} ${user}`];
  return [
    `groupadd -f -r ${GROUP}`,
    `usermod -aG ${GROUP} ${user}`,
    `chgrp ${GROUP} ${node} && chmod 0660 ${node}`,
    `echo 'ENV{DEVNAME}=="*dsa/wq*", GROUP="${GROUP}", MODE="0660"' > ${UDEV_FILE}`,
  ];
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A number without a name, as in containers.
    return '"$USER"';
  }
}
