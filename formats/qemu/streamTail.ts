/**
 * What follows RAM in a migration stream: sections of devices, whose lengths nobody tells, an EOF byte (00), and in most
 * streams a description of those sections: 06, a length of 32 bits and so many bytes of JSON, which end the stream. Seen
 * from the end, this tells a whole stream from one that was cut off.
 */
import { readSync } from 'node:fs';
import { wrapSystemError } from '../../native/errors.js';
import { corruptStream } from './fault.js';

/** A description is some tens of KiB. */
const DESCRIPTION_MOST_BYTES = 4 * 2 ** 20;
const CLOSING_BRACE = 0x7d;

/** @returns whether it ends with a description. @throws CORRUPT where it ends with neither that nor an EOF byte. */
export function checkStreamEnd(file: { fd: number; path: string; sizeBytes: number }, tailOffset: number): boolean {
  const { path, sizeBytes } = file;
  if (tailOffset >= sizeBytes)
    throw corruptStream(path, tailOffset, 'it ends behind RAM, expected the state of devices');
  const from = Math.max(tailOffset, sizeBytes - DESCRIPTION_MOST_BYTES);
  const bytes = readRange(file, from, sizeBytes);
  if (bytes.at(-1) === 0) return false;
  if (bytes.at(-1) === CLOSING_BRACE && findDescription(bytes)) return true;
  throw corruptStream(
    path,
    sizeBytes,
    'it ends within the state of devices, expected an end mark (0x0) or a description',
  );
}

/** Whether the last byte of a stream may be one: of its end mark or of its description. */
export function endsLikeStream(lastByte: number | undefined): boolean {
  return lastByte === 0 || lastByte === CLOSING_BRACE;
}

/** Looks for 00, 06 and a length that is just what follows. */
function findDescription(bytes: Buffer): boolean {
  for (let at = bytes.indexOf(START); at >= 0; at = bytes.indexOf(START, at + 1)) {
    if (at + 6 < bytes.length && bytes.readUInt32BE(at + 2) === bytes.length - at - 6) return true;
  }
  return false;
}

const START = Buffer.from([0, 6]);

function readRange({ fd, path }: { fd: number; path: string }, from: number, to: number): Buffer {
  const bytes = Buffer.alloc(to - from);
  for (let done = 0; done < bytes.length; ) {
    let got: number;
    try {
      got = readSync(fd, bytes, done, bytes.length - done, from + done);
    } catch (error) {
      throw wrapSystemError(error, 'read', path);
    }
    if (got === 0) throw corruptStream(path, from + done, 'the file became shorter while it was read');
    done += got;
  }
  return bytes;
}
