/**
 * Jobs of one run that save the same machine into the same folder take turns: each then has the images that it chose its base
 * from to itself. Against other processes there is the lock of the folder, which would refuse the second of them.
 */
import { realpathSync } from 'node:fs';

export class MachineTurns {
  readonly #last = new Map<string, Promise<void>>();

  /**
   * Waits until no other job of this run is at the machine's images.
   * @param machine the words by which they are found, in any case. @returns what ends the turn.
   */
  async take(folder: string, machine: readonly string[]): Promise<() => void> {
    const keys = machine.map((word) => `${realPath(folder)}\0${word.toLowerCase()}`);
    const before = keys.map((key) => this.#last.get(key));
    let end!: () => void;
    const turn = new Promise<void>((resolve) => {
      end = resolve;
    });
    // In line for all of them at once: so no two wait for each other.
    for (const key of keys) this.#last.set(key, turn);
    await Promise.all(before);
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
