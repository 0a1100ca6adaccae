/** `npm run reference`: writes docs/reference.md, or with `--check` says whether it is up to date. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COMMANDS } from '../commandTable.js';
import { packageFolder } from '../version.js';
import { referencePage } from './markdown.js';

const path = join(packageFolder(), 'docs', 'reference.md');
const page = referencePage(await Promise.all(COMMANDS.map((command) => command.load())));
if (!process.argv.includes('--check')) writeFileSync(path, page);
else if (readFileSync(path, 'utf8') !== page) {
  process.stderr.write('docs/reference.md is not what the commands say: npm run reference\n');
  process.exitCode = 1;
}
