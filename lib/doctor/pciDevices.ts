/** DSA functions on the PCI bus: they are there before any driver is. */
import { join } from 'node:path';
import type { PciDevice } from './report.js';
import { linkName, namesIn, readText } from './systemFiles.js';

const INTEL = '0x8086';
const PROCESSORS_BY_ID: Readonly<Record<string, string>> = {
  '0x0b25': 'Sapphire Rapids and its successors',
  '0x11fb': 'Granite Rapids D',
  '0x1212': 'Diamond Rapids',
};

export function dsaPciDevices(systemRoot: string): PciDevice[] {
  const folder = join(systemRoot, '/sys/bus/pci/devices');
  return namesIn(folder).flatMap((address) => {
    if (readText(join(folder, address, 'vendor')) !== INTEL) return [];
    const device = readText(join(folder, address, 'device')) ?? '';
    const processors = PROCESSORS_BY_ID[device];
    if (processors === undefined) return [];
    const driver = linkName(join(folder, address, 'driver'));
    return [{ address, id: `8086:${device.slice(2)}`, processors, driver }];
  });
}
