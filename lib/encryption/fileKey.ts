/**
 * The file key of an encrypted image, wrapped as a file of age: for recipients (`age1...`) or for a passphrase. So "age -d" can
 * unwrap it too. The library is loaded when the first encrypted image is met.
 */
import { randomBytes } from 'node:crypto';
import { FILE_KEY_BYTES } from '../../formats/vmsnap/seal.js';
import { VmsnapError } from '../../native/errors.js';
import type { EncryptionOptions, KeySources } from '../types.js';
import { recipientKinds } from './recipientKinds.js';
import { passphraseIdentity, passphraseRecipient } from './scryptStanza.js';
import { readRecipients, readSecrets } from './secrets.js';

/** A new file key, and the same as only its recipients can read it. @throws USAGE, KEY, NOT_FOUND, PERMISSION. */
export async function createFileKey(
  options: EncryptionOptions,
  signal: AbortSignal | undefined,
): Promise<{ fileKey: Buffer; wrappedKey: Buffer }> {
  const { recipients, identities, passphrases } = await readRecipients(options, signal);
  const all = recipients.length + identities.length;
  if (all + passphrases.length === 0)
    throw new VmsnapError('USAGE', 'the image is to be encrypted, but nobody is named who can read it', {
      hint: 'name a recipient (--encrypt-to) or a passphrase (--passphrase-file)',
    });
  if (passphrases.length > 1 || (passphrases.length > 0 && all > 0))
    throw new VmsnapError('USAGE', 'an image is encrypted either for recipients or with one passphrase', {
      hint: 'leave the others out',
    });
  const { Encrypter, identityToRecipient, Stanza } = await import('age-encryption');
  const encrypter = new Encrypter();
  try {
    for (const recipient of recipients) encrypter.addRecipient(recipient);
    for (const identity of identities) encrypter.addRecipient(await identityToRecipient(identity));
  } catch {
    throw new VmsnapError('USAGE', 'a recipient or identity is no sound key of age', {
      hint: 'was a character lost? Copy it whole',
    });
  }
  for (const passphrase of passphrases) encrypter.addRecipient(passphraseRecipient(passphrase, Stanza));
  const fileKey = randomBytes(FILE_KEY_BYTES);
  return { fileKey, wrappedKey: Buffer.from(await encrypter.encrypt(fileKey)) };
}

/**
 * @returns the file key, or undefined if no secret is given at all.
 * @throws KEY if none of them opens it, CORRUPT if it is not what was wrapped.
 */
export async function openFileKey(
  wrappedKey: Buffer,
  sources: KeySources,
  path: string,
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  const { identities, passphrases } = await readSecrets(sources, signal);
  if (identities.length + passphrases.length === 0) return undefined;
  const { Decrypter } = await import('age-encryption');
  const decrypter = new Decrypter();
  for (const identity of identities) {
    try {
      decrypter.addIdentity(identity);
    } catch {
      throw new VmsnapError('KEY', 'an identity is no sound secret key of age', {
        hint: 'was a character lost? Copy the line whole',
      });
    }
  }
  for (const passphrase of passphrases) decrypter.addIdentity(passphraseIdentity(passphrase));
  let fileKey: Uint8Array;
  try {
    fileKey = await decrypter.decrypt(new Uint8Array(wrappedKey));
  } catch (error) {
    // The library's messages tell nothing of what was wrapped.
    const { message } = error as Error;
    if (/no identity matched/.test(message)) throw wrongKey(wrappedKey, path);
    throw new VmsnapError('CORRUPT', `${path}: the wrapped key in its start manifest is not sound: ${message}`, {
      path,
    });
  }
  if (fileKey.length === FILE_KEY_BYTES) return Buffer.from(fileKey);
  throw new VmsnapError('CORRUPT', `${path}: its file key has ${fileKey.length} bytes, not ${FILE_KEY_BYTES}`, {
    path,
  });
}

function wrongKey(wrappedKey: Buffer, path: string): VmsnapError {
  const kinds = recipientKinds(wrappedKey).map(kindInWords).join(', ');
  return new VmsnapError('KEY', `none of the keys given opens ${path}, which is encrypted for: ${kinds}`, {
    path,
    hint: 'give the identity or the passphrase that it was saved for',
  });
}

function kindInWords(kind: string): string {
  return kind === 'scrypt' ? 'a passphrase' : `a recipient (${kind})`;
}
