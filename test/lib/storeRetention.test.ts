/** The retention rules against a plain, slow reading of them, and what they must never do. */
import test from 'ava';
import fc from 'fast-check';
import {
  planRetention,
  type RetentionDecision,
  type RetentionPolicy,
  type StoreEntry,
  type StoreState,
} from '../../lib/index.js';

const RUNS = 250;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** With half and quarter hours, a day that was skipped, half an hour of summer time, and both ways round the year. */
const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'Asia/Kathmandu',
  'Pacific/Apia',
  'Australia/Lord_Howe',
  'America/Sao_Paulo',
];
const NOW = Date.parse('2026-11-22T12:00:00Z');

interface Made {
  readonly at: number;
  readonly name?: string;
  readonly machine?: string;
  readonly state?: StoreState;
  readonly isProtected?: boolean;
  readonly bases?: readonly string[];
}

function entryOf({ at, name, machine = 'web1', state = 'good', isProtected = false, bases = [] }: Made): StoreEntry {
  const createdAt = `${new Date(at).toISOString().slice(0, 19)}Z`;
  const fileName = name ?? `${machine}-${createdAt}`;
  return {
    path: `/store/${fileName}`,
    name: fileName,
    state,
    problem: state === 'good' ? undefined : { code: 'CORRUPT', message: 'made so' },
    fileBytes: 1,
    stamp: { device: 0n, inode: 0n, sizeBytes: 1, modifiedNanoseconds: 0n },
    isProtected,
    identity: fileName,
    createdAt,
    machine: { name: machine, uuid: undefined },
    sourceName: undefined,
    group: `name:${machine}`,
    labels: new Map(),
    memoryBytes: 1,
    base: bases[0] === undefined ? undefined : { identity: bases[0], fileName: bases[0] },
    bases: bases.map((base) => ({ path: `/store/${base}`, identity: base })),
  };
}

// The plain reading: what docs/retention.md says, sentence by sentence, as slowly as need be.

/** What the clock on the wall shows, by another way through Intl than the library's. */
function wallClock(time: number, zone: string): string {
  const clock = CLOCKS.get(zone) ?? new Intl.DateTimeFormat('sv-SE', { ...CLOCK_SHAPE, timeZone: zone });
  CLOCKS.set(zone, clock);
  return clock.format(time);
}

const CLOCKS = new Map<string, Intl.DateTimeFormat>();
const CLOCK_SHAPE = { dateStyle: 'short', timeStyle: 'medium' } as const;
const PERIODS = new Map<string, string>();

/** Slow, so kept. */
function periodOf(rule: string, time: number, zone: string): string {
  const key = `${rule} ${time} ${zone}`;
  const period = PERIODS.get(key) ?? findPeriod(rule, time, zone);
  PERIODS.set(key, period);
  return period;
}

function findPeriod(rule: string, time: number, zone: string): string {
  const wall = wallClock(time, zone);
  if (rule === 'keepYearly') return wall.slice(0, 4);
  if (rule === 'keepMonthly') return wall.slice(0, 7);
  if (rule === 'keepDaily') return wall.slice(0, 10);
  if (rule === 'keepWeekly') return mondayOf(wall.slice(0, 10));
  // Two times are in one hour if the wall clock shows the same hour all the way from one to the other.
  const hour = wall.slice(0, 13);
  let start = Math.floor(time / 60_000);
  while (wallClock((start - 1) * 60_000, zone).slice(0, 13) === hour && isForward(start, zone)) start--;
  return String(start);
}

/** Whether the wall clock went on by one minute to this one: in the repeated hour it goes back. */
function isForward(minute: number, zone: string): boolean {
  return wallClock((minute - 1) * 60_000, zone) < wallClock(minute * 60_000, zone);
}

function mondayOf(day: string): string {
  let date = new Date(`${day}T00:00:00Z`);
  while (date.getUTCDay() !== 1) date = new Date(date.getTime() - DAY_MS);
  return date.toISOString().slice(0, 10);
}

function timeOf(entry: StoreEntry): number {
  return Date.parse(entry.createdAt!);
}

function plainKept(entries: readonly StoreEntry[], policy: RetentionPolicy, zone: string): Set<string> {
  const kept = new Set<string>();
  for (const machine of new Set(entries.map(({ group }) => group))) {
    const own = entries.filter(({ group }) => group === machine);
    for (const entry of own) if (entry.state !== 'good' || entry.isProtected) kept.add(entry.name);
    const good = own.filter(({ state }) => state === 'good');
    for (const entry of good) if (timeOf(entry) > NOW + 5 * 60_000) kept.add(entry.name);
    const past = good.filter((entry) => timeOf(entry) <= NOW + 5 * 60_000);
    const order = past.sort((a, b) => timeOf(a) - timeOf(b) || (a.name < b.name ? -1 : 1)).reverse();
    if (order[0] !== undefined) kept.add(order[0].name);
    const counted = order.filter(({ isProtected }) => !isProtected);
    const byRule = new Set(counted.slice(0, policy.keepLast ?? 0));
    const reach = policy.keepWithinSeconds;
    for (const entry of counted) {
      if (reach !== undefined && timeOf(order[0]!) - timeOf(entry) <= reach * 1000) byRule.add(entry);
    }
    for (const rule of ['keepHourly', 'keepDaily', 'keepWeekly', 'keepMonthly', 'keepYearly'] as const) {
      for (let left = policy[rule] ?? 0; left > 0; left--) {
        const covered = [...byRule].map((entry) => periodOf(rule, timeOf(entry), zone));
        const next = counted.find((entry) => !covered.includes(periodOf(rule, timeOf(entry), zone)));
        if (next !== undefined) byRule.add(next);
      }
    }
    for (const { name } of byRule) kept.add(name);
  }
  for (const entry of entries) {
    if (kept.has(entry.name)) for (const { identity } of entry.bases) kept.add(identity);
  }
  return kept;
}

// Made-up stores.

/** From minutes to years before now, around the changes of the clock, and some after now. */
const times = fc.oneof(
  fc.integer({ min: 0, max: 80 }).map((half) => NOW - half * (HOUR_MS / 2)),
  fc.integer({ min: 0, max: 60 }).map((days) => NOW - days * DAY_MS),
  fc.integer({ min: 0, max: 1500 }).map((days) => NOW - days * DAY_MS - 11 * HOUR_MS),
  fc.integer({ min: -8, max: 8 }).map((step) => Date.parse('2026-10-25T01:00:00Z') + step * (HOUR_MS / 2)),
  fc.integer({ min: -8, max: 8 }).map((step) => Date.parse('2026-11-01T06:00:00Z') + step * (HOUR_MS / 2)),
  fc.integer({ min: -3, max: 3 }).map((days) => Date.parse('2024-12-30T09:00:00Z') + days * DAY_MS),
  fc.integer({ min: 1, max: 1000 }).map((minutes) => NOW + minutes * 60_000),
);

const images = fc.array(
  fc.record({
    at: times,
    machine: fc.constantFrom('web1', 'web1', 'db'),
    state: fc.oneof({ weight: 9, arbitrary: fc.constant('good' as const) }, fc.constantFrom('damaged', 'broken-chain')),
    isProtected: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
    baseOffset: fc.option(fc.integer({ min: 1, max: 3 })),
  }),
  { maxLength: 40 },
);

/** A differential image has one of the images before it as base, and all the bases of that one. */
const stores: fc.Arbitrary<StoreEntry[]> = images.map((list) => {
  const made: StoreEntry[] = [];
  for (const [i, { baseOffset, state, ...image }] of list.entries()) {
    const base = baseOffset === null ? undefined : made[i - baseOffset];
    const bases = base === undefined ? [] : [base.name, ...base.bases.map(({ identity }) => identity)];
    made.push(entryOf({ ...image, state: state as StoreState, name: `image-${i}`, bases }));
  }
  return made;
});

const count = fc.option(fc.integer({ min: 0, max: 6 }), { nil: undefined });
const policies: fc.Arbitrary<RetentionPolicy> = fc
  .record({
    keepLast: count,
    keepWithinSeconds: fc.option(fc.integer({ min: 1, max: 40 * 86_400 }), { nil: undefined }),
    keepHourly: count,
    keepDaily: count,
    keepWeekly: count,
    keepMonthly: count,
    keepYearly: count,
  })
  .filter((policy) => Object.values(policy).some((value) => value !== undefined && value > 0));

const keptNames = (decisions: readonly RetentionDecision[]): string[] =>
  decisions.filter(({ keep }) => keep).map(({ entry }) => entry.name);

test('what is kept is what a plain reading of the rules keeps', (t) => {
  fc.assert(
    fc.property(stores, policies, fc.constantFrom(...ZONES), (entries, policy, timeZone) => {
      const kept = keptNames(planRetention(entries, policy, { timeZone, now: NOW }));
      const expected = plainKept(entries, policy, timeZone);
      return JSON.stringify(kept.sort()) === JSON.stringify([...expected].sort());
    }),
    { numRuns: RUNS, includeErrorInReport: true },
  );
  t.pass();
});

test('what was kept is kept again, and the order of the listing does not matter', (t) => {
  fc.assert(
    fc.property(stores, policies, fc.constantFrom(...ZONES), (entries, policy, timeZone) => {
      const plan = planRetention(entries, policy, { timeZone, now: NOW });
      const kept = plan.filter(({ keep }) => keep).map(({ entry }) => entry);
      const again = planRetention([...kept].reverse(), policy, { timeZone, now: NOW });
      return again.every(({ keep }) => keep);
    }),
    { numRuns: RUNS },
  );
  t.pass();
});

test('the newest good image of each machine stays, with its bases, and nothing that is not good goes', (t) => {
  fc.assert(
    fc.property(stores, policies, (entries, policy) => {
      const decisions = planRetention(entries, policy, { timeZone: 'UTC', now: NOW });
      const kept = new Set(keptNames(decisions));
      for (const machine of ['web1', 'db']) {
        const good = entries.filter(({ machine: { name }, state }) => name === machine && state === 'good');
        if (good.length > 0 && !good.some(({ name }) => kept.has(name))) return false;
        const past = good.filter((entry) => timeOf(entry) <= NOW);
        const latest = Math.max(...past.map(timeOf));
        if (past.length > 0 && !past.some((entry) => timeOf(entry) === latest && kept.has(entry.name))) return false;
      }
      return entries.every(
        ({ name, state, bases }) =>
          (state === 'good' || kept.has(name)) && (!kept.has(name) || bases.every((base) => kept.has(base.identity))),
      );
    }),
    { numRuns: RUNS },
  );
  t.pass();
});

test('a machine that was not asked for loses nothing', (t) => {
  const entries = [0, 1, 2, 3].flatMap((day) =>
    ['web1', 'db'].map((machine) => entryOf({ at: NOW - day * DAY_MS, machine })),
  );
  const decisions = planRetention(entries, { keepLast: 1 }, { now: NOW, machines: ['web1'] });
  t.is(keptNames(decisions).length, 5);
  t.true(
    decisions
      .filter(({ entry }) => entry.machine.name === 'db')
      .every(({ reasons }) => reasons[0]!.rule === 'other-machine'),
  );
});

const reasonsOf = (decisions: readonly RetentionDecision[]): Record<string, string> =>
  Object.fromEntries(
    decisions.map(({ entry, reasons }) => [
      entry.createdAt!.slice(0, 10),
      reasons.map(({ rule, detail }) => (detail === undefined ? rule : `${rule} ${detail}`)).join(', '),
    ]),
  );

test('a month of nights, by hand', (t) => {
  const nights = Array.from({ length: 31 }, (_, i) => entryOf({ at: Date.parse('2026-10-31T02:00:00Z') - i * DAY_MS }));
  const policy = { keepDaily: 3, keepWeekly: 2, keepMonthly: 1 };
  const kept = planRetention(nights, policy, { timeZone: 'UTC', now: NOW }).filter(({ keep }) => keep);
  // The three days are in week 44, so the two weeks are 43 and 42; October is covered, and there is no other month.
  t.deepEqual(reasonsOf(kept), {
    '2026-10-31': 'newest, daily 2026-10-31',
    '2026-10-30': 'daily 2026-10-30',
    '2026-10-29': 'daily 2026-10-29',
    '2026-10-25': 'weekly 2026-W43',
    '2026-10-18': 'weekly 2026-W42',
  });
});

test('ISO weeks at the turn of the year', (t) => {
  const days = ['2020-12-31', '2021-01-03', '2021-01-04', '2024-12-29', '2024-12-30', '2026-12-31', '2027-01-03'];
  const weeks = days.map((day) => {
    const [decision] = planRetention(
      [entryOf({ at: Date.parse(`${day}T12:00:00Z`) })],
      { keepWeekly: 1 },
      {
        timeZone: 'UTC',
        now: Date.parse('2030-01-01T00:00:00Z'),
      },
    );
    return decision!.reasons.find(({ rule }) => rule === 'weekly')!.detail;
  });
  t.deepEqual(weeks, ['2020-W53', '2020-W53', '2021-W01', '2024-W52', '2025-W01', '2026-W53', '2026-W53']);
});

test('the hour that is repeated in autumn is two hours, and a day of 25 hours is one day', (t) => {
  const at = (time: string) => entryOf({ at: Date.parse(time) });
  const twice = [at('2026-10-25T00:30:00Z'), at('2026-10-25T01:30:00Z')];
  const options = { timeZone: 'Europe/Berlin', now: NOW };
  t.is(keptNames(planRetention(twice, { keepHourly: 2 }, options)).length, 2);
  const day = [at('2026-10-24T22:00:00Z'), at('2026-10-25T22:59:59Z')];
  t.is(keptNames(planRetention(day, { keepDaily: 2 }, options)).length, 1);
  t.is(keptNames(planRetention(day, { keepDaily: 2 }, { ...options, timeZone: 'UTC' })).length, 2);
});

test('a clock that went backwards removes nothing that it calls the future', (t) => {
  const entries = Array.from({ length: 10 }, (_, i) => entryOf({ at: NOW - i * DAY_MS }));
  const decisions = planRetention(entries, { keepLast: 1 }, { now: NOW - 5.5 * DAY_MS, timeZone: 'UTC' });
  t.is(decisions.filter(({ reasons }) => reasons.some(({ rule }) => rule === 'future')).length, 6);
  t.is(keptNames(decisions).length, 7);
});

const REFUSED: readonly [string, RetentionPolicy, RegExp][] = [
  ['an empty policy', {}, /policy is empty/],
  ['a policy of nothing but zeros', { keepLast: 0, keepDaily: 0 }, /policy is empty/],
  ['a negative number', { keepLast: 1, keepDaily: -1 }, /-1 images cannot be kept/],
  ['a fraction', { keepWeekly: 1.5 }, /1\.5 images/],
  ['no number', { keepWeekly: Number.NaN }, /NaN images/],
  ['no time', { keepWithinSeconds: 0 }, /keep-within cannot be 0/],
];

for (const [title, policy, message] of REFUSED) {
  test(`refused: ${title}`, (t) => {
    const error = t.throws(() => planRetention([], policy), { message });
    t.is((error as { code?: string }).code, 'USAGE');
  });
}

test('refused: a time zone that is none', (t) => {
  const error = t.throws(() => planRetention([], { keepLast: 1 }, { timeZone: 'Mars/Olympus' }), {
    message: /Olympus/,
  });
  t.is((error as { code?: string }).code, 'USAGE');
});
