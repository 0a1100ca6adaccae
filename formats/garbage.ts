/**
 * The buffers that Node's zlib and ciphers hand out lie outside of V8's heap. V8 frees them with the small objects that own them, when it comes to
 * collect these, and then in threads that have to find a processor: 32 MiB come together in a thread with Node 20 and 65 with Node 24 (garbage.test.ts),
 * more on a busy machine.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const STEP_BYTES = 4 * 1024 * 1024;

type Transferable = ArrayBuffer & { transfer(sizeBytes: number): ArrayBuffer };
type Collector = (options: { type: 'minor' }) => void;

/** Of this thread. */
let discardedBytes = 0;
let collector: Collector | undefined;

/** Frees the memory behind `buffer`, or sees to it that it is freed soon. Nobody may use it, or another view of that memory, any more. */
export function discard({ buffer }: Uint8Array): void {
  // What is small lies with others in a pool of Node's.
  if (buffer.byteLength <= Buffer.poolSize || !(buffer instanceof ArrayBuffer)) return;
  // Node 22 and later: at once. (There a collection alone does not free them.)
  if ('transfer' in buffer) release(buffer as Transferable);
  else collectSoon(buffer.byteLength);
}

function release(buffer: Transferable): void {
  try {
    buffer.transfer(0);
  } catch {
    // A pool all the same, made before somebody changed the size of pools.
  }
}

/** A collection of young objects after every few MiB takes less than a millisecond. */
function collectSoon(sizeBytes: number): void {
  discardedBytes += sizeBytes;
  if (discardedBytes < STEP_BYTES) return;
  discardedBytes = 0;
  collector ??= findCollector();
  collector?.({ type: 'minor' });
}

function findCollector(): Collector | undefined {
  const { gc } = globalThis as { gc?: unknown };
  if (typeof gc === 'function') return gc as Collector;
  // New contexts have it while the flag is set, which is one of the process: where another thread takes it away meanwhile, the next call tries again.
  setFlagsFromString('--expose-gc');
  try {
    return runInNewContext('globalThis.gc') as Collector | undefined;
  } finally {
    setFlagsFromString('--no-expose-gc');
  }
}
