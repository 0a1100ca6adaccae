/**
 * Runs of page frames: what becomes a region. At most `limit` of them: where there would be more, those with the smallest gaps
 * between them are joined. The frames of such a gap are no memory, and so their pages are absent.
 */
export interface FrameRun {
  readonly first: number;
  /** Behind the last. */
  end: number;
}

export class FrameRuns {
  readonly #limit: number;
  #runs: FrameRun[] = [];
  /** Gaps of so many frames and fewer are joined. */
  #joined = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get runs(): readonly FrameRun[] {
    return this.#runs;
  }

  /** Behind all that were added before. */
  add(first: number, end: number): void {
    const last = this.#runs.at(-1);
    if (last !== undefined && first - last.end <= this.#joined) {
      last.end = end;
      return;
    }
    this.#runs.push({ first, end });
    while (this.#runs.length > this.#limit) this.#joinMore();
  }

  #joinMore(): void {
    this.#joined = Math.max(1, this.#joined * 2);
    const runs = this.#runs;
    this.#runs = [];
    for (const { first, end } of runs) {
      const last = this.#runs.at(-1);
      if (last !== undefined && first - last.end <= this.#joined) last.end = end;
      else this.#runs.push({ first, end });
    }
  }
}
