/** Durations as people write them: `90s`, `15m`, `26h`, `30d`, `2w3d`. A day is 24 hours, a week seven days. */
import { VmsnapError } from '../native/errors.js';

const UNIT_SECONDS: readonly (readonly [string, number])[] = [
  ['w', 7 * 86_400],
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
  ['s', 1],
];
const MAX_SECONDS = 1000 * 366 * 86_400;

/**
 * Seconds of a duration: numbers with the units w, d, h, m and s, the larger unit first, each at most once.
 * @param what is how the message calls the value, as `--max-age`.
 * @throws USAGE if it is none, or more than 1,000 years.
 */
export function parseDuration(text: string, what: string): number {
  const parts = /^(?:\d{1,12}[wdhms])+$/.test(text) ? [...text.matchAll(/(\d+)([wdhms])/g)] : [];
  let seconds = 0;
  let lastUnit = -1;
  for (const [, digits, letter] of parts) {
    const unit = UNIT_SECONDS.findIndex(([name]) => name === letter);
    if (unit <= lastUnit) throw notADuration(text, what);
    lastUnit = unit;
    seconds += Number(digits) * UNIT_SECONDS[unit]![1];
  }
  if (parts.length === 0 || seconds > MAX_SECONDS) throw notADuration(text, what);
  return seconds;
}

function notADuration(text: string, what: string): VmsnapError {
  return new VmsnapError('USAGE', `${what} cannot be ${JSON.stringify(text)}`, {
    hint: 'a duration such as 90s, 15m, 26h, 30d or 2w3d',
  });
}
