/** Commands against each other that are no contenders of a race. */
import { type Job, type Measurement, measure } from './measure.js';

export interface NamedJob {
  readonly name: string;
  readonly job: Job;
  /** Done before each run, not measured. */
  readonly prepare?: () => void;
}

/** Each job's runs, in turn, after one round to warm up. */
export async function inTurn(jobs: readonly NamedJob[], roundCount: number): Promise<Map<string, Measurement[]>> {
  const results = new Map(jobs.map(({ name }) => [name, [] as Measurement[]]));
  for (let round = 0; round <= roundCount; round++) {
    for (let turn = 0; turn < jobs.length; turn++) {
      const { name, job, prepare } = jobs[(turn + round) % jobs.length]!;
      prepare?.();
      const measurement = await measure(job);
      if (round > 0) results.get(name)!.push(measurement);
    }
  }
  return results;
}
