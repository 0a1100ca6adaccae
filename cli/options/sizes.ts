/** Sizes, offsets and addresses: decimal with a binary unit (4M, 4MiB), or hexadecimal (0x100000000). */
import { UsageError } from '../usageError.js';

const UNIT_BYTES: Readonly<Record<string, bigint>> = { '': 1n, K: 2n ** 10n, M: 2n ** 20n, G: 2n ** 30n, T: 2n ** 40n };
const HINT = 'a number of bytes: 4096, 64K, 4M, 2G, 1T (binary, also 4MiB) or 0x1000';

/** `what` is how messages call the value, as `--chunk-size`. */
export function parseSize(text: string, what: string): number {
  const bytes = parseHexadecimal(text) ?? parseDecimal(text);
  if (bytes === undefined) throw new UsageError(`${what} cannot be ${JSON.stringify(text)}`, HINT);
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER))
    throw new UsageError(`${what} is too large: ${text}`, 'at most 2^53 - 1');
  return Number(bytes);
}

/** Whether parseSize would take it. */
export function isSize(text: string): boolean {
  return parseHexadecimal(text) !== undefined || parseDecimal(text) !== undefined;
}

function parseHexadecimal(text: string): bigint | undefined {
  return /^0x[0-9a-f]+$/i.test(text) ? BigInt(text) : undefined;
}

function parseDecimal(text: string): bigint | undefined {
  // MB and KB are decimal to some and binary to others, so they are refused; the B may only follow KiB, MiB ...
  const match = /^(\d+)(?:([KMGT])(?:iB?)?|B)?$/i.exec(text);
  if (match === null) return undefined;
  return BigInt(match[1]!) * UNIT_BYTES[(match[2] ?? '').toUpperCase()]!;
}
