/** Small made-up machine memory, the same in every run: zero, uniform, compressible and random pages. */
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

/** Xorshift: fast, and nothing that a codec could shrink. */
function fillWithNoise(page: Buffer, number: number): void {
  let word = (number + 1) | 0;
  for (let offset = 0; offset < page.length; offset += 4) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    page.writeInt32LE(word, offset);
  }
}
