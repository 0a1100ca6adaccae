/**
 * The beginning of an ELF core file that holds a machine's physical memory, as analysts' tools open it (System V ABI, "Object
 * Files" and "Program Loading"; values as QEMU's dump-guest-memory writes them):
 *
 *   ELF header | PT_NOTE, then one PT_LOAD for each range | section header 0, if there are too many | notes | zeros to a page
 *
 * Both addresses of a range are its guest-physical one, so that a debugger without page tables reads physical memory. From
 * 65,535 program headers on, their number stands in sh_info of section header 0 (PN_XNUM).
 */
import { ET_CORE } from './elfHeader.js';

export type CoreMachine = 'x86-64' | 'aarch64';

export interface CoreRange {
  readonly gpa: number;
  readonly sizeBytes: number;
  /** Where its bytes stand in the file. */
  readonly fileOffset: number;
}

const EHDR_BYTES = 64;
const PHDR_BYTES = 56;
const SHDR_BYTES = 64;
/** The memory begins at a page, so that zero pages can be holes. */
const ALIGNMENT_BYTES = 4096;
const IDENT = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1];
const EV_CURRENT = 1;
const PT_LOAD = 1;
const PT_NOTE = 4;
const PF_READ = 4;
const PF_ALL = 7;
const PN_XNUM = 0xffff;
const NOTE_ALIGNMENT_BYTES = 4;
/**
 * Offset and address are not congruent where part of a page was asked for. 0 and not 1, which would say the same: by that crash
 * tells a core of kdump from one of netdump, of which it takes the alignment for the page size.
 */
const NO_ALIGNMENT = 0;

const MACHINE_CODES: Readonly<Record<CoreMachine, number>> = { 'x86-64': 62, aarch64: 183 };

/** Bytes in front of the memory: all that {@link encodeCoreStart} gives. */
export function coreStartBytes(rangeCount: number, notesBytes: number): number {
  return Math.ceil((notesOffset(rangeCount) + notesBytes) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/** `ranges` stand in the headers by rising address; they do not overlap. */
export function encodeCoreStart(ranges: readonly CoreRange[], notes: Uint8Array, machine: CoreMachine): Buffer {
  const bytes = Buffer.alloc(coreStartBytes(ranges.length, notes.length));
  const notesAt = notesOffset(ranges.length);
  writeElfHeader(bytes, ranges.length, machine);
  writeProgramHeader(bytes, 0, {
    type: PT_NOTE,
    flags: PF_READ,
    offset: notesAt,
    address: 0,
    sizeBytes: notes.length,
    memoryBytes: notes.length,
    alignmentBytes: NOTE_ALIGNMENT_BYTES,
  });
  const sorted = [...ranges].sort((a, b) => a.gpa - b.gpa);
  for (const [i, { gpa, sizeBytes, fileOffset }] of sorted.entries()) {
    writeProgramHeader(bytes, i + 1, {
      type: PT_LOAD,
      flags: PF_ALL,
      offset: fileOffset,
      address: gpa,
      sizeBytes,
      memoryBytes: sizeBytes,
      alignmentBytes: NO_ALIGNMENT,
    });
  }
  bytes.set(notes, notesAt);
  return bytes;
}

function notesOffset(rangeCount: number): number {
  return EHDR_BYTES + PHDR_BYTES * (rangeCount + 1) + (needsSection(rangeCount) ? SHDR_BYTES : 0);
}

function needsSection(rangeCount: number): boolean {
  return rangeCount + 1 >= PN_XNUM;
}

function writeElfHeader(bytes: Buffer, rangeCount: number, machine: CoreMachine): void {
  const programHeaders = rangeCount + 1;
  const sectionAt = EHDR_BYTES + PHDR_BYTES * programHeaders;
  const hasSection = needsSection(rangeCount);
  bytes.set(IDENT);
  bytes.writeUInt16LE(ET_CORE, 16);
  bytes.writeUInt16LE(MACHINE_CODES[machine], 18);
  bytes.writeUInt32LE(EV_CURRENT, 20);
  writeWord(bytes, 32, EHDR_BYTES);
  writeWord(bytes, 40, hasSection ? sectionAt : 0);
  bytes.writeUInt16LE(EHDR_BYTES, 52);
  bytes.writeUInt16LE(PHDR_BYTES, 54);
  bytes.writeUInt16LE(hasSection ? PN_XNUM : programHeaders, 56);
  bytes.writeUInt16LE(SHDR_BYTES, 58);
  if (!hasSection) return;
  bytes.writeUInt16LE(1, 60);
  bytes.writeUInt32LE(programHeaders, sectionAt + 44);
}

interface ProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly sizeBytes: number;
  readonly memoryBytes: number;
  readonly alignmentBytes: number;
}

function writeProgramHeader(bytes: Buffer, number: number, header: ProgramHeader): void {
  const at = EHDR_BYTES + PHDR_BYTES * number;
  bytes.writeUInt32LE(header.type, at);
  bytes.writeUInt32LE(header.flags, at + 4);
  writeWord(bytes, at + 8, header.offset);
  writeWord(bytes, at + 16, header.address);
  writeWord(bytes, at + 24, header.address);
  writeWord(bytes, at + 32, header.sizeBytes);
  writeWord(bytes, at + 40, header.memoryBytes);
  writeWord(bytes, at + 48, header.alignmentBytes);
}

function writeWord(bytes: Buffer, at: number, value: number): void {
  bytes.writeBigUInt64LE(BigInt(value), at);
}
