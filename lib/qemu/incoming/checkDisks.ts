/** Disks held against what an image says of them: memory that is resumed against other contents destroys file systems. */
import { type BigIntStats, statSync } from 'node:fs';
import { VmsnapError } from '../../../native/errors.js';
import type { Warning } from '../../types.js';
import type { MachineDisk } from '../machineDescription.js';
import type { MachineImage } from './machineImage.js';
import type { DiskState } from './machineTypes.js';

/** Every disk that the machine may write, and whether it is as it was when the machine was saved. */
export function diskStates({ description }: MachineImage): DiskState[] {
  return (description?.disks ?? []).map((disk) => {
    const { node, file, snapshots } = disk;
    const difference = differenceOf(disk);
    const state = difference === undefined ? 'unchanged' : difference === null ? 'unknown' : 'changed';
    return { node, file, snapshots, state, difference: difference ?? null };
  });
}

/** @throws SOURCE_CHANGED for the first that is not as it was. */
export function checkDisks(image: MachineImage, warn: (warning: Warning) => void): void {
  const { path } = image;
  for (const disk of diskStates(image)) {
    if (disk.state === 'changed') throw changedDisk(path, disk);
    if (disk.state === 'unchanged') continue;
    const message = `whether the disk ${nameOf(disk)} is as it was when ${path} was saved cannot be told`;
    warn({ code: 'disk-not-checked', message });
  }
}

/** Undefined: as it was. Null: nobody can tell, as of devices, whose writes leave no trace. */
function differenceOf({ file, sizeBytes, mtimeNanoseconds }: MachineDisk): string | undefined | null {
  if (file === null || sizeBytes === null || mtimeNanoseconds === null) return null;
  let found: BigIntStats | undefined;
  try {
    found = statSync(file, { bigint: true, throwIfNoEntry: false });
  } catch {
    return null;
  }
  if (found === undefined) return 'it is gone';
  if (!found.isFile()) return null;
  if (found.size !== BigInt(sizeBytes)) return `it has ${found.size} bytes, and had ${sizeBytes}`;
  if (String(found.mtimeNs) === mtimeNanoseconds) return undefined;
  return `it was last written at ${found.mtime.toISOString()}`;
}

function changedDisk(image: string, disk: DiskState): VmsnapError {
  const message = `the disk ${nameOf(disk)} is not as it was when ${image} was saved: ${disk.difference}`;
  const snapshots = disk.snapshots.length === 0 ? '' : ` (its snapshots were ${disk.snapshots.join(', ')})`;
  return new VmsnapError('SOURCE_CHANGED', message, {
    path: disk.file ?? undefined,
    hint: `a machine that runs on against another disk destroys its file systems: put the disk back as it was${snapshots}, then add --disks-restored`,
  });
}

function nameOf({ file, node }: DiskState): string {
  return file === null ? node : `${file} (${node})`;
}
