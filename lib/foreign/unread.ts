/** Memory files that are known and not read: saved as raw memory they would be of no use to anybody. */
import { VmsnapError } from '../../native/errors.js';

interface UnreadFormat {
  readonly title: string;
  readonly magic: Uint8Array;
  readonly hint: string;
}

const WINDOWS_HINT = 'dump the machine in another format: virsh dump --memory-only, or dump-guest-memory without -w';

export const UNREAD_FORMATS: readonly UnreadFormat[] = [
  { title: 'a Windows crash dump (64 bit)', magic: Buffer.from('PAGEDU64'), hint: WINDOWS_HINT },
  { title: 'a Windows crash dump (32 bit)', magic: Buffer.from('PAGEDUMP'), hint: WINDOWS_HINT },
  {
    title: 'a dump in the old diskdump format',
    magic: Buffer.from('DISKDUMP'),
    hint: 'take it with kdump, or dump the machine from outside',
  },
];

/** @throws UNSUPPORTED if it begins like one of these. */
export function refuseUnread(start: Uint8Array, path: string): void {
  const found = UNREAD_FORMATS.find(({ magic }) => magic.every((byte, i) => start[i] === byte));
  if (found === undefined) return;
  throw new VmsnapError('UNSUPPORTED', `${path} is ${found.title}, which vmsnap cannot read`, {
    path,
    offset: 0,
    hint: `${found.hint}; if it is raw memory all the same, say so with --format raw`,
  });
}
