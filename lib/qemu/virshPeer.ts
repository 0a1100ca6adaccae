/** A QEMU whose QMP socket libvirt holds: each command goes through `virsh qemu-monitor-command`. */
import { spawn } from 'node:child_process';
import { VmsnapError } from '../../native/errors.js';
import { lastWords } from '../processGroup.js';
import { type QmpPeer, QmpRefusal } from './qmpPeer.js';

const ANSWER_SECONDS = 60;
/** As long as the longest answers of QEMU, and then some. */
const ANSWER_MAX_LENGTH = 64 * 2 ** 20;

export class VirshPeer implements QmpPeer {
  readonly path: string;
  qemuVersion = '';
  readonly #domain: string;

  private constructor(domain: string) {
    this.#domain = domain;
    this.path = `libvirt:${domain}`;
  }

  /** @throws GUEST: no such domain, it does not run, or virsh is not there. */
  static async open(domain: string, signal?: AbortSignal, limitSeconds = ANSWER_SECONDS): Promise<VirshPeer> {
    signal?.throwIfAborted();
    const peer = new VirshPeer(domain);
    const answer = (await peer.execute('query-version', undefined, limitSeconds)) as {
      qemu?: Record<string, unknown>;
    } | null;
    const { major, minor, micro } = answer?.qemu ?? {};
    if (![major, minor, micro].every(Number.isInteger)) throw peer.#noSense('query-version');
    peer.qemuVersion = `${major}.${minor}.${micro}`;
    return peer;
  }

  async execute(command: string, args?: Record<string, unknown>, limitSeconds = ANSWER_SECONDS): Promise<unknown> {
    const request = JSON.stringify({ execute: command, arguments: args });
    const text = await virsh(['qemu-monitor-command', this.#domain, request], this.path, limitSeconds);
    let answer: { return?: unknown; error?: { class?: unknown; desc?: unknown } };
    try {
      answer = JSON.parse(text);
    } catch {
      throw this.#noSense(command);
    }
    if (typeof answer !== 'object' || answer === null) throw this.#noSense(command);
    const { error } = answer;
    if (error !== undefined) {
      throw new QmpRefusal(this.path, command, String(error?.class), String(error?.desc ?? ''));
    }
    if (!('return' in answer)) throw this.#noSense(command);
    return answer.return;
  }

  close(): void {
    // Nothing is held between two commands.
  }

  #noSense(command: string): VmsnapError {
    return new VmsnapError('GUEST', `virsh gave no answer of QEMU to ${command} for ${this.path}`, { path: this.path });
  }
}

/** Runs virsh, without a shell. @returns what it printed. @throws GUEST with its words. */
export function virsh(words: readonly string[], path: string, limitSeconds: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('virsh', ['--quiet', ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let errors = '';
    const fail = (message: string, hint?: string) => {
      child.kill('SIGKILL');
      clearTimeout(timer);
      reject(new VmsnapError('GUEST', message, { path, hint }));
    };
    const timer = setTimeout(
      () => fail(`virsh gave no answer to ${words[0]} for ${path} in ${limitSeconds} s`),
      limitSeconds * 1000,
    );
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.length > ANSWER_MAX_LENGTH) fail(`virsh answers for ${path} with more than 64 MiB`);
    });
    child.stdout.on('error', ({ message }) => fail(`what virsh answers for ${path} cannot be read: ${message}`));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-16_384)));
    // Words for a message.
    child.stderr.on('error', () => {});
    child.on('error', (error: NodeJS.ErrnoException) =>
      fail(
        `cannot start virsh for ${path}: ${error.code ?? error.message}`,
        'install libvirt-clients, or say qemu:SOCKET',
      ),
    );
    child.on('close', (code) => {
      if (code !== 0) return fail(`virsh refused ${words[0]} for ${path}${lastWords(errors)}`);
      clearTimeout(timer);
      resolve(output);
    });
  });
}
