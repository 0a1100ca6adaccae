/**
 * A program that behaves like a QEMU with `-incoming defer`, and goes wrong where it is told to:
 * `node fakeQemu.js --log FOLDER --fault STEP[:COMMAND] ... -qmp unix:PATH,server=on,wait=off`.
 *
 * It keeps its arguments, the commands and the stream in FOLDER, and its process id; with `--runs FILE` also that memory file once it
 * runs, and then it ends as soon as nobody is connected.
 */
import { appendFileSync, copyFileSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { tail } from '../../support/qemuStream.js';

type Fault =
  | 'none'
  | 'start'
  | 'greeting'
  | 'die'
  | 'refuse'
  | 'hang'
  | 'stream'
  | 'migration'
  | 'not-running'
  | 'background';

const MEMORY_BYTES = 5 * 2 ** 20;
const args = process.argv.slice(2);
const after = (option: string): string | undefined => args[args.indexOf(option) + 1];
const folder = after('--log')!;
const [fault, at] = (after('--fault') ?? 'none').split(':') as [Fault, string | undefined];
const machineType = args.includes('--type') ? after('--type')! : 'pc-q35-7.2';
const memoryBytes = args.includes('--memory') ? Number(after('--memory')) : MEMORY_BYTES;
const minor = args.includes('--minor') ? Number(after('--minor')) : 2;
const memoryFile = args.includes('--runs') ? after('--runs')! : undefined;
const received: Buffer[] = [];
let status = 'inmigrate';
let migration = 'none';

function die(): never {
  process.stderr.write('qemu: something is wrong\n');
  process.exit(1);
}

writeFileSync(join(folder, 'pid'), String(process.pid));
writeFileSync(join(folder, 'args'), JSON.stringify(args));
if (fault === 'start') die();
process.on('SIGTERM', () => process.exit(7));

const path = /^unix:(.*),server=on,wait=off$/.exec(args[args.lastIndexOf('-qmp') + 1]!)![1]!.replaceAll(',,', ',');
createServer((socket) => {
  if (fault === 'greeting') die();
  const say = (message: object) => socket.write(`${JSON.stringify(message)}\n`);
  say({ QMP: { version: { qemu: { major: 7, minor, micro: 0 } } } });
  let text = '';
  socket.setEncoding('utf8').on('data', (part: string) => {
    const lines = (text + part).split('\n');
    text = lines.pop()!;
    for (const line of lines) answer(JSON.parse(line) as Command, say);
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    if (memoryFile !== undefined && status === 'running') process.exit(0);
  });
}).listen(path);

interface Command {
  readonly execute: string;
  readonly arguments?: { readonly uri?: string; readonly property?: string };
  readonly id: number;
}

function answer({ execute, arguments: given, id }: Command, say: (message: object) => void): void {
  appendFileSync(join(folder, 'commands'), `${execute}\n`);
  if (execute === at && fault === 'die') die();
  if (execute === at && fault === 'hang') return;
  if (execute === at && fault === 'refuse') {
    say({ id, error: { class: 'GenericError', desc: 'it is not to be' } });
    return;
  }
  if (execute === 'quit') process.exit(0);
  if (execute === 'migrate-incoming') listen(given!.uri!.replace(/^unix:/, ''));
  if (execute === 'cont') status = fault === 'not-running' ? 'internal-error' : 'running';
  if (execute === 'cont' && memoryFile !== undefined) copyFileSync(memoryFile, join(folder, 'memory'));
  say({ id, return: value(execute) });
}

function value(execute: string): unknown {
  if (execute === 'query-status') return { status };
  if (execute === 'qom-get') return `${machineType}-machine`;
  if (execute === 'query-memory-size-summary') return { 'base-memory': memoryBytes };
  if (execute === 'query-migrate') return { status: migration, 'error-desc': 'a device is missing' };
  return {};
}

function listen(socketPath: string): void {
  migration = 'active';
  createServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => {
      if (fault === 'stream') die();
      received.push(bytes);
      const all = Buffer.concat(received);
      received.splice(0, received.length, all);
      if (!all.subarray(-tail().length).equals(tail())) return;
      writeFileSync(join(folder, 'stream'), all);
      migration = fault === 'migration' ? 'failed' : 'completed';
      status = 'paused';
    });
  }).listen(socketPath);
}
