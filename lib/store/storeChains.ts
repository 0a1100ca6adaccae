/**
 * Resolves the chains of a store's images: each base by its file name, beside the image that names it and then in the given folders,
 * and proven by its identity, as for a load (lib/chain.ts). Every file is looked at once, however many images need it.
 */
import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BASES_MAX } from '../../formats/vmsnap/layout.js';
import { type ImageFacts, readImageFacts } from './imageFacts.js';

export interface ResolvedChain {
  /** Nearest first, as far as they were found. */
  readonly bases: readonly ImageFacts[];
  /** Why it is not complete. */
  readonly problem: string | undefined;
}

export class ChainResolver {
  readonly #baseDirs: readonly string[];
  readonly #seen = new Map<string, ImageFacts | undefined>();
  /** The base of each image that names one, by path; or what is wrong. */
  readonly #bases = new Map<string, ImageFacts | string>();

  constructor(baseDirs: readonly string[] = []) {
    this.#baseDirs = baseDirs;
  }

  /** What was read already. */
  add(facts: ImageFacts): void {
    this.#seen.set(facts.path, facts);
  }

  /** Of an image whose end is damaged, the bases that its head leads to. */
  resolve(image: ImageFacts): ResolvedChain {
    const { geometryKey } = image;
    const bases: ImageFacts[] = [];
    for (let child = image; child.base !== undefined; child = bases.at(-1)!) {
      if (bases.length === BASES_MAX) return { bases, problem: `it has more than ${BASES_MAX} bases below it` };
      const base = this.#baseOf(child);
      if (typeof base === 'string') return { bases, problem: base };
      bases.push(base);
      const areKnown = geometryKey !== undefined && base.geometryKey !== undefined;
      if (areKnown && base.geometryKey !== geometryKey) {
        return { bases, problem: `${base.path} cannot be its base: it has other regions, pages or segments` };
      }
    }
    return { bases, problem: undefined };
  }

  #baseOf(child: ImageFacts): ImageFacts | string {
    const known = this.#bases.get(child.path) ?? this.#find(child);
    this.#bases.set(child.path, known);
    return known;
  }

  #find(child: ImageFacts): ImageFacts | string {
    const { fileName, identity } = child.base!;
    const found: string[] = [];
    for (const folder of new Set([dirname(child.path), realFolder(child.path), ...this.#baseDirs])) {
      const path = join(folder, fileName);
      const facts = this.#look(path);
      if (facts?.state === 'good' && facts.identity === identity) return facts;
      if (facts === undefined) continue;
      found.push(facts.state === 'good' ? `${path} is another image` : `${path} is ${facts.state}`);
    }
    const where = found.length === 0 ? 'it is missing' : found.join('; ');
    return `${child.path} needs its base ${fileName} (identity ${identity}): ${where}`;
  }

  #look(path: string): ImageFacts | undefined {
    if (!this.#seen.has(path)) this.#seen.set(path, readImageFacts(path));
    return this.#seen.get(path);
  }
}

/** The folder of the file itself, where the image's name is a link to it. */
function realFolder(path: string): string {
  try {
    return dirname(realpathSync(path));
  } catch {
    return dirname(path);
  }
}
