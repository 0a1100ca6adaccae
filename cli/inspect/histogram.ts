/** `inspect --histogram`: how well chunks shrank, and how long the runs of pages of one state are. */
import type { Image } from '../../lib/index.js';
import type { CommandContext } from '../command.js';
import { imageOptions } from '../commands/keyOptions.js';
import { formatTable } from '../output/table.js';
import { Numbers } from './numbers.js';

const BAR_WIDTH = 30;

interface Bucket {
  readonly label: string;
  /** Upper bound of what falls into it, inclusive. */
  readonly upTo: number;
  count: number;
  bytes: number;
}

export async function printHistogram(context: CommandContext, path: string): Promise<number> {
  const { args, answer, signal } = context;
  const { openImage } = await import('../../lib/image.js');
  const image = await openImage(path, imageOptions(context));
  try {
    const shares = await chunkShares(image, signal);
    const runs = await runLengths(image, signal);
    if (args.flag('json')) {
      await answer.json({
        schema: 'vmsnap.histogram',
        schemaVersion: 1,
        path,
        chunkShare: shares.map(bucketJson),
        ...runJson(runs),
      });
      return 0;
    }
    const numbers = new Numbers(args.flag('bytes'));
    await answer.lines(['CHUNKS by stored size, in percent of their pages', ...bars(shares, numbers)]);
    for (const [state, buckets] of runs)
      await answer.lines([`RUNS of ${state} pages by length`, ...bars(buckets, numbers)]);
    return 0;
  } finally {
    await image.close();
  }
}

/** Ten buckets of stored over raw size; a chunk that is stored as it is falls into the last, 100 %. */
async function chunkShares(image: Image, signal: AbortSignal): Promise<Bucket[]> {
  const buckets = Array.from({ length: 10 }, (_, i) => newBucket(`${i * 10}-${(i + 1) * 10} %`, (i + 1) / 10));
  buckets.push(newBucket('as is', Number.POSITIVE_INFINITY));
  for await (const { storedBytes, rawBytes } of image.chunks()) {
    signal.throwIfAborted();
    const bucket = storedBytes === rawBytes ? buckets.at(-1)! : find(buckets, storedBytes / rawBytes);
    bucket.count++;
    bucket.bytes += storedBytes;
  }
  return buckets;
}

const RUN_BOUNDS: readonly [string, number][] = [
  ['to 4 KiB', 2 ** 12],
  ['to 16 KiB', 2 ** 14],
  ['to 64 KiB', 2 ** 16],
  ['to 256 KiB', 2 ** 18],
  ['to 1 MiB', 2 ** 20],
  ['to 4 MiB', 2 ** 22],
  ['to 64 MiB', 2 ** 26],
  ['more', Number.POSITIVE_INFINITY],
];

async function runLengths(image: Image, signal: AbortSignal): Promise<Map<string, Bucket[]>> {
  const byState = new Map<string, Bucket[]>();
  for await (const { state, length } of image.map()) {
    signal.throwIfAborted();
    let buckets = byState.get(state);
    if (buckets === undefined) {
      buckets = RUN_BOUNDS.map(([label, upTo]) => newBucket(label, upTo));
      byState.set(state, buckets);
    }
    const bucket = find(buckets, length);
    bucket.count++;
    bucket.bytes += length;
  }
  return byState;
}

function newBucket(label: string, upTo: number): Bucket {
  return { label, upTo, count: 0, bytes: 0 };
}

function find(buckets: readonly Bucket[], value: number): Bucket {
  return buckets.find(({ upTo }) => value <= upTo) ?? buckets.at(-1)!;
}

function bars(buckets: readonly Bucket[], numbers: Numbers): string[] {
  const most = Math.max(1, ...buckets.map(({ count }) => count));
  const rows = buckets.map(({ label, count, bytes }) => {
    const bar = '█'.repeat(Math.ceil((count / most) * BAR_WIDTH));
    return [`  ${label}`, numbers.count(count), numbers.bytes(bytes), bar];
  });
  return formatTable(rows, ['left', 'right', 'right', 'left']);
}

function runJson(runs: ReadonlyMap<string, Bucket[]>): object {
  return { runs: [...runs].map(([state, buckets]) => ({ state, buckets: buckets.map(bucketJson) })) };
}

function bucketJson({ upTo, count, bytes }: Bucket): object {
  return { upTo: Number.isFinite(upTo) ? upTo : null, count, bytes };
}
