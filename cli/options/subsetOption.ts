/** `--subset 2/7`, `--subset auto/7`: a share of a folder's images. */
import { UsageError } from '../usageError.js';
import { parseInteger } from './integers.js';

const COUNT_MAX = 10_000;

export interface Subset {
  /** From 1 on; undefined: the one whose turn it is today. */
  readonly index: number | undefined;
  readonly count: number;
}

export function parseSubset(text: string): Subset {
  const match = /^(auto|\d+)\/(\d+)$/.exec(text);
  if (match === null) {
    throw new UsageError(`--subset cannot be ${JSON.stringify(text)}`, 'write 2/7 for the second of seven, or auto/7');
  }
  const count = parseInteger(match[2]!, 'the number of shares in --subset', 1, COUNT_MAX);
  return { index: match[1] === 'auto' ? undefined : parseInteger(match[1]!, 'the share in --subset', 1, count), count };
}
