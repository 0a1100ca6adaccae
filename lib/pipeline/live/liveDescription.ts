/** What a worker is told of its pass over the memory of a running machine. */
import type { ExtentsDescription } from '../feeds/sourceDescription.js';
import type { LiveShared } from './liveFiles.js';

/** While the machine runs: everything is stored, and hashed as it is stored. */
export interface FirstLookDescription {
  readonly kind: 'first-look';
  readonly source: ExtentsDescription;
  readonly live: LiveShared;
}

/** Segments that have changed get another record. */
export interface ChangedDescription {
  readonly kind: 'changed';
  readonly source: ExtentsDescription;
  readonly live: LiveShared;
  /** `memory`: those without a copy, from the stopped machine; `copies`: the others, from what was copied and stored. */
  readonly from: 'memory' | 'copies';
  /** The last claim of the first look. */
  readonly earlierSequence: number;
}

export type LiveDescription = FirstLookDescription | ChangedDescription;
