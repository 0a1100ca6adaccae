/**
 * Looks at everything that zero-page detection on DSA depends on, tries each queue, and says what to mend.
 *
 * Reads /sys and /proc, opens queues, and changes nothing. Synchronous: a queue that does not answer takes a second or
 * two until its time limits are over.
 */
import { getSystemErrorName } from 'node:util';
import { type DsaDiscovery, type DsaProbe, type DsaProbeStep, type DsaQueue, native } from '../../native/binding.js';
import { VmsnapError } from '../../native/errors.js';
import { dsaDeviceRoot, dsaNode, dsaSysfsRoot } from '../dsaFolders.js';
import { accelConfig, isSetUp } from './accelConfig.js';
import { commandStatusMeaning } from './commandStatus.js';
import { deviceDiagnoses } from './deviceDiagnoses.js';
import { kernelDiagnoses, pciDiagnoses, sysfsDiagnoses, unknownNodeDiagnoses } from './hostDiagnoses.js';
import { nodeFacts } from './nodeFacts.js';
import { dsaPciDevices } from './pciDevices.js';
import { queueDiagnoses } from './queueDiagnoses.js';
import type {
  Diagnosis,
  DoctorDevice,
  DoctorOptions,
  DoctorQueue,
  DoctorReport,
  NodeFacts,
  PciDevice,
  ProbeStep,
} from './report.js';
import { cpuModel, systemFacts } from './systemFacts.js';
import { verdictOf } from './verdict.js';

interface Examination {
  readonly discovery: DsaDiscovery;
  readonly pci: readonly PciDevice[];
  readonly devices: readonly DoctorDevice[];
  readonly sysfsRoot: string;
}

export function doctor(options: DoctorOptions = {}): DoctorReport {
  const systemRoot = options.systemRoot ?? '';
  const emulated = options.emulated === true;
  const nodes = (options.nodes ?? []).map((node) => dsaNode(node, options.deviceRoot));
  const system = systemFacts(systemRoot);
  const examination = emulated ? examineEmulated() : examineMachine(options, nodes, systemRoot);
  const { discovery, pci, devices, sysfsRoot } = examination;
  const diagnoses = [
    ...kernelDiagnoses(devices, system, emulated),
    ...sysfsDiagnoses(discovery.error, sysfsRoot),
    ...pciDiagnoses(pci, devices, system),
    ...unknownNodeDiagnoses(nodes, devices),
    ...devices.flatMap((device) => [
      ...deviceDiagnoses(device, system),
      ...device.queues
        .filter((queue) => isAskedFor(queue, nodes))
        .flatMap((queue) => queueDiagnoses(device, queue, system)),
    ]),
  ];
  const report = {
    emulated,
    cpu: { ...native.cpuFeatures(), model: cpuModel(systemRoot) },
    detectors: native.detectors(),
    system,
    pci,
    devices,
    diagnoses: [...diagnoses.filter(isFault), ...mergeRemarks(diagnoses.filter((diagnosis) => !isFault(diagnosis)))],
  };
  const config = emulated || devices.length === 0 ? undefined : accelConfig(devices, system);
  return { ...report, accelConfig: config, verdict: verdictOf(report, nodes) };
}

/** Without nodes: every queue that is set up for programs. */
function isAskedFor(queue: DsaQueue, nodes: readonly string[]): boolean {
  return nodes.length > 0 ? nodes.includes(queue.node) : isSetUp(queue as DoctorQueue);
}

function isFault({ severity }: Diagnosis): boolean {
  return severity === 'fault';
}

/** The same remark about several queues is told once. */
function mergeRemarks(remarks: readonly Diagnosis[]): Diagnosis[] {
  const merged = new Map<string, Diagnosis>();
  for (const remark of remarks) {
    const key = `${remark.code} ${remark.message} ${remark.commands.join()}`;
    const before = merged.get(key);
    merged.set(key, before === undefined ? remark : { ...before, subject: `${before.subject}, ${remark.subject}` });
  }
  return [...merged.values()];
}

function examineMachine(options: DoctorOptions, nodes: readonly string[], systemRoot: string): Examination {
  const sysfsRoot = options.sysfsRoot ?? dsaSysfsRoot();
  const deviceRoot = options.deviceRoot ?? dsaDeviceRoot();
  const discovery = native.dsaDiscover(sysfsRoot, deviceRoot);
  const queues = discovery.devices.flatMap((device) => device.queues);
  const facts = new Map(queues.map(({ node }) => [node, nodeFacts(node, systemRoot)]));
  // A file that is no device is not to be mapped and stored to.
  const probed = queues.filter((queue) => isAskedFor(queue, nodes) && facts.get(queue.node)!.kind !== 'other');
  const probes = native.dsaProbe(
    sysfsRoot,
    deviceRoot,
    probed.map(({ node }) => node),
  );
  return { discovery, pci: dsaPciDevices(systemRoot), devices: joinDevices(discovery, probes, facts), sysfsRoot };
}

function examineEmulated(): Examination {
  const { error, discovery, probes } = native.dsaProbeEmulated();
  if (discovery === undefined || probes === undefined) {
    throw new VmsnapError('ENGINE', `the emulated device cannot be made: ${error}`);
  }
  return { discovery, pci: [], devices: joinDevices(discovery, probes, new Map()), sysfsRoot: '' };
}

function joinDevices(
  discovery: DsaDiscovery,
  probes: readonly DsaProbe[],
  facts: ReadonlyMap<string, NodeFacts>,
): DoctorDevice[] {
  return discovery.devices.map((device) => ({
    ...device,
    commandStatusMeaning: commandStatusMeaning(device.commandStatus),
    queues: device.queues.map((queue) => joinQueue(queue, probes, facts.get(queue.node))),
  }));
}

function joinQueue(queue: DsaQueue, probes: readonly DsaProbe[], facts: NodeFacts | undefined): DoctorQueue {
  const found = probes.find(({ node }) => node === queue.node);
  if (found === undefined) return { ...queue, nodeFacts: facts, probe: undefined, usable: false };
  const { node: _node, usable, ...probe } = found;
  const passed = probe.selfTest.length > 0 && probe.selfTest.every(({ right, pages }) => right === pages);
  return { ...queue, nodeFacts: facts, probe: { ...probe, steps: probe.steps.map(stepOf) }, usable: usable && passed };
}

function stepOf({ what, error, status, statusText }: DsaProbeStep): ProbeStep {
  return {
    what,
    error: error === 0 ? undefined : getSystemErrorName(error),
    status: status === 0 ? undefined : statusText,
  };
}
