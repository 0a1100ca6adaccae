/** What `doctor` finds out, and what it is told. Unknown is undefined; words that sysfs does not give are ''. */
import type { CpuFeatures, DetectorStatus, DsaDevice, DsaQueue, DsaSelfTest } from '../../native/binding.js';

export interface DoctorOptions {
  /** Only these queues, as /dev/dsa/wq0.0; each must be usable. */
  readonly nodes?: readonly string[] | undefined;
  /** Looks at an emulated device instead of this machine's. */
  readonly emulated?: boolean | undefined;
  /** Default: $VMSNAP_DSA_SYSFS, or /sys/bus/dsa/devices. */
  readonly sysfsRoot?: string | undefined;
  /** Default: $VMSNAP_DSA_DEV, or /dev/dsa. */
  readonly deviceRoot?: string | undefined;
  /** Stands before /sys and /proc for everything else; default: nothing. */
  readonly systemRoot?: string | undefined;
}

export interface IommuUnit {
  readonly name: string;
  /** Undefined where its capabilities cannot be read. */
  readonly scalableMode: boolean | undefined;
  readonly pasid: boolean | undefined;
}

export interface SystemFacts {
  readonly kernel: string;
  readonly iommuUnits: readonly IommuUnit[];
  /** Words of the kernel's command line that concern the IOMMU. */
  readonly iommuWords: readonly string[];
  readonly idxdLoaded: boolean;
  /** How long UMWAIT may wait (TSC ticks) and whether the deeper state is allowed; undefined without UMWAIT. */
  readonly umwait: { readonly maxTicks: number; readonly deepState: boolean } | undefined;
}

/** A DSA function on the PCI bus. */
export interface PciDevice {
  readonly address: string;
  /** As 8086:0b25. */
  readonly id: string;
  readonly processors: string;
  /** `idxd` is what makes it usable here, `vfio-pci` hands it to a guest. */
  readonly driver: string | undefined;
}

/** A file below /dev/dsa. */
export interface NodeFacts {
  readonly kind: 'character-device' | 'other' | 'missing';
  /** Permission bits. */
  readonly mode: number | undefined;
  readonly owner: string | undefined;
  readonly group: string | undefined;
  /** Whether this process may read and write it, by its permissions. */
  readonly mayOpen: boolean;
}

/** One step of opening a queue, in the order in which they were tried. */
export interface ProbeStep {
  /** sysfs, open, map, noop-portal, batch-portal, noop-write, batch-write, compare. */
  readonly what: string;
  /** Name of the system's error; ETIMEDOUT where a completion record was not written. */
  readonly error: string | undefined;
  /** Status of the completion record in words, such as "page fault (03)"; undefined where there was none. */
  readonly status: string | undefined;
}

export interface DoctorQueue extends DsaQueue {
  /** Undefined for an emulated queue, which has no file. */
  readonly nodeFacts: NodeFacts | undefined;
  /** Undefined where the queue was not probed: not asked for, or its node is no device. */
  readonly probe:
    | {
        readonly way: string;
        readonly batches: boolean;
        readonly depth: number;
        readonly batchPages: number;
        readonly maxUnitBytes: number;
        readonly steps: readonly ProbeStep[];
        readonly reason: string;
        readonly hint: string;
        readonly selfTest: readonly DsaSelfTest[];
      }
    | undefined;
  /** Open, probed, and every answer of the self-test right. */
  readonly usable: boolean;
}

export interface DoctorDevice extends Omit<DsaDevice, 'queues'> {
  /** The command status in words; undefined if there is none. */
  readonly commandStatusMeaning: string | undefined;
  readonly queues: readonly DoctorQueue[];
}

export interface Diagnosis {
  /** fault: something does not work and can be mended. remark: it is so, and nothing is wrong with it. */
  readonly severity: 'fault' | 'remark';
  /** Stable name, such as `pasid-off`. */
  readonly code: string;
  /** What it is about: `dsa0`, `dsa0/wq0.1`, a PCI address, a path. */
  readonly subject: string;
  readonly message: string;
  /** What to do without a command, a whole sentence without the final stop; '' if the commands say it all. */
  readonly advice: string;
  /** To be run as root, in this order. */
  readonly commands: readonly string[];
}

/**
 * ready: a queue can be used (every one that was asked for). partly: one can, another that is set up for use cannot.
 * unusable: there is a device, and no queue that can be used, or one that was asked for cannot. none: no DSA here.
 */
export type Outcome = 'ready' | 'partly' | 'unusable' | 'none';

export interface Verdict {
  readonly outcome: Outcome;
  /** What `save --detector auto` takes where the device pays. */
  readonly detector: string;
  /** What it takes for all other sources. */
  readonly cpuDetector: string;
  readonly reason: string;
}

/** The input of `accel-config load-config`. */
export type AccelConfig = readonly object[];

export interface DoctorReport {
  readonly emulated: boolean;
  readonly cpu: CpuFeatures & { readonly model: string | undefined };
  readonly detectors: readonly DetectorStatus[];
  readonly system: SystemFacts;
  readonly pci: readonly PciDevice[];
  readonly devices: readonly DoctorDevice[];
  /** Faults first. */
  readonly diagnoses: readonly Diagnosis[];
  /** One shared queue for vmsnap on each device that has none yet; undefined without a real device. */
  readonly accelConfig: AccelConfig | undefined;
  readonly verdict: Verdict;
}
