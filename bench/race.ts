import type { Contender } from './contenders.js';
import { type Job, type Measurement, measure } from './measure.js';

/** One way of doing one thing, which every contender that can takes part in. */
export interface Race {
  title: string;
  kind: 'save' | 'save-in-place' | 'load' | 'load-in-place';
  /** The contender's job in this race; undefined where it cannot take part. */
  job(contender: Contender): Job | undefined;
  /** Done before each run, not measured. */
  prepare(contender: Contender): void;
  /** Done after the first, unmeasured run. */
  check(contender: Contender): Promise<void>;
  /** The size that the run brought forth. */
  outputBytes(contender: Contender, measurement: Measurement): number;
}

export interface RaceResult {
  contender: Contender;
  /** One per round, in the same order for every contender; empty where it did not take part. */
  measurements: Measurement[];
  outputBytes: number;
  /** Why it was left out from some round on. */
  failure?: string;
}

/**
 * Runs the contenders in turn, round by round, so that a slow minute of the machine meets all of them. The first round
 * warms up and is checked; every round starts with another contender. One that fails is left out from then on, and what it had
 * measured does not count: a run of half an hour should not end with the first fault.
 */
export async function runRace(race: Race, contenders: readonly Contender[], roundCount: number): Promise<RaceResult[]> {
  const results = contenders.map((contender): RaceResult => ({ contender, measurements: [], outputBytes: 0 }));
  for (let round = 0; round <= roundCount; round++) {
    for (let turn = 0; turn < results.length; turn++) {
      const result = results[(turn + round) % results.length]!;
      const job = race.job(result.contender);
      if (job === undefined || result.failure !== undefined) continue;
      try {
        race.prepare(result.contender);
        const measurement = await measure(job);
        result.outputBytes = race.outputBytes(result.contender, measurement);
        if (round === 0) await race.check(result.contender);
        else result.measurements.push(measurement);
      } catch (error) {
        result.failure = (error as Error).message;
        result.measurements = [];
        console.error(`${race.title}: ${result.contender.name}: ${result.failure}`);
      }
    }
    console.error(`${race.title}: round ${round} of ${roundCount}${round === 0 ? ' (warm-up)' : ''} done`);
  }
  return results;
}
