/**
 * Starts the guard (guardMain.ts) before a machine is stopped, and tells it what is to be done if vmsnap ends: SIGKILL, the
 * end of memory and crashes included.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VmsnapError } from '../../native/errors.js';
import type { AgentAddress } from './guestAgent.js';
import type { LiveAddress } from './liveAddress.js';
import type { PeerLimits } from './steadyPeer.js';

/** Beside this file: guardMain.js as compiled, guardMain.cjs in the bundle. */
const MAIN = fileURLToPath(new URL(`./guardMain${extname(import.meta.url)}`, import.meta.url));
const START_SECONDS = 30;

export interface GuardStart {
  readonly address: LiveAddress;
  readonly agent: AgentAddress | undefined;
  readonly limits: PeerLimits;
}

/** What the guard does if it hears no more. */
export interface GuardOrder {
  /** The machine is stopped and was found running. */
  readonly resume: boolean;
  /** Its file systems are frozen. */
  readonly thaw: boolean;
  /** What puts back what was changed in QEMU. */
  readonly restore: readonly { readonly command: string; readonly args: Record<string, unknown> }[];
  /** To be removed: what QEMU is to connect to lies there. */
  readonly streamFolder: string | undefined;
}

export class Guard {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Waits until it is there. @throws FAILED if it cannot be started. */
  static async start(start: GuardStart, signal: AbortSignal): Promise<Guard> {
    // A session of its own: Ctrl-C goes to the whole group of the terminal.
    const child = spawn(process.execPath, [MAIN, JSON.stringify(start)], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin!.on('error', () => {});
    try {
      await ready(child, signal);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
    child.stdout!.destroy();
    child.unref();
    return new Guard(child);
  }

  /** @throws FAILED where it cannot be told: it is gone, or is made to go, for it would take the end of the pipe for that of vmsnap. */
  order(order: GuardOrder): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#child.stdin!.write(`${JSON.stringify(order)}\n`, (error) => {
        if (error === null || error === undefined) return resolve();
        this.#child.kill('SIGKILL');
        reject(
          new VmsnapError('FAILED', `the process that guards the machine is lost: ${error.message}`, {
            hint: 'save again; without a guard a machine is not stopped',
          }),
        );
      });
    });
  }

  /** The last order goes on to hold if anything is left to do. */
  end(): void {
    this.#child.stdin!.end();
  }
}

function ready(child: ChildProcess, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) =>
      reject(
        new VmsnapError('FAILED', `the process that guards the machine did not start: ${why}`, {
          hint: 'the machine was not stopped; without a guard it is not',
        }),
      );
    const onAbort = () => reject(signal.reason);
    const timer = setTimeout(() => fail(`no word of it in ${START_SECONDS} s`), START_SECONDS * 1000);
    const settle = (action: () => void) => () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      action();
    };
    signal.addEventListener('abort', settle(onAbort), { once: true });
    child.once('error', (error) => settle(() => fail(error.message))());
    child.stdout!.once('error', (error) => settle(() => fail(error.message))());
    child.once('exit', (code, name) => settle(() => fail(`it ended with ${code ?? name}`))());
    child.stdout!.once('data', settle(resolve));
  });
}
