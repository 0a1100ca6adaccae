/** Small made-up machine memory, the same in every run: zero, uniform, compressible and random pages. */
import { createHash } from 'node:crypto';

const PAGE_SIZE = 4096;

export function makeMemory(pageCount: number): Buffer {
  const memory = Buffer.alloc(pageCount * PAGE_SIZE);
  for (let page = 0; page < pageCount; page++) {
    fillPage(memory.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE), page);
  }
  return memory;
}

function fillPage(page: Buffer, number: number): void {
  const kind = Math.floor(number / 3) % 4;
  if (kind === 1) page.fill('text that shrinks well, page ').writeUInt32LE(number, 0);
  if (kind === 2) page.fill(Buffer.from('0123456789abcdef', 'hex'));
  if (kind === 3) fillWithNoise(page, number);
}

function fillWithNoise(page: Buffer, number: number): void {
  for (let offset = 0; offset < page.length; offset += 32) {
    createHash('sha256').update(`${number}/${offset}`).digest().copy(page, offset);
  }
}
