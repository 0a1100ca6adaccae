/** `--range OFFSET:LENGTH`. */
import { UsageError } from '../usageError.js';
import { parseSize } from './sizes.js';

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export function parseRange(text: string): ByteRange {
  const parts = text.split(':');
  if (parts.length !== 2) {
    throw new UsageError(`--range cannot be ${JSON.stringify(text)}`, 'OFFSET:LENGTH, as in 0x100000:64K');
  }
  const offset = parseSize(parts[0]!, 'the offset of --range');
  const length = parseSize(parts[1]!, 'the length of --range');
  if (length === 0) throw new UsageError('the length of --range is 0', 'give at least one page');
  return { offset, length };
}
