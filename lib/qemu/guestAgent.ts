/**
 * The guest agent, asked to hold the guest's file systems still: through a socket of its own (QEMU's chardev of the port
 * org.qemu.guest_agent.0), or through libvirt.
 *
 * The agent's protocol has no greeting and no ids: an answer to an old question may still be in the way, so a number is
 * sent and awaited first (guest-sync).
 */
import { connect, type Socket } from 'node:net';
import { VmsnapError } from '../../native/errors.js';
import { fieldOf } from './answers.js';
import { virsh } from './virshPeer.js';

const SYNC_SECONDS = 10;
const FREEZE_SECONDS = 60;
const LINE_MAX_LENGTH = 2 ** 20;

export type AgentAddress =
  | { readonly kind: 'socket'; readonly socket: string }
  | { readonly kind: 'libvirt'; readonly domain: string };

export interface GuestAgent {
  /** @returns how many file systems hold still. */
  freeze(): Promise<number>;
  thaw(): Promise<void>;
  close(): void;
}

/** @throws GUEST if nobody answers. */
export async function openAgent(address: AgentAddress, signal?: AbortSignal): Promise<GuestAgent> {
  const ask: Ask =
    address.kind === 'socket' ? await AgentSocket.open(address.socket, signal) : libvirtAgent(address.domain);
  return {
    freeze: async () => Number(await ask.ask('guest-fsfreeze-freeze', FREEZE_SECONDS)),
    thaw: async () => {
      await ask.ask('guest-fsfreeze-thaw', FREEZE_SECONDS);
    },
    close: () => ask.close(),
  };
}

interface Ask {
  ask(command: string, limitSeconds: number): Promise<unknown>;
  close(): void;
}

function libvirtAgent(domain: string): Ask {
  const path = `libvirt:${domain}`;
  const ask = async (command: string, limitSeconds: number) => {
    const request = JSON.stringify({ execute: command });
    return answerOf(await virsh(['qemu-agent-command', domain, request], path, limitSeconds), path, command);
  };
  return { ask, close: () => {} };
}

class AgentSocket implements Ask {
  readonly #path: string;
  readonly #socket: Socket;
  #received = '';
  #onLine: (line: string) => void = () => {};
  #onEnd: (error: Error) => void = () => {};

  private constructor(path: string) {
    this.#path = path;
    this.#socket = connect(path);
    const end = (why: string) => this.#onEnd(new VmsnapError('GUEST', `the guest agent on ${path}: ${why}`, { path }));
    this.#socket.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    this.#socket.on('error', (error) => end(error.message));
    this.#socket.on('close', () => end('the connection was closed'));
  }

  static async open(path: string, signal?: AbortSignal): Promise<AgentSocket> {
    signal?.throwIfAborted();
    const agent = new AgentSocket(path);
    const number = Math.floor(Math.random() * 2 ** 31);
    try {
      await agent.#exchange(
        { execute: 'guest-sync', arguments: { id: number } },
        SYNC_SECONDS,
        (line) => fieldOf(parsed(line), 'return') === number,
      );
    } catch (error) {
      agent.close();
      throw error;
    }
    return agent;
  }

  async ask(command: string, limitSeconds: number): Promise<unknown> {
    return answerOf(await this.#exchange({ execute: command }, limitSeconds, () => true), this.#path, command);
  }

  close(): void {
    this.#onEnd = () => {};
    this.#socket.destroy();
  }

  #receive(text: string): void {
    const lines = (this.#received + text).split('\n');
    this.#received = lines.pop()!.slice(-LINE_MAX_LENGTH);
    for (const line of lines) this.#onLine(line);
  }

  #exchange(request: object, limitSeconds: number, isAnswer: (line: string) => boolean): Promise<string> {
    const path = this.#path;
    return new Promise((resolve, reject) => {
      const late = () =>
        reject(
          new VmsnapError('GUEST', `the guest agent on ${path} gave no answer in ${limitSeconds} s`, {
            path,
            hint: 'does qemu-guest-agent run in the guest, and is this the socket of its port?',
          }),
        );
      const timer = setTimeout(late, limitSeconds * 1000);
      const settle = () => {
        clearTimeout(timer);
        this.#onLine = () => {};
      };
      this.#onLine = (line) => {
        if (!isAnswer(line)) return;
        settle();
        resolve(line);
      };
      this.#onEnd = (error) => {
        settle();
        reject(error);
      };
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function answerOf(line: string, path: string, command: string): unknown {
  const answer = parsed(line);
  if (typeof answer === 'object' && answer !== null && 'return' in answer) return answer.return;
  const words = String(fieldOf(fieldOf(answer, 'error'), 'desc') ?? 'what it said makes no sense');
  throw new VmsnapError('GUEST', `the guest agent on ${path} refused ${command}: ${words}`, { path });
}
