/** `inspect --chunks`: where every chunk is stored and how well it shrank, streamed. */
import type { ChunkInfo } from '../../lib/index.js';
import type { CommandContext } from '../command.js';
import { imageOptions } from '../commands/keyOptions.js';
import { printable } from '../output/printable.js';
import { formatRow } from '../output/table.js';
import { formatRatio } from '../output/units.js';
import { printJsonListing } from './jsonListing.js';
import { limited } from './limited.js';
import { Numbers } from './numbers.js';

const HEAD = ['REGION', 'SEGMENT', 'CHUNK', 'OFFSET', 'PAGES', 'RAW', 'STORED', 'RATIO', 'CRC-32C'];
const WIDTHS = [12, 8, 6, 14, 6, 10, 10, 6, 8] as const;
const ALIGNS = ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right', 'left'] as const;

export async function printChunks(context: CommandContext, path: string): Promise<number> {
  const { args, answer, signal } = context;
  const limit = args.integer('limit', 0, Number.MAX_SAFE_INTEGER);
  const { openImage } = await import('../../lib/image.js');
  const image = await openImage(path, imageOptions(context));
  try {
    const items = limited(image.chunks(), limit, signal);
    if (args.flag('json')) {
      return await printJsonListing(answer, { schema: 'vmsnap.chunks', path, key: 'chunks', items, toJson: chunkJson });
    }
    await printRows(context, items);
    return 0;
  } finally {
    await image.close();
  }
}

async function printRows({ args, answer }: CommandContext, chunks: AsyncIterable<ChunkInfo>): Promise<void> {
  const numbers = new Numbers(args.flag('bytes'));
  await answer.line(formatRow(HEAD, WIDTHS, ALIGNS));
  for await (const chunk of chunks) {
    await answer.line(formatRow(chunkCells(chunk, numbers), WIDTHS, ALIGNS));
    if (answer.closed) return;
  }
}

function chunkCells(chunk: ChunkInfo, numbers: Numbers): string[] {
  return [
    printable(chunk.region),
    String(chunk.segment),
    String(chunk.chunk),
    String(chunk.offset),
    String(chunk.pages),
    numbers.bytes(chunk.rawBytes),
    numbers.bytes(chunk.storedBytes),
    formatRatio(chunk.rawBytes / chunk.storedBytes),
    crcText(chunk.crc),
  ];
}

function chunkJson({ region, segment, chunk, offset, pages, rawBytes, storedBytes, crc }: ChunkInfo): object {
  return { region, segment, chunk, offset, pages, rawBytes, storedBytes, crc };
}

function crcText(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}
