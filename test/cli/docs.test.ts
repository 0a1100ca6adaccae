/** What the documents say is run: blocks marked `test`, tables of codes and keys, links. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import ts from 'typescript';
import { COMMANDS } from '../../cli/commandTable.js';
import { EXIT_CODES } from '../../lib/index.js';
import { temporaryFolder } from './support/folder.js';
import { readSchema } from './support/jsonSchema.js';
import { codeBlocks, consoleSteps, linkTargets } from './support/markdown.js';
import { makeMemory } from './support/memory.js';
import { BUNDLE, ROOT } from './support/paths.js';

const DOCUMENTS = [
  'README.md',
  'docs/backup.md',
  'docs/dsa.md',
  'docs/formats.md',
  'docs/qemu.md',
  'docs/qemu-resume.md',
  'docs/reliability.md',
  'docs/retention.md',
  'docs/scripting.md',
  'docs/troubleshooting.md',
];
/** Options of other programs, and the one that stands for any. */
const FOREIGN_OPTIONS = [
  '--name',
  '--device',
  '--update-kernel',
  '--args',
  '--subsystem-match',
  '--reload',
  '--now',
  '--memory-only',
  '--sparse',
  '--long',
  '--core',
  '--timeout',
];
const readDocument = (name: string): string => readFileSync(join(ROOT, name), 'utf8');

/** A folder with what the examples take for granted: guest.mem, notes.txt, and `vmsnap` on the path. */
function exampleFolder(t: ExecutionContext): { folder: string; env: NodeJS.ProcessEnv } {
  const folder = temporaryFolder(t);
  const bin = join(temporaryFolder(t), 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'vmsnap'), `#!/bin/sh\nexec '${process.execPath}' '${BUNDLE}' "$@"\n`);
  chmodSync(join(bin, 'vmsnap'), 0o755);
  const memory = makeMemory(1024);
  // Pages of text, once more, as in any real memory.
  memory.copyWithin(0, 3 * 4096, 6 * 4096);
  writeFileSync(join(folder, 'guest.mem'), memory);
  writeFileSync(join(folder, 'notes.txt'), 'notes\n');
  const { JOURNAL_STREAM: _journal, ...env } = process.env;
  return { folder, env: { ...env, PATH: `${bin}:${process.env.PATH}` } };
}

for (const name of DOCUMENTS) {
  for (const { info, text, line } of codeBlocks(readDocument(name))) {
    const title = `${name}, line ${line}`;
    if (info === 'sh test') test(title, runShell, text);
    if (info === 'console test') test(title, runConsole, text);
    if (info === 'ts test') test(title, runTypeScript, text);
  }
}

function runShell(t: ExecutionContext, text: string): void {
  const { folder, env } = exampleFolder(t);
  const { status, stderr } = spawnSync('bash', ['-euo', 'pipefail', '-c', text], {
    cwd: folder,
    env,
    encoding: 'utf8',
  });
  t.is(status, 0, stderr);
}

/** The figures in a document come from a larger machine: what is compared is everything but the figures. */
function runConsole(t: ExecutionContext, text: string): void {
  const { folder, env } = exampleFolder(t);
  for (const { command, output } of consoleSteps(text)) {
    const { status, stdout, stderr } = spawnSync('bash', ['-c', command], { cwd: folder, env, encoding: 'utf8' });
    t.is(status, 0, stderr);
    const printed = stdout === '' ? [] : stdout.trimEnd().split('\n');
    t.deepEqual(printed.map(withoutFigures), output.map(withoutFigures), command);
  }
}

function withoutFigures(line: string): string {
  return line
    .replace(/[·░▒▓█]+/g, 'H')
    .replace(/\d{4}-\d\d-\d\dT\S+/g, 'T')
    .replace(/\b[0-9a-f]{32}\b/g, 'D')
    .replace(/0x[0-9a-f]+/g, 'X')
    .replace(/(avx2|neon|scalar), \d+ threads?/g, 'detector, threads')
    .replace(/\d+ min \d+ s/g, 'N s')
    .replace(/[<>] (?=\d)/g, '')
    .replace(/\d[\d,.]*/g, 'N')
    .replace(/N (B|KiB|MiB|GiB)/g, 'N bytes')
    .replace(/ +/g, ' ');
}

/** Compiles against the package's own types, as a user would, then runs it. */
function runTypeScript(t: ExecutionContext, text: string): void {
  const { folder, env } = exampleFolder(t);
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules', 'vmsnap'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  const file = join(folder, 'example.ts');
  writeFileSync(file, text);
  const program = ts.createProgram([file], {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules', '@types')],
  });
  const faults = ts
    .getPreEmitDiagnostics(program)
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
  t.deepEqual(faults, []);
  program.emit();
  const { status, stderr } = spawnSync(process.execPath, ['example.js'], { cwd: folder, env, encoding: 'utf8' });
  t.is(status, 0, stderr);
}

test('the table of exit codes is what the program has', (t) => {
  const rows = [...readDocument('docs/scripting.md').matchAll(/^\| (\d+) +\| ([A-Z_]+) +\|/gm)];
  const documented = Object.fromEntries(rows.map(([, code, name]) => [name, Number(code)]));
  t.deepEqual(documented, { ...EXIT_CODES });
});

test('every code has its place in the troubleshooting', (t) => {
  const text = readDocument('docs/troubleshooting.md');
  for (const [name, code] of Object.entries(EXIT_CODES)) {
    t.regex(text, new RegExp(`\\b${name}\\b`), name);
    t.regex(text, new RegExp(`\\b${code}\\b`), name);
  }
});

test('every key of every schema is in the scripting document', (t) => {
  const text = readDocument('docs/scripting.md');
  for (const file of readdirSync(join(ROOT, 'docs', 'schema'))) {
    t.true(text.includes(`vmsnap.${file.replace('.json', '')}`), file);
    for (const key of keysOf(readSchema(file)))
      t.regex(text, new RegExp(`\`(error\\.)?${key}(\\[\\])?\``), `${file}: ${key}`);
  }
});

/** All property names that a schema has, at any depth. */
function keysOf(node: unknown): string[] {
  if (typeof node !== 'object' || node === null) return [];
  return Object.entries(node).flatMap(([keyword, value]) => {
    const own = keyword === 'properties' ? Object.keys(value as object) : [];
    return [...own, ...keysOf(value)];
  });
}

test('links lead somewhere', (t) => {
  for (const name of DOCUMENTS) {
    for (const target of linkTargets(readDocument(name))) {
      t.true(existsSync(join(ROOT, dirname(name), target)), `${name}: ${target}`);
    }
  }
});

test('all options are spelt in the documents as the program knows them', (t) => {
  // Those that are too rare for the help screen stand in the reference, which is made from the same definitions.
  const help = COMMANDS.map(({ name }) => name)
    .map((name) => spawnSync(process.execPath, [BUNDLE, name, '--help'], { encoding: 'utf8' }).stdout)
    .concat(readDocument('docs/reference.md'))
    .join('\n');
  const known = new Set(help.match(/--[a-z][a-z-]*/g));
  for (const name of DOCUMENTS) {
    for (const option of readDocument(name).match(/(?<![\w-])--[a-z][a-z-]*(?=[\s`=,);:])/g) ?? []) {
      if (!FOREIGN_OPTIONS.includes(option)) t.true(known.has(option), `${name}: ${option}`);
    }
  }
});
