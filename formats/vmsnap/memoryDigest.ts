/** The digest of the memory itself, from the sums of its regions (SPEC.md, "Memory digest"). */

import { xxh3Hex } from './footer.js';
import { writeU64 } from './record.js';

const MASK_64 = 0xffff_ffff_ffff_ffffn;

/** Adds up, region by region, the sums that several threads have taken; each is pairs of [low, high] words. */
export function sumRegions(parts: readonly BigUint64Array[], regionCount: number): BigUint64Array {
  const sums = new BigUint64Array(2 * regionCount);
  for (const part of parts) {
    for (let at = 0; at < sums.length; at += 2) addSum(sums.subarray(at, at + 2), [part[at]!, part[at + 1]!]);
  }
  return sums;
}

/** Both are a low and a high word. */
export function addSum(sum: BigUint64Array, other: readonly [bigint, bigint]): void {
  const low = sum[0]! + other[0];
  sum[0] = low & MASK_64;
  sum[1] = (sum[1]! + other[1] + (low >> 64n)) & MASK_64;
}

/** Takes out again what was added, here or elsewhere. */
export function subtractSum(sum: BigUint64Array, other: readonly [bigint, bigint]): void {
  const borrow = sum[0]! < other[0] ? 1n : 0n;
  sum[0] = (sum[0]! - other[0]) & MASK_64;
  sum[1] = (sum[1]! - other[1] - borrow) & MASK_64;
}

/** A sum's canonical form: 32 hex digits, high word first. */
export function sumHex(sums: BigUint64Array, region: number): string {
  return (sums[region * 2 + 1]! * 2n ** 64n + sums[region * 2]!).toString(16).padStart(32, '0');
}

export function memoryDigest(regions: readonly { sizeBytes: number; sum: string }[]): string {
  const bytes = Buffer.alloc(8 + 24 * regions.length);
  writeU64(bytes, regions.length, 0);
  for (const [i, region] of regions.entries()) {
    writeU64(bytes, region.sizeBytes, 8 + 24 * i);
    bytes.write(region.sum, 16 + 24 * i, 'hex');
  }
  return xxh3Hex(bytes);
}
