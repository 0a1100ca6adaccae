/**
 * AVML, version 2 (`avml --compress`): blocks of physical memory of up to 16 MiB, compressed with Snappy.
 *
 * A block: a header of 32 bytes as in LiME but for magic 0x4c4d5641 and version 2; a stream in Snappy's framing format; and as u64, little
 * endian, the length of that stream. So the blocks are found from the end of the file backwards, without reading them.
 *
 * AVML cuts ranges of memory into blocks of 16 MiB and leaves out those that are zero. A gap of whole 16 MiB behind a block
 * of exactly 16 MiB is therefore zero memory; every other gap is none (formats/lime/lime.ts has the same rule). Blocks left out at the beginning
 * or the end of a range leave no trace. Nothing is absent.
 */
import { damaged, FOREIGN_PAGE_BYTES, type ForeignFile, notSupported, numberAt, readAll } from '../foreignFile.js';
import { isZeroGap, LIME_HEADER_BYTES, rangeHeader } from '../lime/lime.js';
import type { MemoryFile } from '../memoryFile.js';
import { type MemoryRange, planRanges, RANGES_MAX } from '../ranges/planRanges.js';
import { countPages } from '../ranges/rangePieces.js';
import { AVML_FORMAT } from './avmlFormat.js';
import { avmlPages } from './avmlPages.js';

export const AVML_MAGIC = Buffer.from('41564d4c02000000', 'hex');

const TRAILER_BYTES = 8;

export interface AvmlBlock extends MemoryRange {
  readonly fileOffset: number;
  /** Of the Snappy stream that `fileOffset` points at. */
  readonly streamBytes: number;
}

/** Of any version: one that cannot be read is refused by name, and not taken for raw memory. */
export function isAvml(start: Uint8Array, sizeBytes: number): boolean {
  return sizeBytes >= LIME_HEADER_BYTES && start.length >= 8 && [0, 1, 2, 3].every((i) => start[i] === AVML_MAGIC[i]);
}

export function openAvml(file: ForeignFile): MemoryFile {
  const blocks = readBlocks(file);
  const plan = planRanges(blocks, {
    damaged: (offset, what) => damaged(AVML_FORMAT, file.path, offset, what),
    notSupported: (offset, what) => unsupported(file, offset, what),
    isZeroGap,
  });
  const streamBytes = blocks.reduce((sum, block) => sum + block.streamBytes, 0);
  return {
    format: 'avml',
    version: '2',
    facts: [
      { key: 'compression', label: 'compression', value: 'snappy' },
      { key: 'blocks', label: 'blocks', value: blocks.length },
      { key: 'compressedBytes', label: 'compressed bytes', value: streamBytes },
    ],
    machine: { name: undefined, uuid: undefined },
    pageSize: FOREIGN_PAGE_BYTES,
    regions: plan.regions,
    pages: avmlPages(file, plan),
    countPages: () => countPages(plan),
    attachments: [],
    files: [{ fd: file.fd, path: file.path }],
    close: () => {},
  };
}

/** From the last block to the first. */
function readBlocks(file: ForeignFile): AvmlBlock[] {
  checkFirst(file);
  const blocks: AvmlBlock[] = [];
  const trailer = Buffer.alloc(TRAILER_BYTES);
  const header = Buffer.alloc(LIME_HEADER_BYTES);
  let end = file.sizeBytes;
  while (end > 0) {
    if (blocks.length === RANGES_MAX) throw unsupported(file, end, `more than ${RANGES_MAX} blocks`);
    const trailerAt = end - TRAILER_BYTES;
    if (trailerAt < LIME_HEADER_BYTES) throw noBlock(file, Math.max(0, trailerAt), 'there is no room for a block');
    readAll(file, trailerAt, trailer);
    const streamBytes = numberAt(trailer, 0);
    const at = trailerAt - streamBytes - LIME_HEADER_BYTES;
    if (at < 0) throw noBlock(file, trailerAt, `a block of ${streamBytes} compressed bytes does not fit in before`);
    readAll(file, at, header);
    if (!AVML_MAGIC.equals(header.subarray(0, AVML_MAGIC.length))) {
      throw noBlock(file, trailerAt, `${streamBytes} compressed bytes before here no block begins`);
    }
    const { start, memoryBytes } = rangeHeader(AVML_FORMAT, file, at, header);
    const fileOffset = at + LIME_HEADER_BYTES;
    blocks.push({ start, memoryBytes, fileOffset, toldAt: at, streamBytes });
    end = at;
  }
  return blocks;
}

function checkFirst(file: ForeignFile): void {
  const header = Buffer.alloc(LIME_HEADER_BYTES);
  readAll(file, 0, header);
  const version = header.readUInt32LE(4);
  if (version !== 2) throw unsupported(file, 4, `version ${version}, and 2 was expected`);
  rangeHeader(AVML_FORMAT, file, 0, header);
}

function noBlock(file: ForeignFile, at: number, what: string) {
  return damaged(AVML_FORMAT, file.path, at, `the compressed length of a block was expected here, and ${what}`);
}

function unsupported(file: ForeignFile, at: number, what: string) {
  return notSupported(AVML_FORMAT, file.path, at, what, 'convert it to LiME with avml-convert');
}
