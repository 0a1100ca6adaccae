/** The four things that vmsnap and its peers do, on one file system. */
import { existsSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { firstDifference } from '../test/guest/compare.js';
import type { Contender } from './contenders.js';
import type { Job } from './measure.js';
import { touch } from './memory.js';
import type { Race } from './race.js';

/** Where the images and targets of a table lie. */
export interface Place {
  readonly name: string;
  readonly folder: string;
  /** The clock stops only when what was written is synced, on all sides. */
  readonly synced: boolean;
}

/** The saves come first: the loads read what the first of them wrote. */
export function races(place: Place, memoryFile: string, memoryBytes: number): Race[] {
  const image = (contender: Contender): string => imageOf(place, contender);
  const reusedImage = join(place.folder, 'reused.image');
  const target = join(place.folder, 'target');
  const synced = (job: Job | undefined, file: string): Job | undefined =>
    job === undefined || !place.synced ? job : { ...job, syncedFile: file };
  const isRestored = async (contender: Contender): Promise<void> => {
    const difference = await firstDifference(memoryFile, target);
    if (difference !== undefined) throw new Error(`${contender.name}: the load differs at byte ${difference}`);
  };
  const saveToNewFile: Race = {
    kind: 'save',
    title: `Save to a new file, ${place.name}`,
    job: (contender) => synced(contender.saveToNewFile(memoryFile, image(contender)), image(contender)),
    prepare: (contender) => rmSync(image(contender), { force: true }),
    check: async () => {},
    outputBytes: (contender) => statSync(image(contender)).size,
  };
  const saveInPlace: Race = {
    kind: 'save-in-place',
    title: `Save over a file that is there (standard output, not truncated), ${place.name}`,
    job: (contender) => synced(contender.saveInPlace?.(memoryFile, reusedImage), reusedImage),
    prepare: () => touchOnce(reusedImage, memoryBytes),
    check: async () => {},
    outputBytes: (_contender, measurement) => measurement.stdoutBytes,
  };
  const loadToNewFile: Race = {
    kind: 'load',
    title: `Load to a new file, ${place.name}`,
    job: (contender) => synced(contender.loadToNewFile(image(contender), target), target),
    prepare: () => {
      rmSync(reusedImage, { force: true });
      rmSync(target, { force: true });
    },
    check: isRestored,
    outputBytes: () => statSync(target).size,
  };
  const loadInPlace: Race = {
    kind: 'load-in-place',
    title: `Load over a file that is there, ${place.name}`,
    job: (contender) => synced(contender.loadInPlace?.(image(contender), target), target),
    // What the preparation has written is not to be synced on the contender's clock.
    prepare: () => touch(target, memoryBytes, place.synced),
    check: isRestored,
    outputBytes: () => statSync(target).size,
  };
  // Standard output is not synced by those who write to it: on disk the two kinds of save would be one.
  return place.synced
    ? [saveToNewFile, loadToNewFile, loadInPlace]
    : [saveToNewFile, saveInPlace, loadToNewFile, loadInPlace];
}

export function imageOf(place: Place, contender: Contender): string {
  return join(place.folder, `${contender.name.replaceAll(' ', '_')}.image`);
}

function touchOnce(path: string, sizeBytes: number): void {
  if (!existsSync(path)) touch(path, sizeBytes);
}
