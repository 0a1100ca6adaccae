/**
 * A migration stream made again, for `qemu -incoming`: a head, records of pages (pageRecords.ts), the end of RAM, and the tail.
 *
 * Head and tail are attachments of the image (openStream.ts). The head ends behind the list of RAM blocks, with the end of its
 * section. What follows is one part of the RAM section, which holds all pages, the end of that part, and the end of RAM.
 */
import { closeSync, writeSync } from 'node:fs';
import { native, type QemuHead } from '../../native/binding.js';
import { errnoError, VmsnapError, wrapSystemError } from '../../native/errors.js';
import { createSpillFile } from '../spillFile.js';
import { FLAG_EOS } from './pageRecords.js';

const SECTION_START = 1;
const SECTION_PART = 2;
const SECTION_END = 3;
const SECTION_SUBSECTION = 5;
const SECTION_CONFIGURATION = 7;
const SECTION_COMMAND = 8;
const SECTION_FOOTER = 0x7e;
const FOOTER_BYTES = 5;

export interface StreamFrame {
  /** The head, and the beginning of the part that the pages are. */
  readonly start: Buffer;
  /** Between the last page and the tail. */
  readonly end: Buffer;
}

/** @throws CORRUPT if `head` is no "qemu-head" attachment. */
export function streamFrame(head: Uint8Array): StreamFrame {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const id = ramSectionId(bytes);
  const hasFooters = bytes.length > FOOTER_BYTES && bytes[bytes.length - FOOTER_BYTES] === SECTION_FOOTER;
  const endOfSection = [endOfRecords(), ...(hasFooters ? [section(SECTION_FOOTER, id)] : [])];
  return {
    start: Buffer.concat([bytes, section(SECTION_PART, id)]),
    end: Buffer.concat([...endOfSection, section(SECTION_END, id), ...endOfSection]),
  };
}

/** What a "qemu-head" attachment tells of its machine. @throws CORRUPT, UNSUPPORTED. */
export function readStreamHead(head: Uint8Array): QemuHead {
  // The parser reads from files.
  const { fd, path } = createSpillFile();
  try {
    for (let done = 0; done < head.length; ) done += writeSync(fd, head, done);
    const index = new native.QemuIndex(fd, 0, head.length, fd);
    const found = index.readHead(new Int32Array(1), 0);
    if (found !== undefined) return found;
    const { kind, offset, what, error } = index.fault();
    if (kind === 'system') throw errnoError(error, 'read the temporary file', path);
    throw kind === 'unsupported'
      ? new VmsnapError('UNSUPPORTED', `the attachment "qemu-head", offset ${offset}: ${what}`)
      : brokenHead();
  } catch (error) {
    throw wrapSystemError(error, 'write to the temporary file', path);
  } finally {
    closeSync(fd);
  }
}

function section(type: number, id: number): Buffer {
  const bytes = Buffer.alloc(FOOTER_BYTES);
  bytes[0] = type;
  bytes.writeUInt32BE(id, 1);
  return bytes;
}

function endOfRecords(): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(FLAG_EOS));
  return bytes;
}

function brokenHead(): VmsnapError {
  return new VmsnapError('CORRUPT', 'the attachment "qemu-head" is no beginning of a migration stream', {
    hint: 'was the image made from a QEMU migration stream?',
  });
}

/** The number of the RAM section, which the parts after the head repeat. */
function ramSectionId(head: Buffer): number {
  try {
    let at = 8;
    for (;;) {
      const type = head.readUInt8(at);
      if (type === SECTION_START) return head.readUInt32BE(at + 1);
      if (type === SECTION_COMMAND) at += 5 + head.readUInt16BE(at + 3);
      else if (type === SECTION_CONFIGURATION) at = configurationEnd(head, at);
      else throw brokenHead();
    }
  } catch (error) {
    throw error instanceof RangeError ? brokenHead() : error;
  }
}

function configurationEnd(head: Buffer, start: number): number {
  let at = start + 5 + head.readUInt32BE(start + 1);
  while (head.readUInt8(at) === SECTION_SUBSECTION) {
    const nameBytes = head.readUInt8(at + 1);
    const name = head.toString('latin1', at + 2, at + 2 + nameBytes);
    at += 2 + nameBytes + 4;
    if (name.endsWith('/target-page-bits')) at += 4;
    else if (name.endsWith('/uuid')) at += 16;
    else at = capabilitiesEnd(head, at);
  }
  return at;
}

function capabilitiesEnd(head: Buffer, start: number): number {
  let at = start + 4;
  for (let left = head.readUInt32BE(start); left > 0; left--) at += 1 + head.readUInt8(at);
  return at;
}
