/** How much of an image can be believed. */
import type { InspectReport } from '../../lib/index.js';
import { printable } from '../output/printable.js';
import { formatCount } from '../output/units.js';

const EXIT_CORRUPT = 14;
const EXIT_UNSUPPORTED = 15;

export function reportExitCode({ complete, problems }: InspectReport): number {
  if (problems.some(({ code }) => code === 'UNSUPPORTED')) return EXIT_UNSUPPORTED;
  return complete && problems.length === 0 ? 0 : EXIT_CORRUPT;
}

/** One line about an image that is not sound. */
export function trustMessage({ path, problems, trustedBytes }: InspectReport): string {
  const first = problems[0];
  const what = first === undefined ? 'it is not complete' : printable(first.message);
  return `${path}: ${what}; the first ${formatCount(trustedBytes)} bytes can be trusted`;
}
