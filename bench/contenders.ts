import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { findProgram } from '../test/guest/availability.js';
import type { Job } from './measure.js';

/** The command line as users run it. */
export const VMSNAP = [process.execPath, fileURLToPath(new URL('../bundle/vmsnap.cjs', import.meta.url))];

/** A program with its settings, and how it does the four things that are compared. */
export interface Contender {
  name: string;
  /** What is missing here, if anything. */
  missing?: string;
  /** Takes part where time is dear, too: on disk, and with a large guest. */
  isShort?: boolean;
  /** Writes a file that was not there before, in the program's own way. */
  saveToNewFile(source: string, image: string): Job;
  /** Writes over the pages that a file already has; undefined where the program cannot. */
  saveInPlace?(source: string, image: string): Job;
  loadToNewFile(image: string, target: string): Job;
  loadInPlace?(image: string, target: string): Job;
}

/** Every ratio in the tables is to this one. */
export const REFERENCE = 'zstd -T2 -1';

export function contenders(): Contender[] {
  return [
    { ...vmsnap('zstd', -1), isShort: true },
    { ...vmsnap('zstd', 1), isShort: true },
    vmsnap('zstd', 3),
    vmsnap('zlib', 1),
    { ...vmsnap('none'), isShort: true },
    { ...zstd(1), isShort: true },
    zstd(3),
    pigz(1),
    lz4(),
    { ...qemuImg(['-W']), isShort: true },
  ];
}

/** The same levels of zlib on both sides. */
export function zlibContenders(levels: readonly number[]): Contender[] {
  return levels.flatMap((level) => [vmsnap('zlib', level), pigz(level)]);
}

export function vmsnap(codec: string, level?: number): Contender {
  const settings = ['--codec', codec, ...(level === undefined ? [] : [`--level=${level}`]), '--threads=2', '--quiet'];
  const load = ['--threads=2', '--quiet'];
  return {
    name: `vmsnap ${codec}${level === undefined ? '' : ` ${level}`}`,
    ...(existsSync(VMSNAP[1]!) ? {} : { missing: 'vmsnap is not built' }),
    saveToNewFile: (source, image) => ({ command: [...VMSNAP, 'save', source, image, ...settings] }),
    saveInPlace: (source, image) => ({ command: [...VMSNAP, 'save', source, '-', ...settings], stdoutFile: image }),
    loadToNewFile: (image, target) => ({ command: [...VMSNAP, 'load', image, target, ...load] }),
    loadInPlace: (image, target) => ({ command: [...VMSNAP, 'load', image, target, '--in-place', '--force', ...load] }),
  };
}

function zstd(level: number): Contender {
  const program = ['zstd', '-q'];
  return {
    name: `zstd -T2 -${level}`,
    ...missingProgram('zstd', 'zstd'),
    saveToNewFile: (source, image) => ({ command: [...program, '-T2', `-${level}`, source, '-o', image] }),
    saveInPlace: (source, image) => ({ command: [...program, '-T2', `-${level}`, '-c', source], stdoutFile: image }),
    loadToNewFile: (image, target) => ({ command: [...program, '-d', image, '-o', target] }),
    // To standard output zstd writes zeros out, as it must over a file that has other bytes there.
    loadInPlace: (image, target) => ({ command: [...program, '-d', '-c', image], stdoutFile: target }),
  };
}

/** It writes to new files only here, because it takes longest, and the same either way. */
function pigz(level: number): Contender {
  return {
    name: `pigz -${level} -p2`,
    ...missingProgram('pigz', 'pigz'),
    saveToNewFile: (source, image) => ({ command: ['pigz', `-${level}`, '-p2', '-c', source], stdoutFile: image }),
    loadToNewFile: (image, target) => ({ command: ['pigz', '-d', '-c', image], stdoutFile: target }),
  };
}

/** One thread: what Debian 12 has knows no more. */
function lz4(): Contender {
  return {
    name: 'lz4 -1',
    ...missingProgram('lz4', 'lz4'),
    saveToNewFile: (source, image) => ({ command: ['lz4', '-q', '-1', source, image] }),
    saveInPlace: (source, image) => ({ command: ['lz4', '-q', '-1', '-c', source], stdoutFile: image }),
    loadToNewFile: (image, target) => ({ command: ['lz4', '-q', '-d', image, target] }),
    loadInPlace: (image, target) => ({ command: ['lz4', '-q', '-d', '-c', image], stdoutFile: target }),
  };
}

/** No in-place save: qemu-img always makes its qcow2 file anew. */
function qemuImg(options: string[]): Contender {
  const convert = ['qemu-img', 'convert'];
  const qcow2 = ['-c', '-f', 'raw', '-O', 'qcow2', '-o', 'compression_type=zstd'];
  return {
    name: ['qemu-img qcow2 zstd', ...options].join(' '),
    ...missingProgram('qemu-img', 'qemu-utils'),
    saveToNewFile: (source, image) => ({ command: [...convert, ...options, ...qcow2, source, image] }),
    loadToNewFile: (image, target) => ({
      command: [...convert, ...options, '-f', 'qcow2', '-O', 'raw', image, target],
    }),
    loadInPlace: (image, target) => ({
      command: [...convert, ...options, '-n', '-f', 'qcow2', '-O', 'raw', image, target],
    }),
  };
}

function missingProgram(program: string, debianPackage: string): { missing?: string } {
  if (findProgram(program) !== undefined) return {};
  return { missing: `${program} is not installed (Debian package ${debianPackage})` };
}
