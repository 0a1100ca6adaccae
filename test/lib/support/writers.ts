/** Programs that have a file open or mapped for writing, as a running machine has its memory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ExecutionContext } from 'ava';

const MAP_AND_WAIT = `
import mmap, sys
with open(sys.argv[1], 'r+b') as file:
    memory = mmap.mmap(file.fileno(), 0)
print('ready', flush=True)
sys.stdin.read()
`;

/** A shell that has the file open for writing. @returns its process id. */
export async function openForWriting(t: ExecutionContext, path: string): Promise<number> {
  return await ready(t, spawn('sh', ['-c', 'exec 3<>"$1"; echo ready; read -r _', 'sh', path]));
}

/** A process that has the file mapped shared and writable, and no longer open. @returns its process id. */
export async function mapForWriting(t: ExecutionContext, path: string): Promise<number> {
  return await ready(t, spawn('python3', ['-c', MAP_AND_WAIT, path]));
}

async function ready(t: ExecutionContext, child: ChildProcess): Promise<number> {
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout!, 'data');
  return child.pid!;
}
