/**
 * A share of a store, so that a check of all of it is spread over several runs.
 *
 * The share of an image follows from its identity alone. So it stays the same while other images come and go, and each
 * image has its turn once in every round, however many were removed meanwhile.
 */
import { VmsnapError } from '../../native/errors.js';
import type { StoreEntry } from './storeTypes.js';

const DAY_MS = 86_400_000;
const COUNT_MAX = 10_000;
/** As many as a number holds exactly. */
const IDENTITY_DIGITS = 12;

/**
 * The images whose turn it is in run `index` of `count`, counted from 1. One whose identity is not known, being damaged, is in
 * every share.
 * @throws USAGE if there is no such share.
 */
export function selectSubset(entries: readonly StoreEntry[], index: number, count: number): StoreEntry[] {
  requireCount(count);
  if (!Number.isInteger(index) || index < 1 || index > count) {
    throw new VmsnapError('USAGE', `there is no share ${index} of ${count}`, { hint: `shares go from 1 to ${count}` });
  }
  return entries.filter(({ identity }) => identity === undefined || shareOf(identity, count) === index);
}

/** The share whose turn it is today: the next one each day (UTC), all of them in `count` days. `now`: milliseconds since 1970. */
export function subsetOfDay(count: number, now = Date.now()): number {
  requireCount(count);
  return (Math.floor(now / DAY_MS) % count) + 1;
}

function requireCount(count: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= COUNT_MAX) return;
  throw new VmsnapError('USAGE', `a store cannot be cut into ${count} shares`, { hint: `1 to ${COUNT_MAX}` });
}

function shareOf(identity: string, count: number): number {
  return (Number.parseInt(identity.slice(0, IDENTITY_DIGITS), 16) % count) + 1;
}
