/** Bits of the bitmaps that tell of pages, one each, lowest first. */

/** Set bits of 32. */
export function bitsIn(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Set bits among the first `count` (lowest first) of some bytes. */
export function bitsAmong(bytes: Uint8Array, count: number): number {
  const whole = count >>> 3;
  let set = 0;
  for (let i = 0; i < whole; i++) set += bitsIn(bytes[i]!);
  const rest = count & 7;
  return rest === 0 ? set : set + bitsIn(bytes[whole]! & ((1 << rest) - 1));
}

export function hasBit(bytes: Uint8Array, bit: number): boolean {
  return (bytes[bit >>> 3]! & (1 << (bit & 7))) !== 0;
}
