/**
 * One block of raw Snappy data, of a size that is known before: the block says first how long it will be, and one that
 * says anything else is not decompressed. So no block can make us allocate.
 */
import { createRequire } from 'node:module';

// Loaded when the first block comes: it costs every start 10 ms, and few images come from such files.
let snappy: typeof import('snappy') | undefined;

function loadSnappy(): typeof import('snappy') {
  snappy ??= createRequire(import.meta.url)('snappy') as typeof import('snappy');
  return snappy;
}

const VARINT_BYTES_MAX = 5;

/** What the block says of its length once it is decompressed; undefined if that is no number of 32 bits. */
export function snappyLength(block: Uint8Array): number | undefined {
  let length = 0;
  for (let i = 0; i < Math.min(VARINT_BYTES_MAX, block.length); i++) {
    length += (block[i]! & 0x7f) * 2 ** (7 * i);
    if (block[i]! < 0x80) return length < 2 ** 32 ? length : undefined;
  }
  return undefined;
}

/** @returns the bytes, or what is wrong with the block. */
export function uncompressSnappy(block: Uint8Array, expectedBytes: number): Uint8Array | string {
  const length = snappyLength(block);
  if (length !== expectedBytes) return `its length is ${length ?? 'no number'}, and ${expectedBytes} was expected`;
  const { uncompressSync } = loadSnappy();
  try {
    const bytes = uncompressSync(block, { asBuffer: true, copyOutputData: true }) as Buffer;
    return bytes.length === expectedBytes ? bytes : `it has ${bytes.length} bytes, and ${expectedBytes} were expected`;
  } catch {
    return 'it is no valid Snappy data';
  }
}
