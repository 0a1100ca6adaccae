/** Claims in advance: their order, their slots, and how many there are. */
import test from 'ava';
import { AheadClaims } from '../../lib/pipeline/aheadClaims.js';

interface Run {
  /** Claims in the order in which they were given out, each with its slot. */
  readonly given: readonly (readonly [number, number])[];
  /** How many were claimed when each was given out. */
  readonly claimedBy: readonly number[];
}

function run(count: number, ahead: number, wanted: (left: number) => number): Run {
  let claimed = 0;
  let exhausted = 0;
  const busy = new Map<number, number>();
  const given: [number, number][] = [];
  const claimedBy: number[] = [];
  const claims = new AheadClaims<number>(
    {
      claim: () => {
        if (claimed < count) return claimed++;
        exhausted++;
        return undefined;
      },
      submit: (claim, slot) => {
        if (busy.has(slot)) throw new Error(`slot ${slot} is taken by ${busy.get(slot)}`);
        busy.set(slot, claim);
      },
      wanted: () => wanted(count - claimed),
    },
    ahead,
  );
  for (;;) {
    const next = claims.next();
    if (next === undefined) break;
    if (busy.get(next.slot) !== next.claim) throw new Error(`slot ${next.slot} does not hold ${next.claim}`);
    busy.delete(next.slot);
    given.push([next.claim, next.slot]);
    claimedBy.push(claimed);
  }
  if (exhausted !== 1) throw new Error(`asked ${exhausted} times after the end`);
  return { given, claimedBy };
}

test('in order, each in a slot that is free, as many in advance as are wanted', (t) => {
  for (const count of [0, 1, 2, 3, 10, 101]) {
    for (const ahead of [0, 1, 2, 5]) {
      const { given, claimedBy } = run(count, ahead, () => ahead);
      t.deepEqual(
        given,
        Array.from({ length: count }, (_, i) => [i, i % (ahead + 1)]),
      );
      t.deepEqual(
        claimedBy,
        Array.from({ length: count }, (_, i) => Math.min(count, i + ahead + 1)),
      );
    }
  }
});

test('fewer in advance towards the end, and never more than there are slots', (t) => {
  const { claimedBy } = run(10, 2, (left) => Math.floor(left / 2));
  t.deepEqual(claimedBy.slice(0, 5), [3, 4, 5, 6, 7]);
  t.is(claimedBy[9], 10);
  for (const [i, claimed] of claimedBy.entries())
    t.true(claimed - i - 1 <= Math.max(0, (10 - claimed + 1) / 2), `${i}`);
  t.deepEqual(run(6, 2, () => 100).claimedBy, [3, 4, 5, 6, 6, 6]);
  t.deepEqual(run(6, 2, () => 0).claimedBy, [1, 2, 3, 4, 5, 6]);
});
