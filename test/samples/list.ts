/**
 * The committed samples. Each format version has a folder (`v1`) that stays as it is for ever, with a list, samples.json, of what
 * readers must make of each, and with the keys of its encrypted images.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FORMAT_VERSION } from '../../formats/vmsnap/layout.js';
import type { KeySources } from '../../lib/index.js';
import { repositoryRoot } from '../formats/support/secondReader.js';
import type { DamageCode, LoadSource } from './damage.js';

export interface ListedFile {
  readonly name: string;
  /** Of the file: a committed sample never changes. */
  readonly sha256: string;
}

export interface ListedValid extends ListedFile {
  readonly identity: string;
  readonly digest: string;
  readonly memoryBytes: number;
  readonly memoryXxh3: string;
}

export interface ListedDamaged extends ListedFile {
  readonly base: string;
  readonly code: DamageCode;
  readonly passes?: LoadSource | undefined;
}

export interface SampleList {
  readonly valid: readonly ListedValid[];
  readonly damaged: readonly ListedDamaged[];
}

export function samplesFolder(version = FORMAT_VERSION): string {
  return join(repositoryRoot(), 'test', 'samples', `v${version}`);
}

/** Versions of which there are samples. */
export function sampleVersions(): number[] {
  const names = readdirSync(join(repositoryRoot(), 'test', 'samples'));
  return names.flatMap((name) => (/^v[1-9]\d*$/.test(name) ? [Number(name.slice(1))] : [])).sort((a, b) => a - b);
}

export function readSampleList(version = FORMAT_VERSION): SampleList {
  return JSON.parse(readFileSync(join(samplesFolder(version), 'samples.json'), 'utf8')) as SampleList;
}

export function samplePath(kind: 'valid' | 'damaged', name: string, version = FORMAT_VERSION): string {
  return join(samplesFolder(version), kind, `${name}.vms`);
}

/** Where the bases of differential samples are found. */
export function validFolder(version = FORMAT_VERSION): string {
  return join(samplesFolder(version), 'valid');
}

/** Test keys, which guard nothing. */
export function sampleKeyFiles(version = FORMAT_VERSION): { identityFile: string; passphraseFile: string } {
  const folder = join(samplesFolder(version), 'keys');
  return { identityFile: join(folder, 'identity'), passphraseFile: join(folder, 'passphrase') };
}

/** A new object for each image: what is opened is kept by it. */
export function sampleKeys(version = FORMAT_VERSION): KeySources {
  const { identityFile, passphraseFile } = sampleKeyFiles(version);
  const [identity, passphrase] = [identityFile, passphraseFile].map((file) => readFileSync(file, 'utf8').trimEnd());
  return { identities: [identity!], passphrase: passphrase! };
}
