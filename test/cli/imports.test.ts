/** Arrows point down: the command line knows the library and nothing below it. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ROOT } from './support/paths.js';

test('cli/ imports nothing of the project but lib/index.js, and the words that load nothing', (t) => {
  const files = readdirSync(join(ROOT, 'cli'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  t.true(files.length > 0);
  for (const file of files) {
    const source = readFileSync(join(ROOT, 'cli', file), 'utf8');
    const outside = [...source.matchAll(/(?:from|import\()\s*'((?:\.\.\/)+(?:lib|formats|native)\/[^']*)'/g)];
    for (const [, path] of outside)
      t.regex(path!, /^(\.\.\/)+lib\/(index|nearestWord|optionWords|sizeText)\.js$/, file);
  }
});

test('help and wrong calls do without the library', (t) => {
  for (const file of ['nearestWord.ts', 'optionWords.ts', 'sizeText.ts']) {
    t.notRegex(readFileSync(join(ROOT, 'lib', file), 'utf8'), /^(import (?!type)|export .* from)/m, file);
  }
  for (const file of ['main.ts', 'run.ts', 'help.ts', 'options/parse.ts', 'commands/save.ts']) {
    const source = readFileSync(join(ROOT, 'cli', file), 'utf8');
    t.notRegex(source, /^import (?!type).*lib\/index\.js/m, `${file} imports lib/ before it is needed`);
  }
});
