/**
 * Reads a table of the configuration key by key, each as what it must be; what nobody asked for is a key that does not exist.
 * Every error names the file, the line and the column.
 */
import { VmsnapError } from '../../../native/errors.js';
import { parseDuration } from '../../duration.js';
import { nearest } from '../../nearestWord.js';
import { type RegionText, readRegion, readSize, type TextFault } from '../../sizeText.js';
import type { TomlPlaces } from './tomlPlaces.js';

export interface ConfigSource {
  readonly file: string;
  readonly places: TomlPlaces;
}

export type RawTable = Readonly<Record<string, unknown>>;

export class ConfigTable {
  readonly path: readonly string[];
  readonly #source: ConfigSource;
  readonly #values: RawTable;
  readonly #known = new Set<string>();

  constructor(source: ConfigSource, path: readonly string[], values: RawTable) {
    this.#source = source;
    this.path = path;
    this.#values = values;
  }

  get names(): string[] {
    return Object.keys(this.#values);
  }

  has(key: string): boolean {
    this.#known.add(key);
    return Object.hasOwn(this.#values, key);
  }

  string(key: string): string | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw this.wrong(key, 'must be text in quotes');
    if (value === '') throw this.wrong(key, 'is empty');
    if (value.includes('\0')) throw this.wrong(key, 'has a zero byte in it');
    return value;
  }

  choice<T extends string>(key: string, words: readonly T[]): T | undefined {
    const value = this.string(key);
    if (value === undefined || words.includes(value as T)) return value as T | undefined;
    const meant = nearest(value, words);
    const hint = meant === undefined ? `one of ${words.join(', ')}` : `did you mean "${meant}"?`;
    throw this.wrong(key, `cannot be ${JSON.stringify(value)}`, hint);
  }

  boolean(key: string): boolean | undefined {
    const value = this.#take(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.wrong(key, 'must be true or false, without quotes');
  }

  integer(key: string, min: number, max: number): number | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
    throw this.wrong(key, `must be a whole number from ${min} to ${max}`);
  }

  /** Bytes: a text with a unit, or a number. */
  size(key: string): number | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (typeof value === 'string') return readSize(value, '', this.#faultOf(key));
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw this.wrong(key, 'must be a size', 'as "4M", or a number of bytes');
  }

  /** A list of regions, each as `--region` has it. */
  regions(key: string): readonly RegionText[] | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    const texts = Array.isArray(value) ? value : [];
    if (texts.length === 0 || !texts.every((text) => typeof text === 'string' && !text.includes('\0')))
      throw this.wrong(key, 'must be a list of texts', 'as ["low=2G@0", "high=6G@0x100000000"]');
    return texts.map((text: string) => readRegion(text, '', this.#faultOf(key)));
  }

  /** What is wrong with a value itself begins with a space: the key stands before it. */
  #faultOf(key: string): TextFault {
    return (message, hint) =>
      this.wrong(key, message.startsWith(' ') ? message.slice(1) : `has a mistake: ${message}`, hint);
  }

  /** Seconds, more than 0. */
  duration(key: string): number | undefined {
    const text = this.string(key);
    if (text === undefined) return undefined;
    let seconds: number;
    try {
      seconds = parseDuration(text, key);
    } catch (error) {
      throw this.wrong(key, `cannot be ${JSON.stringify(text)}`, (error as VmsnapError).hint);
    }
    if (seconds > 0) return seconds;
    throw this.wrong(key, 'cannot be no time at all');
  }

  /** A command: the program, then its arguments, each a text of its own. */
  command(key: string): readonly string[] | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    const words = Array.isArray(value) ? value : [];
    const sound = words.length > 0 && words[0] !== '' && words.every((word) => typeof word === 'string');
    if (sound && !words.some((word: string) => word.includes('\0'))) return words as string[];
    throw this.wrong(key, 'must be a list of texts', 'as ["program", "argument"]; for a shell ["sh", "-c", "..."]');
  }

  /** A table of texts. */
  texts(key: string): ReadonlyMap<string, string> | undefined {
    const table = this.table(key);
    if (table === undefined) return undefined;
    return new Map(table.names.map((name) => [name, table.string(name)!]));
  }

  table(key: string): ConfigTable | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (!isTable(value)) throw this.wrong(key, 'must be a table', `as [${[...this.path, key].join('.')}]`);
    return new ConfigTable(this.#source, [...this.path, key], value);
  }

  /** Names a key that nobody has read. `why`: for keys that exist elsewhere, by name. */
  refuseOthers(why: Readonly<Record<string, string>> = {}): void {
    const other = this.names.find((name) => !this.#known.has(name));
    if (other === undefined) return;
    const reason = Object.hasOwn(why, other) ? why[other] : undefined;
    const meant = nearest(other, [...this.#known]);
    const all = `the keys here are ${[...this.#known].join(', ')}`;
    throw this.wrong(other, 'is no key', reason ?? (meant === undefined ? all : `did you mean ${meant}?`), 'unknown');
  }

  /** An error about a key, or about the table itself. */
  wrong(key: string | undefined, fault: string, hint?: string, kind: 'wrong' | 'unknown' = 'wrong'): VmsnapError {
    const path = key === undefined ? this.path : [...this.path, key];
    const { line, column } = this.#source.places.find(path);
    const dotted = path.map((name) => (/^[\w-]+$/.test(name) ? name : JSON.stringify(name))).join('.');
    const what = kind === 'unknown' ? `unknown key ${dotted}` : `${dotted} ${fault}`;
    const { file } = this.#source;
    return new VmsnapError('USAGE', `${file}:${line}:${column}: ${what}`, { path: file, hint });
  }

  #take(key: string): unknown {
    return this.has(key) ? this.#values[key] : undefined;
  }
}

export function isTable(value: unknown): value is RawTable {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
