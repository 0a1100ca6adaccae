/** What inspect tells of the machine in an image: from its attachment "machine.json", which is looked at before it is believed. */
import { VmsnapError } from '../../native/errors.js';
import type { Image } from '../image.js';
import { fieldOf, listOf, textOf } from './answers.js';
import { MACHINE_ATTACHMENT, MACHINE_SCHEMA } from './machineDescription.js';

/** A machine with a thousand disks has some hundred KiB. */
const MAX_BYTES = 16 * 2 ** 20;

export interface MachineSummary {
  readonly qemuVersion: string;
  readonly machineType: string;
  /** Block nodes that it may write. */
  readonly disks: number;
}

/** Undefined: the image has none, or none that can be read. */
export async function readMachineSummary(open: () => Promise<Image>): Promise<MachineSummary | undefined> {
  try {
    const image = await open();
    try {
      const found = image.attachments.find(({ name }) => name === MACHINE_ATTACHMENT);
      if (found === undefined || found.sizeBytes > MAX_BYTES) return undefined;
      const parts: Buffer[] = [];
      for await (const part of image.readAttachment(MACHINE_ATTACHMENT)) parts.push(Buffer.from(part));
      return summaryOf(JSON.parse(Buffer.concat(parts).toString()));
    } finally {
      await image.close();
    }
  } catch (error) {
    // Damage is told by its own report; what is no JSON came from elsewhere.
    if (error instanceof VmsnapError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function summaryOf(description: unknown): MachineSummary | undefined {
  const qemuVersion = textOf(description, 'qemuVersion');
  const machineType = textOf(description, 'machineType');
  if (textOf(description, 'schema') !== MACHINE_SCHEMA || qemuVersion === undefined || machineType === undefined)
    return undefined;
  return { qemuVersion, machineType, disks: listOf(fieldOf(description, 'disks')).length };
}
