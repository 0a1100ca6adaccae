/**
 * Sorts the raw arguments into options and positionals.
 *
 * Unknown options get the one that was meant, flags take no value, value options get one. The first fault found is kept
 * and not thrown, since `--json` and `-` decide how it is told.
 *
 * Our own, because yargs takes 80 ms to load, as long as a small save, and would have to be kept from what it does unasked (numbers,
 * negations, quotes, dots, values for flags): it only lays out the help.
 */
import type { OptionSpec } from '../command.js';
import { UsageError } from '../usageError.js';
import { nearest } from './suggest.js';

export interface ScannedArguments {
  /** What each option was given, in order; a flag's is "true". */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
  readonly json: boolean;
  readonly help: boolean;
  readonly fault: UsageError | undefined;
}

export function scanArguments(options: readonly OptionSpec[], args: readonly string[]): ScannedArguments {
  const scan = new Scan(options);
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === '--') {
      scan.takePositionals(args.slice(i + 1));
      break;
    }
    if (scan.takeOption(arg, args[i + 1])) i++;
  }
  return scan;
}

class Scan implements ScannedArguments {
  readonly values = new Map<string, string[]>();
  readonly positionals: string[] = [];
  json = false;
  help = false;
  fault: UsageError | undefined;
  readonly #options: ReadonlyMap<string, OptionSpec>;

  constructor(options: readonly OptionSpec[]) {
    this.#options = new Map(options.map((option) => [option.name, option]));
  }

  takePositionals(rest: readonly string[]): void {
    this.positionals.push(...rest);
  }

  /** Returns whether `next` was used as the option's value. */
  takeOption(arg: string, next: string | undefined): boolean {
    if (arg === '-' || !arg.startsWith('-')) {
      this.positionals.push(arg);
      return false;
    }
    if (arg === '--help' || arg === '-h') {
      this.help = true;
      return false;
    }
    const equals = arg.indexOf('=');
    const name = (equals < 0 ? arg : arg.slice(0, equals)).replace(/^--/, '');
    const option = arg.startsWith('--') ? this.#options.get(name) : undefined;
    if (option === undefined) {
      this.#fail(this.#unknown(equals < 0 ? arg : arg.slice(0, equals)));
      return false;
    }
    const inline = equals < 0 ? undefined : arg.slice(equals + 1);
    if (option.kind === 'flag') return this.#takeFlag(name, inline);
    return this.#takeValue(name, inline, next);
  }

  #takeFlag(name: string, inline: string | undefined): boolean {
    if (inline !== undefined) this.#fail(new UsageError(`--${name} takes no value`, `write --${name} or leave it out`));
    if (name === 'json') this.json = true;
    this.#add(name, 'true');
    return false;
  }

  #takeValue(name: string, inline: string | undefined, next: string | undefined): boolean {
    const value = inline ?? (isValue(next) ? next : undefined);
    if (value === undefined || value === '') {
      this.#fail(new UsageError(`--${name} needs a value`, `a value that begins with - is written --${name}=VALUE`));
      return false;
    }
    this.#add(name, value);
    return inline === undefined;
  }

  #add(name: string, value: string): void {
    this.values.set(name, [...(this.values.get(name) ?? []), value]);
  }

  #unknown(typed: string): UsageError {
    const names = [...this.#options.keys(), 'help'].map((name) => `--${name}`);
    const meant = nearest(typed, names);
    return new UsageError(`unknown option: ${typed}`, meant === undefined ? undefined : `did you mean ${meant}?`);
  }

  #fail(fault: UsageError): void {
    this.fault ??= fault;
  }
}

/** Whether an argument can be the value of the option before it: a negative number can, another option cannot. */
function isValue(arg: string | undefined): arg is string {
  return arg !== undefined && (!arg.startsWith('-') || /^-\d+$/.test(arg));
}
