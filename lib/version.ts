/** The version of this package, from its package.json. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

// dist/lib/version.js -> package.json
const manifest = JSON.parse(readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8')) as {
  version: string;
};

export const version: string = manifest.version;
