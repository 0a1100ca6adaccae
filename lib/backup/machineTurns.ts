/**
 * Jobs of one run that save the same machine into the same folder take turns: each then has the images that it chose its base
 * from to itself. Against other processes there is the lock of the folder, which would refuse the second of them.
 */
import { realpathSync } from 'node:fs';

export class MachineTurns {
  readonly #last = new Map<string, Promise<void>>();

  /** Waits until no other job of this run is at the machine's images. @returns what ends the turn. */
  async take(folder: string, machine: string): Promise<() => void> {
    const key = `${realPath(folder)}\0${machine}`;
    const before = this.#last.get(key);
    let end!: () => void;
    this.#last.set(
      key,
      new Promise((resolve) => {
        end = resolve;
      }),
    );
    await before;
    return end;
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
