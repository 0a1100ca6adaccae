/**
 * QEMU migration streams in files: ordinary ones, of which one pass finds where each page lies, and mapped-ram files, whose
 * pages have fixed places. Zero pages are zero; pages that an ordinary stream does not have are absent, and blocks that it was
 * told to leave out (x-ignore-shared) are no regions.
 *
 * Two attachments hold what is no memory, so that the stream can be made again (streamFrame.ts): "qemu-head", everything up
 * to the list of RAM blocks with the end of its section, and "qemu-tail", everything behind RAM: the state of devices.
 */
import { closeSync } from 'node:fs';
import {
  native,
  QEMU_FAULT,
  QEMU_RAM_ENDED,
  type QemuBlock,
  type QemuHead,
  type QemuIndex,
} from '../../native/binding.js';
import type { MemoryAttachment, MemoryFact, MemoryFile } from '../memoryFile.js';
import type { SpillFile } from '../spillFile.js';
import { faultError } from './fault.js';
import { checkBitmapEnd, countMappedPages, type MappedRamPages } from './mappedRamPages.js';
import { type BlockRegion, blockRegions } from './ramRegions.js';
import { QEMU_PAGE_BYTES, type QemuStreamPages } from './streamPages.js';
import { checkStreamEnd } from './streamTail.js';

export const QEMU_HEAD = 'qemu-head';
export const QEMU_TAIL = 'qemu-tail';
/** "QEVM", version 3. */
export const QEMU_MAGIC = new Uint8Array([0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3]);

/** The stream lies at [offset, sizeBytes) of the file. */
export interface QemuFile {
  readonly fd: number;
  readonly path: string;
  readonly sizeBytes: number;
}

export function isQemuStream(start: Uint8Array): boolean {
  return start.length >= QEMU_MAGIC.length && QEMU_MAGIC.every((byte, i) => start[i] === byte);
}

/** Between two calls of `onStep`. */
const STEP_BYTES = 64 * 2 ** 20;

type IndexResult = ReturnType<QemuIndex['result']>;

/** What one pass over a stream has found out, beside the page table. Plain data, for other threads. */
export interface IndexedStream {
  readonly head: QemuHead;
  readonly result: IndexResult;
}

/** How the pass over a stream is stopped, and watched. */
export interface IndexWatch {
  /** As in native/binding.ts (readStream): 1 stops the pass with a fault. */
  readonly abort: Int32Array;
  readonly abortIndex: number;
  /** Is told up to which offset of the file the stream has been read. */
  onStep(offset: number): void;
}

/**
 * Reads a whole stream and fills the page table: as long as reading the file takes. (Of a mapped-ram file, only the head is read.)
 * `offset`: where in the file the stream begins; what is before it is not looked at.
 */
export function indexQemuStream(file: QemuFile, offset: number, table: SpillFile, watch: IndexWatch): IndexedStream {
  const { abort, abortIndex } = watch;
  const index = new native.QemuIndex(file.fd, offset, file.sizeBytes, table.fd);
  try {
    const head = index.readHead(abort, abortIndex);
    if (head === undefined) throw faultError(index.fault(), file.path, table.path);
    for (let next = 0; next !== QEMU_RAM_ENDED; ) {
      next = index.step(STEP_BYTES, abort, abortIndex);
      if (next === QEMU_FAULT) throw faultError(index.fault(), file.path, table.path);
      watch.onStep(index.result().end);
    }
    return { head, result: index.result() };
  } finally {
    index.close();
  }
}

/** A stream of which the page table is full; it is closed with what is returned, and not if this throws. */
export function indexedQemuMemory(file: QemuFile, { head, result }: IndexedStream, table: SpillFile): MemoryFile {
  const { path } = file;
  const pageCounts = countPages(head, result);
  if (!head.mappedRam) requirePages(file, head, result, pageCounts);
  const isLeftOut = (block: number) => isLeftOutBlock(head, result, block);
  const regions = blockRegions(head, path, isLeftOut);
  const leftOut = head.blocks.filter((_, block) => isLeftOut(block));
  const absent = pageCounts.neverSent - pagesOf(leftOut);
  const hasDescription = checkStreamEnd(file, result.end);
  return {
    format: head.mappedRam ? 'qemu-mapped-ram' : 'qemu-stream',
    version: '3',
    facts: [...headFacts(head), ...countFacts(head, pageCounts, result, isLeftOut), descriptionFact(hasDescription)],
    machine: machineOf(head),
    pageSize: QEMU_PAGE_BYTES,
    regions: regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })),
    pages: head.mappedRam
      ? mappedRamPages(file, head, regions)
      : { ...streamPages(file, head, regions, table), mayHaveAbsent: absent > 0 },
    countPages: () =>
      head.mappedRam
        ? countMappedPages(
            file,
            head.blocks.filter((_, block) => !isLeftOut(block)),
          )
        : { stored: pageCounts.data, zero: pageCounts.zero, absent },
    attachments: attachmentsOf(file, head, result.end),
    files: [{ fd: file.fd, path }],
    close: () => closeSync(table.fd),
  };
}

export function attachmentsOf({ fd, path, sizeBytes }: QemuFile, head: QemuHead, end: number): MemoryAttachment[] {
  return [
    { name: QEMU_HEAD, bytes: head.bytes },
    { name: QEMU_TAIL, fd, path, offset: end, sizeBytes: sizeBytes - end },
  ];
}

export function streamPages({ fd }: QemuFile, head: QemuHead, regions: readonly BlockRegion[], table: SpillFile) {
  const firstPages: number[] = [];
  let page = 0;
  for (const { usedBytes } of head.blocks) {
    firstPages.push(page);
    page += usedBytes / QEMU_PAGE_BYTES;
  }
  const pages: QemuStreamPages = {
    kind: 'qemu-stream',
    fd,
    table,
    firstPages: regions.map(({ block, blockOffset }) => firstPages[block]! + blockOffset / QEMU_PAGE_BYTES),
  };
  return pages;
}

function mappedRamPages({ fd, path }: QemuFile, head: QemuHead, regions: readonly BlockRegion[]): MappedRamPages {
  for (const { block } of regions) {
    const { bitmapOffset, usedBytes } = head.blocks[block]!;
    checkBitmapEnd(fd, path, bitmapOffset, usedBytes / QEMU_PAGE_BYTES);
  }
  return {
    kind: 'qemu-mapped-ram',
    fd,
    path,
    regions: regions.map(({ block, blockOffset }) => ({
      bitmapOffset: head.blocks[block]!.bitmapOffset,
      firstPage: blockOffset / QEMU_PAGE_BYTES,
      pagesOffset: head.blocks[block]!.pagesOffset,
    })),
    longExtents: regions.map(({ block, blockOffset, sizeBytes }) => ({
      fd,
      path,
      fileOffset: head.blocks[block]!.pagesOffset + blockOffset,
      lengthBytes: sizeBytes,
    })),
  };
}

interface PageTotals {
  readonly data: number;
  readonly zero: number;
  readonly neverSent: number;
}

function countPages({ blocks }: QemuHead, { pages }: IndexResult): PageTotals {
  const totals = { data: 0, zero: 0, neverSent: 0 };
  for (const [i, { usedBytes }] of blocks.entries()) {
    const { data, zero } = pages[i]!;
    totals.data += data;
    totals.zero += zero;
    totals.neverSent += usedBytes / QEMU_PAGE_BYTES - data - zero;
  }
  return totals;
}

/** The main stream of a multifd migration to sockets looks sound, but its pages went elsewhere. */
function requirePages({ path }: QemuFile, head: QemuHead, { end }: IndexResult, { data, neverSent }: PageTotals): void {
  if (data > 0 || neverSent === 0 || head.ignoreShared) return;
  const what = `the end of RAM, and none of its pages has come, but ${neverSent} have not been sent`;
  const hint = 'switch off the migration capability multifd, or use it with mapped-ram';
  throw faultError({ kind: 'unsupported', offset: end, what, hint, error: 0, ofTable: false }, path);
}

/** Whether the stream was told to leave out a block: nothing else leaves all of its pages out. */
export function isLeftOutBlock(head: QemuHead, { pages }: IndexResult, block: number): boolean {
  const { bitmapOffset, pagesOffset } = head.blocks[block]!;
  if (head.mappedRam) return bitmapOffset === 0 && pagesOffset === 0;
  return head.ignoreShared && pages[block]!.data + pages[block]!.zero === 0;
}

export function headFacts(head: QemuHead): MemoryFact[] {
  const facts: MemoryFact[] = [];
  const { uuid } = machineText(head);
  const name = machineTypeOf(head);
  if (name !== undefined) facts.push({ key: 'machineType', label: 'machine type', value: name });
  if (uuid !== undefined) facts.push({ key: 'machineUuid', label: 'machine uuid', value: uuid });
  facts.push({ key: 'ramBlocks', label: 'RAM blocks', value: head.blocks.length });
  if (head.ignoreShared) facts.push({ key: 'ignoreShared', label: 'shared memory left out', value: true });
  return facts;
}

/** The type of a machine is no name of it. */
export function machineOf(head: QemuHead): MemoryFile['machine'] {
  return { name: undefined, uuid: machineText(head).uuid };
}

export function machineTypeOf(head: QemuHead): string | undefined {
  const type = Buffer.from(head.machine).toString();
  return /^[\x20-\x7e]+$/.test(type) ? type : undefined;
}

function machineText(head: QemuHead): { uuid: string | undefined } {
  const hex = Buffer.from(head.uuid).toString('hex');
  const uuid = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  return { uuid: uuid === '' ? undefined : uuid };
}

function countFacts(
  head: QemuHead,
  { data, zero, neverSent }: PageTotals,
  { repeated }: IndexResult,
  isLeftOut: (block: number) => boolean,
): MemoryFact[] {
  const left = head.blocks.filter((_, block) => isLeftOut(block));
  const facts: MemoryFact[] = head.mappedRam
    ? []
    : [
        { key: 'dataPages', label: 'pages with data', value: data },
        { key: 'zeroPages', label: 'zero pages', value: zero },
        { key: 'pagesNeverSent', label: 'pages never sent', value: neverSent - pagesOf(left) },
        { key: 'pagesRepeated', label: 'pages sent again', value: repeated },
      ];
  if (left.length > 0) {
    facts.push({ key: 'blocksLeftOut', label: 'RAM blocks left out', value: left.length });
    facts.push({ key: 'bytesLeftOut', label: 'bytes left out', value: pagesOf(left) * QEMU_PAGE_BYTES });
  }
  return facts;
}

function pagesOf(blocks: readonly QemuBlock[]): number {
  return blocks.reduce((sum, { usedBytes }) => sum + usedBytes / QEMU_PAGE_BYTES, 0);
}

function descriptionFact(hasDescription: boolean): MemoryFact {
  return { key: 'deviceDescription', label: 'device description', value: hasDescription };
}
