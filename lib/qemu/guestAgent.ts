/**
 * The guest agent, asked to hold the guest's file systems still: through a socket of its own (QEMU's chardev of the port
 * org.qemu.guest_agent.0), or through libvirt.
 *
 * The agent's protocol has no greeting and no ids: an answer to an old question may still be in the way, so a number is
 * sent and awaited first (guest-sync). So may the beginning of somebody's question, which the byte 0xff before it ends (QEMU
 * docs/interop/qemu-ga-ref, guest-sync): the agent answers that with an error, which is passed over.
 *
 * File systems that somebody else has frozen are left alone: to thaw them would break what they are frozen for.
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmsnapError } from '../../native/errors.js';
import { shellQuoted } from '../shellQuoted.js';
import { fieldOf } from './answers.js';
import type { PeerLimits } from './steadyPeer.js';
import { virsh } from './virshPeer.js';

/** An agent that is there answers at once; what it is told to do may take longer. */
const SYNC_SECONDS_MOST = 10;
const RETRY_MS = 200;
const LINE_MAX_LENGTH = 2 ** 20;
/** Stands in no text: the agent's parser begins anew. */
const RESET = Buffer.of(0xff);

export type AgentAddress =
  | { readonly kind: 'socket'; readonly socket: string }
  | { readonly kind: 'libvirt'; readonly domain: string };

/** How long it may take for an answer, and how long a thaw is tried again. */
export type AgentLimits = PeerLimits;

export class GuestAgent {
  readonly #address: AgentAddress;
  readonly #limits: AgentLimits;
  readonly #ask: Ask;

  constructor(address: AgentAddress, limits: AgentLimits) {
    this.#address = address;
    this.#limits = limits;
    this.#ask =
      address.kind === 'socket'
        ? new SocketAsk(address.socket, limits.answerSeconds)
        : new LibvirtAsk(address.domain, limits.answerSeconds);
  }

  /** @throws GUEST if nobody answers, or if somebody else has frozen the file systems. */
  async requireThawed(): Promise<void> {
    if ((await this.#ask.ask('guest-fsfreeze-status')) !== 'frozen') return;
    const { path } = this.#ask;
    throw new VmsnapError('GUEST', `the guest's file systems have been frozen by somebody else (${path})`, {
      path,
      hint: `wait until they go on; if nobody is left to let them, do it yourself: ${thawCommand(this.#address)}`,
    });
  }

  /** @returns how many file systems hold still. @throws AgentRefusal if none of them was frozen by this. */
  async freeze(): Promise<number> {
    return Number(await this.#ask.ask('guest-fsfreeze-freeze'));
  }

  /** Harmless where nothing is frozen; tried again until `reconnectSeconds` are over. @throws GUEST with the command to type. */
  async thaw(): Promise<void> {
    const deadline = performance.now() + this.#limits.reconnectSeconds * 1000;
    for (;;) {
      try {
        await this.#ask.ask('guest-fsfreeze-thaw');
        return;
      } catch (error) {
        if (performance.now() > deadline) throw this.#frozen(error as Error);
        await sleep(RETRY_MS);
      }
    }
  }

  close(): void {
    this.#ask.close();
  }

  #frozen(fault: Error): VmsnapError {
    return new VmsnapError('GUEST', `the guest's file systems may still be frozen: ${fault.message}`, {
      path: this.#ask.path,
      hint: `to make them go on yourself: ${thawCommand(this.#address)}`,
      cause: fault,
    });
  }
}

/** The agent's own words. One that cannot freeze all file systems has let all of them go on when it says so. */
export class AgentRefusal extends VmsnapError {}

/** What somebody types to make the file systems go on. */
function thawCommand(address: AgentAddress): string {
  if (address.kind === 'libvirt') return `virsh domfsthaw ${shellQuoted(address.domain)}`;
  const words = `'{"execute":"guest-fsfreeze-thaw"}'`;
  return `(printf '%s\\n' ${words}; sleep 1) | socat - UNIX-CONNECT:${shellQuoted(address.socket)}`;
}

interface Ask {
  readonly path: string;
  ask(command: string): Promise<unknown>;
  close(): void;
}

class LibvirtAsk implements Ask {
  readonly path: string;
  readonly #domain: string;
  readonly #answerSeconds: number;

  constructor(domain: string, answerSeconds: number) {
    this.path = `libvirt:${domain}`;
    this.#domain = domain;
    this.#answerSeconds = answerSeconds;
  }

  async ask(command: string): Promise<unknown> {
    const request = JSON.stringify({ execute: command });
    const words = ['qemu-agent-command', this.#domain, request];
    return answerOf(await virsh(words, this.path, this.#answerSeconds), this.path, command);
  }

  close(): void {
    // Nothing is held between two commands.
  }
}

/** Asks through a connection on which every question has had its answer: after another (or its end) through a new one. */
class SocketAsk implements Ask {
  readonly path: string;
  readonly #answerSeconds: number;
  #socket: AgentSocket | undefined;

  constructor(path: string, answerSeconds: number) {
    this.path = path;
    this.#answerSeconds = answerSeconds;
  }

  async ask(command: string): Promise<unknown> {
    const socket = await this.#inStep();
    return answerOf(await socket.exchange({ execute: command }, this.#answerSeconds), this.path, command);
  }

  close(): void {
    this.#socket?.close();
  }

  async #inStep(): Promise<AgentSocket> {
    if (this.#socket?.isInStep) return this.#socket;
    // QEMU takes one client at a time.
    this.#socket?.close();
    const socket = new AgentSocket(this.path);
    this.#socket = socket;
    const id = Math.floor(Math.random() * 2 ** 31);
    const request = { execute: 'guest-sync', arguments: { id } };
    const limitSeconds = Math.min(SYNC_SECONDS_MOST, this.#answerSeconds);
    socket.endOldRequest();
    await socket.exchange(request, limitSeconds, (line) => fieldOf(parsed(line), 'return') === id);
    return socket;
  }
}

class AgentSocket {
  readonly #path: string;
  readonly #socket: Socket;
  #received = '';
  #isInStep = true;
  #fault: VmsnapError | undefined;
  #onLine: (line: string) => void = () => {};
  #onEnd: (fault: VmsnapError) => void = () => {};

  constructor(path: string) {
    this.#path = path;
    this.#socket = connect(path);
    this.#socket.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    this.#socket.on('error', (error) => this.#end(error.message));
    this.#socket.on('close', () => this.#end('the connection was closed'));
  }

  get isInStep(): boolean {
    return this.#isInStep && this.#fault === undefined;
  }

  close(): void {
    this.#end('the connection was closed');
    this.#socket.destroy();
  }

  /** What somebody began to say, and did not end. */
  endOldRequest(): void {
    this.#socket.write(RESET);
  }

  exchange(request: object, limitSeconds: number, isAnswer: (line: string) => boolean = () => true): Promise<string> {
    const path = this.#path;
    return new Promise((resolve, reject) => {
      if (this.#fault !== undefined) {
        reject(this.#fault);
        return;
      }
      this.#isInStep = false;
      const settle = (action: () => void) => {
        clearTimeout(timer);
        this.#onLine = () => {};
        this.#onEnd = () => {};
        action();
      };
      const late = () =>
        new VmsnapError('GUEST', `the guest agent on ${path} gave no answer in ${limitSeconds} s`, {
          path,
          hint: 'does qemu-guest-agent run in the guest, is this the socket of its port, and does no other program hold it?',
        });
      const timer = setTimeout(() => settle(() => reject(late())), limitSeconds * 1000);
      this.#onLine = (line) => {
        if (!isAnswer(line)) return;
        this.#isInStep = true;
        settle(() => resolve(line));
      };
      this.#onEnd = (fault) => settle(() => reject(fault));
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  #end(why: string): void {
    const path = this.#path;
    this.#fault ??= new VmsnapError('GUEST', `the guest agent on ${path}: ${why}`, { path });
    this.#onEnd(this.#fault);
  }

  #receive(text: string): void {
    const lines = (this.#received + text).split('\n');
    this.#received = lines.pop()!.slice(-LINE_MAX_LENGTH);
    for (const line of lines) this.#onLine(line);
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
  const words = fieldOf(fieldOf(answer, 'error'), 'desc');
  const message = (why: string) => `the guest agent on ${path} refused ${command}: ${why}`;
  if (typeof words === 'string') throw new AgentRefusal('GUEST', message(words), { path });
  throw new VmsnapError('GUEST', message('what it said makes no sense'), { path });
}
