/** What goes for every file that memory is read from. */
import { native } from '../../../native/binding.js';
import { VmsnapError } from '../../../native/errors.js';

/**
 * Whether a segment was in the page cache before we read it. A sample from its middle, because read-ahead of the segment
 * before has touched its beginning.
 */
export function isCached(fd: number, offset: number, length: number): boolean {
  const sample = Math.min(length, 128 * 1024);
  return native.residentShare(fd, offset + Math.floor((length - sample) / 2), sample) > 0.5;
}

export function sourceTruncated(path: string, offset: number): VmsnapError {
  return new VmsnapError(
    'SOURCE_CHANGED',
    `${path} became shorter while it was read: it ends at or before offset ${offset}`,
    {
      path,
      offset,
      hint: 'nothing was saved; pause the machine, or stop what truncates the file, and save again',
    },
  );
}

export function notWholePages(path: string, sizeBytes: number, pageSize: number): VmsnapError {
  return new VmsnapError('USAGE', `${path} has ${sizeBytes} bytes, no multiple of the page size, ${pageSize}`, {
    path,
    hint: 'is it a raw memory file, and whole? Name the part that is memory with --region NAME=SIZE@GPA:FILE+OFFSET',
  });
}
