/** The figures that vmsnap aims at, each with what was measured. */
import { table } from './report.js';

export interface Figure {
  readonly what: string;
  readonly wanted: string;
  /** In words, with its unit. */
  readonly got: string;
  readonly reached: boolean;
  /** Of a figure that was not reached: what stands in the way, measured. */
  readonly limit?: string | undefined;
}

/** `value` must be at least `wanted` times. Undefined: a contender is missing. */
export function timesAsFast(what: string, wanted: number, value: number | undefined, limit?: string): Figure {
  const got = value === undefined ? 'not measured: a program is missing' : `${value.toFixed(2)} times`;
  const reached = value !== undefined && value >= wanted;
  return { what, wanted: `at least ${wanted} times as fast`, got, reached, limit: reached ? undefined : limit };
}

export function atMost(what: string, wanted: number, value: number, unit: string, limit?: string): Figure {
  const reached = value <= wanted;
  const got = `${value.toFixed(value < 10 ? 2 : 0)} ${unit}`;
  return { what, wanted: `at most ${wanted} ${unit}`, got, reached, limit: reached ? undefined : limit };
}

export function figureTable(figures: readonly Figure[]): string {
  const rows = figures.map(({ what, wanted, got, reached, limit }) => [
    what,
    wanted,
    got,
    reached ? 'reached' : `not reached${limit === undefined ? '' : `: ${limit}`}`,
  ]);
  return table(['', 'aimed at', 'measured', ''], rows);
}
