/**
 * A live save in a process of its own: `node liveWork.js MEMORY IMAGE PHASE`. It tells over IPC when it has come to the phase (`first`, `stop`,
 * `memoryRead`, `last`), and in `stop` and `memoryRead` it stays there; at the end, what its peak memory was.
 */
import { closeSync, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { type LiveMachine, save } from '../../../lib/index.js';

const [memory, image, phase] = process.argv.slice(2) as [string, string, string];
const PAGE = 4096;

function reached(name: string): Promise<void> {
  if (name !== phase) return Promise.resolve();
  process.send!(name);
  return name === 'first' || name === 'last' ? Promise.resolve() : new Promise(() => {});
}

/** Every tenth page becomes another one. */
function write(): void {
  const file = openSync(memory, 'r+');
  for (let at = 0; at < fstatSync(file).size; at += 10 * PAGE) writeSync(file, `written at ${at}`, at + 50);
  closeSync(file);
}

const live: LiveMachine = {
  stop: async () => {
    write();
    await reached('stop');
  },
  memoryRead: async () => {
    await reached('memoryRead');
    await reached('last');
  },
};
const onProgress = ({ doneBytes }: { doneBytes: number }): void => {
  if (doneBytes > 0) void reached('first');
};
await save(memory, image, {
  segmentSize: 2 ** 20,
  threads: 2,
  force: true,
  live,
  onProgress,
  progressIntervalSeconds: 0.005,
});
const kib = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))![1];
process.send!({ peakBytes: Number(kib) * 1024 });
process.disconnect();
