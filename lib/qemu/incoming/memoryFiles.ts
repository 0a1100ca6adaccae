/** The memory files of a machine: each RAM block that its migration stream leaves out, whole, in a file of its own. */
import { join } from 'node:path';
import { loadParts } from '../../load.js';
import type { RegionSelection } from '../../pipeline/readJob.js';
import { openTarget } from '../../target.js';
import type { CommonOptions, LoadResult } from '../../types.js';
import type { MachineBlock, MachineImage } from './machineImage.js';

export interface MemoryFile {
  readonly block: MachineBlock;
  readonly path: string;
}

/** Where each file is to lie. Block names may be paths of QEMU's objects ("/objects/ram"). */
export function placeMemoryFiles({ blocks }: MachineImage, folder: string): MemoryFile[] {
  const taken = new Set<string>();
  return blocks
    .filter(({ contents }) => contents === 'file')
    .map((block) => {
      const plain = `memory-${block.name.replace(/^\/objects\//, '').replace(/[^A-Za-z0-9._-]/g, '_')}`;
      let name = plain;
      for (let i = 2; taken.has(name); i++) name = `${plain}-${i}`;
      taken.add(name);
      return { block, path: join(folder, name) };
    });
}

/** Writes a file and proves it by the digests of its regions. */
export async function writeMemoryFile(
  image: MachineImage,
  { block, path }: MemoryFile,
  options: CommonOptions,
): Promise<LoadResult> {
  const selection: (RegionSelection | undefined)[] = image.opened.input.head.start.regions.map(() => undefined);
  for (const { region, blockOffset, sizeBytes } of block.parts)
    selection[region] = { from: 0, to: sizeBytes, targetOffset: blockOffset };
  const target = await openTarget(path, { signal: options.signal });
  try {
    return await loadParts(image.opened, image.bases, { selection, target, name: path }, options);
  } finally {
    target.discard();
  }
}
