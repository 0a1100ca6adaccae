/** The list of the committed samples, samples.json. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '../formats/support/secondReader.js';
import type { LoadSource } from './damage.js';

export interface SampleList {
  readonly valid: readonly {
    readonly name: string;
    readonly identity: string;
    readonly digest: string;
    readonly memoryBytes: number;
    readonly memoryXxh3: string;
  }[];
  readonly damaged: readonly {
    readonly name: string;
    readonly base: string;
    readonly code: 'CORRUPT' | 'UNSUPPORTED' | 'BASE_MISMATCH';
    readonly passes: LoadSource | undefined;
  }[];
}

export function readSampleList(): SampleList {
  return JSON.parse(readFileSync(join(repositoryRoot(), 'test', 'samples', 'samples.json'), 'utf8')) as SampleList;
}

export function samplePath(kind: 'valid' | 'damaged', name: string): string {
  return join(repositoryRoot(), 'test', 'samples', kind, `${name}.vms`);
}

/** Where the bases of differential samples are found. */
export function validFolder(): string {
  return join(repositoryRoot(), 'test', 'samples', 'valid');
}
