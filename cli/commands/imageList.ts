/** Checks for commands that take several images. */
import { UsageError } from '../usageError.js';

export function requireOneStdin(images: readonly string[]): void {
  if (images.filter((image) => image === '-').length > 1) {
    throw new UsageError('- stands twice', 'standard input can be read only once');
  }
}
