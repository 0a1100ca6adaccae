/** The heat bar: where in the machine's memory something is. */
import type { HeatCell } from '../../lib/index.js';

const HOLE = '·';
const SHADES = ['░', '▒', '▓', '█'] as const;

const ABSENT = '×';

/**
 * One character a cell: a hole or nothing but zeros, a shade for the share of pages that carry something, or a mark where
 * nothing is stored because the contents are not known.
 */
export function heatBar(cells: readonly HeatCell[]): string {
  return cells.map(heatCharacter).join('');
}

function heatCharacter({ pages, dataPages, uniformPages, absentPages }: HeatCell): string {
  const share = pages === 0 ? 0 : (dataPages + uniformPages) / pages;
  return share === 0 && absentPages > 0 ? ABSENT : shareCharacter(share);
}

export function heatLegend(cells: readonly HeatCell[]): string {
  const hasAbsent = cells.some(({ absentPages }) => absentPages > 0);
  return `${shareLegend('zero', 'stored')}${hasAbsent ? `  ${ABSENT} absent` : ''}`;
}

/** One character for each share from 0 to 1; only what is nothing at all gets the first. */
export function shareBar(shares: readonly number[]): string {
  return shares.map(shareCharacter).join('');
}

function shareCharacter(share: number): string {
  if (share === 0) return HOLE;
  const quarter = Math.ceil(share * SHADES.length) - 1;
  return SHADES[Math.min(SHADES.length - 1, Math.max(0, quarter))]!;
}

export function shareLegend(none: string, some: string): string {
  return `${HOLE} ${none}  ${SHADES.join('')} to 25, 50, 75, 100 % ${some}`;
}
