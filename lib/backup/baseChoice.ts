/**
 * Which image the next one is a difference to.
 *
 * Only the newest image of the machine is ever taken: from an older one a chain would branch again and again, and no full image
 * would come for ever. Images that are dated in the future are passed over, or a clock that was wrong once would
 * stop the chain until that date.
 */
import { timeOf } from '../store/imageFacts.js';
import { CLOCK_TOLERANCE_MS } from '../store/retention.js';
import type { StoreEntry } from '../store/storeTypes.js';
import type { Warning } from '../types.js';

export interface BaseChoice {
  /** Undefined: a full image. */
  readonly base: StoreEntry | undefined;
  readonly reason: string;
  readonly warnings: readonly Warning[];
}

/**
 * @param entries the machine's images. @param fullEvery images in a chain. @param now milliseconds since 1970.
 */
export function chooseBase(entries: readonly StoreEntry[], fullEvery: number, now: number): BaseChoice {
  const own = entries.filter(({ createdAt }) => createdAt !== undefined);
  const time = (entry: StoreEntry) => timeOf(entry.createdAt!) ?? Number.NaN;
  const future = own.filter((entry) => time(entry) > now + CLOCK_TOLERANCE_MS);
  const warnings = future.length === 0 ? [] : [clockWarning(future.at(-1)!, future.length, now)];
  const newest = own
    .filter((entry) => !future.includes(entry))
    .reduce<StoreEntry | undefined>(
      (best, entry) => (best === undefined || time(entry) >= time(best) ? entry : best),
      undefined,
    );
  if (newest === undefined) return { base: undefined, reason: 'there is no image of this machine yet', warnings };
  if (fullEvery === 1) return { base: undefined, reason: 'every image is full (full-every = 1)', warnings };
  if (newest.state !== 'good') {
    const message = `${newest.path} cannot be a base, so a full image is made: ${newest.problem?.message ?? newest.state}`;
    return {
      base: undefined,
      reason: 'the newest image cannot be a base',
      warnings: [...warnings, { code: 'base-unusable', message }],
    };
  }
  const images = newest.bases.length + 1;
  if (images >= fullEvery) return { base: undefined, reason: `the last chain has ${images} images`, warnings };
  return { base: newest, reason: `image ${images + 1} of ${fullEvery} in its chain`, warnings };
}

function clockWarning(entry: StoreEntry, count: number, now: number): Warning {
  const others = count === 1 ? '' : ` (and ${count - 1} more)`;
  const clock = new Date(now).toISOString().slice(0, 19);
  return {
    code: 'clock-behind',
    message: `${entry.path}${others} is dated ${entry.createdAt}, and it is ${clock}Z now: is the clock right? It is taken as no base`,
  };
}
