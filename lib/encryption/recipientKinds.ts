/** For whom an image is encrypted, as far as that is to be seen: without a key, and without the library. */
const KIND_MAX_LENGTH = 64;

/** What the wrapped key says of its recipients: the kind of each ("X25519", "scrypt"), as it stands there. */
export function recipientKinds(wrappedKey: Buffer): string[] {
  const header = wrappedKey.toString('latin1');
  const end = header.indexOf('\n---');
  return header
    .slice(0, Math.max(end, 0))
    .split('\n')
    .filter((line) => line.startsWith('-> '))
    .map((line) => line.slice(3).split(' ')[0]!.slice(0, KIND_MAX_LENGTH));
}
