import { existsSync } from 'node:fs';
import { findProgram } from '../test/guest/availability.js';
import { CLI_PATH } from '../test/guest/cli.js';
import type { Job } from './measure.js';

/** A program with its settings, and how it does the four things that are compared. */
export interface Contender {
  name: string;
  /** What is missing here, if anything. */
  missing?: string;
  /** Writes a file that was not there before, in the program's own way. */
  saveToNewFile(source: string, image: string): Job;
  /** Writes over the pages that a file already has; undefined where the program cannot. */
  saveInPlace?(source: string, image: string): Job;
  loadToNewFile(image: string, target: string): Job;
  loadInPlace(image: string, target: string): Job;
}

/** Every ratio in the tables is to this one. */
export const REFERENCE = 'zstd -T2 -1';

export function contenders(): Contender[] {
  return [
    vmsnap('zstd', -1),
    vmsnap('zstd', 1),
    vmsnap('zstd', 3),
    vmsnap('zlib', 1),
    vmsnap('none'),
    zstd(1),
    zstd(3),
    pigz(),
    qemuImg([]),
    qemuImg(['-W']),
  ];
}

function vmsnap(codec: string, level?: number): Contender {
  const node = [process.execPath, CLI_PATH];
  const settings = ['--codec', codec, ...(level === undefined ? [] : [`--level=${level}`]), '--quiet'];
  return {
    name: `vmsnap ${codec}${level === undefined ? '' : ` ${level}`}`,
    ...(existsSync(CLI_PATH) ? {} : { missing: 'vmsnap is not built' }),
    saveToNewFile: (source, image) => ({ command: [...node, 'save', source, image, ...settings] }),
    saveInPlace: (source, image) => ({ command: [...node, 'save', source, '-', ...settings], stdoutFile: image }),
    loadToNewFile: (image, target) => ({ command: [...node, 'load', image, target, '--quiet'] }),
    loadInPlace: (image, target) => ({ command: [...node, 'load', image, target, '--in-place', '--force', '--quiet'] }),
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

function pigz(): Contender {
  const save = (source: string, image: string): Job => ({
    command: ['pigz', '-1', '-p2', '-c', source],
    stdoutFile: image,
  });
  const load = (image: string, target: string): Job => ({ command: ['pigz', '-d', '-c', image], stdoutFile: target });
  return {
    name: 'pigz -1 -p2',
    ...missingProgram('pigz', 'pigz'),
    saveToNewFile: save,
    saveInPlace: save,
    loadToNewFile: load,
    loadInPlace: load,
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
    loadToNewFile: (image, target) => ({ command: [...convert, '-f', 'qcow2', '-O', 'raw', image, target] }),
    loadInPlace: (image, target) => ({ command: [...convert, '-n', '-f', 'qcow2', '-O', 'raw', image, target] }),
  };
}

function missingProgram(program: string, debianPackage: string): { missing?: string } {
  if (findProgram(program) !== undefined) return {};
  return { missing: `${program} is not installed (Debian package ${debianPackage})` };
}
