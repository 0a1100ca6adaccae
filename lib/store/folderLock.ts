/**
 * The lock of a store: whoever removes images from a folder, or relies on one to stay, holds `.vmsnap.lock` in it with flock,
 * so that a shell can do the same.
 *
 * Who is at the images of one machine only (a backup job) shares it with those who are at other machines', and holds besides
 * a byte of the file for each word by which its images are found: the jobs of several machines in one folder do not wait for each other.
 *
 * The lock dies with its holder, the file stays: what is in it (a process id) is for the message only.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, ftruncateSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError, withSystemErrors } from '../../native/errors.js';
import { isBusy, isStill } from '../files/fileLock.js';

const LOCK_NAME = '.vmsnap.lock';
const RETRY_MS = 100;
/** Bytes of which one stands for a machine; no two machines will meet in one. */
const MACHINE_BITS = 48;

export interface LockOptions {
  /** The uuid and the name, in any case, of the machine whose images alone are meant; default: those of all. */
  readonly machine?: readonly string[] | undefined;
  /** How long to wait for another holder; default 0. */
  readonly waitSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A folder that is held; it is given back by `release`, or when the process ends. */
export interface FolderLock {
  readonly folder: string;
  release(): void;
}

/**
 * Locks a folder of images against every other vmsnap that prunes it or makes backups in it; with `machine` against those
 * that prune all of it, or are at the same machine.
 * @throws LOCKED if another holds it for longer than `waitSeconds`; NOT_FOUND, PERMISSION, IO.
 */
export async function lockFolder(folder: string, options: LockOptions = {}): Promise<FolderLock> {
  withSystemErrors('look into the folder', folder, () => statSync(folder));
  const path = join(folder, LOCK_NAME);
  const until = performance.now() + (options.waitSeconds ?? 0) * 1000;
  for (;;) {
    options.signal?.throwIfAborted();
    const taken = tryLockFolder(folder, path, options.machine);
    if (typeof taken !== 'string') return taken;
    const leftMs = until - performance.now();
    if (leftMs <= 0) throw lockedError(folder, taken);
    await delay(Math.min(RETRY_MS, leftMs), undefined, options.signal && { signal: options.signal }).catch(() => {
      // The next round throws the signal's own reason.
    });
  }
}

/** The lock, or the process id of one who is at work there, as far as it is known. */
function tryLockFolder(folder: string, path: string, machine: LockOptions['machine']): FolderLock | string {
  for (;;) {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const fd = withSystemErrors('open the lock', path, () => openSync(path, flags, 0o600));
    const result = machine === undefined ? native.tryLock(fd) : tryLockMachine(fd, machine);
    let isOurs = false;
    try {
      if (isBusy(result)) return readHolder(fd);
      if (result !== 0) throw errnoError(result, 'lock', path);
      // Somebody may remove the file between open and lock: then the next one is the one that counts.
      isOurs = isStill(path, fd);
      if (isOurs) return held(folder, fd);
    } finally {
      if (!isOurs) closeSync(fd);
    }
  }
}

/** What has been locked of them when one is refused is given back with `fd`. */
function tryLockMachine(fd: number, machine: readonly string[]): number {
  const shared = native.tryLockShared(fd);
  if (shared !== 0) return shared;
  for (const byte of machine.map(byteOf)) {
    const result = native.tryLockRange(fd, byte, 1);
    if (result !== 0) return result;
  }
  return 0;
}

function byteOf(word: string): number {
  const hash = createHash('sha256').update(word.toLowerCase()).digest();
  return hash.readUIntBE(0, MACHINE_BITS / 8);
}

function held(folder: string, fd: number): FolderLock {
  let open = true;
  try {
    ftruncateSync(fd, 0);
    writeSync(fd, `${process.pid}\n`, 0);
  } catch {
    // A full disk keeps nobody from pruning.
  }
  const release = () => {
    if (open) closeSync(fd);
    open = false;
  };
  return { folder, release };
}

/** The last that took the lock, if it is still there: of several holders it is one. */
function readHolder(fd: number): string {
  const bytes = Buffer.alloc(16);
  try {
    const holder = /^\d+/.exec(bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, 0)))?.[0] ?? '';
    if (holder !== '') process.kill(Number(holder), 0);
    return holder;
  } catch {
    return '';
  }
}

function lockedError(folder: string, holder: string): VmsnapError {
  const who = holder === '' ? 'another vmsnap' : `another vmsnap (process ${holder})`;
  return new VmsnapError('LOCKED', `${who} is at work in ${folder}`, {
    path: folder,
    hint: 'wait until it is done, or give a time to wait with --lock-wait',
  });
}
