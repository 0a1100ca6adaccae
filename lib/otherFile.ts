/** An image is never written over while it is read. */
import { fstatSync, statSync } from 'node:fs';
import { VmsnapError } from '../native/errors.js';
import type { ImageInput } from './imageInput.js';

/** @throws USAGE if `target` is the file that `input` is read from. */
export function requireOtherFile(input: ImageInput, target: string): void {
  if (input.isStream || target === '-') return;
  const existing = statSync(target, { throwIfNoEntry: false });
  const own = fstatSync(input.fd);
  if (existing?.ino !== own.ino || existing.dev !== own.dev) return;
  throw new VmsnapError('USAGE', `image and target are the same file, ${target}`, {
    path: target,
    hint: 'give the target another name',
  });
}
