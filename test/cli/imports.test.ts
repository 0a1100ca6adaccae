/** Arrows point down: the command line knows the library and nothing below it. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ROOT } from './support/paths.js';

/** Words and texts that the command line needs before the library. */
const LOADING_NOTHING = ['nearestWord.ts', 'optionWords.ts', 'sizeText.ts', 'shellQuoted.ts'];

/** The modules that make up the library's public face: each command loads only those that it needs. */
function publicModules(): Set<string> {
  const index = readFileSync(join(ROOT, 'lib', 'index.ts'), 'utf8');
  return new Set([...index.matchAll(/^export .* from '\.\/([^']+)';$/gm)].map(([, path]) => `lib/${path}`));
}

test('cli/ imports nothing of the project but the public modules of lib/, and the words that load nothing', (t) => {
  const allowed = publicModules().add('lib/index.js');
  for (const file of LOADING_NOTHING) allowed.add(`lib/${file.replace('.ts', '.js')}`);
  const files = readdirSync(join(ROOT, 'cli'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  t.true(files.length > 0);
  for (const file of files) {
    const source = readFileSync(join(ROOT, 'cli', file), 'utf8');
    const outside = [...source.matchAll(/(?:from|import\()\s*'((?:\.\.\/)+(?:lib|formats|native)\/[^']*)'/g)];
    for (const [, path] of outside) t.true(allowed.has(path!.replace(/^(\.\.\/)+/, '')), `${file}: ${path}`);
  }
});

test('help and wrong calls do without the library', (t) => {
  for (const file of LOADING_NOTHING) {
    t.notRegex(readFileSync(join(ROOT, 'lib', file), 'utf8'), /^(import (?!type)|export .* from)/m, file);
  }
  for (const file of ['main.ts', 'run.ts', 'help.ts', 'options/parse.ts', 'commands/save.ts']) {
    const source = readFileSync(join(ROOT, 'cli', file), 'utf8');
    t.notRegex(
      source,
      /^import (?!type)(?!.*(?:nearestWord|optionWords|sizeText)).*\/lib\//m,
      `${file} imports lib/ before it is needed`,
    );
  }
});

test('no command loads the whole library', (t) => {
  const files = readdirSync(join(ROOT, 'cli'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  for (const file of files) {
    t.notRegex(readFileSync(join(ROOT, 'cli', file), 'utf8'), /import\('[./]*lib\/index\.js'\)/, file);
  }
});
