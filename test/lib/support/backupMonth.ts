/** The policy of tests that back up for a month, and a plain reading of it. */
const FULL_EVERY = 4;
const DAYS = 5;
const WEEKS = 3;

export const MONTH_POLICY = `full-every = ${FULL_EVERY}\nkeep = { daily = ${DAYS}, weekly = ${WEEKS}, time-zone = "UTC" }`;

/** Images in the chain of that night's, itself among them; 1: a full one. */
export function chainLengthOf(night: number): number {
  return (night % FULL_EVERY) + 1;
}

/** What the policy keeps of one image a night, read off a calendar: night 0 is Monday, 5 January 2026. */
export function keptNights(nights: number): Set<number> {
  const last = nights - 1;
  const kept = new Set<number>();
  for (let night = Math.max(0, last - DAYS + 1); night <= last; night++) kept.add(night);
  const week = (night: number): number => Math.floor(night / 7);
  // Each week that the days do not cover gives its last night that is still there, and that is its Sunday.
  const covered = new Set([...kept].map(week));
  const weeks: number[] = [];
  for (let w = week(last); w >= 0 && weeks.length < WEEKS; w--) if (!covered.has(w)) weeks.push(w);
  for (const w of weeks) kept.add(w * 7 + 6);
  // And what these are differences to.
  for (const night of [...kept]) for (let base = night - (night % FULL_EVERY); base < night; base++) kept.add(base);
  return kept;
}
