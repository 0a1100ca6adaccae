/**
 * Where each key of a TOML document stands. The parser (smol-toml) tells places of its own errors only; this walk tells those of
 * keys that are well written but wrong. It reads a document that the parser has accepted, and so need not find faults.
 *
 * A path is the names from the top down: ["jobs", "web1", "keep", "daily"]. Items of an array of tables are not told
 * apart: the first has the place.
 */

export interface TomlPlace {
  /** Both from 1. */
  readonly line: number;
  readonly column: number;
}

export class TomlPlaces {
  readonly #text: string;
  readonly #offsets = new Map<string, number>();
  #at = 0;

  constructor(text: string) {
    this.#text = text;
    this.#walk();
  }

  /** The place of a key; of one that is not there, that of the nearest table around it. */
  find(path: readonly string[]): TomlPlace {
    for (let length = path.length; length > 0; length--) {
      const offset = this.#offsets.get(keyOf(path.slice(0, length)));
      if (offset !== undefined) return this.#placeOf(offset);
    }
    return { line: 1, column: 1 };
  }

  #placeOf(offset: number): TomlPlace {
    const before = this.#text.slice(0, offset);
    const lineStart = before.lastIndexOf('\n') + 1;
    return { line: before.split('\n').length, column: offset - lineStart + 1 };
  }

  #walk(): void {
    let table: string[] = [];
    for (this.#skipBlank(); this.#at < this.#text.length; this.#skipBlank()) {
      if (this.#text[this.#at] === '[') table = this.#header();
      else this.#pair(table);
    }
  }

  #header(): string[] {
    while (this.#text[this.#at] === '[') this.#at++;
    const path = this.#keys([]);
    while (this.#text[this.#at] === ']') this.#at++;
    return path;
  }

  #pair(table: readonly string[]): void {
    const path = this.#keys(table);
    // The "=".
    this.#at++;
    this.#value(path);
  }

  /** A dotted key, every step of it noted. Ends at what follows it. */
  #keys(table: readonly string[]): string[] {
    const path = [...table];
    for (;;) {
      this.#skipSpaces();
      const offset = this.#at;
      path.push(this.#name());
      const key = keyOf(path);
      if (!this.#offsets.has(key)) this.#offsets.set(key, offset);
      this.#skipSpaces();
      if (this.#text[this.#at] !== '.') return path;
      this.#at++;
    }
  }

  #name(): string {
    const first = this.#text[this.#at];
    const start = this.#at;
    if (first === '"' || first === "'") {
      this.#string(first);
      const raw = this.#text.slice(start, this.#at);
      return first === "'" ? raw.slice(1, -1) : unescaped(raw);
    }
    while (/[A-Za-z0-9_-]/.test(this.#text[this.#at] ?? '')) this.#at++;
    // Never stands still, whatever the text.
    if (this.#at === start) this.#at++;
    return this.#text.slice(start, this.#at);
  }

  #value(path: readonly string[]): void {
    this.#skipBlank();
    const first = this.#text[this.#at];
    if (first === '"' || first === "'") this.#string(first);
    else if (first === '[') this.#list(']', () => this.#value(path));
    else if (first === '{') this.#list('}', () => this.#pair(path));
    else while (this.#at < this.#text.length && !/[,\]}\n#]/.test(this.#text[this.#at]!)) this.#at++;
  }

  #list(end: string, item: () => void): void {
    this.#at++;
    for (this.#skipBlank(); this.#at < this.#text.length && this.#text[this.#at] !== end; this.#skipBlank()) {
      if (this.#text[this.#at] === ',') this.#at++;
      else item();
    }
    this.#at++;
  }

  #string(quote: string): void {
    const fence = this.#text.startsWith(quote.repeat(3), this.#at) ? quote.repeat(3) : quote;
    this.#at += fence.length;
    while (this.#at < this.#text.length && !this.#text.startsWith(fence, this.#at)) {
      this.#at += quote === '"' && this.#text[this.#at] === '\\' ? 2 : 1;
    }
    this.#at += fence.length;
    // A fence of three may have quotes of the string before it: """a""""".
    while (fence.length === 3 && this.#text[this.#at] === quote) this.#at++;
  }

  #skipSpaces(): void {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at++;
  }

  #skipBlank(): void {
    for (;;) {
      while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
      if (this.#text[this.#at] !== '#') return;
      while (this.#at < this.#text.length && this.#text[this.#at] !== '\n') this.#at++;
    }
  }
}

function keyOf(path: readonly string[]): string {
  return JSON.stringify(path);
}

/** A quoted key as JSON reads it; TOML's other escapes are rare in keys, and only a place is lost. */
function unescaped(raw: string): string {
  try {
    return JSON.parse(raw) as string;
  } catch {
    return raw.slice(1, -1);
  }
}
