/**
 * Whatever the memory, its layout, the queues and what goes wrong with them: the image of a save on an emulated DSA device
 * is that of the CPU, byte by byte, and the save ends.
 *
 *   VMSNAP_DSA_IMAGES=2000     more images than fit into a test run
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { openDsa, type SaveOptions, save } from '../../lib/index.js';
import type { DsaFault, DsaFaultKind, EmulatedDsaDevice, EmulatedDsaQueue } from '../../native/binding.js';
import { QUEUE_BY_WAY } from './support/dsa.js';
import { sameBytes } from './support/expect.js';
import { type Machine, machines, type WrittenMachine, writeMachine } from './support/machines.js';
import { KIB, MIB } from './support/memory.js';
import { Workspace, workspace } from './support/workspace.js';

process.env.SOURCE_DATE_EPOCH = '1700000000';

const RUNS = Number(process.env.VMSNAP_DSA_IMAGES ?? 12);
const EAGAIN = 11;
const EINVAL = 22;
const EIO = 5;
const ALWAYS = 1_000_000;

const queues: fc.Arbitrary<EmulatedDsaQueue> = fc
  .record({
    way: fc.constantFrom(...Object.values(QUEUE_BY_WAY)),
    size: fc.constantFrom(1, 2, 3, 16, 128),
    threshold: fc.constantFrom(0, 0, 1, 5),
    maxBatch: fc.constantFrom(1, 2, 7, 32, 1024),
    maxTransferBytes: fc.constantFrom(4 * KIB, 64 * KIB, MIB, 2 ** 31),
  })
  .map(({ way, ...limits }) => ({ ...way, ...limits }));

const devices: fc.Arbitrary<EmulatedDsaDevice> = fc.record({
  engines: fc.integer({ min: 1, max: 3 }),
  latencyMicroseconds: fc.constantFrom(0, 0, 100),
  queues: fc.array(queues, { minLength: 1, maxLength: 3 }),
});

const numbers = { first: fc.integer({ min: 6, max: 400 }), count: fc.constantFrom(1, 3, 50, ALWAYS) };

/** Everything but wrong answers, which only a self-check finds. */
const faults: fc.Arbitrary<DsaFault> = fc
  .record({
    kind: fc.constantFrom<DsaFaultKind>(
      'page-fault',
      'write-fault',
      'status',
      'never-written',
      'late',
      'batch-list-fault',
      'queue-full',
      'short-write',
      'write-error',
      'device-lost',
      'device-halted',
      'device-back',
    ),
    device: fc.integer({ min: 0, max: 1 }),
    queue: fc.integer({ min: 0, max: 2 }),
    ...numbers,
    value: fc.nat(5000),
    error: fc.constantFrom(EAGAIN, EINVAL, EIO),
    of: fc.constantFrom<NonNullable<DsaFault['of']>>('compares', 'compares', 'descriptors'),
  })
  .map(({ value, error, ...fault }) => ({ ...fault, value: fittingValue(fault.kind, value, error) }));

function fittingValue(kind: DsaFaultKind, value: number, error: number): number {
  switch (kind) {
    case 'status':
      // 1 says that nothing is wrong, and would be a lie.
      return 2 + (value % 254);
    case 'write-error':
      return error;
    case 'late':
      return value % 200;
    case 'short-write':
      return 1 + (value % 8);
    default:
      return value;
  }
}

const plans = fc.record({
  devices: fc.array(devices, { minLength: 1, maxLength: 2 }),
  faults: fc.array(faults, { maxLength: 6 }),
  batchPages: fc.constantFrom(1, 2, 64, 128, 1024),
  depth: fc.constantFrom(undefined, 1, 3, 64),
  selfCheck: fc.boolean(),
});
type Plan = typeof plans extends fc.Arbitrary<infer Value> ? Value : never;

/** Status 41 is 1 beside a bit that means nothing. */
const isSuccess = ({ kind, value }: DsaFault): boolean => kind === 'status' && ((value ?? 0) & 0x3f) === 1;

test('the image is that of the CPU', async (t) => {
  const parent = workspace(t);
  await fc.assert(
    fc.asyncProperty(machines, plans, async (machine, plan) => {
      const folder = new Workspace(parent.path('run'));
      mkdirSync(folder.folder);
      try {
        await requireSameImage(t, folder, machine, plan);
      } finally {
        rmSync(folder.folder, { recursive: true });
      }
    }),
    { numRuns: RUNS, includeErrorInReport: true },
  );
});

async function requireSameImage(t: ExecutionContext, folder: Workspace, machine: Machine, plan: Plan): Promise<void> {
  const written = writeMachine(machine, folder);
  const expected = await imageOf(folder, written, { detector: 'scalar', threads: 1 });
  const { batchPages, depth, selfCheck } = plan;
  // The faults may leave no queue that can be opened; then there is nothing to show.
  const device = tryOpen({ ...plan, batchPages, depth });
  if (device === undefined) return;
  try {
    const actual = await imageOf(folder, written, { detector: 'dsa-emulated', dsa: { device, selfCheck } });
    sameBytes(t, actual, expected, 'the image');
  } finally {
    device.close();
  }
  t.deepEqual(folder.leftovers(), []);
}

async function imageOf(folder: Workspace, written: WrittenMachine, options: SaveOptions): Promise<Buffer> {
  const regions = written.regions.map(({ memory: _, ...region }) => region);
  const common = { ...written.saveOptions, regions, frozen: true, force: true };
  await save(undefined, folder.path('image'), { ...common, ...options });
  return readFileSync(folder.path('image'));
}

function tryOpen({ devices, faults, batchPages, depth }: Plan): ReturnType<typeof openDsa> | undefined {
  try {
    return openDsa({
      batchPages,
      depth,
      limits: { recordMilliseconds: 150, probeMilliseconds: 300, sickRetestMilliseconds: 10, sickTests: 3 },
      emulated: {
        devices: devices.map((device, number) => ({ ...device, number })),
        faults: faults.filter((fault) => !isSuccess(fault)),
      },
    });
  } catch {
    return undefined;
  }
}
