/** `extract`: an attachment out of an image, into a file that appears whole, or to standard output. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { wrapSystemError } from '../native/errors.js';
import { abortReason } from './abort.js';
import { ReplacementFile } from './files/replacementFile.js';
import { openImage } from './image.js';
import { writeAt } from './pipeline/commitLine.js';
import type { ExtractOptions } from './types.js';

const STDOUT_FD = 1;

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
  const out = createWriteStream('', { fd: STDOUT_FD, autoClose: false });
  const done = finished(out);
  try {
    for await (const part of parts) {
      options.signal?.throwIfAborted();
      if (!out.write(part)) await Promise.race([once(out, 'drain'), done]);
    }
    out.end();
    await done;
  } catch (error) {
    throw wrapSystemError(error, 'write to', 'standard output');
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
