/** Somebody else who asks the guest agent something, through the socket of its port. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const ANSWER_MS = 20_000;

export class AgentClient {
  readonly #socket: Socket;
  #received = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (text: string) => (this.#received += text));
    socket.on('error', () => {});
  }

  /** The answers to what others have asked are over then. */
  static async open(path: string): Promise<AgentClient> {
    const socket = connect(path);
    await once(socket, 'connect');
    const client = new AgentClient(socket);
    const id = Date.now();
    socket.write(Buffer.of(0xff));
    client.#ask('guest-sync', { id });
    while ((await client.#answer()).return !== id);
    return client;
  }

  write(text: string): void {
    this.#socket.write(text);
  }

  /** @returns what the agent answers. */
  async execute(command: string, args?: object): Promise<unknown> {
    this.#ask(command, args);
    const answer = await this.#answer();
    if (!('return' in answer)) throw new Error(`${command}: ${JSON.stringify(answer)}`);
    return answer.return;
  }

  close(): void {
    this.#socket.destroy();
  }

  #ask(command: string, args?: object): void {
    this.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
  }

  async #answer(): Promise<{ readonly return?: unknown }> {
    const signal = AbortSignal.timeout(ANSWER_MS);
    while (!this.#received.includes('\n')) await once(this.#socket, 'data', { signal });
    const end = this.#received.indexOf('\n') + 1;
    const line = this.#received.slice(0, end);
    this.#received = this.#received.slice(end);
    return JSON.parse(line);
  }
}
