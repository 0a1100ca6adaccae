/**
 * How a device gets a queue for vmsnap: one shared queue in a group with the free engines, as accel-config commands and
 * as a file for `accel-config load-config`.
 */
import type { AccelConfig, DoctorDevice, DoctorQueue, SystemFacts } from './report.js';
import { kernelAtLeast } from './systemFacts.js';

const QUEUE_LABEL = 'vmsnap';
const PRIORITY = 10;
/** Enough for a full pipeline, and room for the queues of others. */
const QUEUE_ENTRIES = 64;
const ASSUMED_ENTRIES = 16;

interface QueuePlan {
  readonly device: string;
  readonly queue: string;
  readonly group: number;
  /** Numbers of the engines that must be put into the group. */
  readonly engines: readonly number[];
  readonly size: number;
  readonly threshold: number;
  /** Kernels since 6.7 want the driver's name. */
  readonly namesDriver: boolean;
}

/** The queue to set up on a device: `wanted`, or the first that nobody has set up, or the first. */
function planQueue(device: DoctorDevice, system: SystemFacts, wanted?: DoctorQueue): QueuePlan {
  const queue =
    wanted ?? device.queues.find(({ size, state }) => size === 0 && state !== 'enabled') ?? device.queues[0];
  const name = queue?.name ?? `wq${device.name.slice(3)}.0`;
  const group = Math.max(0, queue?.group ?? 0);
  const size = queueSize(device, name);
  return {
    device: device.name,
    queue: name,
    group,
    engines: enginesFor(device, group),
    size,
    threshold: Math.max(1, size - 1),
    namesDriver: kernelAtLeast(system, 6, 7),
  };
}

/** What the other queues leave of the device's entries. */
function queueSize(device: DoctorDevice, name: string): number {
  if (device.maxQueueEntries === 0) return ASSUMED_ENTRIES;
  const others = device.queues.filter((queue) => queue.name !== name).reduce((sum, { size }) => sum + size, 0);
  return Math.max(1, Math.min(QUEUE_ENTRIES, device.maxQueueEntries - others));
}

/** None where the group has an engine already. */
function enginesFor({ engineGroups, maxEngines }: DoctorDevice, group: number): number[] {
  if (engineGroups.includes(group)) return [];
  const all = engineGroups.length > 0 ? engineGroups : new Array<number>(Math.max(1, maxEngines)).fill(-1);
  const free = all.flatMap((own, engine) => (own < 0 ? [engine] : []));
  return free.length > 0 ? free : [0];
}

function engineName(device: string, engine: number): string {
  return `engine${device.slice(3)}.${engine}`;
}

/** From nothing to an enabled queue. A device that is enabled is disabled first: its queues cannot be set up otherwise. */
export function configureCommands(device: DoctorDevice, system: SystemFacts, wanted?: DoctorQueue): string[] {
  const plan = planQueue(device, system, wanted);
  const path = `${plan.device}/${plan.queue}`;
  const driver = plan.namesDriver ? ' -d user' : '';
  return [
    ...(device.state === 'enabled' ? [`accel-config disable-device ${plan.device}`] : []),
    ...plan.engines.map(
      (engine) => `accel-config config-engine ${plan.device}/${engineName(plan.device, engine)} -g ${plan.group}`,
    ),
    `accel-config config-wq ${path} -g ${plan.group} -s ${plan.size} -t ${plan.threshold} -p ${PRIORITY}` +
      ` -m shared -y user -n ${QUEUE_LABEL}${driver} -b 0`,
    `accel-config enable-device ${plan.device}`,
    `accel-config enable-wq ${path}`,
  ];
}

/** For a queue that is set up and only not switched on. */
export function enableCommands(device: DoctorDevice, queue: DoctorQueue): string[] {
  return [
    ...(device.state === 'enabled' ? [] : [`accel-config enable-device ${device.name}`]),
    `accel-config enable-wq ${device.name}/${queue.name}`,
  ];
}

export function isSetUp({ type, size, group }: DoctorQueue): boolean {
  return type === 'user' && size > 0 && group >= 0;
}

/** Devices that have a queue for users already are left out: loading would take it away from whoever uses it. */
export function accelConfig(devices: readonly DoctorDevice[], system: SystemFacts): AccelConfig {
  return devices.filter(({ queues }) => !queues.some(isSetUp)).map((device) => deviceConfig(planQueue(device, system)));
}

function deviceConfig(plan: QueuePlan): object {
  return {
    dev: plan.device,
    groups: [
      {
        dev: `group${plan.device.slice(3)}.${plan.group}`,
        grouped_workqueues: [
          {
            dev: plan.queue,
            mode: 'shared',
            size: plan.size,
            group_id: plan.group,
            priority: PRIORITY,
            block_on_fault: 0,
            type: 'user',
            ...(plan.namesDriver ? { driver_name: 'user' } : {}),
            name: QUEUE_LABEL,
            threshold: plan.threshold,
          },
        ],
        grouped_engines: plan.engines.map((engine) => ({ dev: engineName(plan.device, engine), group_id: plan.group })),
      },
    ],
  };
}
