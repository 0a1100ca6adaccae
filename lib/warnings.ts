/** Warnings of one operation: they go to the caller as they come, and into the result. */
import type { CommonOptions, Warning } from './types.js';

export class Warnings {
  readonly list: Warning[] = [];
  readonly #options: CommonOptions;

  constructor(options: CommonOptions) {
    this.#options = options;
  }

  /** What has been said is not said again. */
  add(warning: Warning): void {
    if (this.list.some(({ message }) => message === warning.message)) return;
    this.list.push(warning);
    this.#options.onWarning?.(warning);
  }
}
