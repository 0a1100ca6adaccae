/** Changes bytes as fuzzers do: bits, numbers at limits, words of a dictionary, pieces moved and taken from elsewhere. Always the same for a seed. */
import type { Random } from '../support/randomNumbers.js';

const NUMBERS = [
  0n,
  1n,
  2n,
  7n,
  16n,
  127n,
  128n,
  255n,
  256n,
  4095n,
  4096n,
  32767n,
  65535n,
  65536n,
  2n ** 20n,
  2n ** 31n - 1n,
];
const LARGE = [
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 52n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];
const TEXTS = [
  '0',
  '1',
  '-1',
  '4096',
  '1e9',
  '9007199254740991',
  '9007199254740992',
  '1e300',
  'null',
  '""',
  '[]',
  '{}',
];
const CHANGES_MOST = 6;

/** `other`: another file of the corpus, of which pieces may be taken. */
export function mutate(
  bytes: Buffer,
  other: Buffer,
  words: readonly Buffer[],
  random: Random,
  longest: number,
): Buffer {
  let changed: Buffer = Buffer.from(bytes);
  for (let i = random(CHANGES_MOST); i >= 0; i--)
    changed = CHANGES[random(CHANGES.length)]!(changed, other, words, random);
  return changed.length > longest ? changed.subarray(0, longest) : changed;
}

type Change = (bytes: Buffer, other: Buffer, words: readonly Buffer[], random: Random) => Buffer;

/** Headers are at the beginning: half of all changes go there. */
function place(length: number, random: Random): number {
  const limit = random(2) === 0 ? length : Math.min(length, 512);
  return limit <= 0 ? 0 : random(limit);
}

function put(bytes: Buffer, piece: Buffer, at: number): Buffer {
  piece.copy(bytes, at);
  return bytes;
}

function insert(bytes: Buffer, piece: Buffer, at: number): Buffer {
  return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]);
}

function number(random: Random): Buffer {
  const value = random(2) === 0 ? NUMBERS[random(NUMBERS.length)]! : LARGE[random(LARGE.length)]!;
  const word = Buffer.alloc(8);
  const bigEndian = random(2) === 0;
  if (bigEndian) word.writeBigUInt64BE(value);
  else word.writeBigUInt64LE(value);
  const width = [1, 2, 4, 8][random(4)]!;
  return bigEndian ? word.subarray(8 - width) : word.subarray(0, width);
}

const CHANGES: readonly Change[] = [
  (bytes, _other, _words, random) => {
    if (bytes.length > 0) bytes[place(bytes.length, random)]! ^= 1 << random(8);
    return bytes;
  },
  (bytes, _other, _words, random) => {
    if (bytes.length > 0) bytes[place(bytes.length, random)] = random(256);
    return bytes;
  },
  (bytes, _other, _words, random) => put(bytes, number(random), place(bytes.length, random)),
  (bytes, _other, _words, random) => {
    // Counts and lengths are off by a little more often than by a lot.
    const at = place(bytes.length - 4, random);
    if (at + 4 <= bytes.length) bytes.writeUInt32LE((bytes.readUInt32LE(at) + random(33) - 16) >>> 0, at);
    return bytes;
  },
  (bytes, _other, words, random) =>
    words.length === 0 ? bytes : put(bytes, words[random(words.length)]!, place(bytes.length, random)),
  (bytes, _other, words, random) =>
    words.length === 0 ? bytes : insert(bytes, words[random(words.length)]!, place(bytes.length, random)),
  (bytes, _other, _words, random) => {
    const from = place(bytes.length, random);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(Math.min(bytes.length, from + 1 + random(64)))]);
  },
  (bytes, _other, _words, random) => {
    const from = place(bytes.length, random);
    return insert(bytes, bytes.subarray(from, from + 1 + random(64)), place(bytes.length, random));
  },
  (bytes, _other, _words, random) => {
    const from = place(bytes.length, random);
    return put(bytes, Buffer.from(bytes.subarray(from, from + 1 + random(256))), place(bytes.length, random));
  },
  (bytes, other, _words, random) => {
    const from = place(other.length, random);
    return put(bytes, other.subarray(from, from + 1 + random(256)), place(bytes.length, random));
  },
  (bytes, other, _words, random) =>
    Buffer.concat([bytes.subarray(0, place(bytes.length, random)), other.subarray(place(other.length, random))]),
  (bytes, _other, _words, random) => (random(4) === 0 ? bytes.subarray(0, place(bytes.length, random)) : bytes),
  (bytes, _other, _words, random) => {
    const numbers = [...bytes.toString('latin1', 0, 4096).matchAll(/-?\d+/g)];
    const chosen = numbers[random(Math.max(1, numbers.length))];
    if (chosen === undefined) return bytes;
    const rest = bytes.subarray(chosen.index + chosen[0].length);
    return Buffer.concat([bytes.subarray(0, chosen.index), Buffer.from(TEXTS[random(TEXTS.length)]!), rest]);
  },
];

/** A dictionary as libFuzzer has them: a word in quotes a line, with \xNN. */
export function readDictionary(text: string): Buffer[] {
  return [...text.matchAll(/^[^#\n"]*"((?:[^"\\\n]|\\.)*)"/gm)].map(([, word]) =>
    Buffer.from(
      word!.replace(/\\(x[0-9a-fA-F]{2}|.)/g, (_, code: string) =>
        code.startsWith('x') && code.length === 3 ? String.fromCharCode(Number.parseInt(code.slice(1), 16)) : code,
      ),
      'latin1',
    ),
  );
}
