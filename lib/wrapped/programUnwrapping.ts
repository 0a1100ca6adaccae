/** Decompression by a program in PATH, with the file as its standard input and no shell between. */
import { spawn } from 'node:child_process';
import { accessSync, closeSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { VmsnapError, wrapSystemError } from '../../native/errors.js';
import type { StartUnwrapping } from './unwrapping.js';

const STDERR_KEPT_CHARACTERS = 500;

export interface Program {
  readonly name: string;
  readonly debianPackage: string;
  /** Tells of garbage behind the contents on stderr alone, and ends with 0. */
  readonly complainsSilently?: boolean;
}

/** @throws UNSUPPORTED if the program is not there. */
export function byProgram(program: Program): StartUnwrapping {
  return (path, inputFd, outputFd) => {
    const close = () => {
      closeSync(inputFd);
      closeSync(outputFd);
    };
    const file = findInPath(program.name);
    if (file === undefined) {
      close();
      throw missing(program, path);
    }
    try {
      // Nothing of our environment may change what it does or says.
      const env = { PATH: process.env.PATH, LC_ALL: 'C' };
      const child = spawn(file, ['-dc'], { stdio: [inputFd, outputFd, 'pipe'], env });
      return { done: outcome(child, program, path), stop: () => child.kill('SIGKILL') };
    } finally {
      // The child has them now.
      close();
    }
  };
}

function outcome(child: ReturnType<typeof spawn>, program: Program, path: string): Promise<void> {
  let said = '';
  child.stderr!.setEncoding('latin1').on('data', (text: string) => {
    said = (said + text).slice(-STDERR_KEPT_CHARACTERS);
  });
  return new Promise((resolve, reject) => {
    // Some say in words alone that what they gave is not all.
    child.stderr!.once('error', (error) => {
      child.kill('SIGKILL');
      reject(wrapSystemError(error, `read what ${program.name} says of`, path));
    });
    child.once('error', ({ message }) => reject(new VmsnapError('FAILED', `${program.name}: ${message}`, { path })));
    child.once('close', (code, signal) => {
      const text = printable(said);
      const isSound = code === 0 && !(program.complainsSilently && text !== '');
      if (isSound) resolve();
      else reject(failed(program, path, signal === null ? `ended with code ${code}` : `was ended by ${signal}`, text));
    });
  });
}

function failed({ name }: Program, path: string, how: string, text: string): VmsnapError {
  const words = text === '' ? '' : `: ${text}`;
  return new VmsnapError('CORRUPT', `${path} cannot be decompressed: ${name} ${how}${words}`, {
    path,
    hint: `test it with "${name} -t"; if it is raw memory all the same, say so with --format raw`,
  });
}

function missing({ name, debianPackage }: Program, path: string): VmsnapError {
  return new VmsnapError(
    'UNSUPPORTED',
    `${path} is compressed, and the program that decompresses it, ${name}, is not there`,
    {
      path,
      hint: `install it (Debian package ${debianPackage}); if it is raw memory all the same, say so with --format raw`,
    },
  );
}

function findInPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** On one line, and without what a terminal might obey. */
function printable(text: string): string {
  return text
    .replace(/[^\x20-\x7e]+/g, ' ')
    .replace(/ +/g, ' ')
    .trim();
}
