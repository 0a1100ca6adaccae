import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';

const PIECE_BYTES = 2 ** 20;

// The child fills a heap, says so, and waits until its input ends, which it does at the latest when we end.
const CHILD_SCRIPT = `
const records = new Map();
for (let i = 0; i < 200_000; i++) records.set('user-' + i, { id: i, name: 'name ' + (i * 31) % 997, at: Date.now() });
globalThis.spare = Buffer.alloc(96 * 2 ** 20);
process.stdin.resume().on('end', () => process.exit(0));
console.log('ready');
`;

/** Writes the memory of a Node process of our own into a file: a machine of one process. Gives its size. */
export async function writeProcessMemory(targetPath: string): Promise<number> {
  const child = spawn(process.execPath, ['-e', CHILD_SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
    if (child.pid === undefined || child.exitCode !== null) throw new Error('the process to be copied did not start');
    return copyMappings(child.pid, targetPath);
  } finally {
    child.stdin.end();
    child.kill('SIGKILL');
  }
}

/** Copies the readable private mappings one behind the other; each is a whole number of pages long. */
function copyMappings(processId: number, targetPath: string): number {
  const memory = openSync(`/proc/${processId}/mem`, 'r');
  const target = openSync(targetPath, 'w', 0o600);
  let sizeBytes = 0;
  try {
    for (const mapping of readableMappings(processId)) {
      sizeBytes += copyRange(memory, target, mapping.start, mapping.end);
    }
  } finally {
    closeSync(memory);
    closeSync(target);
  }
  return sizeBytes;
}

interface Mapping {
  start: bigint;
  end: bigint;
}

function readableMappings(processId: number): Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of readFileSync(`/proc/${processId}/maps`, 'latin1').split('\n')) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) r..p (?:\S+\s+){3}(.*)$/.exec(line);
    // The kernel's own pages in a process are not memory of it.
    if (match === null || /^\[v(var|dso|syscall)/.test(match[3]!)) continue;
    mappings.push({ start: BigInt(`0x${match[1]}`), end: BigInt(`0x${match[2]}`) });
  }
  return mappings;
}

/** Copies a range; pages that cannot be read, such as those behind the end of a mapped file, are left out. */
function copyRange(memory: number, target: number, start: bigint, end: bigint): number {
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  let copiedBytes = 0;
  for (let address = start; address < end; ) {
    const wantedBytes = Number(end - address < BigInt(PIECE_BYTES) ? end - address : BigInt(PIECE_BYTES));
    let readBytes: number;
    try {
      readBytes = readSync(memory, buffer, 0, wantedBytes, address);
    } catch {
      break;
    }
    const wholePagesBytes = readBytes - (readBytes % 4096);
    if (wholePagesBytes === 0) break;
    writeSync(target, buffer, 0, wholePagesBytes);
    copiedBytes += wholePagesBytes;
    address += BigInt(wholePagesBytes);
  }
  return copiedBytes;
}
