/** The end of the report: can the device be used, and what will `save` take? */
import type { DetectorStatus } from '../../native/binding.js';
import { isSetUp } from './accelConfig.js';
import type { DoctorReport, Outcome, Verdict } from './report.js';

type Examined = Omit<DoctorReport, 'verdict' | 'accelConfig'>;

export function verdictOf(report: Examined, nodes: readonly string[]): Verdict {
  const outcome = outcomeOf(report, nodes);
  const cpuDetector = bestCpuDetector(report.detectors).name;
  const works = outcome === 'ready' || outcome === 'partly';
  const detector = works && !report.emulated ? 'dsa' : cpuDetector;
  return { outcome, detector, cpuDetector, reason: reasonFor(report, outcome, nodes) };
}

function bestCpuDetector(detectors: readonly DetectorStatus[]): DetectorStatus {
  return detectors.find(({ available }) => available)!;
}

function outcomeOf(report: Examined, nodes: readonly string[]): Outcome {
  const queues = report.devices.flatMap((device) => device.queues);
  if (nodes.length > 0) {
    const allUsable = nodes.every((node) => queues.find((queue) => queue.node === node)?.usable === true);
    return allUsable ? 'ready' : 'unusable';
  }
  const hasFault = report.diagnoses.some(({ severity }) => severity === 'fault');
  if (report.devices.length === 0) return report.pci.length === 0 && !hasFault ? 'none' : 'unusable';
  if (!queues.some(({ usable }) => usable)) return 'unusable';
  return queues.filter(isSetUp).every(({ usable }) => usable) ? 'ready' : 'partly';
}

function reasonFor({ emulated, devices }: Examined, outcome: Outcome, nodes: readonly string[]): string {
  const queues = devices.flatMap((device) => device.queues);
  const working = queues.filter(({ usable }) => usable);
  if (emulated)
    return `${working.length} of ${queues.length} emulated queues work; only --detector dsa-emulated uses them`;
  if (outcome === 'none') return 'there is no DSA device here, and none is needed: the CPU looks for zero pages';
  if (outcome !== 'unusable') {
    const works = working.length === 1 ? '1 queue works' : `${working.length} queues work`;
    return `${works}; to make pages of 4 KiB reachable for a device costs the CPU more than to check them`;
  }
  if (nodes.length === 0) return 'no queue can be used, so the CPU looks for zero pages';
  const failed = nodes.filter((node) => !working.some((queue) => queue.node === node));
  return `${failed.join(', ')} cannot be used`;
}
