/** Opens the head of an encrypted image with the keys that the caller names. */
import { type ImageHead, openHead } from '../../formats/vmsnap/imageFile.js';
import { deriveSealKeys, type SealKeys } from '../../formats/vmsnap/seal.js';
import type { KeyOptions, KeySources } from '../types.js';

/** Of each set of keys, the wrapped keys that it has opened: a passphrase takes a second. */
const opened = new WeakMap<KeySources, Map<string, SealKeys>>();

/**
 * @returns the head, opened if the image is encrypted and keys are named; as it was else.
 * @throws KEY if the keys do not fit, CORRUPT if header or start manifest are not what was sealed.
 */
export async function openSeal(
  head: ImageHead,
  { keys: sources }: KeyOptions,
  path: string,
  signal: AbortSignal | undefined,
): Promise<ImageHead> {
  const { encryption } = head.start;
  if (encryption === undefined || sources === undefined) return head;
  const name = encryption.wrappedKey.toString('base64');
  const known = opened.get(sources)?.get(name);
  if (known !== undefined) return openHead(head, known, path);
  const { openFileKey } = await import('./fileKey.js');
  const fileKey = await openFileKey(encryption.wrappedKey, sources, path, signal);
  if (fileKey === undefined) return head;
  const keys = deriveSealKeys(fileKey);
  fileKey.fill(0);
  const openedHead = openHead(head, keys, path);
  opened.set(sources, (opened.get(sources) ?? new Map()).set(name, keys));
  return openedHead;
}
