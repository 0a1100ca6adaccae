/** How much of an image can be believed. */

import { EXIT_CODES } from '../../lib/errors.js';
import type { InspectReport } from '../../lib/index.js';
import { printable } from '../output/printable.js';
import { formatCount } from '../output/units.js';

/** That of the worst problem: too new, then damaged, then whatever kept the image from being read, which says nothing against it. */
export function reportExitCode(report: InspectReport): number {
  const { complete, problems } = report;
  const codes = problems.map(({ code }) => code);
  if (codes.length === 0) return complete || isStream(report) ? 0 : EXIT_CODES.CORRUPT;
  const worst = (['UNSUPPORTED', 'CORRUPT'] as const).find((code) => codes.includes(code)) ?? codes[0]!;
  return EXIT_CODES[worst];
}

/** Of a stream only the beginning was read: that its end is unknown is no damage. */
export function isStream({ allocatedBytes }: InspectReport): boolean {
  return allocatedBytes === undefined;
}

/** A message without the path and the offset that stand beside it anyway. */
export function bareMessage(message: string, path: string, offset: number | undefined): string {
  const prefix = `${path} is damaged at offset ${offset}: `;
  return printable(message.startsWith(prefix) ? message.slice(prefix.length) : message);
}

/** One line about an image that is not sound. */
export function trustMessage({ path, problems, trustedBytes }: InspectReport): string {
  const first = problems[0];
  const message = printable(first === undefined ? `${path} is not complete` : first.message);
  const what = message.startsWith(path) ? message : `${path}: ${message}`;
  return `${what}; the first ${formatCount(trustedBytes)} bytes can be trusted`;
}
