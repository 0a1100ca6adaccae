/** From scanned arguments to values by name; what stands twice and should not is refused. */
import type { OptionSpec } from '../command.js';
import { UsageError } from '../usageError.js';
import { ParsedArguments } from './parsedArguments.js';
import type { ScannedArguments } from './scan.js';
import { suggestWord } from './suggest.js';

export function parseArguments(options: readonly OptionSpec[], scanned: ScannedArguments): ParsedArguments {
  if (scanned.fault !== undefined) throw scanned.fault;
  for (const option of options) checkValues(option, scanned.values.get(option.name) ?? []);
  return new ParsedArguments(scanned.positionals, scanned.values);
}

function checkValues(option: OptionSpec, values: readonly string[]): void {
  if (option.kind === 'value' && values.length > 1) {
    throw new UsageError(`--${option.name} is given ${values.length} times`, 'give it once');
  }
  for (const value of values) requireChoice(option, value);
}

function requireChoice({ name, choices }: OptionSpec, value: string): void {
  if (choices === undefined || choices.includes(value)) return;
  throw new UsageError(`--${name} cannot be ${JSON.stringify(value)}`, suggestWord(value, choices));
}
