/** Emulated DSA devices: one for each way in which descriptors reach a queue, and what they are to do wrong. */
import type { ExecutionContext } from 'ava';
import { type DsaDevice, type DsaDeviceOptions, openDsa } from '../../../lib/index.js';
import type { EmulatedDsaQueue, EmulatedMachine } from '../../../native/binding.js';

const EPERM = 1;

/** The queue that makes the driver take each way. */
export const QUEUE_BY_WAY: Readonly<Record<string, EmulatedDsaQueue>> = {
  enqcmd: { mode: 'shared' },
  movdir64b: { mode: 'dedicated' },
  'write-batch': { mode: 'shared', mapError: EPERM },
  'write-single': { mode: 'shared', mapError: EPERM, writeRefusesBatches: true },
};

/** Nothing is lost but what a plan loses, however busy the machine is. */
const PATIENT = { recordMilliseconds: 20_000, probeMilliseconds: 5_000, sickRetestMilliseconds: 20, sickTests: 2 };
/** Short, so that a test of an answer that never comes does not wait for long. */
const IMPATIENT = { recordMilliseconds: 150, probeMilliseconds: 600, sickRetestMilliseconds: 20, sickTests: 2 };

export interface TestMachine {
  readonly queues?: readonly EmulatedDsaQueue[];
  readonly random?: Pick<EmulatedMachine, 'randomSeed' | 'randomPermille' | 'randomKinds'>;
  readonly options?: DsaDeviceOptions;
}

/** An emulated device that is closed when the test ends. */
export function emulatedDevice(t: ExecutionContext, { queues, random, options }: TestMachine = {}): DsaDevice {
  const device = openDsa({
    limits: PATIENT,
    ...options,
    emulated: { devices: [{ queues: queues ?? [{}] }], ...random },
  });
  t.teardown(() => device.close());
  return device;
}

/** One whose operations are soon given up. */
export function impatientDevice(t: ExecutionContext, machine: TestMachine = {}): DsaDevice {
  return emulatedDevice(t, { ...machine, options: { limits: IMPATIENT, ...machine.options } });
}
