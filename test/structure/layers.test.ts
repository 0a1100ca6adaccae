/** The arrows of the house: cli -> lib -> formats -> native, and no arrow back. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

// dist/test/structure -> the sources
const root = fileURLToPath(new URL('../../../', import.meta.url));

/** What each layer may import from, beside itself. */
const BELOW: Readonly<Record<string, readonly string[]>> = {
  cli: ['lib'],
  lib: ['formats', 'native'],
  formats: ['native'],
  native: [],
};

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name));
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) => match[1]!);
  return specifiers.map((specifier) => relative(root, resolve(root, dirname(file), specifier)));
}

for (const [layer, below] of Object.entries(BELOW)) {
  test(`${layer} imports from ${['itself', ...below].join(', ')} only`, (t) => {
    const files = sources(layer);
    t.true(files.length > 0);
    for (const file of files) {
      for (const imported of importsOf(file)) {
        const target = imported.split('/')[0]!;
        t.true([layer, ...below].includes(target), `${file} imports ${imported}`);
      }
    }
  });
}
