/** What vmsnap itself says of the bytes of an image: every way to read them, with one thread and in this process. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type ErrorCode, type KeySources, load, VmsnapError, verify } from '../../../lib/index.js';
import type { Workspace } from '../../lib/support/workspace.js';

/** `intact`, `damaged` (verify has findings), or the code of what was thrown. */
export type Verdict = 'intact' | 'damaged' | ErrorCode;

export class Judge {
  readonly imagePath: string;
  readonly #targetPath: string;
  readonly #reading: { readonly threads: number; readonly baseDirs: readonly string[]; readonly keys?: KeySources };

  /** `baseDirs`: where the bases of differential images are; `keys`: of encrypted ones. */
  constructor(folder: Workspace, name = 'judged', baseDirs: readonly string[] = [], keys?: KeySources) {
    this.#reading = { threads: 1, baseDirs, ...(keys && { keys }) };
    this.imagePath = folder.path(`${name}.vms`);
    this.#targetPath = folder.path(`${name}.raw`);
  }

  put(image: Buffer): void {
    writeFileSync(this.imagePath, image);
  }

  async verify(): Promise<Verdict> {
    return codeOf(async () => ((await verify(this.imagePath, this.#reading)).intact ? 'intact' : 'damaged'));
  }

  /** The memory, or the code of the refusal. */
  async load(): Promise<Buffer | ErrorCode> {
    return codeOf(async () => {
      await load(this.imagePath, this.#targetPath, { ...this.#reading, force: true });
      const memory = readFileSync(this.#targetPath);
      rmSync(this.#targetPath);
      return memory;
    });
  }
}

/** The code of a VmsnapError, which is an answer; anything else is a bug and passes through. */
export async function codeOf<T>(action: () => Promise<T>): Promise<T | ErrorCode> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof VmsnapError) return error.code;
    throw error;
  }
}
