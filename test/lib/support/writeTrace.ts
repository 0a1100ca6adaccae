/** What a command does to the files of one folder, in order, as strace sees it: writes, syncs, renames. */
import { readFileSync } from 'node:fs';
import { type CliResult, runCli } from '../../cli/support/runCli.js';

export type DiskEvent =
  | { readonly kind: 'create' | 'unlink'; readonly name: string }
  | { readonly kind: 'rename'; readonly name: string; readonly to: string }
  | { readonly kind: 'write'; readonly name: string; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'resize'; readonly name: string; readonly sizeBytes: number }
  | { readonly kind: 'zero'; readonly name: string; readonly offset: number; readonly length: number }
  | { readonly kind: 'sync'; readonly name: string }
  | { readonly kind: 'syncFolder' };

const CALLS =
  'openat,open,creat,close,write,writev,pwrite64,pwritev,pwritev2,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,copy_file_range,sendfile,link,linkat';

/** Runs the command in `folder` (an absolute path) under strace. */
export async function traceWrites(
  folder: string,
  args: readonly string[],
  tracePath: string,
): Promise<{ events: DiskEvent[]; result: CliResult }> {
  const wrapper = ['strace', '-f', '-xx', '-s', '100000000', '-o', tracePath, '-e', `trace=${CALLS}`];
  const result = await runCli(args, { cwd: folder, wrapper, env: { UV_USE_IO_URING: '0' } });
  return { events: new TraceReader(folder).read(readFileSync(tracePath, 'latin1')), result };
}

interface Call {
  readonly name: string;
  readonly text: string;
  readonly result: number;
}

class TraceReader {
  readonly #folder: string;
  readonly #names = new Map<number, string>();
  readonly #events: DiskEvent[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** A call counts when it ends: what is written while a sync is under way is not synced by it. */
  read(trace: string): DiskEvent[] {
    const unfinished = new Map<string, string>();
    const syncsAt = new Map<string, number>();
    for (const line of trace.split('\n')) {
      const [, thread, rest] = /^(\d+) +(.*)$/s.exec(line) ?? [];
      if (thread === undefined || rest === undefined) continue;
      const begun = /^(.*) <unfinished \.\.\.>$/s.exec(rest);
      if (begun !== null) {
        unfinished.set(thread, begun[1]!);
        syncsAt.set(thread, this.#events.length);
        continue;
      }
      const resumed = /^<\.\.\. \w+ resumed>(.*)$/s.exec(rest);
      const whole = resumed === null ? rest : `${unfinished.get(thread)}${resumed[1]}`;
      const call = /^(\w+)\((.*)\) += (-?\d+)/s.exec(whole);
      if (call === null) continue;
      const at = resumed === null ? this.#events.length : syncsAt.get(thread)!;
      this.#take({ name: call[1]!, text: call[2]!, result: Number(call[3]) }, at);
    }
    return this.#events;
  }

  #take(call: Call, begunAt: number): void {
    if (call.result < 0) return;
    const fd = Number(/^(\d+)/.exec(call.text)?.[1] ?? -1);
    const name = this.#names.get(fd);
    const paths = [...call.text.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map((match) => bytesOf(match[1]!).toString());
    switch (call.name) {
      case 'openat':
      case 'open':
      case 'creat':
        this.#open(call, paths[0]!);
        return;
      case 'close':
        this.#names.delete(fd);
        return;
      case 'rename':
      case 'renameat':
      case 'renameat2':
        this.#both(paths, (from, to) => ({ kind: 'rename', name: from, to }));
        return;
      case 'unlink':
      case 'unlinkat': {
        const gone = this.#nameOf(paths[0]!);
        if (gone !== undefined) this.#events.push({ kind: 'unlink', name: gone });
        return;
      }
    }
    if (name !== undefined) this.#onFile(call, name, begunAt);
  }

  #onFile(call: Call, name: string, begunAt: number): void {
    const numbers = call.text.split(', ').map(Number);
    switch (call.name) {
      case 'fsync':
      case 'fdatasync':
        this.#events.splice(begunAt, 0, name === '' ? { kind: 'syncFolder' } : { kind: 'sync', name });
        return;
      case 'ftruncate':
        this.#events.push({ kind: 'resize', name, sizeBytes: numbers[1]! });
        return;
      case 'fallocate':
        if (/PUNCH_HOLE|ZERO_RANGE/.test(call.text))
          this.#events.push({ kind: 'zero', name, offset: numbers.at(-2)!, length: numbers.at(-1)! });
        return;
      case 'pwrite64':
      case 'pwritev': {
        const parts = [...call.text.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map((match) => bytesOf(match[1]!));
        const bytes = Buffer.concat(parts).subarray(0, call.result);
        this.#events.push({ kind: 'write', name, offset: numbers.at(-1)!, bytes });
        return;
      }
      default:
        throw new Error(`${call.name} of ${name}: the model does not know it`);
    }
  }

  #open(call: Call, path: string): void {
    const name = this.#nameOf(path);
    this.#names.delete(call.result);
    if (name === undefined) return;
    this.#names.set(call.result, name);
    if (call.text.includes('O_CREAT')) this.#events.push({ kind: 'create', name });
    if (call.text.includes('O_TRUNC')) this.#events.push({ kind: 'resize', name, sizeBytes: 0 });
  }

  #both([from, to]: readonly string[], event: (from: string, to: string) => DiskEvent): void {
    const names = [this.#nameOf(from!), this.#nameOf(to!)];
    if (names[0] !== undefined && names[1] !== undefined) this.#events.push(event(names[0], names[1]));
  }

  /** The name in the folder, '' for the folder itself; undefined if it is elsewhere. */
  #nameOf(path: string): string | undefined {
    if (path === this.#folder) return '';
    const folder = `${this.#folder}/`;
    return path.startsWith(folder) && !path.slice(folder.length).includes('/') ? path.slice(folder.length) : undefined;
  }
}

function bytesOf(escaped: string): Buffer {
  return Buffer.from(escaped.replaceAll('\\x', ''), 'hex');
}
