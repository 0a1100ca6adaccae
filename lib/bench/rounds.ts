/**
 * Measures variants against each other: in turn, round by round, each round beginning with another one, so that a slow minute
 * of the machine meets all of them. The first round warms up and does not count.
 */
export interface Variant<T> {
  readonly what: string;
  run(): Promise<T>;
}

/** What one run took; the clock and all threads of this process. */
export interface Taken {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

export interface RoundSettings {
  readonly rounds: number;
  readonly signal: AbortSignal | undefined;
  readonly onStep: (what: string, round: number) => void;
}

/** @returns the results of each variant, in the order of `variants`, `rounds` of each. */
export async function runRounds<T>(variants: readonly Variant<T>[], settings: RoundSettings): Promise<T[][]> {
  const results = variants.map((): T[] => []);
  for (let round = 0; round <= settings.rounds; round++) {
    for (let turn = 0; turn < variants.length; turn++) {
      const at = (turn + round) % variants.length;
      settings.signal?.throwIfAborted();
      settings.onStep(variants[at]!.what, round);
      const result = await variants[at]!.run();
      if (round > 0) results[at]!.push(result);
    }
  }
  return results;
}

export async function take<T>(work: () => Promise<T>): Promise<Taken & { readonly result: T }> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const result = await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, cpuSeconds: (user + system) / 1e6, result };
}

/** Of at least one number; of an even count the lower middle one, which was measured. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)]!;
}
