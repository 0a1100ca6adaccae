/** The tail of an image as a walk met it, put together from what the threads hold, and checked. */
import { corrupt } from '../formats/vmsnap/corrupt.js';
import { decodeFooter } from '../formats/vmsnap/footer.js';
import { decodeTail, type ImageTail, placeIn, type WholeRecord } from '../formats/vmsnap/imageFile.js';
import { decodePrefix } from '../formats/vmsnap/record.js';
import type { ImageInput } from './imageInput.js';
import type { OpenSegment, ReadWorkerResult } from './pipeline/readJob.js';

/** @throws CORRUPT if a part of it was not met or does not fit. */
export function walkedTail(input: ImageInput, results: readonly ReadWorkerResult[]): ImageTail {
  const { path, head } = input;
  const end = wholeRecord(input, results.find((result) => result.tail.end !== undefined)?.tail.end, 'end manifest');
  const list = wholeRecord(input, results.find((result) => result.tail.list !== undefined)?.tail.list, 'index list');
  const footerPart = results.find((result) => result.tail.footer !== undefined)?.tail.footer;
  if (footerPart === undefined) throw corrupt(path, list.prefix.offset, 'truncated: no footer');
  const footer = decodeFooter(Buffer.from(footerPart.bytes), footerPart.offset, head, path);
  const tail = decodeTail(head, footer, footerPart.offset, end, list, path);
  for (const { openSegments } of results) {
    requireOpenSize(openSegments.firstShort, tail, path);
    requireOpenSize(openSegments.last, tail, path);
  }
  return tail;
}

/** While an open-ended region was read its segments were as long as their records said; now it is known how long they are. */
function requireOpenSize(open: OpenSegment | undefined, tail: ImageTail, path: string): void {
  if (open === undefined) return;
  const { geometry } = tail;
  if (open.segment < geometry.segmentCount && geometry.pagesIn(open.segment) === open.pageCount) return;
  throw corrupt(
    path,
    open.offset,
    `segment ${open.segment}: state map of ${open.pageCount} pages does not fit the memory`,
  );
}

function wholeRecord(
  input: ImageInput,
  part: { offset: number; bytes: Uint8Array } | undefined,
  what: string,
): WholeRecord {
  const { path, head } = input;
  if (part === undefined) throw corrupt(path, head.bytes.length, `truncated: no ${what}`);
  const bytes = Buffer.from(part.bytes);
  return { prefix: decodePrefix(bytes, 0, placeIn(head, path, part.offset)), bytes };
}
