/** Whole numbers, strictly: no NaN, no fractions, nothing beyond 2^53. */
import { UsageError } from '../usageError.js';

/** `what` is how messages call the value, as `--level`. */
export function parseInteger(text: string, what: string, min: number, max: number): number {
  const value = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new UsageError(`${what} cannot be ${JSON.stringify(text)}`, `a whole number from ${min} to ${max}`);
}
