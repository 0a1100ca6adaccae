/** The header in front of each range of a LiME file, version 1 (github.com/504ensicsLabs/LiME, "lime" format). Little endian. */

export const LIME_HEADER_BYTES = 32;
/** "EMiL" as the bytes stand. */
const LIME_MAGIC = 0x4c694d45;
const LIME_VERSION = 1;

/** `gpa`: guest-physical address of the first byte; the header names the last one too. 8 reserved bytes stay zero. */
export function encodeLimeHeader(gpa: number, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(LIME_HEADER_BYTES);
  bytes.writeUInt32LE(LIME_MAGIC, 0);
  bytes.writeUInt32LE(LIME_VERSION, 4);
  bytes.writeBigUInt64LE(BigInt(gpa), 8);
  bytes.writeBigUInt64LE(BigInt(gpa + sizeBytes - 1), 16);
  return bytes;
}
