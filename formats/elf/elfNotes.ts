/**
 * The notes of an ELF core: what the CPUs held, and VMCOREINFO, with which makedumpfile and crash find their way in a Linux.
 *
 * A note is three u32 (bytes of the name, bytes of the contents, type), the name and the contents, each filled up to a
 * multiple of 4. They are walked, never held: what follows from them is where VMCOREINFO lies, and how many CPUs there are.
 */

import type { ForeignFile } from '../foreignFile.js';
import { readUpTo } from '../readUpTo.js';
import { damagedElf } from './elfErrors.js';
import type { ProgramHeader } from './elfHeader.js';

const HEADER_BYTES = 12;
/** Longest name that is looked at: "VMCOREINFO" with its NUL, and padding. */
const NAME_BYTES = 12;
/** A machine with 4,096 CPUs has some 10,000. */
const NOTES_MAX = 2 ** 20;
const NT_PRSTATUS = 1;
/** What the kernel told a process when it began. */
const NT_AUXV = 6;

export interface ElfNotes {
  readonly cpuCount: number;
  readonly ofProcess: boolean;
  readonly vmcoreinfo: { readonly offset: number; readonly sizeBytes: number } | undefined;
}

export function walkNotes(file: ForeignFile, segments: readonly ProgramHeader[]): ElfNotes {
  let cpuCount = 0;
  let ofProcess = false;
  let noteCount = 0;
  let vmcoreinfo: ElfNotes['vmcoreinfo'];
  const bytes = Buffer.alloc(HEADER_BYTES + NAME_BYTES);
  for (const segment of segments) {
    // One that has no bytes in the file may have any offset.
    if (segment.fileBytes === 0) continue;
    const end = segment.offset + segment.fileBytes;
    let at = segment.offset;
    while (at + HEADER_BYTES <= end) {
      if (++noteCount > NOTES_MAX) throw damagedElf(file, at, `more than ${NOTES_MAX} notes`);
      const got = readUpTo(file, at, bytes);
      const nameBytes = bytes.readUInt32LE(0);
      const contentBytes = bytes.readUInt32LE(4);
      const contentAt = at + HEADER_BYTES + roundUp4(nameBytes);
      const next = contentAt + roundUp4(contentBytes);
      // The padding of the last one may be missing.
      if (got < HEADER_BYTES || contentAt + contentBytes > end) {
        throw damagedElf(
          file,
          at,
          `a note of ${nameBytes} and ${contentBytes} bytes reaches beyond the notes, which end at offset ${end}`,
        );
      }
      const name = noteName(bytes, nameBytes);
      if (name === 'CORE' && bytes.readUInt32LE(8) === NT_PRSTATUS) cpuCount++;
      if (name === 'CORE' && bytes.readUInt32LE(8) === NT_AUXV) ofProcess = true;
      if (name === 'VMCOREINFO') vmcoreinfo ??= { offset: contentAt, sizeBytes: contentBytes };
      at = next;
    }
  }
  return { cpuCount, ofProcess, vmcoreinfo };
}

function noteName(bytes: Buffer, nameBytes: number): string {
  if (nameBytes === 0 || nameBytes > NAME_BYTES) return '';
  return bytes.toString('latin1', HEADER_BYTES, HEADER_BYTES + nameBytes).replace(/\0+$/, '');
}

function roundUp4(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}
