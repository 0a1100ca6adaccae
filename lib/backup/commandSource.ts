/**
 * Memory that a program writes to its standard output. Its bytes alone prove nothing: what died half way may have written a
 * whole number of pages. So the image gets its name only once the program has ended with 0.
 */
import { closeSync } from 'node:fs';
import { basename } from 'node:path';
import { native } from '../../native/binding.js';
import { errnoError, VmsnapError } from '../../native/errors.js';
import { PIPE_BYTES } from '../files/pipeCapacity.js';
import { endFault, lastWords, type ProgramEnd, startProgram } from '../processGroup.js';
import { save } from '../save.js';
import type { SaveOptions, SaveResult } from '../types.js';

export interface CommandSource {
  readonly command: readonly string[];
  readonly timeoutSeconds: number | undefined;
  readonly env: Readonly<Record<string, string>>;
}

/** Saves what the program writes. @throws FAILED if it fails, TIMEOUT, or what a save throws. */
export async function saveFromCommand(source: CommandSource, image: string, options: SaveOptions): Promise<SaveResult> {
  const { command, timeoutSeconds, env } = source;
  const name = basename(command[0]!);
  const pipe = native.pipe(PIPE_BYTES);
  if (typeof pipe === 'number') throw errnoError(pipe, 'open a pipe for', name);
  const [readFd, writeFd] = pipe;
  const stopper = new AbortController();
  const stop = () => stopper.abort(options.signal?.reason);
  options.signal?.addEventListener('abort', stop, { once: true });
  let end: Promise<ProgramEnd>;
  try {
    const what = `the command ${name}`;
    try {
      ({ end } = startProgram(command, { what, timeoutSeconds, signal: stopper.signal, env, stdoutFd: writeFd }));
    } finally {
      closeSync(writeFd);
    }
    // A program that fails ends the save, and a save that fails ends the program.
    end.catch(() => undefined);
    const confirm = async () => requireSuccess(name, await end);
    return await save(undefined, image, { ...options, stream: { fd: readFd, name }, confirm });
  } catch (error) {
    throw await firstCause(name, error, end!, stopper);
  } finally {
    options.signal?.removeEventListener('abort', stop);
    closeSync(readFd);
  }
}

function requireSuccess(name: string, ended: ProgramEnd): void {
  const fault = endFault(ended);
  if (fault === undefined) return;
  throw new VmsnapError('FAILED', `the command ${name} ${fault}${lastWords(ended.output)}`, {
    hint: 'nothing was saved: memory that a failing program has written is not to be trusted',
  });
}

/** A program that failed explains a stream that ended too early, and not the other way round. */
async function firstCause(
  name: string,
  error: unknown,
  end: Promise<ProgramEnd> | undefined,
  stopper: AbortController,
): Promise<unknown> {
  if (end === undefined) return error;
  const isOver = await Promise.race([
    end.then(
      () => true,
      () => true,
    ),
    nextTurn().then(() => false),
  ]);
  if (!isOver) {
    stopper.abort(error);
    await end.catch(() => undefined);
    return error;
  }
  try {
    requireSuccess(name, await end);
    return error;
  } catch (cause) {
    return cause;
  }
}

/** Time for a program that has just closed its output to end. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 250);
  });
}
