/** The images of a store, a line for each, and totals. */
import type { StoreListing } from '../../lib/index.js';
import { Numbers, UNKNOWN } from '../inspect/numbers.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { kindCell, machineCell, stateCell } from './entryCells.js';

const HEAD = ['CREATED', 'MACHINE', 'KIND', 'MEMORY', 'FILE', 'STATE', 'NAME'];
const ALIGNS = ['left', 'left', 'left', 'right', 'right', 'left', 'left'] as const;

export function listTable({ folder, entries }: StoreListing, exactBytes: boolean): string[] {
  if (entries.length === 0) return [`${folder}: no image`];
  const numbers = new Numbers(exactBytes);
  const rows = entries.map((entry) => [
    entry.createdAt ?? UNKNOWN,
    machineCell(entry),
    kindCell(entry),
    numbers.bytes(entry.memoryBytes),
    numbers.bytes(entry.fileBytes),
    stateCell(entry),
    printable(entry.name),
  ]);
  const groups = new Set(entries.map(({ group }) => group).filter((group) => group !== undefined)).size;
  const good = entries.filter(({ state }) => state === 'good').length;
  const memoryBytes = entries.reduce((sum, entry) => sum + (entry.memoryBytes ?? 0), 0);
  const fileBytes = entries.reduce((sum, entry) => sum + entry.fileBytes, 0);
  const machines = groups === 1 ? '1 machine' : `${groups} machines`;
  const count = entries.length === 1 ? '1 image' : `${entries.length} images`;
  const totals = ['total', machines, '', numbers.bytes(memoryBytes), numbers.bytes(fileBytes), `${good} good`, count];
  return formatTable([HEAD, ...rows, totals], ALIGNS);
}
