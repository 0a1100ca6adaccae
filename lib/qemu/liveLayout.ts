/**
 * The layout of a machine's memory, known before it is stopped: QEMU tells it at the head of a migration stream, so one is begun
 * while the machine runs, as slowly as can be, and cancelled once its head is there (LiveMachine.openLive).
 *
 * Regions that lie in shared files are read from them while the machine runs. The others come with the device state
 * of the stopped machine; until then a file of holes stands in their place.
 */
import { closeSync, ftruncateSync } from 'node:fs';
import type { SourceExtent } from '../../formats/memoryFile.js';
import type { MachineStream } from '../../formats/qemu/machineStream.js';
import { type BlockRegion, blockNameOf } from '../../formats/qemu/ramRegions.js';
import { createSpillFile } from '../../formats/spillFile.js';
import { VmsnapError, withSystemErrors } from '../../native/errors.js';
import type { LateMemory } from '../liveSave.js';

export interface Layout {
  readonly machineType: string | undefined;
  readonly regions: readonly BlockRegion[];
}

/** The machine's memory is laid out in another way than when the save began: what was stored is of no use. */
export class LayoutChanged extends VmsnapError {
  constructor(path: string, what: string) {
    super('SOURCE_CHANGED', `the memory of the machine on ${path} has got another layout while it was saved: ${what}`, {
      path,
      hint: 'save again when memory is no longer plugged and unplugged, or without --live',
    });
  }
}

export interface LiveExtents {
  /** Of each region. */
  readonly extents: readonly SourceExtent[];
  /** Indices of the regions that are holes for now. */
  readonly late: readonly number[];
  close(): void;
}

/** @throws UNSUPPORTED where a file is shorter than its block. */
export function liveExtents(
  { regions }: Layout,
  path: string,
  fileOf: (block: string) => SourceExtent | undefined,
): LiveExtents {
  const files = regions.map((region) => fileOf(blockNameOf(region)));
  const late = files.flatMap((file, i) => (file === undefined ? [i] : []));
  const holes = createSpillFile();
  try {
    let holeBytes = 0;
    const extents = regions.map((region, i): SourceExtent => {
      const { sizeBytes: lengthBytes, blockOffset } = region;
      const file = files[i];
      if (file === undefined) {
        const fileOffset = holeBytes;
        holeBytes += lengthBytes;
        return { ...holes, fileOffset, lengthBytes };
      }
      if (blockOffset + lengthBytes > file.lengthBytes) throw largerThanFile(path, blockNameOf(region), file.path);
      return { fd: file.fd, path: file.path, fileOffset: file.fileOffset + blockOffset, lengthBytes };
    });
    withSystemErrors('make a temporary file', holes.path, () => ftruncateSync(holes.fd, holeBytes));
    return { extents, late, close: () => closeSync(holes.fd) };
  } catch (error) {
    closeSync(holes.fd);
    throw error;
  }
}

function largerThanFile(path: string, block: string, file: string): VmsnapError {
  return new VmsnapError('UNSUPPORTED', `the RAM block ${block} of the machine on ${path} is larger than ${file}`, {
    path,
  });
}

/** @throws LayoutChanged. */
export function requireSameLayout(before: Layout, now: Layout, path: string): void {
  const gone = before.regions.find(({ name }) => !now.regions.some((region) => region.name === name));
  if (gone !== undefined) throw new LayoutChanged(path, `${gone.name} is gone`);
  for (const [i, region] of now.regions.entries()) {
    const known = before.regions.find(({ name }) => name === region.name);
    if (known === undefined) throw new LayoutChanged(path, `${region.name} has come`);
    const isSame =
      known.sizeBytes === region.sizeBytes &&
      known.gpa === region.gpa &&
      known.blockOffset === region.blockOffset &&
      before.regions[i] === known;
    if (!isSame) throw new LayoutChanged(path, `${region.name} has another size or place`);
  }
}

/** What the stream of the stopped machine has of the regions that were holes. @throws UNSUPPORTED: it lacks pages of them. */
export function lateMemory(stream: MachineStream, late: readonly number[], path: string): LateMemory | undefined {
  const { pages } = stream;
  if (pages.mayHaveAbsent === true) {
    throw new VmsnapError('UNSUPPORTED', `QEMU on ${path} has not sent all pages of memory that has no file`, { path });
  }
  if (late.length === 0) return undefined;
  const files = [{ fd: pages.stream.fd, path }];
  return { source: { kind: 'pages', pages, files, cached: false }, regions: late };
}
