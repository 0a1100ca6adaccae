/**
 * Which detector a save uses, decided once before its workers start.
 *
 * A detector of the CPU is taken as it is named. `dsa` and `dsa-emulated` are demands: what cannot be had is an error with
 * its cause. `auto` takes a DSA device where it pays ({@link whetherItPays}) and the best of the CPU elsewhere, and says
 * why. Where there is no DSA driver that costs one access() of its folder in sysfs.
 */
import { accessSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { SourceExtent } from '../formats/memoryFile.js';
import { type DetectorStatus, native } from '../native/binding.js';
import { VmsnapError } from '../native/errors.js';
import { checkCount, type DsaDevice, tryOpenDsa } from './dsaDevice.js';
import { dsaSysfsRoot } from './dsaFolders.js';
import { isRandom, type RandomDescription, type SourceDescription } from './pipeline/feeds/sourceDescription.js';
import type { DetectorName, DsaOptions, SaveOptions } from './types.js';

const HUGE_PAGE_BYTES = 2 * 1024 * 1024;
const DSA_NAMES: readonly string[] = ['dsa', 'dsa-emulated'];

export interface ChosenDetector {
  /** For the result: what decides about the pages. */
  readonly name: string;
  /** Why this one, in words for a user. */
  readonly reason: string;
  /** What the CPU does its part with. */
  readonly kernel: 'auto' | DetectorStatus['name'];
  readonly device: DsaDevice | undefined;
  /** Whether the machine has a DSA driver, so that the reason is worth telling. Undefined: nobody looked. */
  readonly dsaPresent: boolean | undefined;
  /** Closes the device if it was opened for this save. */
  close(): void;
}

/** @throws USAGE for a name or for options that make no sense, ENGINE for a detector of the CPU that cannot run here. */
export function checkDetectorOptions({ detector = 'auto', dsa }: SaveOptions): DetectorName {
  if (detector !== 'auto' && !DSA_NAMES.includes(detector)) checkCpuDetector(detector);
  if (dsa !== undefined) checkDsaOptions(detector, dsa);
  return detector;
}

function checkCpuDetector(name: DetectorName): void {
  const detectors = native.detectors();
  const status = detectors.find((detector) => detector.name === name);
  if (status === undefined) {
    const names = ['auto', ...DSA_NAMES, ...detectors.map((d) => d.name)];
    throw new VmsnapError('USAGE', `there is no detector "${name}"`, { hint: `choose one of ${names.join(', ')}` });
  }
  if (status.available) return;
  throw new VmsnapError('ENGINE', `the detector ${name} cannot be used here: ${status.reason}`, {
    hint: 'use --detector auto',
  });
}

function checkDsaOptions(detector: DetectorName, dsa: DsaOptions): void {
  const { nodes, batchPages, depth, selfCheck, device } = dsa;
  checkCount('batch pages', batchPages);
  checkCount('depth', depth);
  const given = [nodes, batchPages, depth, selfCheck, device].some((value) => value !== undefined);
  if (given && detector !== 'auto' && !DSA_NAMES.includes(detector)) {
    throw new VmsnapError(
      'USAGE',
      `the detector ${detector} is one of the CPU, and options of DSA mean nothing to it`,
      {
        hint: 'use --detector dsa or auto',
      },
    );
  }
  if (nodes !== undefined && detector === 'dsa-emulated') {
    throw new VmsnapError('USAGE', 'an emulated device has no queues to choose from', { hint: 'leave out --dsa' });
  }
  if (nodes?.includes('') === true) throw new VmsnapError('USAGE', 'a DSA queue has an empty name');
  if (device === undefined) return;
  if (nodes !== undefined || batchPages !== undefined || depth !== undefined) {
    throw new VmsnapError('USAGE', 'the DSA device is open already: its queues, batches and depth are chosen');
  }
  if (!device.isOpen) throw new VmsnapError('USAGE', 'the DSA device is closed');
  if (detector !== 'auto' && device.emulated !== (detector === 'dsa-emulated')) {
    const kind = device.emulated ? 'an emulated' : 'a real';
    throw new VmsnapError('USAGE', `the detector ${detector} was asked for, but the DSA device is ${kind} one`);
  }
}

/** @throws ENGINE or USAGE where `dsa` or `dsa-emulated` was demanded and cannot be had. */
export function chooseDetector(
  detector: DetectorName,
  dsa: DsaOptions | undefined,
  source: SourceDescription,
): ChosenDetector {
  if (detector === 'auto') return chooseAutomatically(dsa ?? {}, source);
  if (DSA_NAMES.includes(detector)) return demandDevice(detector, dsa ?? {}, source);
  return ofCpu(detector as DetectorStatus['name'], 'it was asked for', undefined);
}

/** What the CPU does its part with: a detector of its own, or beside a device the best there is. */
export function kernelOf(detector: DetectorName): ChosenDetector['kernel'] {
  return DSA_NAMES.includes(detector) ? 'auto' : (detector as ChosenDetector['kernel']);
}

/** Without a device. `dsaPresent` undefined: nobody looked. */
export function ofCpu(
  kernel: ChosenDetector['kernel'],
  reason: string,
  dsaPresent: boolean | undefined,
): ChosenDetector {
  const name = kernel === 'auto' ? native.detectors().find(({ available }) => available)!.name : kernel;
  return { name, reason, kernel, device: undefined, dsaPresent, close: () => undefined };
}

/** `own`: opened for this save, and closed with it. */
function onDevice(device: DsaDevice, own: boolean, reason: string): ChosenDetector {
  const use = device.use();
  return {
    name: device.emulated ? 'dsa-emulated' : 'dsa',
    reason,
    kernel: 'auto',
    device,
    dsaPresent: device.emulated ? undefined : true,
    close: () => {
      use.release();
      if (own) closeQuietly(device);
    },
  };
}

/** A worker that died may still hold it: then it is closed when this thread ends. */
function closeQuietly(device: DsaDevice): void {
  try {
    device.close();
  } catch {
    // The save has its own outcome.
  }
}

function demandDevice(name: DetectorName, dsa: DsaOptions, source: SourceDescription): ChosenDetector {
  if (source.kind === 'stream' || source.kind === 'qemu-stream') {
    throw new VmsnapError('USAGE', `${source.path} is read as a stream, which a DSA device cannot reach`, {
      path: source.path,
      hint: 'save from a file or a block device, or use --detector auto',
    });
  }
  const extents = longExtents(source);
  if (extents === undefined) {
    throw new VmsnapError('USAGE', `the pages of the source ${SCATTERED}: a DSA device cannot look at them`, {
      path: source.kind === 'pages' ? source.files[0]?.path : undefined,
      hint: 'use --detector auto',
    });
  }
  const faults = extents.map((extent) => mappingFault(extent));
  const fault = faults.find((text) => text !== undefined);
  if (fault !== undefined && !faults.includes(undefined)) {
    throw new VmsnapError('ENGINE', `the detector ${name} cannot be used: ${fault}`, {
      path: extents[0]!.path,
      hint: 'use --detector auto',
    });
  }
  if (dsa.device !== undefined) return onDevice(dsa.device, false, 'it was asked for');
  const { nodes, batchPages, depth } = dsa;
  const opened = tryOpenDsa({ nodes, batchPages, depth, emulated: name === 'dsa-emulated' });
  if (opened.device !== undefined) return onDevice(opened.device, true, 'it was asked for');
  throw new VmsnapError('ENGINE', `the detector ${name} cannot be used: ${opened.reason}`, { hint: opened.hint });
}

const SCATTERED = 'are compressed, or lie scattered in their file';

/** Where in files most of the memory lies in long pieces. Undefined: it does not. */
function longExtents(source: RandomDescription): readonly SourceExtent[] | undefined {
  const extents = source.kind === 'extents' ? source.regions : source.pages.longExtents;
  return extents === undefined || extents.length === 0 ? undefined : extents;
}

const MAPPING_WORDS: Readonly<Record<string, string>> = {
  EPERM: 'only who owns it or may write it is told which of its pages are in memory',
  ENODATA: 'not all of its huge pages are allocated, and which are is not told',
};

/** Why a file cannot be reached by a device, or undefined. */
function mappingFault({ fd, path }: SourceExtent): string | undefined {
  const backing = native.dsaBacking(fd);
  if (backing > 0) return undefined;
  const errno = getSystemErrorName(backing);
  return `${path} cannot be mapped for the device: ${MAPPING_WORDS[errno] ?? errno}`;
}

function chooseAutomatically(dsa: DsaOptions, source: SourceDescription): ChosenDetector {
  const present = dsa.device !== undefined || isThere(dsaSysfsRoot());
  if (!present) return ofCpu('auto', 'there is no DSA driver here', false);
  if (!isRandom(source)) return ofCpu('auto', 'a DSA device cannot reach a stream', true);
  if (dsa.device?.reports().usable === false) return ofCpu('auto', 'the DSA device has failed', true);
  const extents = longExtents(source);
  if (extents === undefined) return ofCpu('auto', `the pages of the source ${SCATTERED}`, true);
  const { pays, reason } = whetherItPays(extents, dsa.device);
  if (!pays) return ofCpu('auto', reason, true);
  if (dsa.device !== undefined) return onDevice(dsa.device, false, reason);
  const opened = tryOpenDsa({ nodes: dsa.nodes, batchPages: dsa.batchPages, depth: dsa.depth });
  if (opened.device !== undefined) return onDevice(opened.device, true, reason);
  return ofCpu('auto', `no DSA device can be used: ${opened.reason}`, true);
}

function isThere(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * The rule of `auto`: a device pays where most of the memory lies in 2 MiB pages, or in pages that an open device has
 * mapped already. To make a 4 KiB page reachable costs the CPU more than to read and check it (docs/decisions.md).
 */
function whetherItPays(
  regions: readonly SourceExtent[],
  device: DsaDevice | undefined,
): { readonly pays: boolean; readonly reason: string } {
  let total = 0;
  let huge = 0;
  let kept = 0;
  for (const { fd, lengthBytes } of regions) {
    total += lengthBytes;
    if (native.dsaBacking(fd) >= HUGE_PAGE_BYTES) huge += lengthBytes;
    else if (device !== undefined && native.dsaKeeps(device.handle, fd)) kept += lengthBytes;
  }
  if (huge * 2 >= total) return { pays: true, reason: 'the memory lies in 2 MiB pages' };
  if ((huge + kept) * 2 >= total) return { pays: true, reason: 'the memory is mapped for the device already' };
  return { pays: false, reason: 'the memory lies in 4 KiB pages, which cost more to make reachable than to check' };
}
