/** What a worker is told of its pass over the memory of a running machine. */
import type { ExtentsDescription, PagesDescription } from '../feeds/sourceDescription.js';
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

/** Regions that nobody could read before the machine had been stopped, and that hold still since. */
export interface LateDescription {
  readonly kind: 'late';
  readonly source: PagesDescription;
  /** Which regions: the others of the source are not looked at. */
  readonly regions: readonly number[];
}

export type LiveDescription = FirstLookDescription | ChangedDescription | LateDescription;
