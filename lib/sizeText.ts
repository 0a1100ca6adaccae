/**
 * Sizes, offsets and addresses as people write them (decimal with a binary unit: 4M, 4MiB; or hexadecimal: 0x100000000), and
 * regions made of them. The command line and the configuration of backup jobs read them here; each makes its own errors.
 * Imports nothing, so that a wrong command line need not load the library.
 */

/** Makes the error of a text that is none: what is wrong with it, and what it should look like. */
export type TextFault = (message: string, hint: string) => Error;

/** A range of guest-physical memory, as RegionOption has it. */
export interface RegionText {
  readonly name: string;
  readonly sizeBytes: number;
  readonly gpa: number;
  readonly file?: string;
  readonly fileOffset?: number;
}

const UNIT_BYTES: Readonly<Record<string, bigint>> = { '': 1n, K: 2n ** 10n, M: 2n ** 20n, G: 2n ** 30n, T: 2n ** 40n };
const HINT = 'a number of bytes: 4096, 64K, 4M, 2G, 1T (binary, also 4MiB) or 0x1000';

/** `what` is how messages call the value, as `--chunk-size`. */
export function readSize(text: string, what: string, fault: TextFault): number {
  const bytes = readHexadecimal(text) ?? readDecimal(text);
  if (bytes === undefined) throw fault(`${what} cannot be ${JSON.stringify(text)}`, HINT);
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) throw fault(`${what} is too large: ${text}`, 'at most 2^53 - 1');
  return Number(bytes);
}

/**
 * `NAME=SIZE@GPA[:FILE[+OFFSET]]`. NAME ends at the first `=`, SIZE at the first `@` after it, GPA at the first `:` after
 * that. FILE is the rest and may hold any of these; only a last `+NUMBER` is taken for the offset.
 */
export function readRegion(text: string, what: string, fault: TextFault): RegionText {
  const match = /^([^=]+)=([^@]+)@([^:]+)(?::(.+))?$/s.exec(text);
  if (match === null) {
    throw fault(
      `${what} cannot be ${JSON.stringify(text)}`,
      'NAME=SIZE@GPA[:FILE[+OFFSET]], as in low=2G@0 or high=6G@0x100000000:/dev/shm/high+2G',
    );
  }
  const [, name, size, gpa, rest] = match;
  return {
    name: name!,
    sizeBytes: readSize(size!, `the size of region ${name}`, fault),
    gpa: readSize(gpa!, `the address of region ${name}`, fault),
    ...(rest === undefined ? {} : splitFile(rest, name!, fault)),
  };
}

function splitFile(rest: string, name: string, fault: TextFault): { file: string; fileOffset?: number } {
  const plus = rest.lastIndexOf('+');
  if (plus <= 0 || !isSize(rest.slice(plus + 1))) return { file: rest };
  const fileOffset = readSize(rest.slice(plus + 1), `the offset of region ${name}`, fault);
  return { file: rest.slice(0, plus), fileOffset };
}

function isSize(text: string): boolean {
  return (readHexadecimal(text) ?? readDecimal(text)) !== undefined;
}

function readHexadecimal(text: string): bigint | undefined {
  return /^0x[0-9a-f]+$/i.test(text) ? BigInt(text) : undefined;
}

function readDecimal(text: string): bigint | undefined {
  // MB and KB are decimal to some and binary to others, so they are refused; the B may only follow KiB, MiB ...
  const match = /^(\d+)(?:([KMGT])(?:iB?)?|B)?$/i.exec(text);
  if (match === null) return undefined;
  return BigInt(match[1]!) * UNIT_BYTES[(match[2] ?? '').toUpperCase()]!;
}
