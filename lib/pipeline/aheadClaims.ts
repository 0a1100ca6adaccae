/**
 * The claims of one worker that wait for their turn while a device looks at their pages.
 *
 * A worker takes its next segment here. Before it gets it, those that come after are claimed too, up to `ahead` of them,
 * and handed to the device, so that their pages are being checked while this one is compressed. Claims are given out in
 * the order in which they were made. With `ahead` 0 it is a claim at a time.
 */
export interface ClaimSource<Claim> {
  /** The next claim, or undefined: there are no more. Not called again after that. */
  claim(): Claim | undefined;
  /** Hands a claim to the device. The slot is free: its claim of before was given out and is done. */
  submit(claim: Claim, slot: number): void;
  /** How many claims this worker should hold in advance now, at most `ahead`: near the end others want some too. */
  wanted(): number;
}

export interface SlottedClaim<Claim> {
  readonly claim: Claim;
  /** Where its answers will be. */
  readonly slot: number;
}

export class AheadClaims<Claim> {
  readonly #source: ClaimSource<Claim>;
  readonly #slotCount: number;
  readonly #waiting: SlottedClaim<Claim>[] = [];
  #claimed = 0;
  #exhausted = false;

  constructor(source: ClaimSource<Claim>, ahead: number) {
    this.#source = source;
    this.#slotCount = ahead + 1;
  }

  /** The next claim, whose predecessor must be done; undefined when there are no more. */
  next(): SlottedClaim<Claim> | undefined {
    if (this.#waiting.length === 0) this.#claimOne();
    while (!this.#exhausted && this.#waiting.length < this.#slotCount) {
      if (this.#waiting.length > this.#source.wanted()) break;
      this.#claimOne();
    }
    return this.#waiting.shift();
  }

  #claimOne(): void {
    if (this.#exhausted) return;
    const claim = this.#source.claim();
    if (claim === undefined) {
      this.#exhausted = true;
      return;
    }
    const slot = this.#claimed++ % this.#slotCount;
    this.#source.submit(claim, slot);
    this.#waiting.push({ claim, slot });
  }
}
