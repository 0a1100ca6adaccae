/**
 * Removes images from a store, one by one, each looked at again right before: it must be the very file that was judged, and
 * nothing in the folder may need it, neither an image that has come since nor one that is being written.
 */
import { type Dirent, lstatSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { VmsnapError, withSystemErrors, wrapSystemError } from '../../native/errors.js';
import { syncFolder } from '../files/replacementFile.js';
import type { Warning } from '../types.js';
import { type ImageFacts, isSameFile, readImageFacts, stampOf } from './imageFacts.js';
import type { FileStamp, LeftImage, StoreEntry } from './storeTypes.js';

export interface Removal {
  readonly removed: readonly StoreEntry[];
  readonly left: readonly LeftImage[];
  readonly warnings: readonly Warning[];
}

/** In the given order, in which images stand before their bases. What cannot be removed stays, and so do its bases. */
export async function removeImages(
  folder: string,
  doomed: readonly StoreEntry[],
  signal: AbortSignal | undefined,
): Promise<Removal> {
  const removed: StoreEntry[] = [];
  const left: LeftImage[] = [];
  const warnings: Warning[] = [];
  const needs = new FolderNeeds(folder);
  for (const entry of doomed) {
    signal?.throwIfAborted();
    const outcome = removeOne(entry, needs);
    if (outcome === 'gone') continue;
    if (typeof outcome === 'object') {
      left.push(outcome);
      continue;
    }
    removed.push(entry);
    try {
      await syncFolder(folder);
    } catch (error) {
      if (!(error instanceof VmsnapError)) throw error;
      warnings.push({ code: 'not-synced', message: `${entry.path} is removed, but: ${error.message}` });
    }
  }
  return { removed, left, warnings };
}

function removeOne(entry: StoreEntry, needs: FolderNeeds): 'removed' | 'gone' | LeftImage {
  const { path } = entry;
  try {
    const stamp = stampOfPath(path);
    if (stamp === undefined) return 'gone';
    if (!isSameFile(stamp, entry.stamp) || readImageFacts(path)?.identity !== entry.identity) {
      return { path, reason: 'changed', message: `${path} is no longer the file that was looked at` };
    }
    const dependent = needs.find(entry);
    if (dependent !== undefined) {
      return { path, reason: 'needed', message: `${path} is the base of ${dependent}, which is there now` };
    }
    unlinkSync(path);
    return 'removed';
  } catch (error) {
    const failure = wrapSystemError(error, 'remove', path);
    if (!(failure instanceof VmsnapError)) throw failure;
    const message = failure.path === path ? failure.message : `${path} is left: ${failure.message}`;
    return { path, reason: 'refused', message };
  }
}

/** Of the name itself: a link that has taken the place of the file is another file. */
function stampOfPath(path: string): FileStamp | undefined {
  const stats = withSystemErrors('look at', path, () => lstatSync(path, { bigint: true, throwIfNoEntry: false }));
  return stats && stampOf(stats);
}

/** What the files of a folder need, asked anew each time, but read only where a file is new or changed. */
class FolderNeeds {
  readonly #folder: string;
  readonly #known = new Map<string, { readonly stamp: FileStamp; readonly facts: ImageFacts | undefined }>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** An image that needs this one; one that is being written (a hidden file) names its base in its head already. */
  find(entry: StoreEntry): string | undefined {
    const files = withSystemErrors('read the folder', this.#folder, () =>
      readdirSync(this.#folder, { withFileTypes: true }),
    );
    return files.filter((file) => file.isFile() && file.name !== entry.name).find((file) => this.#needs(file, entry))
      ?.name;
  }

  /**
   * @throws VmsnapError if the system fails to read that file: nobody knows then what it needs. One that only others may read is
   * passed over: who made it had no right to read ours.
   */
  #needs({ name }: Dirent, entry: StoreEntry): boolean {
    const facts = this.#look(name);
    if (facts?.state === 'unreadable' && facts.base === undefined && facts.problem?.code !== 'PERMISSION') {
      const path = join(this.#folder, name);
      const message = `it may be the base of ${path}, which cannot be read: ${facts.problem?.message}`;
      throw new VmsnapError('IO', message, { path });
    }
    const base = facts?.base;
    if (base === undefined || base.fileName !== entry.name) return false;
    return entry.identity === undefined || base.identity === entry.identity;
  }

  #look(name: string): ImageFacts | undefined {
    const path = join(this.#folder, name);
    const stamp = stampOfPath(path);
    if (stamp === undefined) return undefined;
    const known = this.#known.get(name);
    if (known !== undefined && isSameFile(known.stamp, stamp)) return known.facts;
    const facts = readImageFacts(path);
    this.#known.set(name, { stamp, facts });
    return facts;
  }
}
