/**
 * Which images to keep (docs/retention.md).
 *
 * Each machine's images are looked at for themselves, newest first, by the rules in this order: last, within, hourly, daily,
 * weekly, monthly, yearly. A rule of periods goes from the newest image to the oldest; in each of the next N periods that have an
 * image, and in which nothing is kept by an earlier rule, it keeps the newest. So every rule reaches further back than those
 * before it, as in Proxmox Backup Server.
 *
 * Only good images count. The newest of them is kept whatever the rules say. What is protected or dated in the future is kept and
 * takes nobody's place. What is not good, or names no machine, is kept as well. Every image that stays keeps its bases.
 */
import { VmsnapError } from '../../native/errors.js';
import { Calendar, type Period } from './calendar.js';
import { NO_MACHINE, timeOf } from './imageFacts.js';
import { isOfMachine } from './listStore.js';
import type { KeepReason, RetentionDecision, RetentionOptions, RetentionPolicy, StoreEntry } from './storeTypes.js';

/** Clocks of hosts that share a folder differ by seconds. */
export const CLOCK_TOLERANCE_MS = 5 * 60_000;
const COUNT_MAX = 1_000_000_000;

const PERIOD_RULES = [
  ['hourly', 'hour', 'keepHourly'],
  ['daily', 'day', 'keepDaily'],
  ['weekly', 'week', 'keepWeekly'],
  ['monthly', 'month', 'keepMonthly'],
  ['yearly', 'year', 'keepYearly'],
] as const;

/** @throws USAGE for a policy that would keep nothing, or a number that is none. */
export function checkPolicy(policy: RetentionPolicy): void {
  const counts = [policy.keepLast, ...PERIOD_RULES.map(([, , key]) => policy[key])].map((count) => count ?? 0);
  const wrong = counts.find((count) => !Number.isInteger(count) || count < 0 || count > COUNT_MAX);
  if (wrong !== undefined) throw new VmsnapError('USAGE', `${wrong} images cannot be kept; give a whole number`);
  const within = policy.keepWithinSeconds;
  if (within !== undefined && !(within > 0 && Number.isFinite(within))) {
    throw new VmsnapError('USAGE', `keep-within cannot be ${within} seconds`, { hint: 'a duration, such as 30d' });
  }
  if (within !== undefined || counts.some((count) => count > 0)) return;
  throw new VmsnapError('USAGE', 'the policy is empty: it would keep nothing but the newest image', {
    hint: 'give one rule or more, such as --keep-daily 7 --keep-weekly 4',
  });
}

/**
 * Decides for every image whether it is kept, and why. Pure: nothing is read or removed.
 * @returns one decision for each entry, in their order.
 * @throws USAGE for an empty policy, a wrong number or an unknown time zone.
 */
export function planRetention(
  entries: readonly StoreEntry[],
  policy: RetentionPolicy,
  options: RetentionOptions = {},
): RetentionDecision[] {
  checkPolicy(policy);
  const calendar = new Calendar(options.timeZone);
  const latest = (options.now ?? Date.now()) + CLOCK_TOLERANCE_MS;
  const reasons = new Reasons();
  const { machines = [] } = options;
  const isAsked = (entry: StoreEntry) =>
    machines.length === 0 || machines.some((machine) => isOfMachine(entry, machine));
  for (const entry of entries) if (!isAsked(entry)) reasons.add(entry, 'other-machine');
  const judged = entries.filter(isAsked);
  for (const entry of judged) if (entry.group === NO_MACHINE) reasons.add(entry, 'no-machine');
  for (const group of groupsOf(judged.filter((entry) => entry.group !== NO_MACHINE)))
    decideGroup(group, policy, calendar, latest, reasons);
  keepBases(entries, reasons);
  return entries.map((entry) => {
    const own = reasons.of(entry);
    return { entry, keep: own.length > 0, reasons: own };
  });
}

class Reasons {
  readonly #reasons = new Map<StoreEntry, KeepReason[]>();

  add(entry: StoreEntry, rule: KeepReason['rule'], detail?: string): void {
    this.#reasons.set(entry, [...this.of(entry), { rule, detail }]);
  }

  of(entry: StoreEntry): readonly KeepReason[] {
    return this.#reasons.get(entry) ?? [];
  }
}

/** The images of each machine; those with a damaged head come as one group. */
export function groupsOf(entries: readonly StoreEntry[]): StoreEntry[][] {
  const groups = new Map<string | undefined, StoreEntry[]>();
  for (const entry of entries) {
    const group = groups.get(entry.group);
    if (group === undefined) groups.set(entry.group, [entry]);
    else group.push(entry);
  }
  return [...groups.values()];
}

export function createdTime(entry: StoreEntry): number {
  return timeOf(entry.createdAt ?? '') ?? Number.NaN;
}

/** Newest first; of the same second, the last by name. */
export function newestFirst(entries: readonly StoreEntry[]): StoreEntry[] {
  return [...entries].sort(
    (a, b) => createdTime(b) - createdTime(a) || (a.name < b.name ? 1 : a.name > b.name ? -1 : 0),
  );
}

function decideGroup(
  group: readonly StoreEntry[],
  policy: RetentionPolicy,
  calendar: Calendar,
  latest: number,
  reasons: Reasons,
): void {
  for (const entry of group) {
    if (entry.state !== 'good') reasons.add(entry, 'not-good', entry.state);
    if (entry.isProtected) reasons.add(entry, 'protected');
  }
  const good = newestFirst(group.filter((entry) => entry.state === 'good'));
  for (const entry of good) if (createdTime(entry) > latest) reasons.add(entry, 'future');
  const dated = good.filter((entry) => createdTime(entry) <= latest);
  if (dated[0] !== undefined) reasons.add(dated[0], 'newest');
  const counted = dated.filter((entry) => !entry.isProtected);
  for (const entry of counted.slice(0, policy.keepLast ?? 0)) reasons.add(entry, 'last');
  keepWithin(counted, dated[0], policy.keepWithinSeconds, reasons);
  for (const [rule, period, key] of PERIOD_RULES)
    keepPeriods(counted, rule, period, policy[key] ?? 0, calendar, reasons);
}

function keepWithin(
  counted: readonly StoreEntry[],
  newest: StoreEntry | undefined,
  withinSeconds: number | undefined,
  reasons: Reasons,
): void {
  if (withinSeconds === undefined || newest === undefined) return;
  const oldest = createdTime(newest) - withinSeconds * 1000;
  for (const entry of counted) if (createdTime(entry) >= oldest) reasons.add(entry, 'within');
}

/** `newest` is a safety and no rule: it takes no place from the rules. */
function isKeptByRule(entry: StoreEntry, reasons: Reasons): boolean {
  return reasons.of(entry).some(({ rule }) => rule !== 'newest');
}

function keepPeriods(
  counted: readonly StoreEntry[],
  rule: (typeof PERIOD_RULES)[number][0],
  period: Period,
  count: number,
  calendar: Calendar,
  reasons: Reasons,
): void {
  if (count === 0) return;
  const covered = new Set<string>();
  for (const entry of counted) {
    if (isKeptByRule(entry, reasons)) covered.add(calendar.name(period, createdTime(entry)));
  }
  let kept = 0;
  for (const entry of counted) {
    if (kept === count) return;
    const name = calendar.name(period, createdTime(entry));
    if (covered.has(name)) continue;
    covered.add(name);
    reasons.add(entry, rule, name);
    kept++;
  }
}

/** A damaged image that stays needs its bases as well: much of its memory may be whole. */
function keepBases(entries: readonly StoreEntry[], reasons: Reasons): void {
  const byPath = new Map(entries.map((entry) => [entry.path, entry]));
  const staying = entries.filter((entry) => reasons.of(entry).length > 0);
  for (const entry of staying) {
    for (const { path } of entry.bases) {
      const base = byPath.get(path);
      if (base !== undefined) reasons.add(base, 'base', entry.name);
    }
  }
}
