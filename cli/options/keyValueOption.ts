/** Options of the shape KEY=VALUE that may stand several times: `--label`, `--attach`. */
import { UsageError } from '../usageError.js';

/** Splits at the first `=`. A key may stand only once. */
export function parseKeyValues(option: string, shape: string, texts: readonly string[]): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    if (equals <= 0)
      throw new UsageError(`--${option} cannot be ${JSON.stringify(text)}`, `write --${option} ${shape}`);
    const key = text.slice(0, equals);
    if (values.has(key)) throw new UsageError(`--${option} ${key} is given twice`, 'each name may stand once');
    values.set(key, text.slice(equals + 1));
  }
  return values;
}
