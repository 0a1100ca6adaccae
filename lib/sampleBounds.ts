/**
 * From a sample of equal pieces of memory to all of them: which pieces are looked at, and between which bounds the total
 * lies with a confidence of 95 %.
 *
 * The pieces that may hold data stand in the order of the memory, in as many strata of equal length as are to be looked at;
 * one is taken from each, at a place that a generator with a fixed seed chooses: the same source gives the same sample, and
 * what repeats in memory at regular distances does not meet a regular sample. The total is the mean times the number of
 * pieces. Its error is Student's t times the standard error. What was looked at has none (finite population correction), and
 * the variance is that between neighbours in the sample, since a difference between far strata is no error.
 *
 * A sample may miss what is rare: memory of zeros with a few pieces that do not shrink looks like zeros. So the variance is
 * taken as if three pieces more had been found, one that is empty and two of the greatest size there is. With these the
 * bounds held in 94 to 100 of 100 trials with each of ten kinds of memory, and without them in as few as 14.
 */

export const CONFIDENCE = 0.95;
/** With fewer, a standard error says little. */
export const SAMPLE_MIN_PIECES = 16;

export interface Bounds {
  readonly low: number;
  readonly likely: number;
  readonly high: number;
}

const SEED = 0x76_6d_73_6e;

/** `count` of the numbers from 0 to `total` - 1, rising; all of them if there are no more. */
export function chooseSample(total: number, count: number): number[] {
  if (count >= total) return Array.from({ length: total }, (_, i) => i);
  const random = generator(SEED);
  return Array.from({ length: count }, (_, i) => {
    const from = Math.floor((i * total) / count);
    const to = Math.floor(((i + 1) * total) / count);
    return from + Math.floor(random() * (to - from));
  });
}

/** Numbers in [0, 1) (Mulberry32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Bounds of the total of `total` pieces, of which those in `sizes` were looked at. A piece has 0 to `most` bytes. */
export function totalBounds(sizes: readonly number[], total: number, most: number): Bounds {
  const count = sizes.length;
  const seen = sizes.reduce((sum, size) => sum + size, 0);
  if (count >= total) return { low: seen, likely: seen, high: seen };
  const likely = (seen / count) * total;
  const error = studentT95(count - 1) * total * Math.sqrt((carefulVariance(sizes, most) / count) * (1 - count / total));
  return {
    low: Math.max(seen, likely - error),
    likely,
    high: Math.min(seen + (total - count) * most, likely + error),
  };
}

/** Between neighbours, and with what the pieces that might have been missed would add to it. */
function carefulVariance(sizes: readonly number[], most: number): number {
  let steps = 0;
  for (let i = 1; i < sizes.length; i++) steps += (sizes[i]! - sizes[i - 1]!) ** 2;
  const missed = [...sizes, 0, most, most];
  return (steps / 2 + squares(missed) - squares(sizes)) / (missed.length - 1);
}

/** Sum of the squared distances from the mean. */
function squares(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
}

const NORMAL_95 = 1.959963984540054;

/** The two-sided 95 % quantile of Student's t (Cornish-Fisher expansion: right to 0.001 from 8 degrees of freedom on). */
export function studentT95(degrees: number): number {
  const z = NORMAL_95;
  const first = (z ** 3 + z) / 4;
  const second = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96;
  const third = (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384;
  return z + first / degrees + second / degrees ** 2 + third / degrees ** 3;
}
