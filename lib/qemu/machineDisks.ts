/** The block nodes that a machine may write, with what tells later whether their files have moved on. */
import { readlinkSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { fieldOf, listOf, textOf } from './answers.js';
import type { MachineDisk } from './machineDescription.js';
import type { QmpPeer } from './qmpPeer.js';

export type FoundDisk = Omit<MachineDisk, 'sizeBytes' | 'mtimeNanoseconds'>;

/** Nodes with a driver of a format stand for those of protocols below them: each file is named once for each node. */
export async function findDisks(peer: QmpPeer): Promise<FoundDisk[]> {
  const users = usersOf(listOf(await peer.execute('query-block')));
  const disks: FoundDisk[] = [];
  for (const node of listOf(await peer.execute('query-named-block-nodes'))) {
    const name = textOf(node, 'node-name');
    if (name === undefined || fieldOf(node, 'ro') !== false) continue;
    const image = fieldOf(node, 'image');
    const file = textOf(node, 'file') ?? textOf(image, 'filename');
    disks.push({
      node: name,
      device: users.get(name) ?? null,
      driver: textOf(node, 'drv') ?? '',
      file: file === undefined || /^[\w+-]+:/.test(file) ? null : file,
      snapshots: listOf(fieldOf(image, 'snapshots')).flatMap((snapshot) => textOf(snapshot, 'name') ?? []),
    });
  }
  return disks;
}

/** As the files are now. `processId`: of QEMU, from whose folder relative names count. */
export function describeDisks(disks: readonly FoundDisk[], processId: number | undefined): MachineDisk[] {
  return disks.map((disk) => {
    const file = disk.file === null ? null : absolute(disk.file, processId);
    const stats = file === null ? undefined : statOrNothing(file);
    return {
      ...disk,
      file,
      sizeBytes: stats === undefined ? null : Number(stats.size),
      mtimeNanoseconds: stats === undefined ? null : String(stats.mtimeNs),
    };
  });
}

/** Device by node name. */
function usersOf(blocks: readonly unknown[]): Map<string, string> {
  const users = new Map<string, string>();
  for (const block of blocks) {
    const node = textOf(fieldOf(block, 'inserted'), 'node-name');
    const device = textOf(block, 'device') || textOf(block, 'qdev');
    if (node !== undefined && device) users.set(node, device);
  }
  return users;
}

function absolute(file: string, processId: number | undefined): string {
  try {
    return file.startsWith('/') ? file : resolve(readlinkSync(`/proc/${processId}/cwd`), file);
  } catch {
    return file;
  }
}

/** Of a block device neither size nor time stand there. */
function statOrNothing(file: string) {
  try {
    const stats = statSync(file, { bigint: true });
    return stats.isFile() ? stats : undefined;
  } catch {
    return undefined;
  }
}
