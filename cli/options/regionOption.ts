/** `--region NAME=SIZE@GPA[:FILE[+OFFSET]]`: a range of guest memory and where its bytes are. */
import type { RegionOption } from '../../lib/index.js';
import { readRegion } from '../../lib/sizeText.js';
import { UsageError } from '../usageError.js';

export function parseRegion(text: string): RegionOption {
  return readRegion(text, '--region', (message, hint) => new UsageError(message, hint));
}
