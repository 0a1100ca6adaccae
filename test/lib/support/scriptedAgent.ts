/**
 * A guest agent without a guest: it answers through a socket that takes one client at a time, as QEMU's does, and only while the
 * scripted machine runs, as a program of it would. It fails where a test tells it to. As the real one, it keeps the beginning of
 * a request beyond the connection that it came through until a byte 0xff ends it, and while file systems are frozen it does
 * little else than to thaw them.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { ScriptedQemu } from './scriptedQemu.js';

const GUARD_MS = 150_000;
const TURN_MS = 5;
/** 0xff, as the decoder gives it. */
const RESET = '\ufffd';
const DONE_WHILE_FROZEN = new Set(['guest-sync', 'guest-ping', 'guest-fsfreeze-status', 'guest-fsfreeze-thaw']);

/** late: it is done, and answered after `LATE_MS`. */
export type AgentFault = 'refuse' | 'close' | 'hang' | 'garbage' | 'late';
export const LATE_MS = 2500;

export interface AgentScript {
  readonly command?: string;
  readonly fault?: AgentFault;
  /** How many times from the first on. */
  readonly times?: number;
}

/** The agent runs when this does, and its commands stand in this log. */
export type AgentsMachine = Pick<ScriptedQemu, 'isRunning' | 'log'>;

export class ScriptedAgent {
  readonly socket: string;
  readonly qemu: AgentsMachine;
  script: AgentScript;
  frozen = 0;
  /** What there is to freeze. */
  fileSystems = 2;
  /** Told of each command before it is done. */
  onCommand: (command: string) => void = () => {};
  /** A request that is not whole yet. */
  begun = '';
  #failed = 0;
  #client: Socket | undefined;
  readonly #waiting: Socket[] = [];
  readonly #server: Server;

  private constructor(folder: string, qemu: AgentsMachine, script: AgentScript) {
    this.socket = join(folder, 'agent');
    this.qemu = qemu;
    this.script = script;
    this.#server = createServer((client) => {
      client.on('error', () => {});
      if (this.#client === undefined) this.#serve(client);
      else this.#waiting.push(client);
    });
  }

  /** What it is told stands in the log of the machine, in between what that is told. */
  static async start(folder: string, qemu: AgentsMachine, script: AgentScript = {}): Promise<ScriptedAgent> {
    const agent = new ScriptedAgent(folder, qemu, script);
    await new Promise<void>((resolve) => agent.#server.listen(agent.socket, resolve));
    return agent;
  }

  /** The connection that there is ends. */
  drop(): void {
    this.#client?.destroy();
  }

  close(): void {
    this.#server.close();
    for (const client of [this.#client, ...this.#waiting]) client?.destroy();
  }

  #serve(client: Socket): void {
    this.#client = client;
    let turn = Promise.resolve();
    client.setEncoding('utf8').on('data', (part: string) => {
      const lines = (this.begun + part).split('\n');
      this.begun = lines.pop()!;
      for (const line of lines) turn = turn.then(() => this.#hear(client, line));
    });
    client.on('close', () => {
      this.#client = undefined;
      let next = this.#waiting.shift();
      while (next?.destroyed) next = this.#waiting.shift();
      if (next !== undefined) this.#serve(next);
    });
  }

  async #hear(client: Socket, line: string): Promise<void> {
    const [broken, request] = line.includes(RESET) ? line.split(RESET) : [undefined, line];
    const answer = (body: object) => client.write(`${JSON.stringify(body)}\n`);
    const refuse = (kind: string, desc: string) => answer({ error: { class: kind, desc } });
    if (broken !== undefined) refuse('GenericError', `JSON parse error, stray '${broken}'`);
    const { execute, arguments: args } = parsed(request!);
    if (execute === undefined) {
      refuse('GenericError', 'JSON parse error');
      return;
    }
    while (!this.qemu.isRunning && !client.destroyed) await sleep(TURN_MS);
    this.qemu.log.push(execute);
    this.onCommand(execute);
    const fault = this.#faultOf(execute);
    if (fault === 'refuse') refuse('GenericError', `scripted: no ${execute}`);
    else if (fault === 'close') client.destroy();
    else if (fault === 'garbage') client.write('\u0000garbage\n');
    else if (this.frozen > 0 && !DONE_WHILE_FROZEN.has(execute))
      refuse('CommandNotFound', `Command ${execute} has been disabled: the agent is in frozen state`);
    else if (fault !== 'hang') {
      const result = this.#do(execute, args);
      if (fault === 'late') await sleep(LATE_MS);
      answer({ return: result });
    }
  }

  #faultOf(command: string): AgentFault | undefined {
    const { fault, times = 1 } = this.script;
    if (command !== this.script.command || this.#failed >= times) return undefined;
    this.#failed++;
    return fault;
  }

  #do(command: string, args: { readonly id?: number } = {}): unknown {
    if (command === 'guest-sync') return args.id;
    if (command === 'guest-fsfreeze-status') return this.frozen > 0 ? 'frozen' : 'thawed';
    const before = this.frozen;
    if (command === 'guest-fsfreeze-freeze') this.frozen = this.fileSystems;
    if (command === 'guest-fsfreeze-thaw') this.frozen = 0;
    return this.frozen || before;
  }
}

function parsed(request: string): { readonly execute?: string; readonly arguments?: { readonly id?: number } } {
  try {
    return JSON.parse(request);
  } catch {
    return {};
  }
}

/** The guard may need a moment, where vmsnap could not do it. */
export async function thawedInTheEnd(t: ExecutionContext, agent: ScriptedAgent): Promise<void> {
  const deadline = Date.now() + GUARD_MS;
  while (agent.frozen > 0 && Date.now() < deadline) await sleep(20);
  t.is(agent.frozen, 0, agent.qemu.log.join(' '));
}
