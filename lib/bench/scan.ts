/**
 * One thread and zero memory: how fast each detector looks, beside what one thread can read at all. The memory at hand is
 * 256 MiB, more than caches hold; files are read as a save reads them, and a device gets segments
 * ahead as a save gives them.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  native,
  REPORT_DEVICE_ZERO_PAGES,
  REPORT_LENGTH,
  type ScanOutput,
  type SegmentScanner,
} from '../../native/binding.js';
import { errnoError, VmsnapError } from '../../native/errors.js';
import { type DsaDevice, tryOpenDsa } from '../dsaDevice.js';
import { median, type RoundSettings, runRounds, type Taken, take, type Variant } from './rounds.js';
import type { CompareRow, ScanReport, ScanRow } from './types.js';

const PAGE_BYTES = 4096;
const SEGMENT_BYTES = 4 * 1024 * 1024;
const AT_HAND_BYTES = 256 * 1024 * 1024;
const AHEAD_SEGMENTS = 2;
const GIGABYTE = 1e9;

/** Work on a device, real where there is one; the emulated one is named as that everywhere. */
export interface BenchDevice {
  readonly device: DsaDevice;
  readonly name: string;
}

export function openBenchDevice(): BenchDevice | undefined {
  const real = tryOpenDsa({});
  if (real.device !== undefined) return { device: real.device, name: 'dsa' };
  const emulated = tryOpenDsa({ emulated: true });
  return emulated.device && { device: emulated.device, name: 'dsa-emulated' };
}

export function cpuDetectors(): string[] {
  return native.detectors().flatMap(({ name, available }) => (available ? [name] : []));
}

interface FileTaken extends Taken {
  readonly devicePages: number;
}

/** `path`: a file of zero bytes, whole segments. */
export async function benchScan(
  path: string,
  device: BenchDevice | undefined,
  settings: RoundSettings,
): Promise<ScanReport> {
  // Written, because memory that nobody has written yet is one page of zeros that all addresses share.
  const bytes = new Uint8Array(AT_HAND_BYTES).fill(0);
  const detectors = cpuDetectors();
  const files = fileVariants(path, device);
  const memory = detectors.map((name) => memoryVariant(name, bytes));
  const results = await runRounds<FileTaken>([bandwidthVariant(bytes), ...memory, ...files], settings);
  const bandwidth = AT_HAND_BYTES / medianSeconds(results[0]!);
  const fileBytes = sizeOf(path);
  const rows = files.map(({ detector, emulated }, i): ScanRow => {
    const ofMemory = i < memory.length ? results[1 + i]! : undefined;
    const atHand = ofMemory && AT_HAND_BYTES / medianSeconds(ofMemory);
    const taken = results[1 + memory.length + i]!;
    return {
      detector,
      memoryBytesPerSecond: atHand,
      memoryCpuSecondsPerGigabyte: ofMemory && (medianCpu(ofMemory) / AT_HAND_BYTES) * GIGABYTE,
      bandwidthShare: atHand && atHand / bandwidth,
      fileBytesPerSecond: fileBytes / medianSeconds(taken),
      fileCpuSecondsPerGigabyte: (medianCpu(taken) / fileBytes) * GIGABYTE,
      emulated,
    };
  });
  return { bandwidthBytesPerSecond: bandwidth, detectors: rows };
}

/** The best of the CPU against the device. */
export async function benchCompare(
  path: string,
  device: BenchDevice | undefined,
  settings: RoundSettings,
): Promise<CompareRow[]> {
  const best = cpuDetectors()[0]!;
  const variants = fileVariants(path, device).filter(({ detector, ofDevice }) => ofDevice || detector === best);
  const results = await runRounds<FileTaken>(variants, settings);
  return variants.map(({ detector, emulated }, i) => ({
    detector,
    bytes: sizeOf(path),
    seconds: medianSeconds(results[i]!),
    cpuSeconds: medianCpu(results[i]!),
    devicePages: median(results[i]!.map(({ devicePages }) => devicePages)),
    emulated,
  }));
}

function medianSeconds(taken: readonly Taken[]): number {
  return median(taken.map(({ seconds }) => seconds));
}

function medianCpu(taken: readonly Taken[]): number {
  return median(taken.map(({ cpuSeconds }) => cpuSeconds));
}

function sizeOf(path: string): number {
  const fd = openSync(path, 'r');
  try {
    return fstatSync(fd).size;
  } finally {
    closeSync(fd);
  }
}

function bandwidthVariant(bytes: Uint8Array): Variant<FileTaken> {
  const half = bytes.length / 2;
  const [a, b] = [bytes.subarray(0, half), bytes.subarray(half)];
  return {
    what: 'memcmp',
    run: async () => {
      const { seconds, cpuSeconds, result } = await take(async () => Buffer.compare(a, b));
      if (result !== 0) throw new VmsnapError('FAILED', 'memory that was zero is zero no more');
      return { seconds, cpuSeconds, devicePages: 0 };
    },
  };
}

function memoryVariant(detector: string, bytes: Uint8Array): Variant<FileTaken> {
  return {
    what: `${detector}, memory`,
    run: async () => {
      const scanner = openScanner(detector, undefined);
      const output = scanOutput();
      try {
        const taken = await take(async () => {
          for (let at = 0; at < bytes.length; at += SEGMENT_BYTES) scanner.scanMemory(bytes, at, SEGMENT_BYTES, output);
        });
        return { ...taken, devicePages: 0 };
      } finally {
        scanner.close();
      }
    },
  };
}

interface FileVariant extends Variant<FileTaken> {
  readonly detector: string;
  readonly ofDevice: boolean;
  readonly emulated: boolean;
}

function fileVariants(path: string, device: BenchDevice | undefined): FileVariant[] {
  const ofCpu = cpuDetectors().map((detector) => fileVariant(path, detector, undefined));
  return device === undefined ? ofCpu : [...ofCpu, fileVariant(path, device.name, device.device)];
}

function fileVariant(path: string, detector: string, device: DsaDevice | undefined): FileVariant {
  return {
    what: `${detector}, file`,
    detector,
    ofDevice: device !== undefined,
    emulated: device?.emulated ?? false,
    run: () => scanFile(path, detector, device),
  };
}

async function scanFile(path: string, detector: string, device: DsaDevice | undefined): Promise<FileTaken> {
  const fd = openSync(path, 'r');
  const scanner = openScanner(device === undefined ? detector : 'auto', device);
  const emulatorBefore = emulatorSeconds(device);
  try {
    const { seconds, cpuSeconds, result } = await take(() => scanSegments(fd, path, scanner, device));
    // What the emulator computes, a real device would.
    return { seconds, cpuSeconds: cpuSeconds - (emulatorSeconds(device) - emulatorBefore), devicePages: result };
  } finally {
    scanner.close();
    closeSync(fd);
  }
}

function emulatorSeconds(device: DsaDevice | undefined): number {
  return device === undefined ? 0 : (device.reports().emulatorCpuSeconds ?? 0);
}

/** @returns the pages that the device answered for. */
async function scanSegments(
  fd: number,
  path: string,
  scanner: SegmentScanner,
  device: DsaDevice | undefined,
): Promise<number> {
  const output = scanOutput();
  const segments = fstatSync(fd).size / SEGMENT_BYTES;
  const slots = AHEAD_SEGMENTS + 1;
  const extentOf = (segment: number) => Float64Array.of(fd, segment * SEGMENT_BYTES, SEGMENT_BYTES);
  const submit = (segment: number) => {
    if (device !== undefined && segment < segments) scanner.submitAhead(segment % slots, extentOf(segment), 1);
  };
  let devicePages = 0;
  for (let ahead = 0; ahead < AHEAD_SEGMENTS; ahead++) submit(ahead);
  for (let segment = 0; segment < segments; segment++) {
    submit(segment + AHEAD_SEGMENTS);
    const slot = device === undefined ? undefined : segment % slots;
    const status = scanner.scanExtents(extentOf(segment), 1, output, 0, slot);
    if (status < 0) throw errnoError(status, 'read', path);
    devicePages += output.report[REPORT_DEVICE_ZERO_PAGES]!;
    // Signals are heard between two turns.
    if (segment % 32 === 31) await nextTurn();
  }
  return devicePages;
}

function openScanner(detector: string, device: DsaDevice | undefined): SegmentScanner {
  return new native.SegmentScanner({
    detector: detector as 'auto',
    pageSize: PAGE_BYTES,
    segmentSize: SEGMENT_BYTES,
    device: device?.handle,
    slots: device === undefined ? undefined : AHEAD_SEGMENTS + 1,
  });
}

function scanOutput(): ScanOutput {
  const pages = SEGMENT_BYTES / PAGE_BYTES;
  return {
    data: new Uint8Array(SEGMENT_BYTES),
    states: new Uint8Array(pages),
    words: new BigUint64Array(pages),
    leaves: new Uint8Array(16 * (SEGMENT_BYTES / (1024 * 1024))),
    report: new Float64Array(REPORT_LENGTH),
  };
}
