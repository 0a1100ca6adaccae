/**
 * A disk that loses its power: of what was not synced, anything may be there, gone, or torn.
 *
 * What a file's sync begins after is safe, its length among it. Names change in order, as in the journal of a file system, but
 * none of them is safe before the folder is synced. A write that is not safe may be missing, or be there in part, in units of
 * 512 bytes.
 */
import type { DiskEvent } from './writeTrace.js';

const SECTOR = 512;

type Change = Extract<DiskEvent, { kind: 'write' | 'resize' | 'zero' }>;
type NameChange = Extract<DiskEvent, { kind: 'create' | 'unlink' | 'rename' }>;

interface Inode {
  safe: Buffer;
  pending: Change[];
}

export type Fate = 'kept' | 'lost' | 'torn';

export class DiskModel {
  readonly #names = new Map<string, Inode>();
  /** Changes of names that are not safe, and the files that they made. */
  #pendingNames: { change: NameChange; inode: Inode | undefined }[] = [];
  readonly #safeNames = new Map<string, Inode>();

  constructor(files: Readonly<Record<string, Buffer>>) {
    for (const [name, bytes] of Object.entries(files)) {
      const inode = { safe: Buffer.from(bytes), pending: [] };
      this.#names.set(name, inode);
      this.#safeNames.set(name, inode);
    }
  }

  apply(event: DiskEvent): void {
    switch (event.kind) {
      case 'create':
        if (this.#names.has(event.name)) return;
        this.#changeName(event, { safe: Buffer.alloc(0), pending: [] });
        return;
      case 'unlink':
      case 'rename':
        this.#changeName(event, undefined);
        return;
      case 'sync': {
        const inode = this.#names.get(event.name)!;
        inode.safe = inode.pending.reduce((bytes, change) => changed(bytes, change), inode.safe);
        inode.pending = [];
        return;
      }
      case 'syncFolder':
        for (const { change, inode } of this.#pendingNames) renamed(this.#safeNames, change, inode);
        this.#pendingNames = [];
        return;
      default:
        this.#names.get(event.name)!.pending.push(event);
    }
  }

  #changeName(change: NameChange, inode: Inode | undefined): void {
    renamed(this.#names, change, inode);
    this.#pendingNames.push({ change, inode });
  }

  get pendingNameCount(): number {
    return this.#pendingNames.length;
  }

  /** The files after a loss of power now, with the first `keptNames` changes of names that are not safe. */
  lose(keptNames: number, fate: () => Fate): Map<string, Buffer> {
    const names = new Map(this.#safeNames);
    for (const { change, inode } of this.#pendingNames.slice(0, keptNames)) renamed(names, change, inode);
    return new Map([...names].map(([name, inode]) => [name, contents(inode, fate)]));
  }
}

function renamed(names: Map<string, Inode>, change: NameChange, made: Inode | undefined): void {
  if (change.kind === 'create') {
    names.set(change.name, made!);
    return;
  }
  const inode = names.get(change.name);
  names.delete(change.name);
  if (change.kind === 'rename' && inode !== undefined) names.set(change.to, inode);
}

function contents({ safe, pending }: Inode, fate: () => Fate): Buffer {
  let bytes = safe;
  for (const change of pending) {
    const end = fate();
    if (end === 'lost') continue;
    bytes = changed(bytes, end === 'torn' ? torn(change) : change);
  }
  return bytes;
}

function torn(change: Change): Change {
  if (change.kind !== 'write') return change;
  const half = Math.floor(change.bytes.length / 2 / SECTOR) * SECTOR;
  return { ...change, bytes: change.bytes.subarray(0, half) };
}

function changed(bytes: Buffer, change: Change): Buffer {
  if (change.kind === 'resize') return sized(bytes, change.sizeBytes);
  const length = change.kind === 'write' ? change.bytes.length : change.length;
  const end = change.kind === 'write' ? change.offset + length : Math.min(bytes.length, change.offset + length);
  const copy = Buffer.from(sized(bytes, Math.max(bytes.length, end)));
  if (change.kind === 'write') change.bytes.copy(copy, change.offset);
  else copy.fill(0, Math.min(change.offset, end), end);
  return copy;
}

function sized(bytes: Buffer, sizeBytes: number): Buffer {
  const copy = Buffer.alloc(sizeBytes);
  bytes.copy(copy);
  return copy;
}
