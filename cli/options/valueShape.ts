import type { OptionSpec } from '../command.js';

/** The shape of an option's value as its text begins with it, such as NAME=FILE; undefined for a flag or a list of words. */
export function valueShape({ kind, choices, text }: OptionSpec): string | undefined {
  if (kind === 'flag' || choices !== undefined) return undefined;
  return /^[^ ;,]+/.exec(text)?.[0];
}
