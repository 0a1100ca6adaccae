/** `inspect --map`: runs of pages of one state, streamed. */
import type { MapRange } from '../../lib/index.js';
import type { CommandContext } from '../command.js';
import { imageOptions } from '../commands/keyOptions.js';
import { parseRange } from '../options/rangeOption.js';
import { printable } from '../output/printable.js';
import { formatRow } from '../output/table.js';
import { formatAddress } from '../output/units.js';
import { clipped } from './clipped.js';
import { printJsonListing } from './jsonListing.js';
import { limited } from './limited.js';
import { Numbers } from './numbers.js';

const WIDTHS = [12, 14, 12, 10] as const;
const ALIGNS = ['left', 'right', 'right', 'left'] as const;

export async function printMap(context: CommandContext, path: string): Promise<number> {
  const { args, answer, signal } = context;
  const range = args.value('range');
  const wanted = range === undefined ? undefined : parseRange(range);
  const limit = args.integer('limit', 0, Number.MAX_SAFE_INTEGER);
  const state = args.value('state');
  const { openImage } = await import('../../lib/image.js');
  const image = await openImage(path, imageOptions(context));
  try {
    const passes = (run: MapRange): boolean => state === undefined || run.state === state;
    const runs = limited(clipped(image, wanted), limit, signal, passes);
    if (args.flag('json')) {
      return await printJsonListing(answer, {
        schema: 'vmsnap.map',
        path,
        key: 'ranges',
        items: runs,
        toJson: runJson,
      });
    }
    await printRows(context, runs);
    return 0;
  } finally {
    await image.close();
  }
}

async function printRows({ args, answer }: CommandContext, runs: AsyncIterable<MapRange>): Promise<void> {
  const numbers = new Numbers(args.flag('bytes'));
  await answer.line(formatRow(['REGION', 'OFFSET', 'LENGTH', 'STATE'], WIDTHS, ALIGNS));
  for await (const run of runs) {
    const cells = [printable(run.region), formatAddress(run.offset), numbers.bytes(run.length), run.state];
    await answer.line(formatRow(cells, WIDTHS, ALIGNS));
    if (answer.closed) return;
  }
}

function runJson({ region, offset, length, state }: MapRange): object {
  return { region, offset, length, state };
}
