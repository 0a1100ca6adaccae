/**
 * libvirt's save image (`virsh save`, `managedsave`): a header, the domain's XML, and a QEMU migration stream (libvirt,
 * src/qemu/qemu_saveimage.h).
 *
 * Header, 92 bytes, in the byte order of the host that wrote it (a version above 255 is one read the wrong way round):
 *
 *   0   16  magic "LibvirtQemudSave"; "LibvirtQemudPart" while it is written, and for ever if that was interrupted
 *   16  4   version, 1 or 2
 *   20  4   bytes of what follows the header: XML, NUL, and since version 2 a cookie, NUL, then zeros for later edits
 *   24  4   whether the machine ran (1) or was paused (0)
 *   28  4   format of the stream behind that: 0 raw, 1 gzip, 2 bzip2, 3 xz, 4 lzop, 5 zstd, 6 sparse (mapped-ram)
 *   32  4   offset of the cookie from the end of the header; 0: there is none
 *   36  56  unused
 */

import { VmsnapError } from '../../native/errors.js';
import { type ForeignFile, readAll } from '../foreignFile.js';
import type { MemoryAttachment, MemoryFact, MemoryFile } from '../memoryFile.js';
import { type DomainFacts, domainFacts } from './domainXml.js';

const HEADER_BYTES = 92;
const MAGIC_BYTES = 16;
const WHOLE_MAGIC = 'LibvirtQemudSave';
const PART_MAGIC = 'LibvirtQemudPart';
export const LIBVIRT_MAGICS: readonly Uint8Array[] = [Buffer.from(WHOLE_MAGIC), Buffer.from(PART_MAGIC)];
/** Far more than any domain takes; libvirt itself adds 64 KiB of slack. */
const DATA_MAX_BYTES = 64 * 2 ** 20;
const FORMATS = ['raw', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd', 'sparse'] as const;

export type StreamFormat = (typeof FORMATS)[number];

export interface SaveImage {
  readonly version: number;
  readonly streamFormat: StreamFormat;
  /** Where the QEMU stream begins, compressed or not. */
  readonly streamOffset: number;
  readonly domain: DomainFacts;
  readonly facts: readonly MemoryFact[];
  readonly attachments: readonly MemoryAttachment[];
}

/** Of an interrupted save too, which is then refused by name. */
export function isLibvirtSave(start: Uint8Array, sizeBytes: number): boolean {
  if (sizeBytes < HEADER_BYTES || start.length < MAGIC_BYTES) return false;
  return LIBVIRT_MAGICS.some((magic) => magic.every((byte, i) => start[i] === byte));
}

/** Reads and checks all that stands in front of the stream. @throws CORRUPT, UNSUPPORTED, IO. */
export function readSaveImage(file: ForeignFile): SaveImage {
  const header = readHeader(file);
  const data = Buffer.alloc(header.dataBytes);
  readAll(file, HEADER_BYTES, data);
  const xmlEnd = data.indexOf(0);
  if (xmlEnd < 0) throw damagedSave(file, HEADER_BYTES, 'the XML of the domain has no NUL at its end');
  const cookie = cookieOf(file, data, header.cookieOffset, xmlEnd);
  const domain = domainFacts(data.toString('utf8', 0, xmlEnd));
  return {
    version: header.version,
    streamFormat: header.streamFormat,
    streamOffset: HEADER_BYTES + header.dataBytes,
    domain,
    facts: [
      { key: 'compression', label: 'stream', value: header.streamFormat },
      { key: 'wasRunning', label: 'was running', value: header.wasRunning },
      { key: 'byteOrder', label: 'byte order', value: header.isLittleEndian ? 'little endian' : 'big endian' },
      ...(domain.architecture === undefined
        ? []
        : [{ key: 'architecture', label: 'architecture', value: domain.architecture }]),
    ],
    attachments: [
      { name: 'domain.xml', bytes: data.subarray(0, xmlEnd) },
      ...(cookie === undefined ? [] : [{ name: 'libvirt-cookie.xml', bytes: cookie }]),
    ],
  };
}

/** What its stream's reader says, told as of the whole file. `stream`: reads the same file, and closes with this one. */
export function saveImageMemory(image: SaveImage, stream: MemoryFile): MemoryFile {
  return {
    ...stream,
    machine: { name: image.domain.name ?? stream.machine.name, uuid: image.domain.uuid ?? stream.machine.uuid },
    format: 'libvirt-save',
    version: String(image.version),
    facts: [...image.facts, ...stream.facts],
    attachments: [...image.attachments, ...stream.attachments],
  };
}

interface Header {
  readonly isLittleEndian: boolean;
  readonly version: number;
  readonly dataBytes: number;
  readonly wasRunning: boolean;
  readonly streamFormat: StreamFormat;
  readonly cookieOffset: number;
}

function readHeader(file: ForeignFile): Header {
  const bytes = Buffer.alloc(HEADER_BYTES);
  readAll(file, 0, bytes);
  if (bytes.toString('latin1', 0, MAGIC_BYTES) === PART_MAGIC) throw interrupted(file);
  // A small number the wrong way round is a large one.
  const isLittleEndian = bytes.readUInt32LE(16) <= bytes.readUInt32BE(16);
  const word = (at: number) => (isLittleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  const version = word(16);
  if (version < 1 || version > 2)
    throw notReadable(file, 16, `version ${version} of the header, and 1 or 2 was expected`);
  const dataBytes = word(20);
  const room = Math.min(DATA_MAX_BYTES, file.sizeBytes - HEADER_BYTES);
  if (dataBytes < 1 || dataBytes > room)
    throw damagedSave(file, 20, `the XML takes ${dataBytes} bytes, and 1 to ${room} were expected`);
  const wasRunning = word(24);
  if (wasRunning > 1) throw damagedSave(file, 24, `the state of the machine is ${wasRunning}, and 0 or 1 was expected`);
  const streamFormat = FORMATS[word(28)];
  if (streamFormat === undefined)
    throw notReadable(file, 28, `format ${word(28)} of the stream, and 0 to ${FORMATS.length - 1} was expected`);
  return { isLittleEndian, version, dataBytes, wasRunning: wasRunning === 1, streamFormat, cookieOffset: word(32) };
}

function cookieOf(file: ForeignFile, data: Buffer, offset: number, xmlEnd: number): Buffer | undefined {
  if (offset === 0) return undefined;
  if (offset <= xmlEnd || offset >= data.length)
    throw damagedSave(
      file,
      32,
      `the cookie begins at ${offset}, and ${xmlEnd + 1} to ${data.length - 1} was expected, behind the XML`,
    );
  const end = data.indexOf(0, offset);
  if (end < 0) throw damagedSave(file, HEADER_BYTES + offset, 'the cookie has no NUL at its end');
  return data.subarray(offset, end);
}

function interrupted({ path }: ForeignFile): VmsnapError {
  return new VmsnapError(
    'CORRUPT',
    `${path} is a libvirt save image that was not finished (magic "${PART_MAGIC}" at offset 0, "${WHOLE_MAGIC}" was expected)`,
    { path, offset: 0, hint: 'the memory in it is not whole: save the machine again with "virsh save"' },
  );
}

function damagedSave({ path }: ForeignFile, offset: number, what: string): VmsnapError {
  return new VmsnapError('CORRUPT', `${path} (libvirt save image) is damaged at offset ${offset}: ${what}`, {
    path,
    offset,
    hint: 'was the file copied whole?',
  });
}

function notReadable({ path }: ForeignFile, offset: number, what: string): VmsnapError {
  return new VmsnapError('UNSUPPORTED', `${path} (libvirt save image), offset ${offset}: ${what}`, {
    path,
    offset,
    hint: 'use a newer vmsnap',
  });
}
