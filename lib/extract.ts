/** `extract`: an attachment out of an image, into a file that appears whole, or to standard output. */
import { write } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { wrapSystemError } from '../native/errors.js';
import { abortReason } from './abort.js';
import { ReplacementFile } from './files/replacementFile.js';
import { openImage } from './image.js';
import { writeAt } from './pipeline/commitLine.js';
import type { ExtractOptions } from './types.js';

const STDOUT_FD = 1;
const RETRY_MS = 10;

/** Waits on a thread of Node's, so that signals are heard. */
const writeOnce: (fd: number, bytes: Buffer, from: number) => Promise<{ readonly bytesWritten: number }> =
  promisify(write);

/**
 * Writes an attachment out.
 * @param target a file (mode 0600), or `-` for standard output.
 * @throws NOT_FOUND if there is no such attachment, EXISTS, CORRUPT, ...
 */
export async function extract(
  image: string,
  attachment: string,
  target: string,
  options: ExtractOptions = {},
): Promise<{ sizeBytes: number }> {
  const opened = await openImage(image, options);
  try {
    const parts = opened.readAttachment(attachment);
    const sizeBytes = opened.attachments.find(({ name }) => name === attachment)?.sizeBytes ?? 0;
    if (target === '-') await toStdout(parts, options);
    else await toFile(parts, target, options);
    return { sizeBytes };
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    await opened.close();
  }
}

async function toStdout(parts: AsyncIterable<Buffer>, options: ExtractOptions): Promise<void> {
  for await (const part of parts) await writeAll(part, options.signal);
}

/** Not through a stream of Node: that gives up on writes that do less than they were asked for. */
async function writeAll(bytes: Buffer, signal: AbortSignal | undefined): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    signal?.throwIfAborted();
    try {
      done += (await writeOnce(STDOUT_FD, bytes, done)).bytesWritten;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // A pipe that is full, and that somebody has told not to wait.
      if (code === 'EAGAIN') await delay(RETRY_MS);
      else if (code !== 'EINTR') throw wrapSystemError(error, 'write to', 'standard output');
    }
  }
}

async function toFile(parts: AsyncGenerator<Buffer>, target: string, options: ExtractOptions): Promise<void> {
  // The first part is asked for before the file is made: a name that does not exist leaves no trace.
  const first = await parts.next();
  const file = ReplacementFile.open(target, { what: 'file', force: options.force ?? false });
  try {
    let offset = 0;
    for (let part = first; !part.done; part = await parts.next()) {
      options.signal?.throwIfAborted();
      writeAt({ fd: file.fd, path: target }, part.value, part.value.length, offset);
      offset += part.value.length;
    }
    await file.publish();
  } finally {
    file.discard();
  }
}
