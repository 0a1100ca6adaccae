import { randomFillSync } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';

const MEBIBYTE = 2 ** 20;

/** Writes a made-up machine: program code, text and random data with zero pages between them. Gives its size. */
export function writeGeneratedMemory(targetPath: string, sizeMiB: number): number {
  const program = readFileSync(process.execPath).subarray(0, 16 * MEBIBYTE);
  const text = Buffer.from(Array.from({ length: MEBIBYTE / 16 }, (_, i) => `page ${i * 37};\n`.padEnd(16)).join(''));
  const random = randomFillSync(Buffer.alloc(MEBIBYTE / 4));
  const sizeBytes = sizeMiB * MEBIBYTE;
  const target = openSync(targetPath, 'w', 0o600);
  try {
    ftruncateSync(target, sizeBytes);
    for (let offsetMiB = 0; offsetMiB + 1 < sizeMiB; offsetMiB += 8) {
      const programStart = (offsetMiB * MEBIBYTE) % Math.max(1, program.length - MEBIBYTE);
      const code = program.subarray(programStart, programStart + MEBIBYTE);
      writeSync(target, offsetMiB % 16 === 0 ? code : text, 0, MEBIBYTE, offsetMiB * MEBIBYTE);
      if (offsetMiB + 2 < sizeMiB) writeSync(target, random, 0, random.length, (offsetMiB + 1) * MEBIBYTE);
    }
  } finally {
    closeSync(target);
  }
  return sizeBytes;
}
