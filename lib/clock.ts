/** What time it is. SOURCE_DATE_EPOCH (reproducible-builds.org) stands in for the clock, so that images can be reproduced. */
import { VmsnapError } from '../native/errors.js';

/** Milliseconds since 1970. @throws USAGE if SOURCE_DATE_EPOCH is no number of seconds. */
export function currentTime(): number {
  const epoch = process.env.SOURCE_DATE_EPOCH;
  if (epoch === undefined || epoch === '') return Date.now();
  if (!/^\d{1,12}$/.test(epoch))
    throw new VmsnapError('USAGE', `SOURCE_DATE_EPOCH is "${epoch}", no number of seconds`);
  return Number(epoch) * 1000;
}
