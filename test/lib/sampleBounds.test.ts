/** The bounds of an estimate: how often the truth lies between them, for memory of many kinds. */
import test from 'ava';
import { chooseSample, totalBounds } from '../../lib/sampleBounds.js';
import { MIB } from './support/memory.js';

const MOST = MIB + 1024;
const TRIALS = 300;
/** 95 of 100, less two standard errors of what is counted in so many trials. */
const HELD_SHARE = 0.95 - 2 * Math.sqrt((0.95 * 0.05) / TRIALS);

type Random = () => number;

/** Sizes of all pieces of one machine, made up. */
const POPULATIONS: Readonly<Record<string, (random: Random) => number[]>> = {
  'one in a hundred does not shrink, the others are zero': (random) => pieces(4096, () => (random() < 0.01 ? MOST : 0)),
  'three in a thousand do not shrink': (random) => pieces(4096, () => (random() < 0.003 ? MOST : 300)),
  'half and half': (random) => pieces(2000, () => (random() < 0.5 ? MOST : 0)),
  'runs of one kind': (random) => {
    let size = 0;
    return pieces(3000, () => {
      if (random() < 0.02) size = random() < 0.6 ? 0 : random() ** 2 * MOST;
      return size * (0.8 + 0.2 * random());
    });
  },
  'more and more': (random) => pieces(3000, (i) => ((MOST * i) / 3000) * (0.9 + 0.1 * random())),
  'the same every 8 MiB': () => pieces(2048, (i) => (i % 8 === 0 ? MOST / 2 : i % 8 === 1 ? MOST / 8 : 0)),
  'one block of data': (random) => {
    const from = Math.floor(random() * 3500);
    return pieces(4096, (i) => (i >= from && i < from + 200 ? MOST * 0.9 : 0));
  },
  'one small block of data': (random) => {
    const from = Math.floor(random() * 3500);
    return pieces(4096, (i) => (i >= from && i < from + 20 ? MOST * 0.9 : 10));
  },
  'few large, many small': (random) =>
    pieces(3000, () => {
      const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
      return Math.min(MOST, Math.exp(10 + 1.5 * normal));
    }),
};

function pieces(count: number, sizeOf: (i: number) => number): number[] {
  return Array.from({ length: count }, (_, i) => sizeOf(i));
}

function generator(seed: number): Random {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

for (const [kind, make] of Object.entries(POPULATIONS)) {
  test(`bounds hold: ${kind}`, (t) => {
    for (const count of [64, 256]) {
      let held = 0;
      for (let trial = 0; trial < TRIALS; trial++) {
        const random = generator(trial * 7919 + 12345);
        for (let i = 0; i < 10; i++) random();
        const sizes = make(random);
        // The sample's places are fixed, so it is the memory that is moved round.
        const shift = Math.floor(random() * sizes.length);
        const moved = [...sizes.slice(shift), ...sizes.slice(0, shift)];
        const total = moved.reduce((sum, size) => sum + size, 0);
        const sample = chooseSample(moved.length, count).map((number) => moved[number]!);
        const { low, likely, high } = totalBounds(sample, moved.length, MOST);
        t.true(low <= likely && likely <= high);
        if (low <= total && total <= high) held++;
      }
      t.true(held >= HELD_SHARE * TRIALS, `${held} of ${TRIALS} with ${count} pieces`);
    }
  });
}

test('a sample is rising, spread over all, and always the same', (t) => {
  for (const [total, count] of [
    [1000, 16],
    [17, 16],
    [2048, 256],
    [100_001, 999],
  ] as const) {
    const sample = chooseSample(total, count);
    t.is(sample.length, count);
    t.deepEqual(sample, chooseSample(total, count));
    for (const [i, number] of sample.entries()) {
      t.true(number >= Math.floor((i * total) / count) && number < Math.floor(((i + 1) * total) / count));
    }
  }
  t.deepEqual(chooseSample(5, 16), [0, 1, 2, 3, 4]);
  t.deepEqual(chooseSample(0, 16), []);
});

test('who has seen everything knows', (t) => {
  t.deepEqual(totalBounds([1, 2, 3], 3, 10), { low: 6, likely: 6, high: 6 });
  t.deepEqual(totalBounds([], 0, 10), { low: 0, likely: 0, high: 0 });
});

test('bounds stay between what was seen and what there can be', (t) => {
  const zeros = Array<number>(16).fill(0);
  const { low, likely, high } = totalBounds(zeros, 20, 100);
  t.deepEqual([low, likely], [0, 0]);
  t.true(high > 0 && high <= 400);
  const full = totalBounds(Array<number>(16).fill(100), 20, 100);
  t.is(full.high, 2000);
  t.true(full.low >= 1600);
});
