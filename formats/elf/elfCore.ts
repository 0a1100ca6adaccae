/**
 * ELF cores of machines: QEMU's dump-guest-memory, `virsh dump --memory-only`, makedumpfile -E, and copies of Linux's /proc/vmcore.
 *
 * Each PT_LOAD is a range of guest-physical memory (p_paddr). Where it has fewer bytes in the file than in memory, the rest is
 * memory that the file leaves out, and absent unless another PT_LOAD has it: makedumpfile -E cuts off there what it excludes, and
 * QEMU with paging=on what goes on in another RAM block. What no PT_LOAD covers is no memory.
 *
 * One memory may be told of twice. With paging=on QEMU lists it once for each mapping, always at the same place in the file.
 * /proc/vmcore has the kernel's text once more at a place of its own: a PT_LOAD that lies wholly within another but has a
 * different distance between virtual and physical address. It is left out. Any other overlap is damage.
 */
import { damaged, FOREIGN_PAGE_BYTES, type ForeignFile, hex } from '../foreignFile.js';
import type { MemoryAttachment, MemoryFact, MemoryFile } from '../memoryFile.js';
import { type MemoryRange, planRanges } from '../ranges/planRanges.js';
import { rangePages } from '../ranges/rangePages.js';
import { countPages } from '../ranges/rangePieces.js';
import { damagedElf, unsupportedElf } from './elfErrors.js';
import {
  BIG_ENDIAN,
  type ElfHeader,
  ET_CORE,
  type ProgramHeader,
  PT_LOAD,
  PT_NOTE,
  readElfHeader,
} from './elfHeader.js';
import { type ElfNotes, walkNotes } from './elfNotes.js';

export const ELF_MAGIC = Buffer.from('7f454c46', 'hex');

/** Every writer makes one. */
const NOTE_SEGMENTS_MAX = 64;

const ARCHITECTURES: ReadonlyMap<number, string> = new Map([
  [3, 'x86 (32 bits)'],
  [62, 'x86-64'],
  [40, 'ARM'],
  [183, 'AArch64'],
  [21, 'PowerPC (64 bits)'],
  [22, 's390'],
  [243, 'RISC-V'],
  [258, 'LoongArch'],
]);

/** A core file of either byte order; what begins like a program may be raw memory that begins with one. */
export function isElfCore(start: Uint8Array, sizeBytes: number): boolean {
  if (sizeBytes < 52 || start.length < 18 || !ELF_MAGIC.every((byte, i) => start[i] === byte)) return false;
  const [low, high] = start[5] === BIG_ENDIAN ? [start[17], start[16]] : [start[16], start[17]];
  return low === ET_CORE && high === 0;
}

export function openElfCore(file: ForeignFile): MemoryFile {
  const header = readElfHeader(file);
  const notes = header.programHeaders.filter(({ type }) => type === PT_NOTE);
  const loads = header.programHeaders.filter(({ type, memoryBytes }) => type === PT_LOAD && memoryBytes > 0);
  if (notes.length > NOTE_SEGMENTS_MAX) {
    throw damagedElf(file, notes[NOTE_SEGMENTS_MAX]!.at, `more than ${NOTE_SEGMENTS_MAX} segments of notes`);
  }
  for (const each of [...notes, ...loads]) checkSegment(file, each);
  const told = walkNotes(file, notes);
  checkMachine(file, loads, told);
  const plan = planRanges(distinctRanges(file, loads), {
    damaged: (offset, what) => damagedElf(file, offset, what),
    notSupported: (offset, what) => unsupportedElf(file, offset, what, 'make the dump again without paging=on'),
  });
  return {
    format: 'elf-core',
    version: undefined,
    facts: factsOf(header, loads.length, told),
    machine: { name: undefined, uuid: undefined },
    pageSize: FOREIGN_PAGE_BYTES,
    regions: plan.regions,
    pages: rangePages(file, plan),
    countPages: () => countPages(plan),
    attachments: attachmentsOf(file, notes, told),
    files: [{ fd: file.fd, path: file.path }],
    close: () => {},
  };
}

function checkSegment(file: ForeignFile, segment: ProgramHeader): void {
  const { type, offset, physicalAddress, fileBytes, memoryBytes, at } = segment;
  // One that has no bytes in the file may have any offset: QEMU writes -1.
  if (fileBytes > 0 && offset + fileBytes > file.sizeBytes) {
    throw damagedElf(
      file,
      at,
      `a segment takes ${fileBytes} bytes from offset ${offset} on, and the file has only ${file.sizeBytes}`,
    );
  }
  if (type !== PT_LOAD) return;
  if (fileBytes > memoryBytes) {
    throw damagedElf(file, at, `a segment has ${fileBytes} bytes in the file, but only ${memoryBytes} in memory`);
  }
  const end = physicalAddress + memoryBytes;
  if (!Number.isSafeInteger(end)) throw damagedElf(file, at, `a segment ends at the address ${hex(end)}, beyond 2^53`);
}

/** A process has no physical addresses: its cores leave them zero. */
function checkMachine(file: ForeignFile, loads: readonly ProgramHeader[], { ofProcess }: ElfNotes): void {
  if (loads.length === 0) throw damagedElf(file, 0, 'it lists no memory (no PT_LOAD with a size)');
  const hasAddresses = loads.length === 1 || loads.some(({ physicalAddress }) => physicalAddress !== 0);
  if (hasAddresses && !ofProcess) return;
  throw unsupportedElf(
    file,
    loads[0]!.at,
    `it is the core of a process and not of a machine: ${ofProcess ? 'its notes say so' : `all ${loads.length} segments have the physical address 0`}`,
    'give a core that dump-guest-memory or "virsh dump --memory-only" wrote',
  );
}

/** Every part of memory once: what the file has, and what it leaves out. */
function distinctRanges(file: ForeignFile, loads: readonly ProgramHeader[]): MemoryRange[] {
  const sorted = [...loads].sort((a, b) => a.physicalAddress - b.physicalAddress || b.fileBytes - a.fileBytes);
  const stored = storedRanges(file, sorted);
  return [...stored, ...leftOutRanges(sorted, stored)];
}

/** By rising address. `loads`: likewise. */
function storedRanges(file: ForeignFile, loads: readonly ProgramHeader[]): MemoryRange[] {
  const ranges: MemoryRange[] = [];
  let before: ProgramHeader | undefined;
  for (const load of loads) {
    if (load.fileBytes === 0) continue;
    const { physicalAddress: start, fileBytes, offset, at } = load;
    const covered = before === undefined ? start : Math.max(start, before.physicalAddress + before.fileBytes);
    const isInside = start + fileBytes <= covered;
    if (covered > start && !isSamePlace(before!, load) && !(isInside && isOtherMapping(before!, load)))
      throw overlapError(file, load, covered);
    if (isInside) continue;
    const skip = covered - start;
    ranges.push({ start: covered, memoryBytes: fileBytes - skip, fileOffset: offset + skip, toldAt: at });
    before = load;
  }
  return ranges;
}

/** Memory that none of the `stored` ranges has. Both lists rise. */
function leftOutRanges(loads: readonly ProgramHeader[], stored: readonly MemoryRange[]): MemoryRange[] {
  const ranges: MemoryRange[] = [];
  let told = 0;
  let next = 0;
  for (const { physicalAddress, memoryBytes, at } of loads) {
    const end = physicalAddress + memoryBytes;
    told = Math.max(told, physicalAddress);
    while (told < end) {
      const range = stored[next];
      if (range !== undefined && range.start <= told) {
        told = Math.max(told, range.start + range.memoryBytes);
        next++;
        continue;
      }
      const to = Math.min(end, range?.start ?? end);
      ranges.push({ start: told, memoryBytes: to - told, fileOffset: undefined, toldAt: at });
      told = to;
    }
  }
  return ranges;
}

/** Whether what both have of memory lies at one place in the file. */
function isSamePlace(a: ProgramHeader, b: ProgramHeader): boolean {
  return b.offset - b.physicalAddress === a.offset - a.physicalAddress;
}

function isOtherMapping(a: ProgramHeader, b: ProgramHeader): boolean {
  return a.virtualAddress - BigInt(a.physicalAddress) !== b.virtualAddress - BigInt(b.physicalAddress);
}

function overlapError(file: ForeignFile, load: ProgramHeader, covered: number) {
  const { at, physicalAddress } = load;
  return damaged(
    'ELF core',
    file.path,
    at,
    `the segment at the physical address ${hex(physicalAddress)} overlaps one that ends at ${hex(covered)}, with other bytes`,
  );
}

function factsOf(header: ElfHeader, segments: number, notes: ElfNotes): MemoryFact[] {
  const machine = ARCHITECTURES.get(header.machine) ?? `machine ${header.machine}`;
  return [
    { key: 'bits', label: 'bits', value: header.bits },
    { key: 'architecture', label: 'architecture', value: machine },
    { key: 'segments', label: 'segments', value: segments },
    { key: 'cpus', label: 'CPUs', value: notes.cpuCount },
    { key: 'vmcoreinfo', label: 'VMCOREINFO', value: notes.vmcoreinfo !== undefined },
  ];
}

function attachmentsOf(file: ForeignFile, segments: readonly ProgramHeader[], notes: ElfNotes): MemoryAttachment[] {
  const { fd, path } = file;
  const attachments: MemoryAttachment[] = segments
    .filter(({ fileBytes }) => fileBytes > 0)
    .map(({ offset, fileBytes }, i) => ({
      name: i === 0 ? 'elf-notes' : `elf-notes-${i + 1}`,
      fd,
      path,
      offset,
      sizeBytes: fileBytes,
    }));
  if (notes.vmcoreinfo !== undefined) attachments.push({ name: 'vmcoreinfo', fd, path, ...notes.vmcoreinfo });
  return attachments;
}
