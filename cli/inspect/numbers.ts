/** How `inspect` prints what may be unknown: `-`, exact bytes with `--bytes`, else rounded. */
import { formatBytes, formatCount, formatRatio } from '../output/units.js';

export const UNKNOWN = '-';

export class Numbers {
  readonly #exact: boolean;

  constructor(exact: boolean) {
    this.#exact = exact;
  }

  bytes(value: number | undefined): string {
    if (value === undefined) return UNKNOWN;
    return this.#exact ? String(value) : formatBytes(value);
  }

  count(value: number | undefined): string {
    if (value === undefined) return UNKNOWN;
    return this.#exact ? String(value) : formatCount(value);
  }

  ratio(value: number | undefined): string {
    return value === undefined ? UNKNOWN : formatRatio(value);
  }
}
