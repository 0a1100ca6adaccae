/** Numbers that look random and are the same for the same seed: what a test drew can be drawn again. */

/** A whole number from 0 to below `limit`. */
export type Random = (limit: number) => number;

/** Xorshift. */
export function randomNumbers(seed: number): Random {
  let word = (Math.imul(seed + 1, 0x9e3779b1) ^ 0x2545f491) | 1;
  return (limit) => {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    return (word >>> 0) % limit;
  };
}
