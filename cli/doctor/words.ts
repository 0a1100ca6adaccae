/** Names of the native library in words for people. */
import type { Outcome } from '../../lib/index.js';

export const OUTCOME_TITLES: Readonly<Record<Outcome, string>> = {
  ready: 'DSA works here',
  partly: 'DSA works here, but not all of it',
  unusable: 'DSA cannot be used here as it is',
  none: 'no DSA here, and nothing is wrong',
};

export const STEP_TITLES: Readonly<Record<string, string>> = {
  sysfs: 'set-up',
  open: 'open',
  map: 'mmap',
  'noop-portal': 'NOOP by portal',
  'batch-portal': 'BATCH by portal',
  'noop-write': 'NOOP by write()',
  'batch-write': 'BATCH by write()',
  compare: 'compare',
};

export const WAY_TITLES: Readonly<Record<string, string>> = {
  enqcmd: 'ENQCMD to the mapped portal',
  movdir64b: 'MOVDIR64B to the mapped portal',
  'write-batch': 'write()',
  'write-single': 'write()',
};
