import { execFileSync } from 'node:child_process';
import { closeSync, constants, fsyncSync, ftruncateSync, openSync, readSync, renameSync, writeSync } from 'node:fs';
import { bootGuest, type Guest } from '../test/guest/guest.js';

const PIECE_BYTES = 2 ** 20;
const PAGE_BYTES = 4096;
const BOOT_LIMIT_SECONDS = 900;
// The guest counts a few times a second.
const COUNTS_BETWEEN = 10;

/**
 * Boots a well filled guest, stops it, and copies its memory; what else is to be done with it comes then. Gives a sentence about it.
 * `holes`: what the guest never touched stays a hole, as QEMU leaves it; else every page is written.
 */
export async function makeGuestMemory(
  targetPath: string,
  folder: string,
  memoryMiB: number,
  options: { qemu?: string | undefined; holes?: boolean; whilePaused?: (guest: Guest) => Promise<void> } = {},
): Promise<string> {
  const { qemu, holes = false, whilePaused } = options;
  const guest = await bootGuest({ memoryMiB, folder, content: 'full', bootLimitSeconds: BOOT_LIMIT_SECONDS, qemu });
  try {
    await guest.stop();
    // The guest keeps the file that has lost its name, and needs no copy of it.
    if (holes) renameSync(guest.memoryFile, targetPath);
    else copyWithoutHoles(guest.memoryFile, targetPath);
    await whilePaused?.(guest);
    return `memory of a Linux guest in QEMU ${guest.qemuVersion} (${guest.accelerator.toUpperCase()})`;
  } finally {
    await guest.close();
  }
}

/** The memory of one guest at two moments, between which it goes on with what it does. */
export async function makeGuestMoments(first: string, later: string, folder: string, memoryMiB: number): Promise<void> {
  const guest = await bootGuest({ memoryMiB, folder, content: 'full', bootLimitSeconds: BOOT_LIMIT_SECONDS });
  try {
    await guest.stop();
    copyWithoutHoles(guest.memoryFile, first);
    const before = guest.count;
    await guest.resume();
    await guest.waitForCountBeyond(before + COUNTS_BETWEEN);
    await guest.stop();
    copyWithoutHoles(guest.memoryFile, later);
  } finally {
    await guest.close();
  }
}

/** The same memory with one byte of every page that is not zero changed. */
export function makeOtherMemory(sourcePath: string, targetPath: string): void {
  const zeroPage = Buffer.alloc(PAGE_BYTES);
  const target = openSync(targetPath, 'w', 0o600);
  try {
    for (const piece of pieces(sourcePath)) {
      for (let offset = 0; offset < piece.length; offset += PAGE_BYTES) {
        if (!piece.subarray(offset, offset + PAGE_BYTES).equals(zeroPage)) piece[offset + PAGE_BYTES / 2]! ^= 1;
      }
      writeSync(target, piece);
    }
  } finally {
    closeSync(target);
  }
}

/** As the file lies: what is a hole stays one. */
export function copyWithHoles(sourcePath: string, targetPath: string): void {
  execFileSync('cp', ['--sparse=auto', '--', sourcePath, targetPath]);
}

/** Holes would be an advantage for whoever asks for them; a guest that has run for long has none. */
export function copyWithoutHoles(sourcePath: string, targetPath: string): void {
  const target = openSync(targetPath, 'w', 0o600);
  try {
    for (const piece of pieces(sourcePath)) writeSync(target, piece);
  } finally {
    closeSync(target);
  }
}

/** Copies a part of a file to the beginning of another. */
export function copyPart(sourcePath: string, target: number, offset: number, sizeBytes: number): void {
  for (const piece of pieces(sourcePath, offset, sizeBytes)) writeSync(target, piece);
}

/** The share of pages that are all zeros, in a file or a part of it. */
export function zeroPageShare(path: string, offset = 0, sizeBytes = Number.POSITIVE_INFINITY): number {
  const zeroPage = Buffer.alloc(PAGE_BYTES);
  let pageCount = 0;
  let zeroPageCount = 0;
  for (const piece of pieces(path, offset, sizeBytes)) {
    for (let at = 0; at < piece.length; at += PAGE_BYTES) {
      pageCount++;
      if (piece.subarray(at, at + PAGE_BYTES).equals(zeroPage)) zeroPageCount++;
    }
  }
  return zeroPageCount / Math.max(1, pageCount);
}

/** The file in pieces, each valid until the next one is asked for. */
function* pieces(path: string, offset = 0, sizeBytes = Number.POSITIVE_INFINITY): Generator<Buffer> {
  const file = openSync(path, 'r');
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  try {
    for (let done = 0; done < sizeBytes; ) {
      const length = readSync(file, buffer, 0, Math.min(PIECE_BYTES, sizeBytes - done), offset + done);
      if (length === 0) return;
      yield buffer.subarray(0, length);
      done += length;
    }
  } finally {
    closeSync(file);
  }
}

/** Writes a pattern over a whole file, so that its pages exist and that a load that skips zeros is found out. */
export function touch(path: string, sizeBytes: number, synced = false): void {
  touchWith(path, sizeBytes, 0xa5, synced);
}

/** Writes one byte over a whole file. */
export function touchWith(path: string, sizeBytes: number, byte: number, synced = false): void {
  const pattern = Buffer.alloc(PIECE_BYTES, byte);
  // Not truncated first: pages that are there already are written over.
  const file = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
  try {
    ftruncateSync(file, sizeBytes);
    for (let offset = 0; offset < sizeBytes; offset += PIECE_BYTES) {
      writeSync(file, pattern, 0, Math.min(PIECE_BYTES, sizeBytes - offset));
    }
    if (synced) fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
