/** Folders laid out like /sys, /proc and /dev of a machine with DSA, in whatever state a test wants. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export type Attributes = Readonly<Record<string, string>>;

/** As a Sapphire Rapids machine shows a device that works. */
const DEVICE: Attributes = {
  version: '0x100',
  state: 'enabled',
  numa_node: '0',
  pasid_enabled: '1',
  configurable: '1',
  max_groups: '4',
  max_work_queues: '8',
  max_work_queues_size: '128',
  max_engines: '4',
  max_batch_size: '1024',
  max_transfer_size: '2147483648',
  gen_cap: '0x40915f010f',
  op_cap: '00000000,00000000,00000000,00000000,00000000,00000000,00000001,003f03ff',
  cmd_status: '0',
  clients: '0',
  errors: '0x0 0x0 0x0 0x0',
};

/** A queue that is set up for programs. */
const USER_QUEUE: Attributes = {
  mode: 'shared',
  state: 'enabled',
  type: 'user',
  name: 'vmsnap',
  driver_name: 'user',
  group_id: '0',
  size: '16',
  threshold: '15',
  priority: '10',
  block_on_fault: '0',
};

/** One that nobody has set up. */
export const BARE_QUEUE: Attributes = {
  mode: 'dedicated',
  state: 'disabled',
  type: 'none',
  name: '',
  driver_name: '',
  group_id: '-1',
  size: '0',
  threshold: '0',
  priority: '0',
};

const ENGINES = 4;

export class DsaTree {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
    mkdirSync(this.deviceRoot, { recursive: true });
    this.#write('proc/sys/kernel/osrelease', '6.12.9-amd64');
    this.#write('proc/cmdline', 'BOOT_IMAGE=/vmlinuz quiet intel_iommu=on,sm_on');
  }

  get sysfsRoot(): string {
    return join(this.root, 'sys/bus/dsa/devices');
  }

  get deviceRoot(): string {
    return join(this.root, 'dev/dsa');
  }

  /** For the library. */
  get options(): { sysfsRoot: string; deviceRoot: string; systemRoot: string } {
    return { sysfsRoot: this.sysfsRoot, deviceRoot: this.deviceRoot, systemRoot: this.root };
  }

  /** For the command line, which takes everything else from the machine. */
  get environment(): Record<string, string> {
    return { VMSNAP_DSA_SYSFS: this.sysfsRoot, VMSNAP_DSA_DEV: this.deviceRoot };
  }

  node(name: string): string {
    return join(this.deviceRoot, name);
  }

  /** A device with engines; those of group 0 are the first `engines`. */
  device(number: number, attributes: Attributes = {}, engines = ENGINES): this {
    this.#writeAll(`sys/bus/dsa/devices/dsa${number}`, { ...DEVICE, ...attributes });
    for (let engine = 0; engine < ENGINES; engine++) {
      this.#write(`sys/bus/dsa/devices/dsa${number}/engine${number}.${engine}/group_id`, engine < engines ? '0' : '-1');
    }
    return this;
  }

  queue(device: number, number: number, attributes: Attributes = {}): this {
    this.#writeAll(`sys/bus/dsa/devices/dsa${device}/wq${device}.${number}`, { ...USER_QUEUE, ...attributes });
    return this;
  }

  /** A node that leads to something which is there. */
  link(name: string, target: string): this {
    symlinkSync(target, this.node(name));
    return this;
  }

  /** A PCI function, bound to `driver`. */
  pci(address: string, device: string, driver?: string): this {
    const folder = `sys/bus/pci/devices/${address}`;
    this.#writeAll(folder, { vendor: '0x8086', device });
    if (driver !== undefined) symlinkSync(`../../drivers/${driver}`, join(this.root, folder, 'driver'));
    return this;
  }

  file(path: string, text: string): this {
    this.#write(path, text);
    return this;
  }

  #writeAll(folder: string, attributes: Attributes): void {
    for (const [name, text] of Object.entries(attributes)) this.#write(join(folder, name), text);
  }

  #write(path: string, text: string): void {
    const file = join(this.root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `${text}\n`);
  }
}
