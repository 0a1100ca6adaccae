/**
 * What bringing back the memory of an image would read, image by image of its chain, from the indexes alone.
 *
 * An upper bound: a record below the top counts whole, though a load leaves out chunks whose pages all have changed since.
 */
import { readIndexBlock } from '../formats/vmsnap/imageFile.js';
import { decodeIndexEntry, type IndexEntry } from '../formats/vmsnap/imageIndex.js';
import { INDEX_BLOCK_ENTRIES } from '../formats/vmsnap/layout.js';
import type { OpenedImage } from './chain.js';
import { recordsEnd } from './imageInput.js';

export interface RestoreCost {
  readonly chunks: number;
  readonly bytes: number;
}

/** One cost for each image of `chain`, which begins with the image itself. @throws CORRUPT if an index is damaged. */
export function restoreCosts(chain: readonly OpenedImage[]): RestoreCost[] {
  const costs = chain.map(() => ({ chunks: 0, bytes: 0 }));
  const { segmentCount, indexBlockCount } = chain[0]!.tail.geometry;
  for (let block = 0; block < indexBlockCount; block++) {
    const blocks = chain.map((image) => loadBlock(image, block));
    if (blocks.every((loaded) => loaded === undefined)) continue;
    const slots = Math.min(INDEX_BLOCK_ENTRIES, segmentCount - block * INDEX_BLOCK_ENTRIES);
    for (let slot = 0; slot < slots; slot++) addSegment(chain, blocks, slot, costs);
  }
  return costs;
}

type LoadedBlock = ReturnType<typeof readIndexBlock>;

function loadBlock({ input, tail }: OpenedImage, block: number): LoadedBlock {
  const { segmentCount } = tail.geometry;
  return readIndexBlock(input, input.head, block, tail.indexList[block]!, segmentCount, recordsEnd(input));
}

/** From the top down to the record that leaves nothing to the ones below. */
function addSegment(
  chain: readonly OpenedImage[],
  blocks: readonly LoadedBlock[],
  slot: number,
  costs: { chunks: number; bytes: number }[],
): void {
  for (const [i, loaded] of blocks.entries()) {
    if (loaded === undefined) continue;
    const entry: IndexEntry = decodeIndexEntry(loaded.entries, slot, chain[i]!.input.path, loaded.entriesAt);
    if (entry.offset === 0) continue;
    costs[i]!.chunks += chain[i]!.tail.geometry.chunksFor(entry.dataPages);
    costs[i]!.bytes += entry.headBytes + entry.payloadBytes;
    if (entry.sameAsBasePages === 0) return;
  }
}
