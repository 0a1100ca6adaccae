/** `--region NAME=SIZE@GPA[:FILE[+OFFSET]]`: a range of guest memory and where its bytes are. */
import type { RegionOption } from '../../lib/index.js';
import { UsageError } from '../usageError.js';
import { isSize, parseSize } from './sizes.js';

/**
 * NAME ends at the first `=`, SIZE at the first `@` after it, GPA at the first `:` after that. FILE is the rest and may
 * hold any of these; only a last `+NUMBER` is taken for the offset.
 */
export function parseRegion(text: string): RegionOption {
  const match = /^([^=]+)=([^@]+)@([^:]+)(?::(.+))?$/s.exec(text);
  if (match === null) {
    throw new UsageError(
      `--region cannot be ${JSON.stringify(text)}`,
      'NAME=SIZE@GPA[:FILE[+OFFSET]], as in low=2G@0 or high=6G@0x100000000:/dev/shm/high+2G',
    );
  }
  const [, name, size, gpa, rest] = match;
  return {
    name: name!,
    sizeBytes: parseSize(size!, `the size of region ${name}`),
    gpa: parseSize(gpa!, `the address of region ${name}`),
    ...(rest === undefined ? {} : splitFile(rest, name!)),
  };
}

function splitFile(rest: string, name: string): { file: string; fileOffset?: number } {
  const plus = rest.lastIndexOf('+');
  if (plus <= 0 || !isSize(rest.slice(plus + 1))) return { file: rest };
  return { file: rest.slice(0, plus), fileOffset: parseSize(rest.slice(plus + 1), `the offset of region ${name}`) };
}
