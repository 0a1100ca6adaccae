/**
 * The stream of a machine whose memory lies in files that the stream has left out (x-ignore-shared), together with those
 * files: all RAM blocks are regions, in the order of the stream, whichever of the two has their pages.
 */
import { closeSync } from 'node:fs';
import { VmsnapError } from '../../native/errors.js';
import { seekData } from '../holes.js';
import type { MemoryAttachment, PageFinder, PageSource, SourceExtent, StretchExtents } from '../memoryFile.js';
import { addExtent } from '../memoryFile.js';
import type { SpillFile } from '../spillFile.js';
import {
  attachmentsOf,
  type IndexedStream,
  isLeftOutBlock,
  machineTypeOf,
  type QemuFile,
  streamPages,
} from './openStream.js';
import { type BlockRegion, blockNameOf, blockRegions } from './ramRegions.js';
import { QEMU_PAGE_BYTES, QemuStreamFinder, type QemuStreamPages } from './streamPages.js';
import { checkStreamEnd } from './streamTail.js';

export interface MachineStreamPages extends PageSource {
  readonly kind: 'qemu-machine';
  readonly stream: QemuStreamPages;
  /** Of each region: where it lies, if not in the stream. */
  readonly files: readonly (SourceExtent | null)[];
}

export interface MachineStream {
  readonly machineType: string | undefined;
  readonly regions: readonly BlockRegion[];
  readonly pages: MachineStreamPages;
  readonly attachments: readonly MemoryAttachment[];
  close(): void;
}

/**
 * A stream that has been read, whose page table is closed with what is returned, and not if this throws.
 * `fileOf`: the file that holds a RAM block; undefined: none. @throws CORRUPT, UNSUPPORTED.
 */
export function openMachineStream(
  file: QemuFile,
  { head, result }: IndexedStream,
  table: SpillFile,
  fileOf: (block: string) => SourceExtent | undefined,
): MachineStream {
  checkStreamEnd(file, result.end);
  const regions = blockRegions(head, file.path, () => false);
  const files = regions.map((region) =>
    isLeftOutBlock(head, result, region.block) ? extentOf(region, file.path, fileOf) : null,
  );
  const neverSent = head.blocks.some(({ usedBytes }, block) => {
    const { data, zero } = result.pages[block]!;
    return !isLeftOutBlock(head, result, block) && data + zero < usedBytes / QEMU_PAGE_BYTES;
  });
  return {
    machineType: machineTypeOf(head),
    regions,
    pages: {
      kind: 'qemu-machine',
      stream: streamPages(file, head, regions, table),
      files,
      longExtents: files.filter((extent) => extent !== null),
      mayHaveAbsent: neverSent,
    },
    attachments: attachmentsOf(file, head, result.end),
    close: () => closeSync(table.fd),
  };
}

function extentOf(
  region: BlockRegion,
  path: string,
  fileOf: (block: string) => SourceExtent | undefined,
): SourceExtent {
  const block = blockNameOf(region);
  const file = fileOf(block);
  const problem =
    file === undefined
      ? 'which has no file that could be read'
      : region.blockOffset + region.sizeBytes > file.lengthBytes
        ? `which is larger than its file, ${file.path}`
        : undefined;
  if (file === undefined || problem !== undefined) {
    throw new VmsnapError('UNSUPPORTED', `${path} leaves out the RAM block ${block}, ${problem}`, {
      path,
      hint: 'give the machine memory-backend-file objects with share=on and a file name of their own',
    });
  }
  const { fd, path: filePath, fileOffset } = file;
  return { fd, path: filePath, fileOffset: fileOffset + region.blockOffset, lengthBytes: region.sizeBytes };
}

export class MachineStreamFinder implements PageFinder {
  readonly #stream: QemuStreamFinder;
  readonly #files: MachineStreamPages['files'];

  constructor({ stream, files }: MachineStreamPages) {
    this.#stream = new QemuStreamFinder(stream);
    this.#files = files;
  }

  nextUsed(region: number, from: number, end: number): number {
    const file = this.#files[region];
    if (file == null) return this.#stream.nextUsed(region, from, end);
    const offset = seekData(file, file.fileOffset + from, file.fileOffset + end) - file.fileOffset;
    return Math.min(end, offset - (offset % QEMU_PAGE_BYTES));
  }

  find(
    region: number,
    offset: number,
    sizeBytes: number,
    extents: StretchExtents,
    into: Uint8Array,
    absent: Uint8Array,
  ): 'extents' {
    const file = this.#files[region];
    if (file == null) return this.#stream.find(region, offset, sizeBytes, extents, into, absent);
    addExtent(extents, file.fd, file.fileOffset + offset, sizeBytes);
    return 'extents';
  }
}
