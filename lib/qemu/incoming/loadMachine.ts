/** `load --machine`: a folder with all that QEMU needs to bring a machine back, and the words for it. */
import { closeSync, lstatSync, openSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { native } from '../../../native/binding.js';
import { errnoError, VmsnapError, withSystemErrors } from '../../../native/errors.js';
import { LockedFolder, removeLeftover } from '../../files/lockedFolder.js';
import { removeTree } from '../../files/remove.js';
import { syncFile, syncFolder } from '../../files/replacementFile.js';
import { temporaryName } from '../../files/sweep.js';
import type { LoadResult } from '../../types.js';
import { Warnings } from '../../warnings.js';
import { MACHINE_ATTACHMENT } from '../machineDescription.js';
import { diskStates } from './checkDisks.js';
import { type MachineImage, openMachineImage } from './machineImage.js';
import type { LoadMachineOptions, LoadMachineResult } from './machineTypes.js';
import { placeMemoryFiles, writeMemoryFile } from './memoryFiles.js';
import { sendStream } from './migrationStream.js';
import { memoryArguments, recordedCommand, restoreCommands, waitingArguments } from './qemuArguments.js';

const { EEXIST, EINVAL, ENOENT, ENOSYS } = constants.errno;
const STATE_FILE = 'device-state';
const QMP_SOCKET = 'qmp';

/**
 * Writes the memory files, the migration stream and the description of a machine into a new folder, which gets its name when all of
 * it is written and proven.
 * @throws VmsnapError; nothing is left behind then.
 */
export async function loadMachine(
  imagePath: string,
  folder: string,
  options: LoadMachineOptions = {},
): Promise<LoadMachineResult> {
  const started = performance.now();
  options.signal?.throwIfAborted();
  const image = await openMachineImage(imagePath, options);
  const target = resolve(folder);
  const warnings = new Warnings(options);
  try {
    const force = options.force ?? false;
    // Before anything is made; and again under the lock, for what is put back there or has come meanwhile.
    requireReplaceable(target, force);
    const temporary = LockedFolder.create(join(dirname(target), temporaryName(basename(target))));
    try {
      putBack(target, temporary.path);
      const replaced = requireReplaceable(target, force);
      const results = await fill(image, temporary.path, { ...options, onWarning: (warning) => warnings.add(warning) });
      await publish(temporary, target, replaced);
      if (replaced) removeOld(temporary.path, warnings);
      return describe(image, target, results, warnings, started);
    } finally {
      temporary.remove();
    }
  } finally {
    image.close();
  }
}

async function fill(image: MachineImage, folder: string, options: LoadMachineOptions): Promise<LoadResult[]> {
  const results: LoadResult[] = [];
  for (const file of placeMemoryFiles(image, folder)) results.push(await writeMemoryFile(image, file, options));
  const state = join(folder, STATE_FILE);
  const fd = withSystemErrors('create', state, () => openSync(state, 'wx', 0o600));
  try {
    results.push(await sendStream(image, { fd, path: state }, options));
    await syncFile(fd, state);
  } finally {
    closeSync(fd);
  }
  if (image.descriptionBytes !== null) {
    const description = join(folder, MACHINE_ATTACHMENT);
    const bytes = image.descriptionBytes;
    withSystemErrors('write', description, () =>
      writeFileSync(description, bytes, { flag: 'wx', mode: 0o600, flush: true }),
    );
  }
  return results;
}

/** @returns whether there is something to replace. @throws EXISTS: it is there, and is not to be, or may not be, replaced. */
function requireReplaceable(target: string, force: boolean): boolean {
  const found = withSystemErrors('look at', target, () => lstatSync(target, { throwIfNoEntry: false }));
  if (found === undefined) return false;
  if (!force)
    throw new VmsnapError('EXISTS', `the folder ${target} exists already`, {
      path: target,
      hint: 'use --force to replace it, or choose another name',
    });
  // Only what an earlier load has made: a folder may hold anything.
  const names = () => withSystemErrors('look into the folder', target, () => readdirSync(target));
  const others = found.isDirectory() ? names().filter((name) => !isOwnName(name)) : [basename(target)];
  if (others.length === 0) return true;
  throw new VmsnapError('EXISTS', `${target} is no folder of a machine: it has ${others[0]}`, {
    path: target,
    hint: 'choose another name: --force replaces only what an earlier load --machine has made',
  });
}

function isOwnName(name: string): boolean {
  return [STATE_FILE, MACHINE_ATTACHMENT, QMP_SOCKET].includes(name) || name.startsWith('memory-');
}

/** The old folder, if there is one, gets the name that the new one had. */
async function publish(temporary: LockedFolder, target: string, replaced: boolean): Promise<void> {
  await syncFolder(temporary.path);
  const status = replaced ? exchange(temporary.path, target) : native.renameNoReplace(temporary.path, target);
  if (status !== 0) throw errnoError(status, 'rename the finished folder to', target);
  temporary.release();
  try {
    await syncFolder(dirname(target));
  } catch (error) {
    if (!replaced || !(error instanceof VmsnapError)) throw error;
    // After a power cut the old one may have the name again.
    const message = `${error.message}; the old folder is kept as ${temporary.path} until the next load`;
    throw new VmsnapError(error.code, message, { path: error.path, cause: error });
  }
}

/** What a load calls the old folder while neither of the two has the name, on a file system that cannot exchange them (NFS). */
function asideName(path: string): string {
  return `${path}-old`;
}

/** A load that was killed just then may have left the old folder aside, and it alone. Under the lock of the temporary folder. */
function putBack(target: string, path: string): void {
  const aside = asideName(path);
  const status = native.renameNoReplace(aside, target);
  // EEXIST: killed later, when the new one had the name.
  if (status !== 0 && status !== -ENOENT && status !== -EEXIST) throw errnoError(status, `rename to ${target}`, aside);
}

/** At once, so that one of them has the name at every moment; where the file system cannot, by a third name. */
function exchange(path: string, target: string): number {
  const status = native.renameExchange(path, target);
  if (status !== -EINVAL && status !== -ENOSYS) return status;
  const aside = asideName(path);
  // Of a run that was killed here, after the new one had the name.
  removeTree(aside);
  withSystemErrors('move aside', target, () => renameSync(target, aside));
  const renamed = native.renameNoReplace(path, target);
  const freeName = renamed === 0 ? path : target;
  withSystemErrors(`rename to ${freeName}`, aside, () => renameSync(aside, freeName));
  return renamed;
}

/** What is wrong with it does not touch the new one. */
function removeOld(path: string, warnings: Warnings): void {
  try {
    if (!removeLeftover(path)) throw new VmsnapError('LOCKED', `another vmsnap works in ${path}`, { path });
  } catch (error) {
    if (!(error instanceof VmsnapError)) throw error;
    const message = `the old folder is left as ${path}, and the next load removes it: ${error.message}`;
    warnings.add({ code: 'old-folder-left', message });
  }
}

function describe(
  image: MachineImage,
  folder: string,
  results: readonly LoadResult[],
  warnings: Warnings,
  started: number,
): LoadMachineResult {
  const files = placeMemoryFiles(image, folder);
  const stateFile = join(folder, STATE_FILE);
  const recorded = recordedCommand(image, files);
  const waiting = waitingArguments(join(folder, QMP_SOCKET));
  return {
    image: image.path,
    folder,
    memoryFiles: files.map(({ block, path }) => ({ block: block.name, path, sizeBytes: block.sizeBytes })),
    stateFile,
    qemuVersion: image.description?.qemuVersion ?? null,
    machineType: image.machineType === '' ? null : image.machineType,
    command: recorded === null ? null : [...recorded, ...waiting],
    arguments: [...memoryArguments(files), ...waiting],
    commands: restoreCommands(image, stateFile),
    disks: diskStates(image),
    memoryBytes: image.memoryBytes,
    dataBytes: results.reduce((sum, { dataBytes }) => sum + dataBytes, 0),
    imageBytes: results.reduce((sum, { imageBytes }) => sum + imageBytes, 0),
    digest: results[0]!.digest,
    run: { threads: results[0]!.run.threads, durationSeconds: (performance.now() - started) / 1000 },
    warnings: warnings.list,
  };
}
