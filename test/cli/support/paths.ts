/** Where the compiled program and the repository's files are, seen from compiled tests. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));

/** The command line as it is compiled, file by file. */
export const COMPILED = join(HERE, '..', '..', '..', 'cli', 'main.js');

/** The command line as users run it, and what the tests run. */
export const BUNDLE = join(HERE, '..', '..', '..', 'bundle', 'vmsnap.cjs');

/** The folder with package.json, docs and README.md. */
export const ROOT = findRoot();

function findRoot(): string {
  let folder = HERE;
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}
