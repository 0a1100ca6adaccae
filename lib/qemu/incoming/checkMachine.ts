/**
 * Whether a QEMU is the machine of an image: told by its arguments before it is started, where they are plain, and by itself before
 * it is sent anything. Devices are for QEMU to compare.
 */
import { VmsnapError } from '../../../native/errors.js';
import { usage } from '../../options.js';
import type { Warning } from '../../types.js';
import { parseVersion } from '../qemuVersion.js';
import { type QmpPeer, QmpRefusal } from '../qmpPeer.js';
import type { MachineImage } from './machineImage.js';
import { hasOption, optionValue } from './qemuArguments.js';

const SUFFIX_SHIFTS: Readonly<Record<string, number>> = { K: 10, M: 20, G: 30, T: 40 };

/** @throws USAGE where the arguments say another machine, or bring what is given here. */
export function checkArguments(image: MachineImage, args: readonly string[]): void {
  if (hasOption(args, 'incoming'))
    throw usage("QEMU's arguments have -incoming, which resume gives itself", 'leave it out');
  const type = machineOption(optionValue(args, 'machine', 'M'));
  // Without a version it stands for the newest that the QEMU knows, which only that can tell.
  if (type !== undefined && /-\d+\.\d+$/.test(type)) requireType(image, type);
  const memoryBytes = memoryOption(optionValue(args, 'm'));
  if (memoryBytes !== undefined) requireMemory(image, memoryBytes);
}

/** The type in the value of -machine: "pc-q35-7.2,accel=kvm", "type=pc-q35-7.2". */
function machineOption(value: string | undefined): string | undefined {
  const parts = value?.split(',') ?? [];
  const typed = parts.findLast((part) => part.startsWith('type='));
  return typed?.slice('type='.length) ?? parts.slice(0, 1).find((part) => !part.includes('='));
}

/** Bytes in the value of -m: "2048", "2G", "size=2G,slots=4,maxmem=8G". MiB where there is no unit. */
function memoryOption(value: string | undefined): number | undefined {
  const parts = value?.split(',') ?? [];
  const sized = parts.findLast((part) => part.startsWith('size='));
  const match = /^(\d+)([KMGT]?)B?$/i.exec(sized?.slice('size='.length) ?? parts[0] ?? '');
  if (match === null) return undefined;
  const bytes = Number(match[1]) * 2 ** SUFFIX_SHIFTS[match[2]!.toUpperCase() || 'M']!;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

function requireType({ path, machineType }: MachineImage, type: string): void {
  if (machineType === '' || type === machineType) return;
  throw usage(
    `the machine in ${path} is a ${machineType}, and QEMU would start a ${type}`,
    `give QEMU -machine ${machineType} and what else it had there`,
  );
}

function requireMemory({ path, description }: MachineImage, memoryBytes: number): void {
  if (description === null || memoryBytes === description.memoryBytes) return;
  throw usage(
    `the machine in ${path} has ${description.memoryBytes} bytes of memory, and QEMU would start with ${memoryBytes}`,
    `give QEMU -m ${description.memoryBytes / 2 ** 20}M`,
  );
}

/** Asks the QEMU that waits. @throws USAGE where it is another machine, GUEST where it does not wait. */
export async function checkWaiting(image: MachineImage, qmp: QmpPeer, warn: (warning: Warning) => void): Promise<void> {
  const status = await statusOf(qmp);
  if (status !== 'inmigrate')
    throw new VmsnapError('GUEST', `QEMU on ${qmp.path} does not wait for a machine: it is ${status}`, {
      path: qmp.path,
    });
  const type = await ask(qmp, 'qom-get', { path: '/machine', property: 'type' });
  if (typeof type === 'string') requireType(image, type.replace(/-machine$/, ''));
  const memory = (await ask(qmp, 'query-memory-size-summary')) as { 'base-memory'?: unknown } | undefined;
  const baseBytes = memory?.['base-memory'];
  if (typeof baseBytes === 'number') requireMemory(image, baseBytes);
  const frozen = image.description?.frozenFileSystems ?? 0;
  if (frozen > 0) {
    const what = frozen === 1 ? '1 file system' : `${frozen} file systems`;
    const still = `the guest agent held ${what} still when ${image.path} was saved: let them go on with guest-fsfreeze-thaw`;
    warn({ code: 'file-systems-frozen', message: still });
  }
  const message = olderQemu(image, qmp);
  if (message !== undefined) warn({ code: 'older-qemu', message });
}

function olderQemu({ path, description }: MachineImage, { qemuVersion }: QmpPeer): string | undefined {
  const saved = parseVersion(description?.qemuVersion ?? '');
  const own = parseVersion(qemuVersion);
  if (saved === null || own === null) return undefined;
  const isOlder = own[0] < saved[0] || (own[0] === saved[0] && own[1] < saved[1]);
  return isOlder
    ? `${path} was saved from QEMU ${description!.qemuVersion}, and this is ${qemuVersion}: an older QEMU may not understand the state of its devices`
    : undefined;
}

export async function statusOf(qmp: QmpPeer): Promise<string> {
  const answer = (await qmp.execute('query-status')) as { status?: unknown } | undefined;
  return String(answer?.status);
}

/** What not every QEMU answers is only a help. */
async function ask(qmp: QmpPeer, command: string, args?: Record<string, unknown>): Promise<unknown> {
  try {
    return await qmp.execute(command, args);
  } catch (error) {
    if (error instanceof QmpRefusal) return undefined;
    throw error;
  }
}
