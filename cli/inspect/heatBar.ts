/** The heat bar: where in the machine's memory the stored data is. */
import type { HeatCell } from '../../lib/index.js';

const HOLE = '·';
const SHADES = ['░', '▒', '▓', '█'] as const;

/** One character a cell: a hole or nothing but zeros, or a shade for the share of pages that carry something. */
export function heatBar(cells: readonly HeatCell[]): string {
  return cells.map(heatCharacter).join('');
}

function heatCharacter({ pages, dataPages, uniformPages }: HeatCell): string {
  const carrying = dataPages + uniformPages;
  if (pages === 0 || carrying === 0) return HOLE;
  const quarter = Math.ceil((carrying / pages) * SHADES.length) - 1;
  return SHADES[Math.min(SHADES.length - 1, Math.max(0, quarter))]!;
}

export const HEAT_LEGEND = `${HOLE} zero  ${SHADES.join('')} to 25, 50, 75, 100 % stored`;
