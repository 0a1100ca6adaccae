/**
 * What is wrong with one queue, or worth knowing about it. The first cause is told and not what follows from it: a queue
 * that is disabled cannot be opened either.
 */
import { configureCommands, enableCommands, isSetUp } from './accelConfig.js';
import { permissionCommands } from './mends.js';
import type { Diagnosis, DoctorDevice, DoctorQueue, ProbeStep, SystemFacts } from './report.js';

const COMPARE_PATTERN = 6;
/** What save puts into one batch where the queue allows it. */
const USUAL_BATCH_PAGES = 128;

type Cause = Omit<Diagnosis, 'severity' | 'subject'>;

export function queueDiagnoses(device: DoctorDevice, queue: DoctorQueue, system: SystemFacts): Diagnosis[] {
  const subject = `${device.name}/${queue.name}`;
  if (queue.usable) return remarks(device, queue).map((cause) => ({ severity: 'remark', subject, ...cause }));
  // Told of the device; nothing else about its queues can be right.
  if (device.pasidEnabled === 0) return [];
  const cause =
    setUpCause(device, queue, system) ?? nodeCause(queue) ?? probeCause(device, queue) ?? selfTestCause(device, queue);
  return cause === undefined ? [] : [{ severity: 'fault', subject, ...cause }];
}

function setUpCause(device: DoctorDevice, queue: DoctorQueue, system: SystemFacts): Cause | undefined {
  const path = `${device.name}/${queue.name}`;
  if (!isSetUp(queue)) {
    const belongs = queue.type !== '' && queue.type !== 'none' && queue.type !== 'user';
    const disable = queue.state === 'enabled' ? [`accel-config disable-wq ${path}`] : [];
    return {
      code: belongs ? 'queue-other-type' : 'queue-not-set-up',
      message: belongs
        ? `the queue is of type ${queue.type}: programs need type user`
        : 'the queue is not set up: it lacks a type, a size or a group',
      advice: '',
      commands: [...disable, ...configureCommands(device, system, queue)],
    };
  }
  if (queue.state !== 'enabled') {
    return {
      code: 'queue-disabled',
      message: `the queue is set up, but ${queue.state === '' ? 'its state cannot be read' : queue.state}`,
      advice: '',
      commands: enableCommands(device, queue),
    };
  }
  if (queue.operations.length > 0 && !queue.operations.includes(COMPARE_PATTERN)) {
    return {
      code: 'no-compare',
      message: 'the queue does not accept the operation that finds zero pages (compare pattern, 6)',
      advice: 'these give it all operations that the device has',
      commands: [
        `accel-config disable-wq ${path}`,
        `echo ${operationMask(device.operations)} > /sys/bus/dsa/devices/${path}/op_config`,
        `accel-config enable-wq ${path}`,
      ],
    };
  }
  return undefined;
}

/** As op_config takes it: hexadecimal, in words of 32 bits with commas, the highest first. */
function operationMask(operations: readonly number[]): string {
  const wanted = new Set([...operations, COMPARE_PATTERN]);
  const words = new Array<number>(Math.floor(Math.max(...wanted) / 32) + 1).fill(0);
  for (const operation of wanted) words[Math.floor(operation / 32)]! += 2 ** (operation % 32);
  return words
    .reverse()
    .map((word) => word.toString(16).padStart(8, '0'))
    .join(',');
}

function nodeCause({ node, nodeFacts }: DoctorQueue): Cause | undefined {
  if (nodeFacts === undefined) return undefined;
  if (nodeFacts.kind === 'missing') {
    return {
      code: 'node-missing',
      message: `the queue is enabled, but there is no ${node}`,
      advice: `in a container: hand it in (--device ${node}); in a systemd unit: DeviceAllow and no PrivateDevices`,
      commands: ['udevadm trigger --subsystem-match=dsa && udevadm settle'],
    };
  }
  if (nodeFacts.kind === 'other') {
    return {
      code: 'node-no-device',
      message: `${node} is no character device`,
      advice: 'something else has taken its place',
      commands: [`ls -l ${node}`],
    };
  }
  return nodeFacts.mayOpen ? undefined : permissionCause(node, nodeFacts);
}

function permissionCause(node: string, facts: DoctorQueue['nodeFacts']): Cause {
  const mode =
    facts?.mode === undefined
      ? ''
      : ` (mode ${facts.mode.toString(8).padStart(4, '0')}, ${facts.owner}:${facts.group})`;
  return {
    code: 'node-permission',
    message: `you may not open ${node}${mode}`,
    advice: 'log in again afterwards, so that the group counts',
    commands: permissionCommands(node, facts),
  };
}

function probeCause(device: DoctorDevice, { name, node, nodeFacts, probe }: DoctorQueue): Cause | undefined {
  if (probe === undefined || probe.way !== 'none') return undefined;
  const openError = probe.steps.find(({ what }) => what === 'open')?.error;
  if (openError === 'EBUSY') {
    return {
      code: 'queue-busy',
      message: 'another program has this dedicated queue open, and only one can',
      advice: 'wait for it, or set up a shared queue',
      commands: [`fuser -v ${node}`],
    };
  }
  if (openError === 'EACCES' || openError === 'EPERM') return permissionCause(node, nodeFacts);
  const message = probe.reason === '' ? 'the queue takes no descriptors' : probe.reason;
  if (openError !== undefined || !probe.steps.some(({ what }) => what === 'open')) {
    return { code: 'probe-failed', message, advice: probe.hint, commands: [] };
  }
  const path = `${device.name}/${name}`;
  return {
    code: probe.steps.some(isWrongAnswer) ? 'wrong-answers' : 'probe-failed',
    message,
    advice: 'if this does not help, look at the errors of the device',
    commands: [
      "dmesg | grep -iE 'idxd|dmar'",
      `accel-config disable-wq ${path}`,
      `accel-config enable-wq ${path}`,
      `cat /sys/bus/dsa/devices/${device.name}/errors`,
    ],
  };
}

/** The compare of known pages ended well, and its answer was not what is there. */
function isWrongAnswer({ what, error }: ProbeStep): boolean {
  return what === 'compare' && error === 'EIO';
}

function selfTestCause(device: DoctorDevice, { name, probe }: DoctorQueue): Cause | undefined {
  if (probe === undefined) return undefined;
  const path = `${device.name}/${name}`;
  const wrong = probe.selfTest.filter((test) => test.wrong > 0);
  const failed = wrong.length > 0 ? wrong : probe.selfTest.filter((test) => test.right < test.pages);
  const names = failed.map((test) => test.name).join(', ');
  return {
    code: wrong.length > 0 ? 'wrong-answers' : 'no-answers',
    message:
      wrong.length > 0
        ? `the device gave WRONG answers in the self-test (${names}): do not use it`
        : `the device gave no answers in the self-test (${names || 'it could not be run'})`,
    advice: 'look for hardware errors, and leave the queue disabled until the cause is known',
    commands: ["dmesg | grep -iE 'idxd|dmar|mce'", `accel-config disable-wq ${path}`],
  };
}

function remarks(device: DoctorDevice, { name, probe }: DoctorQueue): Cause[] {
  if (probe === undefined) return [];
  const answered = (what: string, error: string): boolean =>
    probe.steps.some((step) => step.what === what && step.error === error);
  const found: Cause[] = [];
  if (answered('map', 'EPERM')) {
    found.push({
      code: 'portal-refused',
      message: 'mmap refused (EPERM): normal on kernels since 6.9.1 without CAP_SYS_RAWIO; write() is used',
      advice: 'nothing needs mending; CAP_SYS_RAWIO would save system calls, and opens far more than this device',
      commands: [],
    });
  }
  if (probe.way === 'write-single') {
    found.push({
      code: 'batch-refused',
      message: 'BATCH refused by write(): normal for DSA 1.0; large compares are used',
      advice: 'nothing needs mending',
      commands: [],
    });
  }
  if (probe.batches && probe.batchPages < USUAL_BATCH_PAGES) {
    found.push({
      code: 'small-batches',
      message: `a batch holds only ${probe.batchPages} pages: the queue's max_batch_size is small`,
      advice: 'raise it while the device is disabled',
      commands: [`accel-config config-wq ${device.name}/${name} -c ${Math.max(USUAL_BATCH_PAGES, device.maxBatch)}`],
    });
  }
  return found;
}
