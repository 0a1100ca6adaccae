/**
 * The QEMU that a machine is brought back in: a child with our standard input and output, so that a serial port or monitor on
 * them works, and whose words on standard error are passed on and remembered.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { VmsnapError } from '../../../native/errors.js';
import { lastWords } from '../../processGroup.js';
import type { QemuEnd } from './machineTypes.js';
import { hasOption } from './qemuArguments.js';

/** Kept of what it says: the end. */
const WORDS_MAX_LENGTH = 16 * 1024;
/** For words that come after the end of the process itself. */
const LAST_WORDS_MS = 200;

export class QemuProcess {
  /** With -daemonize the process that was started ends when QEMU is ready, and another goes on. */
  readonly goesToBackground: boolean;
  readonly ended: Promise<QemuEnd>;
  readonly #child: ChildProcess;
  readonly #program: string;
  #words = '';
  #end: QemuEnd | undefined;

  private constructor(
    child: ChildProcess,
    command: readonly string[],
    onOutput: ((bytes: Buffer) => void) | undefined,
  ) {
    this.#child = child;
    this.#program = command[0]!;
    this.goesToBackground = hasOption(command, 'daemonize');
    child.stderr!.on('data', (bytes: Buffer) => {
      this.#words = (this.#words + bytes.toString('utf8')).slice(-WORDS_MAX_LENGTH);
      onOutput?.(bytes);
    });
    // The machine runs all the same.
    child.stderr!.on('error', () => {});
    this.ended = endOf(child).then((end) => {
      this.#end = end;
      return end;
    });
  }

  /**
   * @param heldFds descriptors that it holds as long as it lives.
   * @throws NOT_FOUND, PERMISSION: there is no such program.
   */
  static start(
    command: readonly string[],
    heldFds: readonly number[],
    onOutput: ((bytes: Buffer) => void) | undefined,
  ): Promise<QemuProcess> {
    const child = spawn(command[0]!, command.slice(1), { stdio: ['inherit', 'inherit', 'pipe', ...heldFds] });
    return new Promise((resolve, reject) => {
      child.once('spawn', () => resolve(new QemuProcess(child, command, onOutput)));
      child.once('error', (error: NodeJS.ErrnoException) => reject(notStarted(command[0]!, error)));
    });
  }

  get processId(): number {
    return this.#child.pid!;
  }

  /** Whether the machine's process is gone. */
  get isGone(): boolean {
    return this.#end !== undefined && !(this.goesToBackground && this.#end.exitCode === 0);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Why the machine does not run, in QEMU's words; to be asked when it is gone. */
  endError(): VmsnapError {
    const { exitCode, killedBy } = this.#end!;
    const how = exitCode === null ? `was ended by ${killedBy}` : `ended with ${exitCode}`;
    return new VmsnapError('GUEST', `QEMU ${how} before the machine ran${lastWords(this.#words)}`, {
      path: this.#program,
      hint: 'give QEMU the arguments that the saved machine had: the same machine type, memory and devices',
    });
  }
}

function notStarted(program: string, { code, message }: NodeJS.ErrnoException): VmsnapError {
  const known = code === 'ENOENT' ? 'NOT_FOUND' : code === 'EACCES' ? 'PERMISSION' : 'FAILED';
  const why = code === 'ENOENT' ? 'there is no such program' : code === 'EACCES' ? 'it may not be run' : message;
  return new VmsnapError(known, `cannot start ${program}: ${why}`, { path: program });
}

/** Its exit, and then its words, but not for long: what it leaves running may hold its standard error for ever. */
function endOf(child: ChildProcess): Promise<QemuEnd> {
  return new Promise((resolve) => {
    child.once('exit', (exitCode, killedBy) => {
      const late = setTimeout(() => resolve({ exitCode, killedBy }), LAST_WORDS_MS);
      child.once('close', () => {
        clearTimeout(late);
        resolve({ exitCode, killedBy });
      });
    });
  });
}
