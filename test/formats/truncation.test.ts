/** An image that ends too early is told from a whole one at every length, from a file and from a pipe. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { inspect, load, type VerifyResult, verify } from '../../lib/index.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { codeOf, Judge } from './support/judge.js';
import { repositoryRoot } from './support/secondReader.js';
import { smallImage, tinyMemory } from './support/smallImages.js';

test('every truncated image is damaged to verify, refused by load, and described or refused by inspect', async (t) => {
  const folder = workspace(t);
  const { bytes } = await smallImage(folder, {}, tinyMemory());
  const judge = new Judge(folder);
  for (let length = 0; length < bytes.length; length++) {
    judge.put(bytes.subarray(0, length));
    const verdicts = [await judge.verify(), await judge.load(), await inspected(judge.imagePath)];
    if (String(verdicts) !== 'damaged,CORRUPT,CORRUPT') t.fail(`${length} bytes: ${verdicts}`);
  }
  t.pass();
});

/** CORRUPT: refused, or described as not complete. */
async function inspected(path: string): Promise<string> {
  return codeOf(async () => {
    const { complete, problems } = await inspect(path);
    return !complete && problems.every(({ code }) => code === 'CORRUPT') ? 'CORRUPT' : 'complete';
  });
}

test('an image that ends too early in a pipe is damaged to verify and refused by load', async (t) => {
  const folder = workspace(t);
  const { bytes, memory } = await smallImage(folder, {}, tinyMemory());
  const judge = new Judge(folder);
  const target = folder.path('target.raw');
  for (const length of [0, 1, 63, 64, 65, ...steps(bytes.length, 24), bytes.length - 1]) {
    judge.put(bytes.subarray(0, length));
    const result = await throughPipe(folder, judge.imagePath, (pipe) => verify(pipe, { threads: 1 }));
    t.false((result as VerifyResult).intact, `${length} bytes`);
    t.is(await throughPipe(folder, judge.imagePath, (pipe) => load(pipe, target, { threads: 1 })), 'CORRUPT');
  }
  judge.put(bytes);
  const whole = await throughPipe(folder, judge.imagePath, (pipe) => load(pipe, target, { threads: 1 }));
  t.is((whole as { memoryBytes: number }).memoryBytes, memory.length);
});

function steps(end: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * end) / count));
}

async function throughPipe<T>(folder: Workspace, image: string, action: (pipe: string) => Promise<T>) {
  const pipe = makeFifo(folder.path(`pipe-${Math.random()}`));
  const [result] = await Promise.all([codeOf(() => action(pipe)), cat(image, pipe)]);
  return result;
}

test('the command says CORRUPT of an image that ends too early on its standard input', async (t) => {
  const folder = workspace(t);
  const { bytes } = await smallImage(folder, {}, tinyMemory());
  for (const length of [40, Math.floor(bytes.length / 2), bytes.length - 8]) {
    t.is(await exitCode(['verify', '-'], bytes.subarray(0, length)), 14, `verify, ${length} bytes`);
    t.is(await exitCode(['load', '-', folder.path('target.raw')], bytes.subarray(0, length)), 14, `load, ${length}`);
  }
  t.is(await exitCode(['verify', '-'], bytes), 0);
});

async function exitCode(args: readonly string[], input: Buffer): Promise<number> {
  const main = new URL('../../cli/main.js', import.meta.url).pathname;
  const child = spawn(process.execPath, [main, ...args, '--quiet'], {
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: join(repositoryRoot()),
  });
  child.stdin.on('error', () => {}); // A reader that has seen enough closes the pipe.
  child.stdin.end(input);
  const [code] = (await once(child, 'exit')) as [number];
  return code;
}
