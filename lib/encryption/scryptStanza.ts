/**
 * The scrypt stanza of age (C2SP, age.md), for a file key that a passphrase wraps. The library has one too, in JavaScript: with its
 * work factor that takes 6 s here, and Node's scrypt 1 s (docs/decisions.md). This one is handed to it as a recipient or an identity.
 */
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import type { Identity, Recipient, Stanza } from 'age-encryption';

const LABEL = 'age-encryption.org/v1/scrypt';
const SALT_BYTES = 16;
const KEY_BYTES = 32;
const TAG_BYTES = 16;
const AGE_KEY_BYTES = 16;
/** Base 2 logarithm of scrypt's N, with which it takes 256 MiB; a reader takes no more (SPEC.md). */
const WORK_FACTOR = 18;
const BLOCK_SIZE = 8;
const CIPHER = 'chacha20-poly1305';
/** The key is used once. */
const NONCE = Buffer.alloc(12);

export function passphraseRecipient(
  passphrase: string,
  stanza: new (args: string[], body: Uint8Array) => Stanza,
): Recipient {
  const wrapFileKey = async (fileKey: Uint8Array): Promise<Stanza[]> => {
    const salt = randomBytes(SALT_BYTES);
    const cipher = createCipheriv(CIPHER, await deriveKey(passphrase, salt, WORK_FACTOR), NONCE, {
      authTagLength: TAG_BYTES,
    });
    const sealed = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
    return [new stanza(['scrypt', unpadded(salt), `${WORK_FACTOR}`], new Uint8Array(sealed))];
  };
  return { wrapFileKey };
}

export function passphraseIdentity(passphrase: string): Identity {
  const unwrapFileKey = async (stanzas: Stanza[]): Promise<Uint8Array | null> => {
    const own = stanzas.find(({ args }) => args[0] === 'scrypt');
    if (own === undefined) return null;
    const [, salt = '', factor = ''] = own.args;
    const saltBytes = Buffer.from(salt, 'base64');
    const sound =
      stanzas.length === 1 &&
      own.args.length === 3 &&
      saltBytes.length === SALT_BYTES &&
      unpadded(saltBytes) === salt &&
      /^[1-9][0-9]?$/.test(factor) &&
      own.body.length === AGE_KEY_BYTES + TAG_BYTES;
    if (!sound) throw new Error('the scrypt stanza is not sound');
    if (Number(factor) > WORK_FACTOR) throw new Error(`its scrypt work factor is beyond 2^${WORK_FACTOR}`);
    const key = await deriveKey(passphrase, saltBytes, Number(factor));
    const decipher = createDecipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
    decipher.setAuthTag(own.body.subarray(AGE_KEY_BYTES));
    const fileKey = decipher.update(own.body.subarray(0, AGE_KEY_BYTES));
    try {
      decipher.final();
      return new Uint8Array(fileKey);
    } catch {
      return null;
    }
  };
  return { unwrapFileKey };
}

function deriveKey(passphrase: string, salt: Buffer, workFactor: number): Promise<Buffer> {
  const N = 2 ** workFactor;
  const labelled = Buffer.concat([Buffer.from(LABEL), salt]);
  const settings = { N, r: BLOCK_SIZE, p: 1, maxmem: 2 * 128 * N * BLOCK_SIZE };
  return new Promise((resolve, reject) => {
    scrypt(passphrase, labelled, KEY_BYTES, settings, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('=', '');
}
