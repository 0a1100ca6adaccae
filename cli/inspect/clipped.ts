/** The map of a part of the memory: offsets count the regions end to end, as they do for a load. */
import type { Image, MapRange } from '../../lib/index.js';
import type { ByteRange } from '../options/rangeOption.js';

export async function* clipped(image: Image, range: ByteRange | undefined): AsyncGenerator<MapRange> {
  if (range === undefined) {
    yield* image.map();
    return;
  }
  const starts = regionStarts(image);
  const end = range.offset + range.length;
  for await (const run of image.map()) {
    const regionStart = starts.get(run.region)!;
    const from = Math.max(regionStart + run.offset, range.offset);
    const to = Math.min(regionStart + run.offset + run.length, end);
    if (from < to) yield { ...run, offset: from - regionStart, length: to - from };
    if (regionStart + run.offset + run.length >= end) return;
  }
}

function regionStarts({ regions }: Image): ReadonlyMap<string, number> {
  const starts = new Map<string, number>();
  let start = 0;
  for (const { name, sizeBytes } of regions) {
    starts.set(name, start);
    start += sizeBytes;
  }
  return starts;
}
