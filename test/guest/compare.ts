import { type FileHandle, open } from 'node:fs/promises';

const PIECE_BYTES = 4 * 2 ** 20;

/**
 * Compares two files piece by piece, so that neither has to fit into memory. Gives the offset of the first byte that
 * differs, or of the end of the shorter file, or undefined where both are the same.
 */
export async function firstDifference(pathA: string, pathB: string): Promise<number | undefined> {
  const [fileA, fileB] = [await open(pathA), await open(pathB)];
  try {
    return await firstDifferenceOf(fileA, fileB);
  } finally {
    await fileA.close();
    await fileB.close();
  }
}

async function firstDifferenceOf(fileA: FileHandle, fileB: FileHandle): Promise<number | undefined> {
  const [bufferA, bufferB] = [Buffer.allocUnsafe(PIECE_BYTES), Buffer.allocUnsafe(PIECE_BYTES)];
  for (let offset = 0; ; offset += PIECE_BYTES) {
    const [pieceA, pieceB] = await Promise.all([readPiece(fileA, bufferA, offset), readPiece(fileB, bufferB, offset)]);
    if (!pieceA.equals(pieceB)) return offset + firstDifferentByte(pieceA, pieceB);
    if (pieceA.length < PIECE_BYTES) return undefined;
  }
}

/** A whole piece, or what is left of the file. */
async function readPiece(file: FileHandle, buffer: Buffer, offset: number): Promise<Buffer> {
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, offset + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}

function firstDifferentByte(pieceA: Buffer, pieceB: Buffer): number {
  const common = Math.min(pieceA.length, pieceB.length);
  for (let index = 0; index < common; index++) if (pieceA[index] !== pieceB[index]) return index;
  return common;
}
