/** An image is never written over while it is read. */
import { VmsnapError } from '../native/errors.js';
import { namedFileStats, openFileStats } from '../native/fileStats.js';
import type { ImageInput } from './imageInput.js';

/** @throws USAGE if `target` is the file that `input` is read from. */
export function requireOtherFile(input: ImageInput, target: string): void {
  if (input.isStream || target === '-') return;
  const existing = namedFileStats(target);
  const own = openFileStats(input);
  if (existing?.ino !== own.ino || existing.dev !== own.dev) return;
  throw new VmsnapError('USAGE', `image and target are the same file, ${target}`, {
    path: target,
    hint: 'give the target another name',
  });
}
