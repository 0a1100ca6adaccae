/** Keeps the values used last, up to a number of them. */
export class LruCache<K, V> {
  readonly #capacity: number;
  readonly #values = new Map<K, V>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** The value of `key`, made by `make` if it is not kept. */
  get(key: K, make: () => V): V {
    const value = this.#values.get(key) ?? make();
    // A Map keeps the order of insertion: the first key is the one not used for longest.
    this.#values.delete(key);
    this.#values.set(key, value);
    if (this.#values.size > this.#capacity) this.#values.delete(this.#values.keys().next().value as K);
    return value;
  }
}
