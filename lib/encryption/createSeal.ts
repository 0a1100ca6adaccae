/** The keys of an image that is about to be encrypted. */
import { deriveSealKeys, type SealKeys } from '../../formats/vmsnap/seal.js';
import type { EncryptionOptions } from '../types.js';

export interface NewSeal {
  readonly keys: SealKeys;
  readonly wrappedKey: Buffer;
}

/** With a file key of its own, which no other image ever has. @throws as createFileKey does. */
export async function createSeal(
  options: EncryptionOptions | undefined,
  signal: AbortSignal | undefined,
): Promise<NewSeal | undefined> {
  if (options === undefined) return undefined;
  const { createFileKey } = await import('./fileKey.js');
  const { fileKey, wrappedKey } = await createFileKey(options, signal);
  const keys = deriveSealKeys(fileKey);
  fileKey.fill(0);
  return { keys, wrappedKey };
}
