/** The commands whose system calls fail (faults.test.ts): what they work on, what they may say, and what must be there afterwards. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type KeySources, load, type SaveOptions, save, verify } from '../../../lib/index.js';
import { findProgram } from '../../guest/availability.js';
import * as qemu from '../../support/qemuStream.js';
import { BACKUPS } from './faultBackups.js';
import { MACHINES } from './faultMachines.js';
import { nothing, type Operation, type Outcome, TEMPORARY, THREADS } from './faultOperation.js';
import { RUNNING_MACHINES } from './faultRunningMachines.js';
import { makeKey } from './keys.js';
import { KIB, MIB, mixedMemory, PAGE } from './memory.js';
import { makeFifo } from './pipes.js';
import { saveNight } from './stores.js';
import { Workspace } from './workspace.js';

/** Two segments: one of every kind of page, one nearly empty. */
const MEMORY = Buffer.concat([
  mixedMemory(400 * KIB),
  Buffer.alloc(700 * KIB),
  mixedMemory(200 * KIB, 3),
  Buffer.alloc(748 * KIB),
]);
const OLD_MEMORY = mixedMemory(MIB, 5);
/** What the base of a differential image holds. */
const BASE_MEMORY = Buffer.from(MEMORY);
mixedMemory(60 * KIB, 9).copy(BASE_MEMORY, 100 * KIB);
const ATTACHED = Buffer.from('what the machine was made of\n'.repeat(3000));
const GEOMETRY: SaveOptions = { segmentSize: MIB, frozen: true, threads: 2 };

async function writeInputs(folder: Workspace): Promise<void> {
  writeFileSync(folder.path('memory'), MEMORY);
  writeFileSync(folder.path('old-memory'), OLD_MEMORY);
  writeFileSync(folder.path('attached'), ATTACHED);
  const attachments = [{ name: 'machine', file: folder.path('attached') }];
  await save(folder.path('old-memory'), folder.path('old-image'), GEOMETRY);
  await save(folder.path('memory'), folder.path('good-image'), { ...GEOMETRY, attachments });
}

async function withFifos(folder: Workspace): Promise<void> {
  await writeInputs(folder);
  for (const name of ['in', 'out']) makeFifo(folder.path(name));
}

/** A full image, and one that is a difference to it. */
async function withChain(folder: Workspace): Promise<void> {
  await writeInputs(folder);
  writeFileSync(folder.path('base-memory'), BASE_MEMORY);
  const attachments = [{ name: 'machine', file: folder.path('attached') }];
  await save(folder.path('base-memory'), folder.path('base'), GEOMETRY);
  const options = { frozen: true, threads: 2, base: folder.path('base'), attachments };
  await save(folder.path('memory'), folder.path('difference'), options);
}

async function withKey(folder: Workspace): Promise<void> {
  await writeInputs(folder);
  const { identity, recipient } = await makeKey();
  writeFileSync(folder.path('key'), `${identity}\n`, { mode: 0o600 });
  writeFileSync(folder.path('recipients'), `${recipient}\n`);
  const encryption = { recipients: [recipient] };
  await save(folder.path('memory'), folder.path('sealed'), { ...GEOMETRY, encryption });
}

async function withPassphrase(folder: Workspace): Promise<void> {
  await writeInputs(folder);
  writeFileSync(folder.path('passphrase'), 'correct horse battery staple\n', { mode: 0o600 });
}

async function withCompressed(folder: Workspace): Promise<void> {
  await writeInputs(folder);
  execFileSync('xz', ['-k', folder.path('memory')]);
}

async function withDamage(folder: Workspace): Promise<void> {
  await writeInputs(folder);
  const image = readFileSync(folder.path('good-image'));
  writeFileSync(folder.path('cut-off'), image.subarray(0, image.indexOf('VIDX') - 100));
  image[image.indexOf('VSEG') + 3000]! ^= 0x40;
  writeFileSync(folder.path('damaged'), image);
}

/** One RAM block with {@link MEMORY} in it. */
function migrationStream(): Buffer {
  const pages = Array.from({ length: MEMORY.length / PAGE }, (_, i) => {
    const [at, bytes] = [i * PAGE, MEMORY.subarray(i * PAGE, (i + 1) * PAGE)];
    return bytes.equals(Buffer.alloc(PAGE)) ? qemu.zeroPage('pc.ram', at) : qemu.page('pc.ram', at, bytes);
  });
  return qemu.stream([{ id: 'pc.ram', sizeBytes: MEMORY.length }], qemu.ramPart(...pages));
}

async function withStream(folder: Workspace): Promise<void> {
  await withFifos(folder);
  writeFileSync(folder.path('stream'), migrationStream());
}

/** A protected image with its base, a full one with two differences, and the newest: the policy keeps the first two and the last. */
async function withStore(folder: Workspace): Promise<void> {
  const store = folder.path('store');
  mkdirSync(store);
  const place = new Workspace(store);
  await saveNight(place, 'old', 0);
  await saveNight(place, 'protected', 1, { base: 'old' });
  writeFileSync(join(store, 'protected.protected'), '');
  await saveNight(place, 'full', 2);
  await saveNight(place, 'second', 3, { base: 'full' });
  await saveNight(place, 'third', 4, { base: 'second' });
  await saveNight(place, 'newest', 5, { seed: 4 });
  rmSync(join(store, '.memory'));
  mkdirSync(folder.path('kept'));
  for (const name of readdirSync(store)) copyFileSync(join(store, name), folder.path(`kept/${name}`));
}

/** The image that is to be written: whole and new, or the old one. */
function imageCheck(name = 'image', old = 'old-image'): Operation['check'] {
  return async (folder, { done }) => {
    const isOld = readFileSync(folder.path(name)).equals(readFileSync(folder.path(old)));
    if (isOld) return done ? 'success is reported, and the image is the old one' : undefined;
    return imageFault(folder, name);
  };
}

function keysIn(folder: Workspace): KeySources | undefined {
  const [key, passphraseFile] = [folder.path('key'), folder.path('passphrase')];
  if (existsSync(key)) return { identityFiles: [key] };
  return existsSync(passphraseFile) ? { passphraseFile } : undefined;
}

async function imageFault(folder: Workspace, name: string): Promise<string | undefined> {
  const keys = keysIn(folder);
  if (!(await verify(folder.path(name), { keys })).intact) return 'the image is damaged';
  await load(folder.path(name), folder.path('check'), { force: true, keys });
  const right = readFileSync(folder.path('check')).equals(MEMORY);
  rmSync(folder.path('check'));
  return right ? undefined : 'the image holds other memory';
}

const resetImage = (folder: Workspace) => copyFileSync(folder.path('old-image'), folder.path('image'));

async function targetFault(folder: Workspace, { done }: Outcome): Promise<string | undefined> {
  const found = readFileSync(folder.path('target'));
  if (found.equals(MEMORY)) return undefined;
  if (done) return 'success is reported, and the target is wrong';
  if (existsSync(folder.path('.target.partial'))) return undefined;
  return found.equals(OLD_MEMORY) ? undefined : 'the target is neither old nor new, and no marker says so';
}

const resetTarget = (folder: Workspace) => writeFileSync(folder.path('target'), OLD_MEMORY);

/** What arrived behind a pipe: all of it if success is reported, else the beginning of it. */
function arrived(bytes: Buffer): Operation['check'] {
  return async (folder, { done }) => {
    const found = readFileSync(folder.path('received'));
    const isRight = found.equals(done ? bytes : bytes.subarray(0, found.length));
    return isRight ? undefined : `${found.length} bytes arrived, and they are not right`;
  };
}

const forgetArrived = (folder: Workspace) => writeFileSync(folder.path('received'), '');

interface SalvageAnswer {
  readonly lost: readonly { readonly offset: number; readonly length: number }[];
}

/** Every page is right, or a hole and listed; of the file itself as of a load. */
async function salvageFault(folder: Workspace, outcome: Outcome): Promise<string | undefined> {
  const found = readFileSync(folder.path('target'));
  if (!outcome.done) return found.equals(OLD_MEMORY) ? undefined : 'there is a target, and an error is told';
  // 14 is also the code of an image of which nothing can be told.
  if (!outcome.stdout.includes('"vmsnap.salvage"')) return found.equals(OLD_MEMORY) ? undefined : 'no list is told';
  const expected = Buffer.from(MEMORY);
  const { lost } = JSON.parse(outcome.stdout) as SalvageAnswer;
  for (const { offset, length } of lost) expected.fill(0, offset, offset + length);
  return found.equals(expected) ? undefined : 'a page is wrong and not listed';
}

const PRUNED = ['third', 'second', 'full'];
const REMAINS = ['newest', 'old', 'protected', 'protected.protected'];

/** What the policy keeps is there, what is gone went in order, and what was to go and stays is named. */
async function storeFault(folder: Workspace, { done, stderr }: Outcome): Promise<string | undefined> {
  const found = readdirSync(folder.path('store')).filter((name) => !name.startsWith('.'));
  const lacking = REMAINS.filter((name) => !found.includes(name));
  if (lacking.length > 0) return `${lacking} went, against the policy`;
  const stays = PRUNED.filter((name) => found.includes(name));
  if (stays.join() !== PRUNED.slice(PRUNED.length - stays.length).join()) return `only ${stays} stay: out of order`;
  if (done && stays.length > 0) return `success is reported, and ${stays} stay`;
  return stays.length === 0 || stderr.includes(folder.path('store')) ? undefined : 'it is not told why images stay';
}

function resetStore(folder: Workspace): void {
  // Only what is gone: a new file would be another one, and a younger one.
  for (const name of readdirSync(folder.path('kept')))
    if (!existsSync(folder.path(`store/${name}`)))
      copyFileSync(folder.path(`kept/${name}`), folder.path(`store/${name}`));
}

const SAVE = ['save', '--quiet', '--frozen', '--force', '--segment-size', '1M', ...THREADS];
const IMAGE_FILES = ['', 'image', '.image.vmsnap-tmp'];
const LOAD = ['load', '--quiet', '--force', ...THREADS];
const TARGET_FILES = ['', 'target', '.target.vmsnap-tmp'];
const CORRUPT = 14;
const BASE_MISMATCH = 16;
const KEY = 12;

export const OPERATIONS: readonly Operation[] = [
  {
    name: 'save',
    prepare: writeInputs,
    args: (folder) => [...SAVE, folder.path('memory'), folder.path('image')],
    files: [...IMAGE_FILES, 'memory'],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save with an attachment',
    prepare: writeInputs,
    args: (folder) => [
      ...SAVE,
      '--attach',
      `machine=${folder.path('attached')}`,
      folder.path('memory'),
      folder.path('image'),
    ],
    files: ['attached', '.image.vmsnap-tmp'],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save of a named pipe',
    prepare: withFifos,
    args: (folder) => [...SAVE, folder.path('in'), folder.path('image')],
    files: [...IMAGE_FILES, 'in'],
    peers: [['memory', 'in']],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save of standard input',
    prepare: withFifos,
    args: (folder) => [...SAVE, '-', folder.path('image')],
    files: [...IMAGE_FILES, 'in'],
    stdin: 'in',
    peers: [['memory', 'in']],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save to standard output',
    prepare: withFifos,
    args: (folder) => [...SAVE.filter((word) => word !== '--force'), folder.path('memory'), '-'],
    files: ['memory', 'out'],
    stdout: 'out',
    peers: [['out', 'received']],
    check: async (folder, { done }) => (done ? imageFault(folder, 'received') : undefined),
    reset: forgetArrived,
  },
  {
    name: 'save against a base',
    prepare: withChain,
    args: (folder) => [
      ...['save', '--quiet', '--frozen', '--force', ...THREADS, '--base', folder.path('base')],
      ...[folder.path('memory'), folder.path('image')],
    ],
    files: [...IMAGE_FILES, 'memory', 'base'],
    codes: [BASE_MISMATCH],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save of a QEMU stream',
    prepare: withStream,
    args: (folder) => [...SAVE, folder.path('stream'), folder.path('image')],
    files: [...IMAGE_FILES, 'stream', TEMPORARY],
    spills: true,
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save of a QEMU stream from a pipe',
    prepare: withStream,
    args: (folder) => [...SAVE, folder.path('in'), folder.path('image')],
    files: [...IMAGE_FILES, 'in', TEMPORARY],
    peers: [['stream', 'in']],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save, encrypted',
    prepare: withKey,
    args: (folder) => [
      ...[...SAVE, '--recipients-file', folder.path('recipients')],
      ...[folder.path('memory'), folder.path('image')],
    ],
    files: [...IMAGE_FILES, 'memory', 'recipients'],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save, encrypted with what a command says',
    prepare: withPassphrase,
    args: (folder) => [
      ...[...SAVE, '--passphrase-command', `cat ${folder.path('passphrase')}`],
      ...[folder.path('memory'), folder.path('image')],
    ],
    files: ['passphrase'],
    sockets: true,
    codes: [KEY],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'save of a compressed file',
    missing: findProgram('xz') === undefined ? 'there is no xz' : undefined,
    prepare: withCompressed,
    args: (folder) => [...SAVE, folder.path('memory.xz'), folder.path('image')],
    files: [...IMAGE_FILES, 'memory.xz'],
    sockets: true,
    // The program reads it, and says what it could not.
    codes: [CORRUPT],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'load',
    prepare: writeInputs,
    args: (folder) => [...LOAD, folder.path('good-image'), folder.path('target')],
    files: [...TARGET_FILES, 'good-image'],
    check: targetFault,
    reset: resetTarget,
  },
  {
    name: 'load in place',
    prepare: writeInputs,
    args: (folder) => ['load', '--quiet', '--in-place', ...THREADS, folder.path('good-image'), folder.path('target')],
    files: ['', 'good-image', 'target', '.target.partial'],
    check: async (folder, outcome) => {
      const fault = await targetFault(folder, outcome);
      rmSync(folder.path('.target.partial'), { force: true });
      return fault;
    },
    reset: resetTarget,
  },
  {
    name: 'load to a named pipe',
    prepare: withFifos,
    args: (folder) => ['load', '--quiet', ...THREADS, folder.path('good-image'), folder.path('out')],
    files: ['', 'good-image', 'out'],
    peers: [['out', 'received']],
    check: arrived(MEMORY),
    reset: forgetArrived,
  },
  {
    name: 'load to standard output',
    prepare: withFifos,
    args: (folder) => ['load', '--quiet', ...THREADS, folder.path('good-image'), '-'],
    files: ['good-image', 'out'],
    stdout: 'out',
    peers: [['out', 'received']],
    check: arrived(MEMORY),
    reset: forgetArrived,
  },
  {
    name: 'load of standard input',
    prepare: withFifos,
    args: (folder) => [...LOAD, '-', folder.path('target')],
    files: [...TARGET_FILES, 'in'],
    stdin: 'in',
    peers: [['good-image', 'in']],
    check: targetFault,
    reset: resetTarget,
  },
  {
    name: 'load of a chain',
    prepare: withChain,
    args: (folder) => [...LOAD, folder.path('difference'), folder.path('target')],
    files: [...TARGET_FILES, 'difference', 'base'],
    codes: [BASE_MISMATCH],
    check: targetFault,
    reset: resetTarget,
  },
  {
    name: 'load, encrypted',
    prepare: withKey,
    args: (folder) => [...LOAD, '--identity-file', folder.path('key'), folder.path('sealed'), folder.path('target')],
    files: [...TARGET_FILES, 'sealed', 'key'],
    check: targetFault,
    reset: resetTarget,
  },
  {
    name: 'salvage',
    prepare: withDamage,
    args: (folder) => [
      ...['load', '--salvage', '--json', '--force', ...THREADS],
      ...[folder.path('damaged'), folder.path('target')],
    ],
    files: [...TARGET_FILES, 'damaged'],
    done: [CORRUPT],
    check: salvageFault,
    reset: resetTarget,
  },
  {
    name: 'salvage of an image without an end',
    prepare: withDamage,
    args: (folder) => [
      ...['load', '--salvage', '--json', '--force', ...THREADS],
      ...[folder.path('cut-off'), folder.path('target')],
    ],
    files: [...TARGET_FILES, 'cut-off'],
    done: [CORRUPT],
    check: salvageFault,
    reset: resetTarget,
  },
  {
    name: 'verify',
    prepare: writeInputs,
    args: (folder) => ['verify', '--quiet', ...THREADS, folder.path('good-image')],
    files: ['good-image'],
    check: async () => undefined,
    reset: nothing,
  },
  {
    name: 'verify of a damaged image',
    prepare: withDamage,
    args: (folder) => ['verify', '--quiet', ...THREADS, folder.path('damaged')],
    files: ['damaged'],
    done: [CORRUPT],
    check: async (folder, { done, stdout }) =>
      done && !stdout.includes(folder.path('damaged')) ? `the image is not named: ${stdout}` : undefined,
    reset: nothing,
  },
  {
    name: 'flatten',
    prepare: withChain,
    args: (folder) => ['flatten', '--quiet', '--force', ...THREADS, folder.path('difference'), folder.path('image')],
    files: [...IMAGE_FILES, 'difference', 'base'],
    codes: [BASE_MISMATCH],
    check: imageCheck(),
    reset: resetImage,
  },
  {
    name: 'extract',
    prepare: writeInputs,
    args: (folder) => [
      ...['extract', '--attachment', 'machine', '--force'],
      ...[folder.path('good-image'), folder.path('target')],
    ],
    files: [...TARGET_FILES, 'good-image'],
    check: async (folder, { done }) => {
      const found = readFileSync(folder.path('target'));
      if (found.equals(ATTACHED)) return undefined;
      return !done && found.equals(OLD_MEMORY) ? undefined : 'the file is not what was attached';
    },
    reset: resetTarget,
  },
  {
    name: 'extract to standard output',
    prepare: withFifos,
    args: (folder) => ['extract', '--attachment', 'machine', folder.path('good-image'), '-'],
    files: ['good-image', 'out'],
    stdout: 'out',
    peers: [['out', 'received']],
    check: arrived(ATTACHED),
    reset: forgetArrived,
  },
  {
    name: 'compare of equal memories',
    prepare: withChain,
    args: (folder) => ['compare', '--quiet', ...THREADS, folder.path('difference'), folder.path('memory')],
    files: ['difference', 'base', 'memory'],
    codes: [BASE_MISMATCH],
    check: async () => undefined,
    reset: nothing,
  },
  {
    name: 'compare of different images',
    prepare: withChain,
    args: (folder) => ['compare', '--quiet', ...THREADS, folder.path('difference'), folder.path('base')],
    files: ['difference', 'base'],
    done: [1],
    codes: [BASE_MISMATCH],
    check: async () => undefined,
    reset: nothing,
  },
  {
    name: 'prune',
    prepare: withStore,
    args: (folder) => ['prune', '--quiet', '--keep-last', '1', ...THREADS, folder.path('store')],
    files: [
      '',
      '/.vmsnap.lock',
      ...['old', 'protected', 'full', 'second', 'third', 'newest'].map((name) => `/${name}`),
    ].map((name) => `store${name}`),
    codes: [3],
    keeps: ['store/.vmsnap.lock'],
    check: storeFault,
    reset: resetStore,
  },
  ...BACKUPS,
  ...MACHINES,
  ...RUNNING_MACHINES,
];
