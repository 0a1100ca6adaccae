/** Keys of age for tests, made once a process. */
import { generateX25519Identity, identityToRecipient } from 'age-encryption';

export interface TestKey {
  readonly identity: string;
  readonly recipient: string;
}

export async function makeKey(): Promise<TestKey> {
  const identity = await generateX25519Identity();
  return { identity, recipient: await identityToRecipient(identity) };
}
