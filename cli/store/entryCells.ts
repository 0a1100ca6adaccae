/** How the images of a store stand in tables. */
import type { StoreEntry } from '../../lib/index.js';
import { UNKNOWN } from '../inspect/numbers.js';
import { printable } from '../output/printable.js';

export function machineCell({ machine, sourceName }: StoreEntry): string {
  return printable(machine.name ?? machine.uuid ?? sourceName ?? UNKNOWN);
}

/** `full`, or `diff` and the number of images below it. */
export function kindCell({ base, bases, group }: StoreEntry): string {
  if (group === undefined) return UNKNOWN;
  return base === undefined ? 'full' : `diff ${bases.length}`;
}

export function stateCell({ state, isProtected }: StoreEntry): string {
  return isProtected ? `${state}, protected` : state;
}
