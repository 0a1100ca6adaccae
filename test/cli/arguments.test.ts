/** From raw arguments to values: what stands wrong is refused, with what was meant. */
import test from 'ava';
import fc from 'fast-check';
import type { OptionSpec } from '../../cli/command.js';
import { parseArguments } from '../../cli/options/parse.js';
import type { ParsedArguments } from '../../cli/options/parsedArguments.js';
import { scanArguments } from '../../cli/options/scan.js';
import { UsageError } from '../../cli/usageError.js';

const OPTIONS: readonly OptionSpec[] = [
  { name: 'level', kind: 'value', text: '' },
  { name: 'codec', kind: 'value', text: '', choices: ['zstd', 'zlib'] },
  { name: 'label', kind: 'list', text: '' },
  { name: 'force', kind: 'flag', text: '' },
  { name: 'json', kind: 'flag', text: '' },
];

const parse = async (...args: string[]): Promise<ParsedArguments> =>
  parseArguments(OPTIONS, scanArguments(OPTIONS, args));

test('options and positional arguments in any order', async (t) => {
  const args = await parse('a', '--level', '3', '--force', 'b', '--label=x=1', '--label', 'y=2', '-');
  t.deepEqual(args.positionals, ['a', 'b', '-']);
  t.is(args.value('level'), '3');
  t.true(args.flag('force'));
  t.false(args.flag('json'));
  t.deepEqual(args.list('label'), ['x=1', 'y=2']);
  t.deepEqual(args.list('codec'), []);
});

test('a negative number is a value', async (t) => {
  t.is((await parse('--level', '-3')).value('level'), '-3');
  t.is((await parse('--level=-3')).value('level'), '-3');
});

test('-- ends the options', async (t) => {
  t.deepEqual((await parse('--force', '--', '--level', '-')).positionals, ['--level', '-']);
});

test('a file named true stays a file', async (t) => {
  const args = await parse('--force', 'true', 'false');
  t.deepEqual(args.positionals, ['true', 'false']);
  t.true(args.flag('force'));
});

test('values that look like other things stay strings', async (t) => {
  const values = ['0x10', '1e3', '007', 'true', 'a.b', '[1]', "'q'", '"q"', '"', ' ', '__proto__', 'a=b', 'a\nb', '--'];
  for (const value of values) t.is((await parse(`--level=${value}`)).value('level'), value);
});

test('any value comes through as it was typed', async (t) => {
  const words = fc.array(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(words, async (values) => {
      const args = await parse(...values.map((value) => `--label=${value}`));
      return JSON.stringify(args.list('label')) === JSON.stringify(values);
    }),
  );
  t.pass();
});

const REFUSED: readonly [string, readonly string[], RegExp, RegExp?][] = [
  ['an unknown option', ['--lvel', '3'], /unknown option: --lvel/, /did you mean --level\?/],
  ['an unknown option with a value', ['--lvel=3'], /unknown option: --lvel$/, /--level/],
  ['a negated option', ['--no-level'], /unknown option: --no-level/],
  ['a short option', ['-l'], /unknown option: -l/],
  ['a word of the language', ['--constructor', '1'], /unknown option: --constructor/],
  ['a prototype', ['--__proto__', '1'], /unknown option: --__proto__/],
  ['a path of keys', ['--level.x', '1'], /unknown option: --level\.x/],
  ['a third dash', ['---level', '3'], /unknown option: ---level/, /did you mean --level\?/],
  ['a missing value at the end', ['--level'], /--level needs a value/],
  ['a missing value before an option', ['--level', '--force'], /--level needs a value/],
  ['an empty value', ['--level='], /--level needs a value/],
  ['an empty argument for a value', ['--level', ''], /--level needs a value/],
  ['a list without a value', ['--label'], /--label needs a value/],
  ['a flag with a value', ['--force=false'], /--force takes no value/],
  ['an option given twice', ['--level', '1', '--level', '2'], /--level is given 2 times/],
  ['a misspelt word', ['--codec', 'zsdt'], /--codec cannot be "zsdt"/, /did you mean zstd\?/],
  ['a word in the wrong case', ['--codec', 'ZSTD'], /--codec cannot be "ZSTD"/, /did you mean zstd\?/],
];

for (const [title, args, message, hint] of REFUSED) {
  test(`refused: ${title}`, async (t) => {
    const error = await t.throwsAsync<UsageError>(() => parse(...args), { instanceOf: UsageError, message });
    if (hint !== undefined) t.regex(error.hint ?? '', hint);
  });
}

test('--json and --help are seen even where something else is wrong', (t) => {
  const scanned = scanArguments(OPTIONS, ['--lvel', '--json', '--help']);
  t.true(scanned.json);
  t.true(scanned.help);
  t.truthy(scanned.fault);
});

test('the number of positional arguments is checked', async (t) => {
  const args = await parse('a', 'b');
  t.deepEqual(args.requirePositionals(['A', 'B']), ['a', 'b']);
  t.throws(() => args.requirePositionals(['A']), { message: /one argument too many: "b"/ });
  t.throws(() => args.requirePositionals(['A', 'B', 'C']), { message: /C missing/ });
  const empty = await parse('a', '');
  t.throws(() => empty.requirePositionals(['A', 'B']), { message: /empty/ });
});
