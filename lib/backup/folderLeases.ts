/**
 * The locks of the folders that a run works in. Against other processes it is one lock for each folder; the jobs of one run
 * share it, and only take turns where they remove images.
 */
import { realpathSync } from 'node:fs';
import { type FolderLock, lockFolder } from '../store/folderLock.js';

export interface FolderLease {
  readonly lock: FolderLock;
  /** Runs `action` while no other job of this run does the same in this folder. */
  exclusively<T>(action: () => Promise<T>): Promise<T>;
  release(): void;
}

interface Shared {
  readonly lock: Promise<FolderLock>;
  holders: number;
  turn: Promise<unknown>;
}

export class FolderLeases {
  readonly #shared = new Map<string, Shared>();

  /** @throws as {@link lockFolder}. */
  async acquire(folder: string, waitSeconds: number, signal: AbortSignal | undefined): Promise<FolderLease> {
    const key = realPath(folder);
    let shared = this.#shared.get(key);
    if (shared === undefined) {
      shared = { lock: lockFolder(folder, { waitSeconds, signal }), holders: 0, turn: Promise.resolve() };
      this.#shared.set(key, shared);
    }
    shared.holders++;
    try {
      return this.#lease(key, shared, await shared.lock);
    } catch (error) {
      this.#leave(key, shared);
      throw error;
    }
  }

  #lease(key: string, shared: Shared, lock: FolderLock): FolderLease {
    let held = true;
    return {
      lock,
      exclusively: (action) => {
        const result = shared.turn.then(action);
        shared.turn = result.catch(() => undefined);
        return result;
      },
      release: () => {
        if (held && this.#leave(key, shared)) lock.release();
        held = false;
      },
    };
  }

  /** @returns whether nobody is left. */
  #leave(key: string, shared: Shared): boolean {
    shared.holders--;
    if (shared.holders > 0) return false;
    if (this.#shared.get(key) === shared) this.#shared.delete(key);
    return true;
  }
}

function realPath(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    // Locking it says what is wrong.
    return folder;
  }
}
