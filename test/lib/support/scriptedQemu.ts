/**
 * A QEMU without a machine: it answers QMP as QEMU does, has its states, takes one client at a time, migrates a forged stream
 * to a unix socket, and fails where a test tells it to.
 */
import { statSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import {
  capabilities,
  configuration,
  filledPage,
  magic,
  PAGE,
  page,
  ramEnd,
  ramPart,
  ramStart,
  tail,
  u64,
  zeroPage,
} from '../../support/qemuStream.js';

/**
 * refuse: a GenericError. unknown: a CommandNotFound. close: the connection is closed, and another is welcome. mute: the same, but what was
 * asked is done. vanish: the socket is gone.
 */
export type Fault = 'refuse' | 'unknown' | 'close' | 'mute' | 'hang' | 'garbage' | 'vanish';
export type StreamFault = 'never-connects' | 'closes-in-ram' | 'hangs-in-ram' | 'closes-in-state' | 'garbage' | 'fails';

export interface Script {
  /** Which occurrence of which command fails, and how; `times`: from there on. */
  readonly command?: string;
  readonly fault?: Fault;
  readonly from?: number;
  readonly times?: number;
  /** Of a refusal, instead of words of its own. */
  readonly words?: string;
  /** Commands that it has not, and says so. */
  readonly lacks?: readonly string[];
  /** What keeps its machine from being sent, as it tells without being asked to send it. */
  readonly blockers?: readonly string[];
  readonly stream?: StreamFault;
  readonly found?: 'running' | 'paused' | 'postmigrate' | 'inmigrate';
  /** The memory's file; it is then left out of the stream if that is asked for. */
  readonly memoryFile?: string;
  /** Told of each command before it is done. */
  readonly onCommand?: (command: string, qemu: ScriptedQemu) => void;
  /** A migration that was to crawl is over before it can be cancelled. */
  readonly rushes?: boolean;
  readonly version?: readonly [number, number, number];
  /** Bytes of the stream that are sent at a time, with a turn of the event loop between them. */
  readonly pieceBytes?: number;
}

export const RAM_PAGES = 512;
/** A migration at this speed or below sends its head, and then waits. */
const CRAWL_BYTES = 64 * 1024;
/** Of QEMU's, those that there are here. */
const COMMANDS = [
  ...['qmp_capabilities', 'stop', 'cont', 'quit', 'qom-get'],
  ...['migrate', 'migrate_cancel', 'migrate-set-capabilities', 'migrate-set-parameters'],
  ...['query-status', 'query-migrate', 'query-migrate-capabilities', 'query-migrate-parameters', 'query-memdev'],
  ...['query-memory-size-summary', 'query-memory-devices', 'query-uuid', 'query-name', 'query-version', 'query-kvm'],
  ...['query-cpus-fast', 'query-block', 'query-named-block-nodes', 'query-commands'],
];
const RAM = { id: 'ram', sizeBytes: RAM_PAGES * PAGE };
const ROM = { id: 'pc.bios', sizeBytes: 2 * PAGE };

interface FileAccess {
  readonly uid: number;
  readonly mode: number;
}

function accessOf(path: string): FileAccess {
  const { uid, mode } = statSync(path);
  return { uid, mode: mode & 0o777 };
}

export class ScriptedQemu {
  readonly socket: string;
  /** Every command, in order. */
  readonly log: string[] = [];
  status: string;
  migration: string | undefined;
  script: Script;
  /** Of the socket, and its folder, which it was last told to send its stream to. */
  streamFolder: (FileAccess & { readonly socket: FileAccess }) | undefined;
  /** Modules that have been plugged in: RAM blocks without a file. */
  pluggedModules = 0;
  readonly capabilities = new Map<string, boolean>([
    ['x-ignore-shared', false],
    ['multifd', true],
    ['events', true],
  ]);
  parameters: Record<string, unknown> = { 'max-bandwidth': 33_554_432, 'tls-creds': '' };
  readonly #server: Server;
  readonly #waiting: Socket[] = [];
  readonly #counts = new Map<string, number>();
  #client: Socket | undefined;
  #outgoing: Socket | undefined;

  private constructor(socket: string, script: Script) {
    this.socket = socket;
    this.script = script;
    this.status = script.found ?? 'running';
    this.#server = createServer((client) => this.#arrive(client));
  }

  static async start(folder: string, script: Script = {}): Promise<ScriptedQemu> {
    const qemu = new ScriptedQemu(join(folder, 'qmp'), script);
    await new Promise<void>((resolve) => qemu.#server.listen(qemu.socket, resolve));
    return qemu;
  }

  /** After it has vanished. */
  async comeBack(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.socket, resolve));
  }

  get isRunning(): boolean {
    return this.status === 'running';
  }

  get wasStopped(): boolean {
    return this.log.includes('stop');
  }

  close(): void {
    this.#server.close();
    this.#client?.destroy();
    this.#outgoing?.destroy();
    for (const client of this.#waiting) client.destroy();
  }

  #arrive(client: Socket): void {
    client.on('error', () => {});
    if (this.#client !== undefined) {
      this.#waiting.push(client);
      return;
    }
    this.#serve(client);
  }

  #serve(client: Socket): void {
    this.#client = client;
    const greeting = { QMP: { version: { qemu: versionOf(this.#version) }, capabilities: [] } };
    client.write(`${JSON.stringify(greeting)}\n`);
    let text = '';
    client.setEncoding('utf8').on('data', (part: string) => {
      const lines = (text + part).split('\n');
      text = lines.pop()!;
      for (const line of lines) this.#hear(client, line);
    });
    client.on('close', () => {
      if (this.#client !== client) return;
      this.#client = undefined;
      let next = this.#waiting.shift();
      while (next?.destroyed) next = this.#waiting.shift();
      if (next !== undefined) this.#serve(next);
    });
  }

  #hear(client: Socket, line: string): void {
    const { execute, id, arguments: args = {} } = JSON.parse(line);
    this.log.push(execute);
    this.script.onCommand?.(execute, this);
    const answer = (body: object) => client.write(`${JSON.stringify({ ...body, id })}\n`);
    const refuse = (kind: string, desc: string) => answer({ error: { class: kind, desc } });
    const fault = this.#commands.includes(execute) ? this.#faultOf(execute) : 'unknown';
    switch (fault) {
      case 'refuse':
        refuse('GenericError', this.script.words ?? `scripted: no ${execute}`);
        return;
      case 'unknown':
        refuse('CommandNotFound', `The command ${execute} has not been found`);
        return;
      case 'close':
        client.destroy();
        return;
      case 'mute':
        if (execute !== 'qom-get') this.#do(execute, args);
        client.destroy();
        return;
      case 'garbage':
        client.write('\u0000garbage\n');
        return;
      case 'vanish':
        this.#server.close();
        client.destroy();
        return;
      case 'hang':
        return;
      case undefined:
        break;
    }
    if (execute === 'qom-get') {
      answer({ return: this.#property(args.path, args.property) ?? null });
      return;
    }
    const result = this.#do(execute, args);
    if (typeof result === 'string') refuse('GenericError', result);
    else answer({ return: result });
  }

  get #commands(): string[] {
    return COMMANDS.filter((command) => this.script.lacks?.includes(command) !== true);
  }

  get #version(): readonly [number, number, number] {
    return this.script.version ?? [10, 0, 2];
  }

  #faultOf(command: string): Fault | undefined {
    const seen = (this.#counts.get(command) ?? 0) + 1;
    this.#counts.set(command, seen);
    const { fault, from = 1, times = 1 } = this.script;
    return command === this.script.command && seen >= from && seen < from + times ? fault : undefined;
  }

  /** @returns an answer, or what is wrong. */
  #do(command: string, args: Record<string, unknown>): object | string {
    switch (command) {
      case 'stop':
        if (this.isRunning) this.status = 'paused';
        return {};
      case 'cont':
        if (this.status === 'finish-migrate') return 'Migration is not finalized yet';
        this.status = 'running';
        return {};
      case 'query-status':
        return { status: this.status, running: this.isRunning };
      case 'query-migrate':
        return {
          ...(this.migration === undefined ? {} : { status: this.migration, 'error-desc': 'scripted failure' }),
          ...(this.script.blockers === undefined ? {} : { 'blocked-reasons': this.script.blockers }),
        };
      case 'migrate':
        return this.#migrate(String(args.uri));
      case 'migrate_cancel':
        this.#outgoing?.destroy();
        this.migration = 'cancelled';
        if (this.status === 'finish-migrate') this.status = 'paused';
        return {};
      case 'migrate-set-capabilities':
        for (const { capability, state } of args.capabilities as { capability: string; state: boolean }[]) {
          this.capabilities.set(capability, state);
        }
        return {};
      case 'migrate-set-parameters':
        Object.assign(this.parameters, args);
        return {};
      case 'query-migrate-capabilities':
        return [...this.capabilities].map(([capability, state]) => ({ capability, state }));
      case 'query-migrate-parameters':
        return this.parameters;
      case 'query-memdev':
        // Until 6.1 it did not tell whether memory is shared.
        return [{ id: 'ram', size: RAM.sizeBytes, ...(this.#version[0] < 6 ? {} : { share: true }) }];
      case 'query-memory-size-summary':
        return { 'base-memory': RAM.sizeBytes, 'plugged-memory': 0 };
      case 'query-uuid':
        return { UUID: '6f1c2d3e-4b5a-4c6d-8e7f-001122334455' };
      case 'query-name':
        return { name: 'scripted' };
      case 'query-version':
        return { qemu: versionOf(this.#version), package: '' };
      case 'query-commands':
        return this.#commands.map((name) => ({ name }));
      case 'quit':
        this.status = 'ended';
        return {};
      default:
        return [];
    }
  }

  #property(path: unknown, name: unknown): unknown {
    const { memoryFile } = this.script;
    if (path === '/machine') return 'pc-q35-10.0-machine';
    if (name === 'share') return true;
    if (name === 'type') return memoryFile === undefined ? 'memory-backend-memfd' : 'memory-backend-file';
    return name === 'mem-path' ? memoryFile : 0;
  }

  #migrate(uri: string): object | string {
    if (this.status === 'postmigrate') return "Can't migrate the vm that was paused due to previous migration";
    const { stream: fault, pieceBytes = 64 * 1024 } = this.script;
    this.migration = 'active';
    if (fault === 'fails') {
      this.migration = 'failed';
      return {};
    }
    if (fault === 'never-connects') return {};
    const path = uri.replace(/^unix:/, '');
    this.streamFolder = { ...accessOf(dirname(path)), socket: accessOf(path) };
    const outgoing = connect(path);
    this.#outgoing = outgoing;
    const wasStopped = !this.isRunning;
    const fail = () => {
      if (this.migration !== 'active') return;
      this.migration = 'failed';
      if (wasStopped && this.status === 'finish-migrate') this.status = 'paused';
    };
    outgoing.on('error', fail).on('close', fail);
    outgoing.on('connect', () => void this.#send(outgoing, fault, pieceBytes));
    return {};
  }

  async #send(outgoing: Socket, fault: StreamFault | undefined, pieceBytes: number): Promise<void> {
    const bytes = this.#stream();
    if (Number(this.parameters['max-bandwidth']) <= CRAWL_BYTES && this.script.rushes !== true) {
      outgoing.write(this.#streamHead());
      return;
    }
    const end = { 'closes-in-ram': 0.5, 'hangs-in-ram': 0.5, 'closes-in-state': 1 - 20 / bytes.length }[
      fault as string
    ];
    const sent = bytes.subarray(0, Math.floor((end ?? 1) * bytes.length));
    if (fault === 'garbage') sent.fill(0x5a, 100);
    for (let at = 0; at < sent.length && !outgoing.destroyed; at += pieceBytes) {
      if (this.status !== 'running') this.status = 'finish-migrate';
      if (!outgoing.write(sent.subarray(at, at + pieceBytes))) await drained(outgoing);
      await new Promise(setImmediate);
    }
    if (outgoing.destroyed || fault === 'hangs-in-ram') return;
    if (fault === 'closes-in-ram' || fault === 'closes-in-state') {
      outgoing.end();
      this.migration = 'failed';
      if (this.status === 'finish-migrate') this.status = 'paused';
      return;
    }
    if (this.migration !== 'active') return;
    this.migration = 'completed';
    this.status = 'postmigrate';
    outgoing.end();
  }

  #streamHead(): Buffer {
    const ignoreShared = this.capabilities.get('x-ignore-shared') === true;
    const extra = ignoreShared ? { extra: u64(0) } : {};
    const head = ignoreShared
      ? configuration('pc-q35-10.0', capabilities('x-ignore-shared'))
      : configuration('pc-q35-10.0');
    return Buffer.concat([magic(), head, ramStart(this.#blocks.map((block) => ({ ...block, ...extra })))]);
  }

  get #blocks(): { id: string; sizeBytes: number }[] {
    const modules = Array.from({ length: this.pluggedModules }, (_, i) => ({ id: `dimm${i}`, sizeBytes: PAGE }));
    return [RAM, ROM, ...modules];
  }

  #stream(): Buffer {
    const ignoreShared = this.capabilities.get('x-ignore-shared') === true;
    const isFile = this.script.memoryFile !== undefined;
    const pages = Array.from({ length: RAM_PAGES }, (_, i) => {
      const id = i === 0 ? 'ram' : undefined;
      return i % 4 === 3 ? zeroPage(id, i * PAGE) : page(id, i * PAGE, filledPage(i));
    });
    const rom = [page('pc.bios', 0, filledPage(7)), zeroPage(undefined, PAGE)];
    const modules = this.#blocks.slice(2).map(({ id }) => page(id, 0, filledPage(9)));
    return Buffer.concat([
      this.#streamHead(),
      ramPart(...(ignoreShared && isFile ? [] : pages), ...rom, ...modules),
      ramEnd(),
      tail(),
    ]);
  }
}

function versionOf([major, minor, micro]: readonly [number, number, number]): object {
  return { major, minor, micro };
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      for (const event of ['drain', 'close']) socket.off(event, done);
      resolve();
    };
    for (const event of ['drain', 'close']) socket.on(event, done);
  });
}

/** What the stream says of the memory. */
export function scriptedMemory(): Buffer {
  return Buffer.concat(Array.from({ length: RAM_PAGES }, (_, i) => (i % 4 === 3 ? Buffer.alloc(PAGE) : filledPage(i))));
}
