/** What a prune did or would do: a line for each image with the rule that keeps it, and the sum. */
import type { KeepReason, PruneResult, RetentionDecision } from '../../lib/index.js';
import { UNKNOWN } from '../inspect/numbers.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { formatBytes } from '../output/units.js';
import { kindCell, machineCell } from './entryCells.js';

const HEAD = ['CREATED', 'MACHINE', 'KIND', 'FILE', 'WHAT', 'NAME', 'WHY'];
const ALIGNS = ['left', 'left', 'left', 'right', 'left', 'left', 'left'] as const;

export function pruneLines(result: PruneResult): string[] {
  const asked = result.decisions.filter(({ reasons }) => reasons[0]?.rule !== 'other-machine');
  const rows = asked.map(({ entry, keep, reasons }) => [
    entry.createdAt ?? UNKNOWN,
    machineCell(entry),
    kindCell(entry),
    formatBytes(entry.fileBytes),
    keep ? 'keep' : 'remove',
    printable(entry.name),
    printable(reasonsText(reasons)),
  ]);
  return [...formatTable([HEAD, ...rows], ALIGNS), sumLine(result, asked)];
}

function sumLine({ folder, dryRun, removed, removedBytes }: PruneResult, asked: readonly RetentionDecision[]): string {
  const images = asked.length === 1 ? '1 image' : `${asked.length} images`;
  const what = dryRun ? 'would be removed' : 'removed';
  return `${folder}: ${removed.length} of ${images} ${what}, ${formatBytes(removedBytes)}`;
}

/** Of the images that need this one, the first is named. */
function reasonsText(reasons: readonly KeepReason[]): string {
  if (reasons.length === 0) return 'no rule keeps it';
  const [base, ...more] = reasons.filter(({ rule }) => rule === 'base');
  const texts = reasons.filter(({ rule }) => rule !== 'base').map(reasonText);
  if (base !== undefined) texts.push(`base of ${base.detail}${more.length > 0 ? ` and ${more.length} more` : ''}`);
  return texts.join(', ');
}

function reasonText({ rule, detail }: KeepReason): string {
  if (rule === 'not-good') return `${detail}: left alone`;
  if (rule === 'no-machine') return 'names no machine: left alone';
  if (rule === 'future') return 'dated in the future';
  return detail === undefined ? rule : `${rule} ${detail}`;
}
