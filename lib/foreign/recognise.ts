/**
 * The memory files of other tools, one entry a format. Content decides which it is, never a name.
 *
 * Formats without a magic (Firecracker's memory file) and folders are not told by their first bytes: openForeign.ts.
 */

import { AVML_MAGIC, isAvml, openAvml } from '../../formats/avml/avml.js';
import { ELF_MAGIC, isElfCore, openElfCore } from '../../formats/elf/elfCore.js';
import { FLAT_MAGIC } from '../../formats/kdump/flatIndex.js';
import { isKdump, openKdump } from '../../formats/kdump/kdump.js';
import { KDUMP_MAGIC } from '../../formats/kdump/kdumpHeader.js';
import { isLibvirtSave, LIBVIRT_MAGICS } from '../../formats/libvirt/saveImage.js';
import { isLime, LIME_MAGIC, openLime } from '../../formats/lime/lime.js';
import type { MemoryFile, MemoryFormat } from '../../formats/memoryFile.js';
import { isQemuStream, QEMU_MAGIC } from '../../formats/qemu/openStream.js';
import type { SourceOptions } from '../types.js';
import { WRAPPERS } from '../wrapped/wrappers.js';
import type { PipeInput, PipeSource } from './pipeInput.js';
import { openLibvirtFile, openQemuFile } from './qemuFile.js';
import { openQemuPipe } from './qemuPipe.js';
import { UNREAD_FORMATS } from './unread.js';

/** The bytes at the beginning of a file that decide; fewer, if the file has no more. */
export const START_BYTES = 4096;
/** Of a pipe, whose length nobody knows. */
export const SIZE_UNKNOWN = Number.MAX_SAFE_INTEGER;

export interface ForeignFile {
  readonly fd: number;
  readonly path: string;
  readonly sizeBytes: number;
}

export interface ForeignFormat {
  readonly format: MemoryFormat;
  /** What people call such a file: "a QEMU migration stream". */
  readonly title: string;
  /**
   * Beginnings of which every such file has one, 4 bytes and more. Of a pipe no more is read than it takes to rule them out.
   */
  readonly magics: readonly Uint8Array[];
  /** `start`: the first START_BYTES of it, or all there is. `sizeBytes`: SIZE_UNKNOWN of a pipe. */
  is(start: Uint8Array, sizeBytes: number): boolean;
  /** Opens a file. `options`: signal and progress, where that takes long. @throws VmsnapError: CORRUPT, UNSUPPORTED, IO. */
  open(file: ForeignFile, options: SourceOptions): MemoryFile | Promise<MemoryFile>;
  /** Opens one that comes through a pipe. Undefined: it must be a file. */
  openPipe?(input: PipeInput): Promise<PipeSource>;
}

/** Where two could take the same file, the first one does. */
export const FOREIGN_FORMATS: readonly ForeignFormat[] = [
  {
    format: 'qemu-stream',
    title: 'a QEMU migration stream',
    magics: [QEMU_MAGIC],
    is: isQemuStream,
    open: openQemuFile,
    openPipe: openQemuPipe,
  },
  {
    format: 'libvirt-save',
    title: 'a libvirt save image',
    magics: LIBVIRT_MAGICS,
    is: isLibvirtSave,
    open: openLibvirtFile,
  },
  { format: 'elf-core', title: 'an ELF core', magics: [ELF_MAGIC], is: isElfCore, open: openElfCore },
  { format: 'kdump', title: 'a kdump file', magics: [KDUMP_MAGIC, FLAT_MAGIC], is: isKdump, open: openKdump },
  { format: 'lime', title: 'a LiME file', magics: [LIME_MAGIC.subarray(0, 4)], is: isLime, open: openLime },
  { format: 'avml', title: 'an AVML file', magics: [AVML_MAGIC.subarray(0, 4)], is: isAvml, open: openAvml },
];

export function recognise(start: Uint8Array, sizeBytes: number): ForeignFormat | undefined {
  return FOREIGN_FORMATS.find((format) => format.is(start, sizeBytes));
}

/** Magics that stand further behind are found in what there is of a pipe when one of these is. */
const BEGINNINGS: readonly Uint8Array[] = [
  ...FOREIGN_FORMATS.flatMap(({ magics }) => magics),
  ...UNREAD_FORMATS.filter(({ at = 0 }) => at === 0).map(({ magic }) => magic),
  ...WRAPPERS.map(({ magic }) => magic),
];

/** Whether more than these bytes are needed to tell what it is. */
export function isUndecided(start: Uint8Array): boolean {
  if (start.length >= START_BYTES) return false;
  return BEGINNINGS.some((magic) => begins(start, magic));
}

/** Whether the bytes, as far as there are any, are the same. */
function begins(start: Uint8Array, magic: Uint8Array): boolean {
  const length = Math.min(start.length, magic.length);
  for (let i = 0; i < length; i++) if (start[i] !== magic[i]) return false;
  return true;
}
