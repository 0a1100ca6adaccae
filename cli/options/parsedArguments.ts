/** The options and positional arguments of one call, with a reader for each kind of value. */
import { UsageError } from '../usageError.js';
import { parseInteger } from './integers.js';
import { parseSize } from './sizes.js';

export class ParsedArguments {
  readonly positionals: readonly string[];
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(positionals: readonly string[], values: ReadonlyMap<string, readonly string[]>) {
    this.positionals = positionals;
    this.#values = values;
  }

  flag(name: string): boolean {
    return this.#values.has(name);
  }

  value(name: string): string | undefined {
    return this.#values.get(name)?.[0];
  }

  list(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  integer(name: string, min: number, max: number): number | undefined {
    const text = this.value(name);
    return text === undefined ? undefined : parseInteger(text, `--${name}`, min, max);
  }

  size(name: string): number | undefined {
    const text = this.value(name);
    return text === undefined ? undefined : parseSize(text, `--${name}`);
  }

  /** The positional arguments, if there are as many as `names`. */
  requirePositionals(names: readonly string[]): readonly string[] {
    const { positionals } = this;
    if (positionals.length < names.length) {
      throw new UsageError(`${names.slice(positionals.length).join(' and ')} missing`);
    }
    if (positionals.length > names.length) {
      const extra = JSON.stringify(positionals[names.length]);
      throw new UsageError(`one argument too many: ${extra}`, 'quote a name that has spaces');
    }
    if (positionals.includes('')) throw new UsageError('an argument is empty', 'is a variable unset?');
    return positionals;
  }

  /** One image or more. */
  requireImages(): readonly string[] {
    if (this.positionals.length === 0) throw new UsageError('IMAGE missing');
    if (this.positionals.includes('')) throw new UsageError('an argument is empty', 'is a variable unset?');
    return this.positionals;
  }
}
