/**
 * Which memory of a machine can be read from files: that of shared memory-backend-file objects with a name, which QEMU leaves
 * out of its stream when told to (x-ignore-shared). A file that is gone, or that nobody maps any more because another took
 * its name, is not the machine's memory: then all of it comes through the stream.
 */
import { closeSync, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { VmsnapError } from '../../native/errors.js';
import { openFileStats } from '../../native/fileStats.js';
import { findWriters, isWriter } from '../files/writers.js';
import type { MachineFacts, MemoryBackend } from './machineFacts.js';
import { isAtLeast } from './qemuVersion.js';

/** Private memory beside that of files: up to so much, what the stream has goes through a temporary file. */
const PRIVATE_MAX_BYTES = 256 * 2 ** 20;

export interface OpenMemoryFile {
  readonly backend: MemoryBackend;
  readonly fd: number;
  readonly path: string;
}

export interface MemoryChoice {
  /** Read directly. Empty: all memory comes through the stream. */
  readonly files: readonly OpenMemoryFile[];
  /** Why not, for people; undefined where files are read. */
  readonly reason: string | undefined;
}

export const FASTER_BACKEND = 'memory-backend-file,share=on would be read directly';
/** What QEMU is to be started with. */
export const LIVE_BACKEND =
  '-object memory-backend-file,id=ram,share=on,mem-path=FILE,size=... -machine memory-backend=ram';

export function chooseMemory({ backends, qemuVersion }: MachineFacts): MemoryChoice {
  const files: OpenMemoryFile[] = [];
  const stream = (reason: string): MemoryChoice => {
    closeFiles(files);
    return { files: [], reason };
  };
  let privateBytes = 0;
  for (const backend of backends) {
    if (backend.type !== 'memory-backend-file' || !backend.share || backend.path === null) {
      // QEMU before 8.1 leaves out all shared memory, with a name or without.
      if (backend.share && !isAtLeast(qemuVersion, 8, 1)) return stream(FASTER_BACKEND);
      privateBytes += backend.sizeBytes;
      continue;
    }
    const opened = openMemoryFile(backend, backend.path);
    if (typeof opened === 'string') return stream(opened);
    files.push(opened);
  }
  if (files.length === 0 || privateBytes > PRIVATE_MAX_BYTES) return stream(FASTER_BACKEND);
  return { files, reason: undefined };
}

export function closeFiles(files: readonly OpenMemoryFile[]): void {
  for (const { fd } of files) closeSync(fd);
}

/** @returns why it cannot be read. */
function openMemoryFile(backend: MemoryBackend, path: string): OpenMemoryFile | string {
  let fd: number | undefined;
  let fault: string | undefined;
  try {
    fd = openSync(path, 'r');
    fault = fileFault(fstatSync(fd), backend, path);
    if (fault === undefined) return { backend, fd, path };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    fault = code === 'ENOENT' ? `the memory file ${path} is gone` : `the memory file ${path} may not be read (${code})`;
  }
  if (fd !== undefined) closeSync(fd);
  return fault;
}

function fileFault(stats: Stats, { fileOffset, sizeBytes }: MemoryBackend, path: string): string | undefined {
  if (!stats.isFile()) return `${path} is no memory file, but a folder of them: QEMU's file in it has no name`;
  if (stats.size < fileOffset + sizeBytes) return `the memory file ${path} is shorter than the machine's memory`;
  const isReplaced = seesAllProcesses() && findWriters(stats).length === 0;
  return isReplaced ? `the memory file ${path} has been replaced: the machine has another` : undefined;
}

function seesAllProcesses(): boolean {
  return process.getuid?.() === 0;
}

/**
 * Once QEMU's process is known. @throws GUEST if it can be seen that a file is not what that process has open.
 */
export function requireMapped(files: readonly OpenMemoryFile[], processId: number | undefined): void {
  if (processId === undefined) return;
  try {
    readFileSync(`/proc/${processId}/maps`, 'latin1');
  } catch {
    // Of another user: it cannot be seen.
    return;
  }
  for (const { fd, path } of files) {
    if (isWriter(processId, openFileStats({ fd, path }))) continue;
    throw new VmsnapError('GUEST', `${path} is not the memory of the machine: its process does not have it open`, {
      path,
      hint: 'was the file replaced while the machine ran? Without it (moved away), the memory is read through QEMU',
    });
  }
}
