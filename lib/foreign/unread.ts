/**
 * Files that are known and hold no memory that vmsnap can read: saved as raw memory they would be of no use to anybody, and
 * that would be found out when the memory is wanted.
 */
import { HEADER_MAGIC } from '../../formats/vmsnap/layout.js';
import { VmsnapError } from '../../native/errors.js';

interface UnreadFormat {
  readonly title: string;
  readonly magic: Uint8Array;
  /** Where the magic stands, if not at the beginning. */
  readonly at?: number;
  readonly hint: string;
}

const WINDOWS_HINT = 'dump the machine in another format: virsh dump --memory-only, or dump-guest-memory without -w';
const DISK_HINT =
  'give a file of memory; the memory that a snapshot keeps in a disk is saved by starting the machine from it';
const VMWARE_HINT =
  'the memory is in the .vmem file beside it, which is raw: save that (or convert both with vmss2core)';
const HIBERNATION_HINT = 'convert it into raw memory with a tool for such files, such as hibr2bin';
const SWAP_HINT = 'give a file of memory; what a hibernated Linux has written there is packed in a way of its own';

/** VMware's, by version. */
const VMWARE_MAGICS = ['d0bed2be', 'd1bad1ba', 'd2bed2be', 'd3bed3be'];
/** Of a file in use, one that has been woken from, and one that is being woken from. */
const HIBERNATION_MAGICS = ['hibr', 'HIBR', 'wake', 'WAKE', 'RSTR'];
/** At the end of the first page. */
const SWAP_MAGIC_AT = 4086;

export const UNREAD_FORMATS: readonly UnreadFormat[] = [
  { title: 'a Windows crash dump (64 bit)', magic: Buffer.from('PAGEDU64'), hint: WINDOWS_HINT },
  { title: 'a Windows crash dump (32 bit)', magic: Buffer.from('PAGEDUMP'), hint: WINDOWS_HINT },
  ...HIBERNATION_MAGICS.map((magic) => ({
    title: 'a hibernation file of Windows',
    magic: Buffer.from(magic),
    hint: HIBERNATION_HINT,
  })),
  {
    title: 'a dump in the old diskdump format',
    magic: Buffer.from('DISKDUMP'),
    hint: 'take it with kdump, or dump the machine from outside',
  },
  ...VMWARE_MAGICS.map((magic) => ({
    title: 'the state of a suspended VMware machine',
    magic: Buffer.from(magic, 'hex'),
    hint: VMWARE_HINT,
  })),
  {
    title: 'the saved state of a VirtualBox machine',
    magic: Buffer.from('\x7fVirtualBox SavedState V', 'latin1'),
    hint: 'start the machine and write an ELF core: VBoxManage debugvm NAME dumpvmcore --filename FILE',
  },
  {
    title: 'a save image of Xen',
    magic: Buffer.from('LibxlFmt'),
    hint: 'dump the memory of the running machine instead',
  },
  { title: 'a qcow2 disk', magic: Buffer.from('514649fb', 'hex'), hint: DISK_HINT },
  { title: 'a VMDK disk', magic: Buffer.from('KDMV'), hint: DISK_HINT },
  { title: 'a VMDK disk', magic: Buffer.from('# Disk DescriptorFile'), hint: DISK_HINT },
  { title: 'a VDI disk', magic: Buffer.from('7f10dabe', 'hex'), at: 64, hint: DISK_HINT },
  { title: 'a VHDX disk', magic: Buffer.from('vhdxfile'), hint: DISK_HINT },
  { title: 'a VHD disk', magic: Buffer.from('conectix'), hint: DISK_HINT },
  { title: 'swap space with a hibernated Linux', magic: Buffer.from('S1SUSPEND'), at: SWAP_MAGIC_AT, hint: SWAP_HINT },
  { title: 'swap space', magic: Buffer.from('SWAPSPACE2'), at: SWAP_MAGIC_AT, hint: SWAP_HINT },
  {
    title: 'a zip archive',
    magic: Buffer.from('504b0304', 'hex'),
    hint: 'unpack it on the way: unzip -p FILE | vmsnap save - IMAGE',
  },
  {
    title: 'a 7z archive',
    magic: Buffer.from('377abcaf271c', 'hex'),
    hint: 'unpack it on the way: 7z x -so FILE | vmsnap save - IMAGE',
  },
  {
    title: 'a tar archive',
    magic: Buffer.from('ustar'),
    at: 257,
    hint: 'unpack it on the way: tar -xOf FILE MEMBER | vmsnap save - IMAGE',
  },
  {
    title: 'an image of vmsnap already',
    magic: HEADER_MAGIC,
    hint: '"vmsnap load" gives the memory in it, and "vmsnap flatten" copies it',
  },
];

/** @throws UNSUPPORTED if it begins like one of these. */
export function refuseUnread(start: Uint8Array, path: string): void {
  const found = UNREAD_FORMATS.find(({ magic, at = 0 }) => magic.every((byte, i) => start[at + i] === byte));
  if (found === undefined) return;
  throw new VmsnapError('UNSUPPORTED', `${path} is ${found.title}, which vmsnap cannot save`, {
    path,
    offset: found.at ?? 0,
    hint: `${found.hint}; if it is raw memory all the same, say so with --format raw`,
  });
}
