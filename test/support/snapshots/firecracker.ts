/** Makes what Firecracker writes: memory files, diffs over them, and state files. */
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { crc64 } from '../../../formats/firecracker/crc64.js';

const PAGE = 4096;

/** A sparse file that stores these pages (numbers) and nothing else. */
export function writePages(path: string, sizeBytes: number, pages: ReadonlyMap<number, Buffer>): string {
  const fd = openSync(path, 'w', 0o600);
  try {
    ftruncateSync(fd, sizeBytes);
    for (const [page, bytes] of pages) writeSync(fd, bytes, 0, PAGE, page * PAGE);
  } finally {
    closeSync(fd);
  }
  return path;
}

/** Some bytes that nobody can decode, and their checksum. */
export function writeVmstate(path: string, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let i = 0; i < sizeBytes - 8; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  bytes.writeBigUInt64LE(crc64(bytes.subarray(0, sizeBytes - 8)), sizeBytes - 8);
  writeFileSync(path, bytes);
  return bytes;
}
