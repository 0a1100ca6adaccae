/** From scanned arguments to values by name: yargs collects, we refuse what stands twice. */
import type { OptionSpec } from '../command.js';
import { UsageError } from '../usageError.js';
import { ParsedArguments } from './parsedArguments.js';
import type { ScannedArguments } from './scan.js';
import { suggestWord } from './suggest.js';
import { createParser } from './yargsParser.js';

export async function parseArguments(
  options: readonly OptionSpec[],
  scanned: ScannedArguments,
): Promise<ParsedArguments> {
  if (scanned.fault !== undefined) throw scanned.fault;
  const parser = await createParser(options);
  const argv: Record<string, unknown> = await parser.parseAsync([...scanned.tokens]);
  const values = new Map<string, readonly string[]>();
  for (const option of options) {
    const given = argv[option.name];
    if (given === undefined || given === false) continue;
    values.set(option.name, checkedValues(option, Array.isArray(given) ? given.map(String) : [String(given)]));
  }
  return new ParsedArguments(scanned.positionals, values);
}

function checkedValues(option: OptionSpec, values: readonly string[]): readonly string[] {
  if (option.kind === 'value' && values.length > 1) {
    throw new UsageError(`--${option.name} is given ${values.length} times`, 'give it once');
  }
  for (const value of values) requireChoice(option, value);
  return values;
}

function requireChoice({ name, choices }: OptionSpec, value: string): void {
  if (choices === undefined || choices.includes(value)) return;
  throw new UsageError(`--${name} cannot be ${JSON.stringify(value)}`, suggestWord(value, choices));
}
