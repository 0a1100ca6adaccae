/** The kernel's side: its release, the IOMMU, the idxd driver, UMWAIT. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { IommuUnit, SystemFacts } from './report.js';
import { namesIn, readText } from './systemFiles.js';

const COMMAND_LINE_WORD = /^(intel_iommu|amd_iommu|iommu|iommu\.[a-z]+)=/;

// Extended capability register of an Intel IOMMU.
const ECAP_PASID = 40n;
const ECAP_SCALABLE_MODE = 43n;

export function systemFacts(systemRoot: string): SystemFacts {
  const commandLine = readText(join(systemRoot, '/proc/cmdline')) ?? '';
  return {
    kernel: readText(join(systemRoot, '/proc/sys/kernel/osrelease')) ?? '',
    iommuUnits: iommuUnits(join(systemRoot, '/sys/class/iommu')),
    iommuWords: commandLine.split(/\s+/).filter((word) => COMMAND_LINE_WORD.test(word)),
    idxdLoaded: existsSync(join(systemRoot, '/sys/module/idxd')),
    umwait: umwaitControl(join(systemRoot, '/sys/devices/system/cpu/umwait_control')),
  };
}

export function cpuModel(systemRoot: string): string | undefined {
  const match = /^model name\s*:\s*(.+)$/m.exec(readText(join(systemRoot, '/proc/cpuinfo')) ?? '');
  return match?.[1];
}

/** Whether `intel_iommu=on,sm_on` (in any order, in one word or several) stands on the command line. */
export function scalableModeAsked({ iommuWords }: SystemFacts): boolean {
  const values = iommuWords
    .filter((word) => word.startsWith('intel_iommu='))
    .flatMap((word) => word.slice(12).split(','));
  return values.includes('on') && values.includes('sm_on');
}

/** Whether the kernel is at least this one; of an odd release name, no. */
export function kernelAtLeast(system: SystemFacts, major: number, minor: number): boolean {
  const comparison = compareKernel(system, major, minor);
  return comparison !== undefined && comparison >= 0;
}

/** Whether the kernel is known to be older than this one; of an odd release name, no. */
export function kernelOlderThan(system: SystemFacts, major: number, minor: number): boolean {
  const comparison = compareKernel(system, major, minor);
  return comparison !== undefined && comparison < 0;
}

/** Negative: older. */
function compareKernel({ kernel }: SystemFacts, major: number, minor: number): number | undefined {
  const match = /^(\d+)\.(\d+)/.exec(kernel);
  if (match === null) return undefined;
  return Number(match[1]) - major || Number(match[2]) - minor;
}

function iommuUnits(folder: string): IommuUnit[] {
  return namesIn(folder).map((name) => {
    const text = readText(join(folder, name, 'intel-iommu', 'ecap'));
    if (text === undefined || !/^[0-9a-f]{1,16}$/i.test(text))
      return { name, scalableMode: undefined, pasid: undefined };
    const capability = BigInt(`0x${text}`);
    return { name, scalableMode: hasBit(capability, ECAP_SCALABLE_MODE), pasid: hasBit(capability, ECAP_PASID) };
  });
}

function hasBit(word: bigint, bit: bigint): boolean {
  return ((word >> bit) & 1n) === 1n;
}

function umwaitControl(folder: string): SystemFacts['umwait'] {
  const maxTicks = readText(join(folder, 'max_time'));
  const deepState = readText(join(folder, 'enable_c02'));
  if (maxTicks === undefined || !/^\d{1,15}$/.test(maxTicks)) return undefined;
  return { maxTicks: Number(maxTicks), deepState: deepState === '1' };
}
