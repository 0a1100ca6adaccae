/** Compressed files as sources: told by content, whole or refused, and no program left behind. (gzip: gzip.test.ts.) */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { estimate, inspect, load, type SaveResult, save } from '../../lib/index.js';
import { findProgram } from '../guest/availability.js';
import { failsWith, sameBytes } from './support/expect.js';
import { MIB, mixedMemory, randomMemory } from './support/memory.js';
import { onProgram } from './support/privileged.js';
import { runWork, saveInChild, startWork } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

const MEMORY = mixedMemory(3 * MIB);
const PROGRAMS = ['zstd', 'xz', 'bzip2', 'lzop', 'lz4'] as const;

function compressed(program: string, memory: Buffer, ...options: readonly string[]): Buffer {
  const { stdout, status, stderr } = spawnSync(program, ['-c', '-1', ...options], {
    input: memory,
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(`${program}: ${stderr}`);
  return stdout;
}

function saveWrapped(folder: Workspace, bytes: Buffer): Promise<SaveResult> {
  writeFileSync(folder.path('source'), bytes);
  return save(folder.path('source'), folder.path('image'), { segmentSize: MIB, threads: 2, force: true, frozen: true });
}

async function requireMemory(t: ExecutionContext, folder: Workspace, expected: Buffer, what: string): Promise<void> {
  await load(folder.path('image'), folder.path('back'), { force: true });
  sameBytes(t, readFileSync(folder.path('back')), expected, what);
}

/** Whatever is wrong, the old image stands and nothing else is there. */
async function requireRefused(
  t: ExecutionContext,
  folder: Workspace,
  bytes: Buffer,
  what: string,
  message: RegExp,
): Promise<void> {
  const error = await failsWith(t, 'CORRUPT', saveWrapped(folder, bytes), message);
  t.true(error.message.includes(folder.path('source')), `${what}: ${error.message}`);
  t.false(existsSync(folder.path('image')), what);
  t.deepEqual(folder.leftovers(), [], what);
}

for (const program of PROGRAMS) {
  onProgram(program)(`${program}: whole, in several parts, cut off, damaged, with garbage behind it`, async (t) => {
    const folder = workspace(t);
    const one = compressed(program, MEMORY);
    const half = MEMORY.length / 2;
    const two = Buffer.concat([
      compressed(program, MEMORY.subarray(0, half)),
      compressed(program, MEMORY.subarray(half)),
    ]);
    for (const [i, bytes] of (program === 'lzop' ? [one] : [one, two]).entries()) {
      // lzop takes the second for an archive of several files, and ends with a warning.
      const { memoryBytes } = await saveWrapped(folder, bytes);
      t.is(memoryBytes, MEMORY.length);
      t.is((await inspect(folder.path('image'))).source.kind, program);
      await requireMemory(t, folder, MEMORY, `${program}, ${i + 1} parts`);
    }
    rmSync(folder.path('image'));
    for (const length of [one.length - 1, one.length - 4, Math.floor(one.length / 2), 100]) {
      await requireRefused(t, folder, one.subarray(0, length), `cut at ${length}`, /cut off|cannot be decompressed/);
    }
    const damaged = Buffer.from(one);
    damaged.fill(0x55, Math.floor(one.length * 0.6), Math.floor(one.length * 0.6) + 64);
    await requireRefused(t, folder, damaged, 'damaged', /no sound|cannot be decompressed/);
    await requireRefused(
      t,
      folder,
      Buffer.concat([one, Buffer.from('garbage, and more of it')]),
      'garbage',
      /no sound|cannot be/,
    );
  });
}

onProgram('zstd')(
  'zstd: cut off anywhere; windows of any size that is bounded; contents that are no pages',
  async (t) => {
    const folder = workspace(t);
    const memory = mixedMemory(MIB);
    const whole = compressed('zstd', memory);
    for (let i = 1; i < 40; i++) {
      const length = Math.floor((whole.length * i) / 40);
      // A file that is cut into whole pages of its own would still be no frame.
      await requireRefused(t, folder, whole.subarray(0, length), `cut at ${length}`, /cut off/);
    }
    await saveWrapped(folder, compressed('zstd', memory, '--long=27'));
    await requireMemory(t, folder, memory, '--long=27');
    const large = Buffer.concat([randomMemory(MIB), Buffer.alloc(256 * MIB)]);
    const error = await failsWith(
      t,
      'UNSUPPORTED',
      saveWrapped(folder, compressed('zstd', large, '--long=30')),
      /more than 128 MiB/,
    );
    t.regex(error.hint!, /zstd -dc --long=31/);
    await failsWith(
      t,
      'USAGE',
      saveWrapped(folder, compressed('zstd', randomMemory(MIB + 1))),
      /no multiple of the page size/,
    );
    await failsWith(t, 'USAGE', saveWrapped(folder, compressed('zstd', Buffer.alloc(0))), /empty/);
  },
);

onProgram('zstd')('zeros, 10,000 times as many as there are bytes, take no more memory', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('zeros.zst'), compressed('zstd', Buffer.alloc(512 * MIB)));
  const { result, peakBytes } = await saveInChild({
    operation: 'save',
    source: folder.path('zeros.zst'),
    image: folder.path('image'),
    options: { threads: 2 },
  });
  t.is(result.memoryBytes, 512 * MIB);
  t.log(`peak memory ${Math.round(peakBytes / MIB)} MiB`);
  t.true(peakBytes < 256 * MIB);
});

test('raw memory that only begins like a compressed file', async (t) => {
  const folder = workspace(t);
  const starts = [
    '28b52ffd',
    'fd377a585a00',
    'fd377a585a00000412345678',
    '425a6839',
    '425a68393141592653',
    '894c5a4f',
    '04224d18',
    '04224d1800',
  ];
  for (const start of starts) {
    const memory = randomMemory(MIB);
    memory.fill(0xff, 0, 64);
    memory.set(Buffer.from(start, 'hex'));
    await saveWrapped(folder, memory);
    t.is((await inspect(folder.path('image'))).source.kind, 'raw', start);
    await requireMemory(t, folder, memory, start);
  }
  // As much like one as can be: then it must be said.
  const memory = randomMemory(MIB);
  memory.set(Buffer.from('894c5a4f000d0a1a0a', 'hex'));
  writeFileSync(folder.path('source'), memory);
  const options = { force: true, frozen: true } as const;
  const error = await t.throwsAsync(save(folder.path('source'), folder.path('image'), options));
  t.regex((error as { hint?: string }).hint ?? '', /--format raw/);
  await save(folder.path('source'), folder.path('image'), { ...options, format: 'raw' });
  await requireMemory(t, folder, memory, '--format raw');
});

/** A folder that is all of PATH: `programs` by name, each a script of this text, or the real one. */
function pathWith(folder: Workspace, programs: Readonly<Record<string, string | undefined>>): string {
  const bin = folder.path('bin');
  mkdirSync(bin, { recursive: true });
  for (const [name, script] of Object.entries(programs)) {
    if (script === undefined) symlinkSync(findProgram(name)!, `${bin}/${name}`);
    else {
      writeFileSync(`${bin}/${name}`, `#!/bin/sh\n${script}\n`);
      chmodSync(`${bin}/${name}`, 0o755);
    }
  }
  return bin;
}

const XZ_START = Buffer.from('fd377a585a000004e6d6b446', 'hex');

test('a program that is not there, or fails, or talks', async (t) => {
  const folder = workspace(t);
  const [source, image] = [folder.path('source'), folder.path('image')];
  writeFileSync(source, Buffer.concat([XZ_START, randomMemory(MIB)]));
  const run = (PATH: string) => runWork({ operation: 'save', source, image }, { env: { PATH } });
  const missing = await run(pathWith(folder, {}));
  t.true(
    !missing.ok && missing.code === 'UNSUPPORTED' && /xz, is not there/.test(missing.message),
    JSON.stringify(missing),
  );
  t.true(!missing.ok && /Debian package xz-utils/.test(missing.hint ?? ''));
  const faults: [string, RegExp][] = [
    ['exit 7', /xz ended with code 7$/],
    ['head -c 8192 /dev/zero; echo "out of luck" >&2; exit 1', /xz ended with code 1: out of luck/],
    ['head -c 8192 /dev/zero; kill -9 $$', /xz was ended by SIGKILL/],
    ['printf "\\\\033[2J%01000d" 5 >&2; exit 1', /xz ended with code 1: 0+5$/],
    ['exec 1>&-; /bin/sleep 0.3; exit 3', /xz ended with code 3/],
  ];
  for (const [script, message] of faults) {
    const outcome = await run(`${pathWith(folder, { xz: script })}:/usr/bin:/bin`);
    t.true(!outcome.ok && outcome.code === 'CORRUPT', JSON.stringify(outcome));
    if (!outcome.ok) t.regex(outcome.message, message);
    t.false(existsSync(image));
    t.deepEqual(folder.leftovers(), []);
  }
});

test('an abort ends the program too', async (t) => {
  const folder = workspace(t);
  const source = folder.path('source');
  writeFileSync(source, Buffer.concat([XZ_START, randomMemory(MIB)]));
  const PATH = `${pathWith(folder, { xz: 'head -c 9000000 /dev/zero; exec sleep 100' })}:/usr/bin:/bin`;
  const work = startWork(
    { operation: 'save', source, image: folder.path('image'), options: { segmentSize: MIB } },
    { env: { PATH } },
  );
  await work.moved;
  t.true(programsWith(source).length > 0);
  work.abort();
  t.false((await work.outcome).ok);
  await requireNoProgram(t, source);
  t.deepEqual(readdirSync(folder.folder).sort(), ['bin', 'source']);
});

/** What is killed needs a moment. */
async function requireNoProgram(t: ExecutionContext, path: string): Promise<void> {
  for (let i = 0; i < 100 && programsWith(path).length > 0; i++) await sleep(20);
  t.deepEqual(programsWith(path), []);
}

/** Processes whose standard input is this file. */
function programsWith(path: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/fd/0`) === path;
    } catch {
      return false;
    }
  });
}

onProgram('xz')('an estimate needs a file that can be read anywhere', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('source'), compressed('xz', MEMORY));
  await failsWith(t, 'USAGE', estimate(folder.path('source')));
  await requireNoProgram(t, folder.path('source'));
});
