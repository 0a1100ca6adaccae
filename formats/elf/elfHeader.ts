/**
 * The header of an ELF core and its program headers, for files of 64 and 32 bits, little endian.
 *
 * Layout: System V ABI, "ELF Header" and "Program Header". QEMU writes the size of a pointer into e_ehsize, so that field is
 * not looked at. Where there are 0xffff program headers or more, their number stands in sh_info of the first section header.
 */

import { type ForeignFile, numberAt } from '../foreignFile.js';
import { RANGES_MAX } from '../ranges/planRanges.js';
import { readUpTo } from '../readUpTo.js';
import { damagedElf, unsupportedElf } from './elfErrors.js';

export const PT_LOAD = 1;
export const PT_NOTE = 4;

const CLASS_32 = 1;
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
export const ET_CORE = 4;
export const BIG_ENDIAN = 2;
const PN_XNUM = 0xffff;
const HEADERS_AT_ONCE = 1024;

export interface ElfHeader {
  readonly bits: 64 | 32;
  /** e_machine. */
  readonly machine: number;
  readonly programHeaders: readonly ProgramHeader[];
}

export interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly virtualAddress: bigint;
  readonly physicalAddress: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
  /** Where in the file it stands. */
  readonly at: number;
}

/** Where the fields of one class lie. */
interface Layout {
  readonly bits: 64 | 32;
  readonly headerBytes: number;
  readonly tableAt: number;
  readonly sectionsAt: number;
  readonly entryBytesAt: number;
  readonly entryCountAt: number;
  readonly programHeaderBytes: number;
  readonly sectionHeaderBytes: number;
  readonly sectionInfoAt: number;
  readonly fields: { readonly offset: number; readonly virtual: number; readonly physical: number };
  readonly sizes: { readonly file: number; readonly memory: number };
}

const LAYOUT_64: Layout = {
  bits: 64,
  headerBytes: 64,
  tableAt: 32,
  sectionsAt: 40,
  entryBytesAt: 54,
  entryCountAt: 56,
  programHeaderBytes: 56,
  sectionHeaderBytes: 64,
  sectionInfoAt: 44,
  fields: { offset: 8, virtual: 16, physical: 24 },
  sizes: { file: 32, memory: 40 },
};

const LAYOUT_32: Layout = {
  bits: 32,
  headerBytes: 52,
  tableAt: 28,
  sectionsAt: 32,
  entryBytesAt: 42,
  entryCountAt: 44,
  programHeaderBytes: 32,
  sectionHeaderBytes: 40,
  sectionInfoAt: 28,
  fields: { offset: 4, virtual: 8, physical: 12 },
  sizes: { file: 16, memory: 20 },
};

export function readElfHeader(file: ForeignFile): ElfHeader {
  const bytes = Buffer.alloc(LAYOUT_64.headerBytes);
  const got = readUpTo(file, 0, bytes);
  const layout = layoutOf(file, bytes);
  if (got < layout.headerBytes) throw damagedElf(file, 0, `it ends after ${got} bytes, within its header`);
  const type = bytes.readUInt16LE(16);
  if (type !== ET_CORE) {
    throw unsupportedElf(file, 16, `its type is ${type}, and 4 (core) was expected`, 'give a core file of a machine');
  }
  const entryBytes = bytes.readUInt16LE(layout.entryBytesAt);
  if (entryBytes !== layout.programHeaderBytes) {
    throw damagedElf(
      file,
      layout.entryBytesAt,
      `program headers of ${entryBytes} bytes, and ${layout.programHeaderBytes} were expected`,
    );
  }
  const tableAt = wordAt(layout, bytes, layout.tableAt);
  const count = countOf(file, layout, bytes);
  const tableBytes = count * entryBytes;
  if (tableAt + tableBytes > file.sizeBytes) {
    throw damagedElf(
      file,
      layout.tableAt,
      `${count} program headers from offset ${tableAt} on do not fit into the ${file.sizeBytes} bytes of the file`,
    );
  }
  return {
    bits: layout.bits,
    machine: bytes.readUInt16LE(18),
    programHeaders: readProgramHeaders(file, layout, tableAt, count),
  };
}

function layoutOf(file: ForeignFile, bytes: Buffer): Layout {
  const order = bytes[5];
  if (order !== LITTLE_ENDIAN) {
    throw unsupportedElf(
      file,
      5,
      `its byte order is ${order === BIG_ENDIAN ? 'big endian' : order}, and 1 (little endian) was expected`,
      'convert the memory to a raw file on another machine',
    );
  }
  if (bytes[4] === CLASS_64) return LAYOUT_64;
  if (bytes[4] === CLASS_32) return LAYOUT_32;
  throw damagedElf(file, 4, `its class is ${bytes[4]}, and 1 (32 bits) or 2 (64 bits) was expected`);
}

function countOf(file: ForeignFile, layout: Layout, bytes: Buffer): number {
  const count = bytes.readUInt16LE(layout.entryCountAt);
  if (count !== PN_XNUM) return count;
  const sectionsAt = wordAt(layout, bytes, layout.sectionsAt);
  const section = Buffer.alloc(layout.sectionHeaderBytes);
  if (sectionsAt === 0 || sectionsAt + section.length > file.sizeBytes) {
    throw damagedElf(
      file,
      layout.sectionsAt,
      `the number of program headers stands in a section header at offset ${sectionsAt}, where the file has none`,
    );
  }
  readUpTo(file, sectionsAt, section);
  const extended = section.readUInt32LE(layout.sectionInfoAt);
  if (extended > RANGES_MAX) {
    throw unsupportedElf(
      file,
      sectionsAt + layout.sectionInfoAt,
      `${extended} program headers, and at most ${RANGES_MAX} are read`,
      'make the dump again without paging=on',
    );
  }
  return extended;
}

function readProgramHeaders(file: ForeignFile, layout: Layout, tableAt: number, count: number): ProgramHeader[] {
  const entryBytes = layout.programHeaderBytes;
  const bytes = Buffer.alloc(Math.min(count, HEADERS_AT_ONCE) * entryBytes);
  const headers: ProgramHeader[] = [];
  for (let first = 0; first < count; first += HEADERS_AT_ONCE) {
    const some = Math.min(HEADERS_AT_ONCE, count - first);
    const at = tableAt + first * entryBytes;
    if (readUpTo(file, at, bytes.subarray(0, some * entryBytes)) < some * entryBytes)
      throw damagedElf(file, at, 'the file ends within the program headers');
    for (let i = 0; i < some; i++) {
      const entry = bytes.subarray(i * entryBytes, (i + 1) * entryBytes);
      const header = programHeader(layout, entry, at + i * entryBytes);
      if (header.type === PT_LOAD || header.type === PT_NOTE) headers.push(header);
    }
  }
  return headers;
}

function programHeader(layout: Layout, entry: Buffer, at: number): ProgramHeader {
  const { fields, sizes } = layout;
  return {
    type: entry.readUInt32LE(0),
    offset: wordAt(layout, entry, fields.offset),
    virtualAddress:
      layout.bits === 64 ? entry.readBigUInt64LE(fields.virtual) : BigInt(entry.readUInt32LE(fields.virtual)),
    physicalAddress: wordAt(layout, entry, fields.physical),
    fileBytes: wordAt(layout, entry, sizes.file),
    memoryBytes: wordAt(layout, entry, sizes.memory),
    at,
  };
}

function wordAt(layout: Layout, bytes: Buffer, offset: number): number {
  return layout.bits === 64 ? numberAt(bytes, offset) : bytes.readUInt32LE(offset);
}
