import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';

/** One thing in an initramfs. A file's bytes are given as they are or taken from a file of this machine. */
export type InitramfsEntry =
  | { kind: 'folder'; path: string }
  | { kind: 'file'; path: string; mode: number; content: Buffer | string }
  | { kind: 'copy'; path: string; mode: number; from: string }
  | { kind: 'link'; path: string; target: string }
  | { kind: 'character-device'; path: string; mode: number; major: number; minor: number };

const FOLDER = 0o040000;
const FILE = 0o100000;
const LINK = 0o120000;
const CHARACTER_DEVICE = 0o020000;
const ALIGNMENT_BYTES = 4;

/**
 * Writes a cpio archive in the "newc" format, which the kernel unpacks as its first root file system. Device nodes are
 * only entries of the archive, so no privilege is needed. Folders must come before what lies in them.
 */
export function writeInitramfs(archivePath: string, entries: readonly InitramfsEntry[]): void {
  const archive = openSync(archivePath, 'w', 0o600);
  try {
    entries.forEach((entry, position) => {
      writeRecord(archive, position + 1, entry);
    });
    // The trailer ends the archive.
    writeSync(archive, header(0, 0, 0, 'TRAILER!!!', 0, 0));
  } finally {
    closeSync(archive);
  }
}

function writeRecord(archive: number, inode: number, entry: InitramfsEntry): void {
  const content = contentOf(entry);
  const [major, minor] = entry.kind === 'character-device' ? [entry.major, entry.minor] : [0, 0];
  writeAll(archive, header(inode, modeOf(entry), content.length, entry.path, major, minor));
  writeAll(archive, content);
  writeAll(archive, padding(content.length));
}

function contentOf(entry: InitramfsEntry): Buffer {
  switch (entry.kind) {
    case 'file':
      return typeof entry.content === 'string' ? Buffer.from(entry.content) : entry.content;
    case 'copy':
      return readFileSync(entry.from);
    case 'link':
      return Buffer.from(entry.target);
    default:
      return Buffer.alloc(0);
  }
}

function modeOf(entry: InitramfsEntry): number {
  switch (entry.kind) {
    case 'folder':
      return FOLDER | 0o755;
    case 'link':
      return LINK | 0o777;
    case 'character-device':
      return CHARACTER_DEVICE | entry.mode;
    default:
      return FILE | entry.mode;
  }
}

/** The 110-byte header, thirteen 8-digit hexadecimal numbers after the magic, with the name and its padding. */
function header(
  inode: number,
  mode: number,
  sizeBytes: number,
  name: string,
  deviceMajor: number,
  deviceMinor: number,
): Buffer {
  const nameBytes = Buffer.from(`${name.replace(/^\/+/, '')}\0`);
  const owner = 0;
  const linkCount = 1;
  const modifiedAt = 0;
  const checksum = 0;
  const fields = [inode, mode, owner, owner, linkCount, modifiedAt, sizeBytes, 0, 0, deviceMajor, deviceMinor];
  const numbers = [...fields, nameBytes.length, checksum].map((value) => value.toString(16).padStart(8, '0'));
  const start = Buffer.concat([Buffer.from(`070701${numbers.join('')}`, 'latin1'), nameBytes]);
  return Buffer.concat([start, padding(start.length)]);
}

function padding(length: number): Buffer {
  return Buffer.alloc((ALIGNMENT_BYTES - (length % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES);
}

function writeAll(file: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}
