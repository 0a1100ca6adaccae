/** What is wrong with a device as a whole. */
import { configureCommands, isSetUp } from './accelConfig.js';
import { meansIncompleteQueue } from './commandStatus.js';
import { scalableModeCommands } from './mends.js';
import type { Diagnosis, DoctorDevice, SystemFacts } from './report.js';
import { scalableModeAsked } from './systemFacts.js';

export function deviceDiagnoses(device: DoctorDevice, system: SystemFacts): Diagnosis[] {
  return [
    ...pasidDiagnoses(device, system),
    ...haltedDiagnoses(device),
    ...commandStatusDiagnoses(device, system),
    ...noQueueDiagnoses(device, system),
  ];
}

function pasidDiagnoses(device: DoctorDevice, system: SystemFacts): Diagnosis[] {
  if (device.pasidEnabled !== 0) return [];
  const common = { severity: 'fault', code: 'pasid-off', subject: device.name } as const;
  if (!scalableModeAsked(system)) {
    return [
      {
        ...common,
        message:
          'PASID is off, so programs cannot use the device: the kernel was not started with intel_iommu=on,sm_on',
        advice: '',
        commands: scalableModeCommands(),
      },
    ];
  }
  const units = system.iommuUnits.length;
  return [
    {
      ...common,
      message: `PASID is off although the kernel was asked for it; it found ${units === 0 ? 'no IOMMU' : `${units} IOMMUs`}`,
      advice: 'turn on VT-d in the BIOS; in a guest the virtual IOMMU needs its scalable mode',
      commands: ["dmesg | grep -iE 'dmar|pasid|sva|idxd'"],
    },
  ];
}

function haltedDiagnoses({ name, state }: DoctorDevice): Diagnosis[] {
  if (state !== 'halted') return [];
  return [
    {
      severity: 'fault',
      code: 'device-halted',
      subject: name,
      message: 'the device has halted after a hardware error',
      advice: '',
      commands: ['dmesg | grep -i idxd', `accel-config disable-device ${name}`, `accel-config enable-device ${name}`],
    },
  ];
}

/** The status outlives its cause, so beside a queue that works it is only a remark. */
function commandStatusDiagnoses(device: DoctorDevice, system: SystemFacts): Diagnosis[] {
  const { name, commandStatus, commandStatusMeaning, queues } = device;
  if (commandStatusMeaning === undefined) return [];
  const works = queues.some(({ usable }) => usable);
  const halfDone = queues.find((queue) => isSetUp(queue) && queue.state !== 'enabled');
  const setUpAgain = !works && halfDone !== undefined && meansIncompleteQueue(commandStatus);
  return [
    {
      severity: works ? 'remark' : 'fault',
      code: 'command-status',
      subject: name,
      message: `the last command that failed: ${commandStatusMeaning} (cmd_status ${commandStatus})`,
      advice: 'it stands until the next command, or until something is written to cmd_status',
      commands: setUpAgain ? configureCommands(device, system, halfDone) : [],
    },
  ];
}

function noQueueDiagnoses(device: DoctorDevice, system: SystemFacts): Diagnosis[] {
  if (device.queues.some(isSetUp)) return [];
  const clients = device.clients > 0 ? `; ${device.clients} programs use the device and lose it by this` : '';
  return [
    {
      severity: 'fault',
      code: 'no-user-queue',
      subject: device.name,
      message: 'no queue of the device is set up for programs (type user, with a size and a group)',
      advice: `or all devices at once with vmsnap doctor --accel-config (docs/dsa.md)${clients}`,
      commands: configureCommands(device, system),
    },
  ];
}
