/** Reads a store: every image of a folder with what it says about itself and whether its memory can be brought back. */
import { type Dirent, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { withSystemErrors } from '../../native/errors.js';
import { type ImageFacts, readImageFacts } from './imageFacts.js';
import { ChainResolver } from './storeChains.js';
import type { StoreEntry, StoreListing, StoreOptions } from './storeTypes.js';

const PROTECTED_SUFFIX = '.protected';

/**
 * Lists the images of a folder; folders in it are not looked into, hidden files (temporary ones, locks, markers), links and
 * what is no image are passed over. A few short reads for each image, and nothing of its memory.
 * @throws NOT_FOUND, PERMISSION or IO for the folder itself; what is wrong with an image stands in its entry.
 */
export async function listStore(folder: string, options: StoreOptions = {}): Promise<StoreListing> {
  const files = withSystemErrors('read the folder', folder, () => readdirSync(folder, { withFileTypes: true }));
  const names = new Set(files.map(({ name }) => name));
  const resolver = new ChainResolver(options.baseDirs);
  const facts: ImageFacts[] = [];
  for (const name of files.filter(mayBeImage).map((file) => file.name)) {
    options.signal?.throwIfAborted();
    const image = readImageFacts(join(folder, name));
    if (image === undefined) continue;
    resolver.add(image);
    facts.push(image);
    // Lets a signal through, and whatever else the program does.
    if (facts.length % 64 === 0) await new Promise(setImmediate);
  }
  const entries = facts.map((image) => entryOf(image, resolver, names));
  return { folder, entries: entries.sort(compareEntries) };
}

function mayBeImage(file: Dirent): boolean {
  return file.isFile() && !file.name.startsWith('.');
}

function entryOf(image: ImageFacts, resolver: ChainResolver, names: ReadonlySet<string>): StoreEntry {
  const { path, stamp, fileBytes, identity, createdAt, machine, sourceName, group, labels, memoryBytes, base } = image;
  const name = basename(path);
  const { bases, problem } = resolver.resolve(image);
  const isBroken = image.state === 'good' && problem !== undefined;
  return {
    path,
    name,
    state: isBroken ? 'broken-chain' : image.state,
    problem: isBroken ? { code: 'BASE_MISMATCH', message: problem } : image.problem,
    fileBytes,
    stamp,
    isProtected: names.has(`${name}${PROTECTED_SUFFIX}`),
    identity,
    createdAt,
    machine,
    sourceName,
    group,
    labels,
    memoryBytes,
    base,
    bases: bases.map((link) => ({ path: link.path, identity: link.identity! })),
  };
}

function compareEntries(a: StoreEntry, b: StoreEntry): number {
  return compareText(a.group, b.group) || compareText(a.createdAt, b.createdAt) || compareText(a.name, b.name);
}

/** By code units, so the same everywhere; undefined first. */
function compareText(a: string | undefined, b: string | undefined): number {
  if (a === b) return 0;
  if (a === undefined || b === undefined) return a === undefined ? -1 : 1;
  return a < b ? -1 : 1;
}

/** What people call the machine of an image. */
export function machineTitle({ machine, sourceName }: Pick<StoreEntry, 'machine' | 'sourceName'>): string | undefined {
  return machine.name ?? machine.uuid ?? sourceName;
}

/** Whether an image is of the machine that somebody means by this uuid (in any case), name, or name of the source. */
export function isOfMachine({ machine, sourceName }: StoreEntry, wanted: string): boolean {
  if (machine.uuid?.toLowerCase() === wanted.toLowerCase() || machine.name === wanted) return true;
  return machine.uuid === undefined && machine.name === undefined && sourceName === wanted;
}

/** On a disk that fails nobody can tell whose image it is. What only others may read is theirs. */
export function mayBeOfAny({ state, group, problem }: StoreEntry): boolean {
  return state === 'unreadable' && group === undefined && problem?.code !== 'PERMISSION';
}
