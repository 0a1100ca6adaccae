/** A DSA device that a program keeps open, so that each of its saves finds queues and mappings ready. */
import { type DsaOpened, type DsaOpenOptions, type DsaReports, native } from '../native/binding.js';
import { VmsnapError } from '../native/errors.js';
import { dsaDeviceRoot, dsaNode, dsaSysfsRoot } from './dsaFolders.js';

const EBUSY = -16;

/** Options of {@link openDsa}. Without any: every usable queue of this machine. */
export interface DsaDeviceOptions extends Omit<DsaOpenOptions, 'emulated' | 'limits'> {
  /** Pages in one batch descriptor, 1 to 65536, lowered to what a queue takes; default 128. */
  readonly batchPages?: number | undefined;
  /** Descriptors in flight in one queue, 1 to 65536; default and upper limit: the entries of the queue. */
  readonly depth?: number | undefined;
  /** A device in software, whose answers are right and whose speed means nothing. */
  readonly emulated?: boolean | DsaOpenOptions['emulated'];
  /** Time limits and retries, for tests. */
  readonly limits?: Omit<NonNullable<DsaOpenOptions['limits']>, 'batchPages' | 'depth'> | undefined;
}

const COUNT_MAX = 65_536;

/** Close it when it is no longer needed: it keeps its sources mapped, so that deleted files keep their memory. */
export class DsaDevice {
  readonly emulated: boolean;
  /** For the native addon. */
  readonly handle: number;
  #closed = false;
  #users = 0;

  /** Use {@link openDsa}. */
  constructor(handle: number, emulated: boolean) {
    this.handle = handle;
    this.emulated = emulated;
  }

  get isOpen(): boolean {
    return !this.#closed;
  }

  /** Counters and times since it was opened. */
  reports(): DsaReports {
    return native.dsaReports(this.handle);
  }

  /** Keeps it open until release() of what this gives, which a save does at its end. */
  use(): { release(): void } {
    this.#users++;
    return { release: () => void this.#users-- };
  }

  /** @throws LOCKED while a save uses it. */
  close(): void {
    if (this.#closed) return;
    if (this.#users > 0 || native.dsaClose(this.handle) === EBUSY) {
      throw new VmsnapError('LOCKED', 'the DSA device is in use by a save', { hint: 'close it when the save is done' });
    }
    this.#closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Opens and tries the DSA queues of this machine. Blocks for a moment: some milliseconds for each queue that answers, half
 * a second at most for one that does not.
 * @throws ENGINE if none can be used, with the cause for each.
 */
export function openDsa(options: DsaDeviceOptions = {}): DsaDevice {
  const opened = tryOpenDsa(options);
  if (opened.device !== undefined) return opened.device;
  throw new VmsnapError('ENGINE', `no DSA device can be used: ${opened.reason}`, { hint: opened.hint });
}

export type TriedDsa =
  | { readonly device: DsaDevice }
  | { readonly device: undefined; readonly reason: string; readonly hint: string };

/** The same without an error. */
export function tryOpenDsa(options: DsaDeviceOptions): TriedDsa {
  const { batchPages, depth, emulated, limits, ...rest } = options;
  checkCount('batch pages', batchPages);
  checkCount('depth', depth);
  const isEmulated = emulated !== undefined && emulated !== false;
  const deviceRoot = rest.deviceRoot ?? dsaDeviceRoot();
  const opened = native.dsaOpen({
    ...rest,
    sysfsRoot: rest.sysfsRoot ?? dsaSysfsRoot(),
    deviceRoot,
    nodes: rest.nodes?.map((node) => dsaNode(node, deviceRoot)),
    limits: { ...limits, batchPages, depth },
    emulated: isEmulated ? (emulated === true ? {} : emulated) : undefined,
  });
  if (opened.handle !== 0) return { device: new DsaDevice(opened.handle, isEmulated) };
  return { device: undefined, reason: causeOf(opened), hint: hintOf(opened) };
}

export function checkCount(what: string, value: number | undefined): void {
  if (value === undefined || (Number.isInteger(value) && value >= 1 && value <= COUNT_MAX)) return;
  throw new VmsnapError('USAGE', `the ${what} of DSA are ${value}; choose 1 to ${COUNT_MAX}`);
}

/** The cause in one line, queue by queue where there are several. */
function causeOf({ reason, queues }: DsaOpened): string {
  const causes = queues
    .filter((queue) => queue.reason !== '')
    .map((queue) => (queue.reason.includes(queue.node) ? queue.reason : `${queue.node}: ${queue.reason}`));
  return causes.length === 0 || causes.includes(reason) ? reason : causes.join('; ');
}

function hintOf({ hint, queues }: DsaOpened): string {
  const next = queues.find((queue) => queue.hint !== '')?.hint ?? hint;
  const doctor = '"vmsnap doctor" looks at each queue and tells how to mend it';
  return next === '' || next.includes('vmsnap doctor') ? next || doctor : `${next}; ${doctor}`;
}
