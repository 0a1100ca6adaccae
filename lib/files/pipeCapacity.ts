/**
 * How much a pipe holds. With the 64 KiB that it has by itself, reader and writer take turns so often that a save of a migration
 * stream takes 5 % longer (node dist/bench/formats.js; 256 KiB and 1 MiB do equally well).
 */
import { native } from '../../native/binding.js';

/** What any user may have (/proc/sys/fs/pipe-max-size). */
export const PIPE_BYTES = 1024 * 1024;

/** Of a pipe that others made; what is no pipe, or may not have so much, stays as it is. */
export function widenPipe(fd: number): void {
  native.widenPipe(fd, PIPE_BYTES);
}
