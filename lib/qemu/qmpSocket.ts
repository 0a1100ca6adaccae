/**
 * A client of the QEMU Machine Protocol on a unix socket (QEMU docs/interop/qmp-spec.rst): one JSON object a line, answers told
 * apart by id. Nothing that QEMU says is believed before it is looked at: a line has a limit, an answer its time.
 */
import { connect, type Socket } from 'node:net';
import { VmsnapError } from '../../native/errors.js';
import { type QmpEvent, type QmpPeer, QmpRefusal } from './qmpPeer.js';

/** The longest answers (query-qmp-schema) have some 200 KiB. */
const LINE_MAX_LENGTH = 64 * 2 ** 20;
const GREETING_SECONDS = 5;
const ANSWER_SECONDS = 60;

interface Pending {
  readonly command: string;
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

interface Message {
  readonly QMP?: { readonly version?: { readonly qemu?: Record<string, unknown>; readonly package?: unknown } };
  readonly id?: unknown;
  readonly return?: unknown;
  readonly error?: { readonly class?: unknown; readonly desc?: unknown };
  readonly event?: unknown;
  readonly data?: unknown;
}

export class QmpSocket implements QmpPeer {
  readonly path: string;
  /** "7.2.19", as the greeting says. */
  qemuVersion = '';
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeting: Promise<void>;
  #greeted: () => void = () => {};
  #notGreeted: (error: Error) => void = () => {};
  #nextId = 1;
  #received: string[] = [];
  #receivedLength = 0;
  #failure: VmsnapError | undefined;

  private constructor(path: string, socket: Socket) {
    this.path = path;
    this.#socket = socket;
    this.#greeting = new Promise((resolve, reject) => {
      this.#greeted = resolve;
      this.#notGreeted = reject;
    });
    this.#greeting.catch(() => {});
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', (error) => this.#fail(lost(path, error.message)));
    socket.on('close', () => this.#fail(lost(path, 'it was closed')));
  }

  /**
   * Connects, waits for the greeting and leaves the negotiation.
   * @throws NOT_FOUND, PERMISSION: no socket, or not for us. GUEST: nobody answers, or what answers is no QMP.
   */
  static async open(path: string, signal?: AbortSignal, limitSeconds = ANSWER_SECONDS): Promise<QmpSocket> {
    signal?.throwIfAborted();
    const socket = connect(path);
    const client = new QmpSocket(path, socket);
    const onAbort = () => client.#fail(signal!.reason as VmsnapError);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await connected(socket, path);
      await limited(client.#greeting, GREETING_SECONDS, () => noGreeting(path));
      await client.execute('qmp_capabilities', undefined, limitSeconds);
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async execute(command: string, args?: Record<string, unknown>, limitSeconds = ANSWER_SECONDS): Promise<unknown> {
    if (this.#failure !== undefined) throw this.#failure;
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => this.#pending.set(id, { command, resolve, reject }));
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    try {
      return await limited(answer, limitSeconds, () => noAnswer(this.path, command, limitSeconds));
    } finally {
      this.#pending.delete(id);
    }
  }

  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#fail(lost(this.path, 'we closed it'));
    this.#socket.destroy();
  }

  #receive(text: string): void {
    const end = text.indexOf('\n');
    if (end < 0) {
      this.#keep(text);
      return;
    }
    const lines = (this.#received.join('') + text).split('\n');
    this.#received = [];
    this.#receivedLength = 0;
    this.#keep(lines.pop()!);
    for (const line of lines) if (line.trim() !== '') this.#dispatch(line);
  }

  #keep(text: string): void {
    this.#received.push(text);
    this.#receivedLength += text.length;
    if (this.#receivedLength > LINE_MAX_LENGTH) this.#refuse('a line of more than 64 MiB');
  }

  #dispatch(line: string): void {
    let message: Message;
    try {
      message = JSON.parse(line) as Message;
    } catch {
      this.#refuse('a line that is no JSON');
      return;
    }
    if (typeof message !== 'object' || message === null) this.#refuse('a line that is no object');
    else if (message.QMP !== undefined) this.#greet(message);
    else if (typeof message.event === 'string') this.#tell({ name: message.event, data: message.data });
    else this.#answer(message);
  }

  #tell(event: QmpEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #answer(message: Message): void {
    const pending = typeof message.id === 'number' ? this.#pending.get(message.id) : undefined;
    // The answer to a command that ran out of time.
    if (pending === undefined) return;
    const { error } = message;
    if (error === undefined) pending.resolve(message.return);
    else pending.reject(new QmpRefusal(this.path, pending.command, String(error.class), String(error.desc ?? '')));
  }

  #greet({ QMP }: Message): void {
    const { major, minor, micro } = QMP?.version?.qemu ?? {};
    if (![major, minor, micro].every(Number.isInteger)) {
      this.#refuse('a greeting without a version');
      return;
    }
    this.qemuVersion = `${major}.${minor}.${micro}`;
    this.#greeted();
  }

  #refuse(what: string): void {
    const { path } = this;
    this.#fail(
      new VmsnapError('GUEST', `what answers on ${path} is no QMP: it sent ${what}`, {
        path,
        hint: "give the socket of QEMU's -qmp option, not of its monitor, serial port or guest agent",
      }),
    );
    this.#socket.destroy();
  }

  #fail(error: VmsnapError): void {
    this.#failure ??= error;
    this.#notGreeted(this.#failure);
    for (const pending of this.#pending.values()) pending.reject(this.#failure);
    this.#pending.clear();
  }
}

function connected(socket: Socket, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (error: NodeJS.ErrnoException) => reject(noConnection(error, path)));
  });
}

function noConnection(error: NodeJS.ErrnoException, path: string): VmsnapError {
  const hint = `start QEMU with -qmp unix:${path},server=on,wait=off`;
  if (error.code === 'ENOENT') return new VmsnapError('NOT_FOUND', `there is no socket ${path}`, { path, hint });
  if (error.code === 'EACCES' || error.code === 'EPERM')
    return new VmsnapError('PERMISSION', `the socket ${path} may not be used`, {
      path,
      hint: 'run it as the user of QEMU',
    });
  if (error.code === 'ECONNREFUSED')
    return new VmsnapError('GUEST', `nobody listens on the socket ${path}: QEMU has ended, or it is no socket`, {
      path,
      hint,
    });
  return new VmsnapError('GUEST', `cannot connect to ${path}: ${error.message}`, { path, hint, cause: error });
}

function lost(path: string, why: string): VmsnapError {
  return new VmsnapError('GUEST', `the connection to QEMU on ${path} is lost: ${why}`, { path });
}

/** QEMU takes one client a socket; a second one connects and is never greeted. */
function noGreeting(path: string): VmsnapError {
  return new VmsnapError(
    'GUEST',
    `nothing greets on ${path} for ${GREETING_SECONDS} s: another client holds it, or it is no QMP`,
    {
      path,
      hint: 'give QEMU a second -qmp socket for vmsnap; for a domain of libvirt, say libvirt:DOMAIN',
    },
  );
}

function noAnswer(path: string, command: string, seconds: number): VmsnapError {
  return new VmsnapError('GUEST', `QEMU on ${path} gave no answer to ${command} in ${seconds} s`, { path });
}

async function limited<T>(work: Promise<T>, seconds: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(late()), seconds * 1000);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
