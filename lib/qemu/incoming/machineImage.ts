/**
 * An image of a QEMU machine, opened to bring the machine back: its RAM blocks, each put together from regions of the image, and
 * what goes before and behind them in the migration stream.
 *
 * An image that was made from a migration stream alone has no "machine.json". Then the stream's head tells the blocks, and all
 * of them are in the stream.
 */

import { QEMU_HEAD, QEMU_TAIL } from '../../../formats/qemu/openStream.js';
import { type BlockRegion, blockRegions } from '../../../formats/qemu/ramRegions.js';
import { readStreamHead } from '../../../formats/qemu/streamFrame.js';
import { QEMU_PAGE_BYTES } from '../../../formats/qemu/streamPages.js';
import type { QemuHead } from '../../../native/binding.js';
import { VmsnapError } from '../../../native/errors.js';
import { closeImages, type OpenedImage, openBases, openWholeImage } from '../../chain.js';
import { Image } from '../../image.js';
import { regionSizes } from '../../readJobs.js';
import type { BaseDirOptions, CommonOptions } from '../../types.js';
import { MACHINE_ATTACHMENT, type MachineBackend, type MachineDescription } from '../machineDescription.js';
import { readDescription } from './readDescription.js';

/** A head lists RAM blocks, a description regions: neither needs more. */
const SMALL_ATTACHMENT_MAX_BYTES = 64 * 2 ** 20;

/** A RAM block of the machine. */
export interface MachineBlock {
  readonly name: string;
  readonly sizeBytes: number;
  /** "file": the machine finds its contents in a file; "stream": they come to it in the migration stream. */
  readonly contents: 'stream' | 'file';
  readonly backend: MachineBackend | null;
  /** In rising order, without gaps. */
  readonly parts: readonly BlockPart[];
}

export interface BlockPart {
  /** Index of the region in the image. */
  readonly region: number;
  readonly blockOffset: number;
  readonly sizeBytes: number;
}

export interface MachineImage {
  readonly path: string;
  readonly opened: OpenedImage;
  readonly bases: readonly OpenedImage[];
  readonly head: QemuHead;
  readonly headBytes: Buffer;
  /** The state of devices, and what else stands behind RAM. */
  tail(): AsyncIterable<Buffer>;
  /** Null: the image was made from a stream without one. */
  readonly description: MachineDescription | null;
  readonly descriptionBytes: Buffer | null;
  /** "pc-q35-7.2"; empty where nothing tells. */
  readonly machineType: string;
  readonly blocks: readonly MachineBlock[];
  readonly memoryBytes: number;
  close(): void;
}

/** @throws USAGE if it is no image of a machine; CORRUPT, UNSUPPORTED, BASE_MISMATCH. */
export async function openMachineImage(
  path: string,
  options: CommonOptions & BaseDirOptions = {},
): Promise<MachineImage> {
  const opened = await openWholeImage(path, options);
  let bases: readonly OpenedImage[] = [];
  try {
    bases = await openBases(opened.input, options);
    return await describe(path, opened, bases);
  } catch (error) {
    closeImages([opened, ...bases]);
    throw error;
  }
}

async function describe(path: string, opened: OpenedImage, bases: readonly OpenedImage[]): Promise<MachineImage> {
  // Attachments are the image's own, so its bases are not needed for them, and closing it is left to `opened`.
  const image = new Image(opened);
  requireMachine(image);
  const headBytes = await wholeAttachment(image, QEMU_HEAD);
  const head = readStreamHead(headBytes);
  const hasDescription = image.attachments.some(({ name }) => name === MACHINE_ATTACHMENT);
  const descriptionBytes = hasDescription ? await wholeAttachment(image, MACHINE_ATTACHMENT) : null;
  const description = descriptionBytes && readDescription(descriptionBytes, path);
  const blocks = joinBlocks(path, head, described(path, head, description), opened);
  return {
    path,
    opened,
    bases,
    head,
    headBytes,
    tail: () => image.readAttachment(QEMU_TAIL),
    description,
    descriptionBytes,
    machineType: description?.machineType ?? Buffer.from(head.machine).toString(),
    blocks,
    memoryBytes: blocks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    close: () => closeImages([opened, ...bases]),
  };
}

function requireMachine({ path, attachments }: Image): void {
  const missing = [QEMU_HEAD, QEMU_TAIL].filter((wanted) => !attachments.some(({ name }) => name === wanted));
  if (missing.length === 0) return;
  const message = `${path} holds memory and no QEMU machine: it has no attachment ${missing.map((name) => `"${name}"`).join(' and ')}`;
  throw new VmsnapError('USAGE', message, {
    path,
    hint: 'save the machine (vmsnap save qemu:SOCKET IMAGE) or its migration stream; "vmsnap load IMAGE TARGET" brings the memory back',
  });
}

async function wholeAttachment(image: Image, name: string): Promise<Buffer> {
  const { sizeBytes } = image.attachments.find((attachment) => attachment.name === name)!;
  if (sizeBytes > SMALL_ATTACHMENT_MAX_BYTES)
    throw broken(image.path, `the attachment "${name}" has ${sizeBytes} bytes, more than any machine's`);
  const parts: Buffer[] = [];
  for await (const part of image.readAttachment(name)) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

/** A region as its description, or the head of the stream, has it. */
interface DescribedRegion {
  readonly region: string;
  readonly block: string;
  readonly blockOffset: number;
  readonly sizeBytes: number;
  readonly contents: 'stream' | 'file';
  readonly backend: MachineBackend | null;
}

function described(path: string, head: QemuHead, description: MachineDescription | null): readonly DescribedRegion[] {
  if (description !== null) return description.regions;
  const names = head.blocks.map(({ id }) => Buffer.from(id).toString());
  return blockRegions(head, path, () => false).map(({ name, block, blockOffset, sizeBytes }: BlockRegion) => ({
    region: name,
    block: names[block]!,
    blockOffset,
    sizeBytes,
    contents: 'stream' as const,
    backend: null,
  }));
}

/** Holds the image, its description and the head of its stream against each other. */
function joinBlocks(
  path: string,
  head: QemuHead,
  regions: readonly DescribedRegion[],
  { input, tail }: OpenedImage,
): MachineBlock[] {
  const sizes = regionSizes(input, tail);
  const numbers = new Map(input.head.start.regions.map(({ name }, i) => [name, i]));
  return head.blocks
    .filter(({ usedBytes }) => usedBytes > 0)
    .map(({ id, usedBytes }) => {
      const name = Buffer.from(id).toString();
      const own = regions.filter(({ block }) => block === name).sort((a, b) => a.blockOffset - b.blockOffset);
      const parts = own.map(({ region, blockOffset, sizeBytes }): BlockPart => {
        const number = numbers.get(region);
        if (number === undefined) throw missingBlock(path, name, usedBytes);
        if (sizes[number] !== sizeBytes || sizeBytes % QEMU_PAGE_BYTES !== 0)
          throw broken(path, `region ${region} has ${sizes[number]} bytes, and the machine's ${sizeBytes}`);
        return { region: number, blockOffset, sizeBytes };
      });
      requireWhole(path, name, usedBytes, parts);
      const { contents, backend } = own[0]!;
      if (own.some((region) => region.contents !== contents))
        throw broken(path, `RAM block ${name} is in the stream in part only`);
      if (contents === 'file' && !head.ignoreShared)
        throw broken(path, `RAM block ${name} is said to be left out of the stream, whose head leaves out nothing`);
      return { name, sizeBytes: usedBytes, contents, backend, parts };
    });
}

function requireWhole(path: string, block: string, sizeBytes: number, parts: readonly BlockPart[]): void {
  if (parts.length === 0) throw missingBlock(path, block, sizeBytes);
  let end = 0;
  for (const part of parts) {
    if (part.blockOffset !== end) throw broken(path, `RAM block ${block} has no single region at offset ${end}`);
    end += part.sizeBytes;
  }
  if (end !== sizeBytes)
    throw broken(path, `the regions of RAM block ${block} have ${end} bytes, and not ${sizeBytes}`);
}

/** A stream without its shared memory: the memory was somewhere else, and is lost. */
function missingBlock(path: string, block: string, sizeBytes: number): VmsnapError {
  return new VmsnapError('UNSUPPORTED', `${path} does not have the ${sizeBytes} bytes of RAM block ${block}`, {
    path,
    hint: 'its stream was made with x-ignore-shared: save the machine itself, vmsnap save qemu:SOCKET IMAGE',
  });
}

function broken(path: string, what: string): VmsnapError {
  return new VmsnapError('CORRUPT', `${path} is no sound image of a machine: ${what}`, { path });
}
