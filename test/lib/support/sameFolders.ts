import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Whether two folders hold files of the same names with the same bytes. */
export function sameFolders(one: string, other: string): boolean {
  const names = readdirSync(one).sort();
  if (names.join() !== readdirSync(other).sort().join()) return false;
  return names.every((name) => readFileSync(join(one, name)).equals(readFileSync(join(other, name))));
}
