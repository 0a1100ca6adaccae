/**
 * Memory holds keys. Words that stand in every page of it are looked for in all that commands say: results, errors, JSON and talk, of
 * runs that succeed and of runs that fail on damage, full disks, wrong options, foreign files, and with debugging switched on.
 */
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { runCli } from '../cli/support/runCli.js';
import { elfNotes, makeAvml, makeElf, makeKdump, makeLime } from '../formats/support/dumps.js';
import { KIB, MIB, PAGE } from './support/memory.js';
import { workspace } from './support/workspace.js';

const CANARY = 'CANARY-9f2c61d7-secret';
/** Each page is another, and none is without the word. */
const MEMORY = Buffer.alloc(MIB + 64 * KIB);
for (let at = 0; at < MEMORY.length; at += PAGE) MEMORY.write(`${CANARY} ${at} `.repeat(80), at, 'latin1');
/** VMSNAP_SECRETS=all: each command as text and as JSON, and not in turn. */
const BOTH = process.env.VMSNAP_SECRETS === 'all';
const FORMS = ['latin1', 'utf16le', 'hex', 'base64'] as const;
/** Of base64 a part that does not depend on what comes before it. */
const WORDS = FORMS.map((form) => {
  const text = Buffer.from(CANARY).toString(form === 'utf16le' ? 'latin1' : form);
  return form === 'base64' ? text.slice(4, 24) : text;
});

function found(output: Buffer): string | undefined {
  const text = output.toString('latin1');
  const spaced = text.replaceAll(/[\s:]/g, '').toLowerCase();
  return WORDS.find(
    (word) =>
      text.includes(word) || spaced.includes(word.toLowerCase()) || output.includes(Buffer.from(CANARY, 'utf16le')),
  );
}

test('nothing of the memory is in what any command says', async (t) => {
  t.timeout(600_000);
  const folder = workspace(t);
  const at = (name: string) => folder.path(name);
  writeFileSync(at('memory'), MEMORY);
  const loads = [{ physical: 0, bytes: MEMORY.subarray(0, 16 * PAGE) }];
  const ranges = [{ start: 0, bytes: MEMORY.subarray(0, 16 * PAGE) }];
  const pages = Array.from({ length: 16 }, (_, i) => MEMORY.subarray(i * PAGE, (i + 1) * PAGE));
  const foreign: Readonly<Record<string, Buffer>> = {
    elf: makeElf(loads, { notes: elfNotes([{ name: 'CORE', type: 1, contents: MEMORY.subarray(0, 336) }]) }),
    lime: makeLime(ranges),
    avml: makeAvml(ranges),
    kdump: makeKdump(pages),
  };
  for (const [name, bytes] of Object.entries(foreign)) {
    writeFileSync(at(name), bytes);
    writeFileSync(at(`${name}-cut`), bytes.subarray(0, bytes.length - 3000));
    const damaged = Buffer.from(bytes);
    for (let i = 40; i < damaged.length; i += 997) damaged[i]! ^= 0x55;
    writeFileSync(at(`${name}-damaged`), damaged);
  }
  const says: string[] = [];
  let turn = 0;
  const run = async (args: readonly string[], expected?: number): Promise<void> => {
    const env = { NODE_DEBUG: 'fs,worker,stream', DEBUG: '*', VMSNAP_DEBUG: '1', VMSNAP_LOG: 'trace' };
    turn++;
    for (const json of BOTH ? [false, true] : [turn % 2 === 0]) {
      const { stdout, stderr, exitCode } = await runCli([...args, ...(json ? ['--json'] : [])], {
        cwd: folder.folder,
        env,
      });
      const what = `${args.join(' ')}${json ? ' --json' : ''} ended with ${exitCode}`;
      const word = found(Buffer.from(stdout)) ?? found(Buffer.from(stderr));
      t.is(word, undefined, what);
      if (expected !== undefined) t.is(exitCode, expected, `${what}: ${stderr}`);
      if (stdout.length + stderr.length > 0) says.push(what);
    }
  };
  for (const codec of ['zstd', 'none']) {
    const image = `${codec}.vms`;
    await run(['save', '--frozen', '--force', '--codec', codec, '--attach', 'memory=memory', 'memory', image], 0);
    await run(['inspect', image], 0);
    await run(['verify', image], 0);
    await run(['load', '--force', image, 'target'], 0);
    const sound = readFileSync(at(image));
    const damaged = Buffer.from(sound);
    for (let i = 700; i < damaged.length; i += 1499) damaged[i]! ^= 0xff;
    writeFileSync(at('damaged.vms'), damaged);
    copyFileSync(at(image), at('cut.vms'));
    truncateSync(at('cut.vms'), Math.floor(sound.length / 2));
    for (const bad of ['damaged.vms', 'cut.vms']) {
      await run(['verify', bad], 14);
      await run(['load', '--force', bad, 'target']);
      await run(['load', '--force', '--salvage', bad, 'salvaged']);
      await run(['inspect', bad]);
      await run(['compare', bad, 'memory']);
    }
  }
  await run(['save', '--base', 'zstd.vms', '--frozen', '--force', 'memory', 'diff.vms'], 0);
  await run(['compare', 'zstd.vms', 'none.vms'], 0);
  await run(['estimate', 'memory'], 0);
  for (const bad of ['elf', 'lime', 'avml', 'kdump']) {
    for (const name of [bad, `${bad}-cut`, `${bad}-damaged`]) {
      await run(['save', '--force', name, 'foreign.vms']);
      await run(['inspect', name]);
    }
  }
  // Memory in the place of an image, of settings, of a region.
  for (const args of [
    ['inspect', 'memory'],
    ['verify', 'memory'],
    ['load', '--force', 'memory', 'target'],
    ['backup', '--config', 'memory'],
    ['extract', '--attachment', 'none', 'zstd.vms', 'out'],
    ['load', '--region', 'none', 'zstd.vms', 'out'],
    ['save', '--segment-size', '3', 'memory', 'never.vms'],
    ['save', 'memory', 'zstd.vms'],
    ['save', 'memory', '/dev/full'],
    ['load', 'zstd.vms', '/dev/full'],
  ])
    await run(args);
  t.true(says.length > 30, `${says.length} runs said something`);
});
