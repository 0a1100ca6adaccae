/**
 * Notes of an ELF core: entries of u32 name size, u32 descriptor size, u32 type, then name and descriptor, each padded to 4 bytes
 * (System V ABI, "Note Section"; in 64-bit cores too).
 */
import type { CoreMachine } from './writeCore.js';

const ENTRY_BYTES = 12;
const NT_PRSTATUS = 1;
/** sizeof(struct elf_prstatus) of Linux. */
const PRSTATUS_BYTES: Readonly<Record<CoreMachine, number>> = { 'x86-64': 336, aarch64: 392 };
/** A type of ours, under a name of ours. */
const NT_VMSNAP_TOOL = 1;

export interface CoreNote {
  readonly name: string;
  readonly type: number;
  readonly descriptor: Uint8Array;
}

/** All notes in the bytes, or undefined if they are none. */
export function decodeNotes(bytes: Buffer): CoreNote[] | undefined {
  const notes: CoreNote[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + ENTRY_BYTES > bytes.length) return undefined;
    const nameBytes = bytes.readUInt32LE(at);
    const descriptorBytes = bytes.readUInt32LE(at + 4);
    const nameAt = at + ENTRY_BYTES;
    const descriptorAt = nameAt + padded(nameBytes);
    const end = descriptorAt + descriptorBytes;
    if (end > bytes.length) return undefined;
    const name = bytes.toString('latin1', nameAt, nameAt + Math.max(0, nameBytes - 1));
    notes.push({ name, type: bytes.readUInt32LE(at + 8), descriptor: bytes.subarray(descriptorAt, end) });
    // The padding behind the last one may be missing.
    at = Math.min(bytes.length, descriptorAt + padded(descriptorBytes));
  }
  return notes;
}

/**
 * What stands where nothing is known of the processors: which tool wrote the file. No processor status is made up, since a
 * debugger would show its zeros as registers.
 */
export function toolNotes(tool: string): Buffer {
  return encodeNote({ name: 'vmsnap', type: NT_VMSNAP_TOOL, descriptor: Buffer.from(`${tool}\0`) });
}

export function encodeNote({ name, type, descriptor }: CoreNote): Buffer {
  const nameBytes = Buffer.byteLength(name) + 1;
  const bytes = Buffer.alloc(ENTRY_BYTES + padded(nameBytes) + padded(descriptor.length));
  bytes.writeUInt32LE(nameBytes, 0);
  bytes.writeUInt32LE(descriptor.length, 4);
  bytes.writeUInt32LE(type, 8);
  bytes.write(name, ENTRY_BYTES);
  bytes.set(descriptor, ENTRY_BYTES + padded(nameBytes));
  return bytes;
}

/** The machine whose processor status the notes hold, by its size. */
export function machineOfNotes(notes: readonly CoreNote[]): CoreMachine | undefined {
  const status = notes.find(({ name, type }) => name === 'CORE' && type === NT_PRSTATUS);
  if (status?.descriptor.length === PRSTATUS_BYTES.aarch64) return 'aarch64';
  return status?.descriptor.length === PRSTATUS_BYTES['x86-64'] ? 'x86-64' : undefined;
}

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}
