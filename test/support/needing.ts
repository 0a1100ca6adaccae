/** Tests that need something of the machine: where it is missing they are skipped, and the title says why. */
import test, { type Implementation } from 'ava';

/** `missing`: what is missing, or undefined if all is there. */
export function needing(missing: string | undefined): (title: string, implementation: Implementation<[]>) => void {
  if (missing === undefined) return (title, implementation) => test(title, implementation);
  return (title, implementation) => test.skip(`${title} (SKIPPED: ${missing})`, implementation);
}
