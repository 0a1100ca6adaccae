import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** The part of a QMP message that this client looks at. */
interface QmpMessage {
  QMP?: { version: { qemu: { major: number; minor: number; micro: number } } };
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
  event?: string;
}

interface PendingCommand {
  resolve: (answer: unknown) => void;
  reject: (error: Error) => void;
}

// A dump is one command, and slow on a busy machine.
const COMMAND_LIMIT_SECONDS = 120;
const RECONNECT_MILLISECONDS = 20;

/** A minimal client of the QEMU Machine Protocol: one command at a time or several, answers told apart by id. */
export class QmpClient {
  /** Version of the QEMU at the other end, as its greeting says. */
  qemuVersion = '';
  readonly #socket: Socket;
  readonly #pending = new Map<number, PendingCommand>();
  #nextId = 1;
  #received = '';
  #greeted: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', (error) => this.#failAll(error));
    socket.on('close', () => this.#failAll(new Error('QMP: the connection was closed')));
  }

  /** Connects to a socket that QEMU may not have made yet, and leaves the negotiation mode. */
  static async open(socketPath: string, limitSeconds: number): Promise<QmpClient> {
    const client = new QmpClient(await connectWhenThere(socketPath, limitSeconds));
    await withLimit('greeting', limitSeconds, new Promise<void>((resolve) => (client.#greeted = resolve)));
    await client.execute('qmp_capabilities');
    return client;
  }

  /** Sends a command and gives what QEMU returns; an error of QEMU's rejects with its description. */
  async execute(command: string, parameters?: Record<string, unknown>): Promise<unknown> {
    if (this.#socket.destroyed) throw new Error(`QMP ${command}: the connection is closed`);
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => this.#pending.set(id, { resolve, reject }));
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
    try {
      return await withLimit(command, COMMAND_LIMIT_SECONDS, answer);
    } finally {
      this.#pending.delete(id);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(text: string): void {
    const lines = (this.#received + text).split('\n');
    this.#received = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') this.#dispatch(JSON.parse(line) as QmpMessage);
  }

  #dispatch(message: QmpMessage): void {
    if (message.QMP !== undefined) {
      const { major, minor, micro } = message.QMP.version.qemu;
      this.qemuVersion = `${major}.${minor}.${micro}`;
      this.#greeted();
      return;
    }
    const pending = this.#pending.get(message.id ?? 0);
    if (pending === undefined) return; // an event, or the answer to a command that ran out of time
    if (message.error !== undefined) pending.reject(new Error(`QMP ${message.error.class}: ${message.error.desc}`));
    else pending.resolve(message.return);
  }

  #failAll(error: Error): void {
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}

async function connectWhenThere(socketPath: string, limitSeconds: number): Promise<Socket> {
  const deadline = performance.now() + limitSeconds * 1000;
  for (;;) {
    const socket = connect(socketPath);
    try {
      await once(socket, 'connect');
      return socket;
    } catch (error) {
      socket.destroy();
      if (performance.now() > deadline) throw new Error(`QMP: no answer on ${socketPath}`, { cause: error });
      await sleep(RECONNECT_MILLISECONDS);
    }
  }
}

async function withLimit<T>(what: string, limitSeconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`QMP ${what}: no answer in ${limitSeconds} s`)), limitSeconds * 1000);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
