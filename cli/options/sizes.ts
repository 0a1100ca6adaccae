/** Sizes, offsets and addresses of the command line (lib/sizeText.ts). */
import { readSize } from '../../lib/sizeText.js';
import { UsageError } from '../usageError.js';

/** `what` is how messages call the value, as `--chunk-size`. */
export function parseSize(text: string, what: string): number {
  return readSize(text, what, (message, hint) => new UsageError(message, hint));
}
