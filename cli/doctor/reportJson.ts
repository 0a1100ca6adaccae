/** The report as JSON (docs/scripting.md, docs/schema/doctor.json): complete, null for what is unknown. */
import type { Diagnosis, DoctorDevice, DoctorQueue, DoctorReport, SystemFacts } from '../../lib/index.js';

export function reportJson(report: DoctorReport): object {
  const { cpu, verdict } = report;
  return {
    schema: 'vmsnap.doctor',
    schemaVersion: 1,
    emulated: report.emulated,
    cpu: {
      architecture: cpu.architecture,
      model: cpu.model ?? null,
      avx2: cpu.avx2,
      avx512: cpu.avx512,
      neon: cpu.neon,
      waitpkg: cpu.waitpkg,
      movdir64b: cpu.movdir64b,
      enqcmd: cpu.enqcmd,
    },
    detectors: report.detectors.map(({ name, available, reason }) => ({ name, available, reason })),
    system: systemJson(report.system),
    pci: report.pci.map(({ address, id, processors, driver }) => ({ address, id, processors, driver: driver ?? null })),
    devices: report.devices.map(deviceJson),
    diagnoses: report.diagnoses.map(diagnosisJson),
    accelConfig: report.accelConfig ?? null,
    verdict: {
      outcome: verdict.outcome,
      detector: verdict.detector,
      cpuDetector: verdict.cpuDetector,
      reason: verdict.reason,
    },
  };
}

function systemJson({ kernel, iommuUnits, iommuWords, idxdLoaded, umwait }: SystemFacts): object {
  return {
    kernel,
    iommuUnits: iommuUnits.map(({ name, scalableMode, pasid }) => {
      return { name, scalableMode: scalableMode ?? null, pasid: pasid ?? null };
    }),
    iommuWords: [...iommuWords],
    idxdLoaded,
    umwait: umwait === undefined ? null : { maxTicks: umwait.maxTicks, deepState: umwait.deepState },
  };
}

function deviceJson(device: DoctorDevice): object {
  return {
    name: device.name,
    state: device.state || null,
    version: device.version || null,
    numaNode: atLeastZero(device.numaNode),
    pasidEnabled: flag(device.pasidEnabled),
    configurable: flag(device.configurable),
    maxGroups: device.maxGroups,
    maxQueues: device.maxQueues,
    maxQueueEntries: device.maxQueueEntries,
    maxEngines: device.maxEngines,
    maxBatch: device.maxBatch,
    maxTransferBytes: device.maxTransferBytes,
    generalCapability: device.generalCapability,
    operations: [...device.operations],
    commandStatus: device.commandStatus,
    commandStatusMeaning: device.commandStatusMeaning ?? null,
    clients: device.clients,
    errors: device.errors || null,
    engineGroups: device.engineGroups.map(atLeastZero),
    queues: device.queues.map(queueJson),
  };
}

function queueJson(queue: DoctorQueue): object {
  const { nodeFacts, probe } = queue;
  return {
    name: queue.name,
    node: queue.node,
    usable: queue.usable,
    mode: queue.mode || null,
    state: queue.state || null,
    type: queue.type || null,
    label: queue.label || null,
    driverName: queue.driverName || null,
    group: atLeastZero(queue.group),
    size: queue.size,
    threshold: queue.threshold,
    priority: queue.priority,
    blockOnFault: queue.blockOnFault,
    atsDisabled: queue.atsDisabled,
    prsDisabled: queue.prsDisabled,
    maxTransferBytes: queue.maxTransferBytes,
    maxBatch: queue.maxBatch,
    operations: [...queue.operations],
    nodeFacts:
      nodeFacts === undefined
        ? null
        : {
            kind: nodeFacts.kind,
            mode: nodeFacts.mode === undefined ? null : nodeFacts.mode.toString(8).padStart(4, '0'),
            owner: nodeFacts.owner ?? null,
            group: nodeFacts.group ?? null,
            mayOpen: nodeFacts.mayOpen,
          },
    probe: probe === undefined ? null : probeJson(probe),
  };
}

function probeJson(probe: NonNullable<DoctorQueue['probe']>): object {
  return {
    way: probe.way === 'none' ? null : probe.way,
    batches: probe.batches,
    depth: probe.depth,
    batchPages: probe.batchPages,
    maxUnitBytes: probe.maxUnitBytes,
    steps: probe.steps.map(({ what, error, status }) => ({ what, error: error ?? null, status: status ?? null })),
    reason: probe.reason || null,
    hint: probe.hint || null,
    selfTest: probe.selfTest.map(({ name, pages, right, wrong, unknown }) => ({ name, pages, right, wrong, unknown })),
  };
}

function diagnosisJson({ severity, code, subject, message, advice, commands }: Diagnosis): object {
  return { severity, code, subject, message, advice: advice || null, commands: [...commands] };
}

function atLeastZero(value: number): number | null {
  return value < 0 ? null : value;
}

function flag(value: number): boolean | null {
  return value < 0 ? null : value === 1;
}
