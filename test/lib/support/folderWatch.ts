/** Sees every file that appears in a folder from its first moment on. */
import { type FSWatcher, statSync, watch } from 'node:fs';
import { join } from 'node:path';

export class FolderWatch {
  /** Permissions seen of each name, as octal text. */
  readonly modes = new Map<string, Set<string>>();
  readonly #watcher: FSWatcher;

  constructor(folder: string) {
    this.#watcher = watch(folder, (_, name) => this.#look(folder, name!));
  }

  #look(folder: string, name: string): void {
    const stats = statSync(join(folder, name), { throwIfNoEntry: false });
    if (stats === undefined) return;
    const modes = this.modes.get(name) ?? new Set();
    this.modes.set(name, modes.add((stats.mode & 0o777).toString(8)));
  }

  close(): void {
    this.#watcher.close();
  }
}
