/** Encrypted images brought back by every way there is, the keys that open them, and secrets that stay where they are. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { placeIn, readExactly } from '../../formats/vmsnap/imageFile.js';
import { FOOTER_BYTES, PREFIX_BYTES, TAG_BYTES } from '../../formats/vmsnap/layout.js';
import { decodePrefix, headBytes, recordBytes, takeTables } from '../../formats/vmsnap/record.js';
import { openImageInput } from '../../lib/imageInput.js';
import {
  type CodecName,
  compare,
  extract,
  flatten,
  inspect,
  type KeySources,
  listStore,
  load,
  openImage,
  pruneStore,
  restoreDrill,
  type SaveOptions,
  salvage,
  save,
  VmsnapError,
  verify,
  type Warning,
} from '../../lib/index.js';
import * as qemu from '../support/qemuStream.js';
import { sameBytes } from './support/expect.js';
import { makeKey } from './support/keys.js';
import { WrittenMemory } from './support/liveMachine.js';
import { KIB, MIB, mixedMemory } from './support/memory.js';
import { cat, makeFifo } from './support/pipes.js';
import { type Workspace, workspace } from './support/workspace.js';

const PASSPHRASE = 'correct horse battery staple';

async function codeOf(action: () => Promise<unknown>): Promise<string> {
  try {
    await action();
    return 'none';
  } catch (error) {
    if (error instanceof VmsnapError) return error.code;
    throw error;
  }
}

test('round trips: codecs, sizes, threads, references, attachments', async (t) => {
  const folder = workspace(t);
  const key = await makeKey();
  const keys: KeySources = { identities: [key.identity] };
  const plans = fc.record({
    codec: fc.constantFrom<CodecName>('zstd', 'zlib', 'none'),
    pages: fc.integer({ min: 1, max: 900 }),
    chunkSize: fc.constantFrom(4 * KIB, 64 * KIB, 256 * KIB),
    threads: fc.integer({ min: 1, max: 3 }),
    references: fc.boolean(),
    seed: fc.integer({ min: 1, max: 1000 }),
  });
  const property = fc.asyncProperty(plans, async ({ codec, pages, chunkSize, threads, references, seed }) => {
    const memory = mixedMemory(pages * 4 * KIB, seed);
    const [source, image, target] = ['m', 'i', 'o'].map((name) => folder.path(name));
    writeFileSync(source!, memory);
    const options = { codec, chunkSize, threads, references, segmentSize: MIB, frozen: true, force: true };
    const attachments = [{ name: 'state', file: source! }];
    const saved = await save(source!, image!, { ...options, attachments, encryption: { recipients: [key.recipient] } });
    t.deepEqual(saved.encryption, { recipients: ['X25519'] });
    await load(image!, target!, { keys, threads, force: true });
    sameBytes(t, readFileSync(target!), memory, 'load');
    t.true((await verify(image!, { keys })).intact);
    await extract(image!, 'state', target!, { keys, force: true });
    sameBytes(t, readFileSync(target!), memory, 'attachment');
    const opened = await openImage(image!, { keys });
    sameBytes(t, await opened.read('ram', 0, memory.length), memory, 'random reads');
    await opened.close();
    await noNonceTwice(image!, keys);
  });
  await fc.assert(property, { numRuns: 10 });
  t.pass();
});

/** Every chunk of the file under a nonce of its own, records that no longer count among them; likewise every table. */
async function noNonceTwice(path: string, keys: KeySources): Promise<number> {
  const input = await openImageInput(path, { keys });
  const { head, fileBytes } = input;
  const seen = new Set<string>();
  const take = (nonce: string, offset: number) => {
    if (seen.has(nonce)) throw corrupt(path, offset, `the nonce ${nonce} is used twice`);
    seen.add(nonce);
  };
  for (let at = head.bytes.length; at < fileBytes! - FOOTER_BYTES; ) {
    const prefixBytes = readExactly(input, at, PREFIX_BYTES, 'a prefix');
    const prefix = decodePrefix(prefixBytes, 0, placeIn(head, path, at));
    const tables = readExactly(input, at, headBytes(prefix), 'tables');
    const seal = takeTables(tables, prefix, head.seal, path)!;
    take(`tables ${at}`, at);
    for (let chunk = 0; chunk < seal.tags.length / TAG_BYTES; chunk++) take(`chunk ${seal.number} ${chunk}`, at);
    at += recordBytes(prefix, head.header.alignmentBytes);
  }
  input.close();
  return seen.size;
}

test('segments that are stored again: saved live, and from a stream that gives pages again', async (t) => {
  const folder = workspace(t);
  const key = await makeKey();
  const keys: KeySources = { identities: [key.identity] };
  const encryption = { recipients: [key.recipient] };
  const [source, image, target] = ['m', 'i', 'o'].map((name) => folder.path(name));
  writeFileSync(source!, mixedMemory(6 * MIB, 4));
  const machine = await new WrittenMemory(source!, 0.5, { seed: 4 }).running();
  const live = await save(source!, image!, { live: machine, threads: 3, encryption });
  await machine.halt();
  t.true(live.run.live!.changedSegments > 0);
  await load(image!, target!, { keys });
  sameBytes(t, readFileSync(target!), machine.stopped!, 'saved live');
  const segments = 6;
  t.true((await noNonceTwice(image!, keys)) > 2 * segments, 'records that no longer count are there too');

  const memory = Buffer.alloc(4 * MIB);
  const parts: Buffer[] = [];
  for (let round = 0; round < 3; round++) {
    const pages = [];
    for (let page = round; page < memory.length / qemu.PAGE; page += 1 + round) {
      const bytes = qemu.filledPage(10_000 * round + page);
      bytes.copy(memory, page * qemu.PAGE);
      pages.push(qemu.page('pc.ram', page * qemu.PAGE, bytes));
    }
    parts.push(qemu.ramPart(...pages));
  }
  writeFileSync(folder.path('stream'), qemu.stream([{ id: 'pc.ram', sizeBytes: memory.length }], ...parts));
  const pipe = makeFifo(folder.path('pipe'));
  const fed = cat(folder.path('stream'), pipe);
  await save(pipe, image!, { threads: 3, segmentSize: MIB, force: true, encryption });
  await fed;
  await load(image!, target!, { keys, force: true });
  sameBytes(t, readFileSync(target!), memory, 'the stream');
  t.true((await verify(image!, { keys })).intact);
  await noNonceTwice(image!, keys);
});

interface Link {
  readonly path: string;
  readonly memory: Buffer;
}

/** An image, and one that differs from it. */
async function saveChain(folder: Workspace, base: SaveOptions, child: SaveOptions): Promise<[Link, Link]> {
  const first = mixedMemory(3 * MIB, 5);
  const second = Buffer.from(first);
  second.fill('something else', MIB + 4 * KIB, MIB + 40 * KIB);
  const links = [first, second].map((memory, i) => {
    writeFileSync(folder.path(`memory-${i}`), memory);
    return { path: folder.path(`link-${i}.vmsnap`), memory };
  });
  const common = { segmentSize: MIB, frozen: true, force: true };
  await save(folder.path('memory-0'), links[0]!.path, { ...common, ...base });
  await save(folder.path('memory-1'), links[1]!.path, { ...common, base: links[0]!.path, ...child });
  return [links[0]!, links[1]!];
}

test('chains: encrypted over encrypted, each for another key, and encrypted over plain', async (t) => {
  const folder = workspace(t);
  const [a, b] = [await makeKey(), await makeKey()];
  const [toA, toB] = [a, b].map(({ recipient }) => ({ encryption: { recipients: [recipient] } }));
  const both: KeySources = { identities: [a.identity, b.identity] };
  const [, child] = await saveChain(folder, toA!, { ...toB, keys: both });
  const target = folder.path('target');
  await load(child.path, target, { keys: both });
  sameBytes(t, readFileSync(target), child.memory, 'load');
  t.true((await verify(child.path, { keys: both })).intact);
  t.is(await codeOf(() => load(child.path, target, { force: true, keys: { identities: [b.identity] } })), 'KEY');
  const drill = await restoreDrill(child.path, { keys: both });
  t.is(drill.bases.length, 1);
  const whole = folder.path('whole.vmsnap');
  t.is(await codeOf(() => flatten(child.path, whole, { keys: both })), 'USAGE');
  await flatten(child.path, whole, { keys: both, ...toA });
  t.true((await compare(whole, child.path, { keys: both })).equal);
  await flatten(child.path, whole, { keys: both, decrypt: true, force: true });
  t.is((await inspect(whole)).encryption, undefined);
  t.true((await compare(whole, child.path, { keys: both })).equal);
  const report = await inspect(child.path, { keys: both });
  t.true(report.chain!.complete && report.encryption!.opened);

  const [, over] = await saveChain(folder, {}, toB!);
  await load(over.path, target, { force: true, keys: both });
  sameBytes(t, readFileSync(target), over.memory, 'over a plain base');
});

test('a difference to an encrypted image is not saved in the clear', async (t) => {
  const folder = workspace(t);
  const key = await makeKey();
  const keys = { identities: [key.identity] };
  const encryption = { recipients: [key.recipient] };
  const error = await t.throwsAsync(() => saveChain(folder, { encryption }, { keys }), { instanceOf: VmsnapError });
  t.is((error as VmsnapError).code, 'BASE_MISMATCH');
  t.is(await codeOf(() => saveChain(folder, { encryption }, { encryption })), 'KEY');
});

test('pipes: saved into one and loaded from one', async (t) => {
  const folder = workspace(t);
  const key = await makeKey();
  const keys = { identities: [key.identity] };
  const memory = mixedMemory(2 * MIB + 64 * KIB, 3);
  writeFileSync(folder.path('m'), memory);
  const main = new URL('../../cli/main.js', import.meta.url).pathname;
  const image = execFileSync(process.execPath, [main, 'save', '--encrypt-to', key.recipient, folder.path('m'), '-'], {
    maxBuffer: 64 * MIB,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  writeFileSync(folder.path('i'), image);
  const through = async <T>(action: (pipe: string) => Promise<T>): Promise<T> => {
    const pipe = makeFifo(folder.path(`pipe-${Math.random()}`));
    const [result] = await Promise.all([action(pipe), cat(folder.path('i'), pipe)]);
    return result;
  };
  await through((pipe) => load(pipe, folder.path('o'), { keys }));
  sameBytes(t, readFileSync(folder.path('o')), memory, 'from a pipe');
  t.true((await through((pipe) => verify(pipe, { keys }))).intact);
  const outside = await through((pipe) => verify(pipe));
  t.true(outside.intact && outside.sealed);
  t.false((await through((pipe) => inspect(pipe))).encryption!.opened);
});

test('a salvage brings back with the key what is whole, and nothing without it', async (t) => {
  const folder = workspace(t);
  const key = await makeKey();
  const keys = { identities: [key.identity] };
  const memory = mixedMemory(4 * MIB, 9);
  writeFileSync(folder.path('m'), memory);
  const options = { segmentSize: MIB, frozen: true, encryption: { recipients: [key.recipient] } };
  await save(folder.path('m'), folder.path('i'), options);
  const image = readFileSync(folder.path('i'));
  for (const damaged of [image.subarray(0, Math.floor(image.length * 0.6)), flipped(image, image.length >> 1)]) {
    writeFileSync(folder.path('d'), damaged);
    t.is(await codeOf(() => salvage(folder.path('d'), folder.path('o'), { force: true })), 'KEY');
    const { lost, wholeBytes } = await salvage(folder.path('d'), folder.path('o'), { force: true, keys });
    t.true(wholeBytes > 0 && lost.length > 0);
    const found = readFileSync(folder.path('o'));
    const expected = Buffer.from(memory);
    for (const { offset, length } of lost) expected.fill(0, offset, offset + length);
    sameBytes(t, found, expected, 'what is not lost');
  }
});

function flipped(image: Buffer, at: number): Buffer {
  const copy = Buffer.from(image);
  copy[at]! ^= 1;
  return copy;
}

test('passphrases and identities: from files, a command, a credential; wrong and missing ones', async (t) => {
  const folder = workspace(t);
  const key = await makeKey();
  const memory = mixedMemory(256 * KIB, 2);
  const [source, image, target] = ['m', 'i', 'o'].map((name) => folder.path(name));
  writeFileSync(source!, memory);
  const secret = (name: string, text: string) => {
    writeFileSync(folder.path(name), text, { mode: 0o600 });
    return folder.path(name);
  };
  const passphraseFile = secret('passphrase', `${PASSPHRASE}\n`);
  const saved = await save(source!, image!, { frozen: true, encryption: { passphraseFile } });
  t.deepEqual(saved.encryption, { recipients: ['scrypt'] });
  const opens = async (keys: KeySources) => codeOf(() => load(image!, target!, { force: true, keys }));
  t.is(await opens({ passphraseFile }), 'none');
  t.is(await opens({ passphraseCommand: `cat ${passphraseFile}` }), 'none');
  mkdirSync(folder.path('credentials'));
  secret('credentials/phrase', PASSPHRASE);
  secret('credentials/key', `# a key\n${key.identity}\n`);
  t.is(await opens({ credential: 'phrase' }), 'KEY');
  process.env.CREDENTIALS_DIRECTORY = folder.path('credentials');
  t.teardown(() => delete process.env.CREDENTIALS_DIRECTORY);
  t.is(await opens({ credential: 'phrase' }), 'none');
  t.is(await opens({ credential: '../passphrase' }), 'USAGE');
  t.is(await opens({ passphrase: 'wrong' }), 'KEY');
  t.is(await opens({ passphraseCommand: 'exit 3' }), 'KEY');
  const tried = folder.path('tried');
  const mistyped = { passphraseCommand: `test -e ${tried} || { touch ${tried}; exit 1; }; cat ${passphraseFile}` };
  t.deepEqual([await opens(mistyped), await opens(mistyped)], ['KEY', 'none'], 'a failure is not remembered');
  secret('credentials/mixed', `${key.identity}\n${PASSPHRASE}\n`);
  t.is(await opens({ credential: 'mixed' }), 'KEY');
  t.is(await opens({ passphraseFile: secret('empty', '\n') }), 'KEY');
  t.is(await opens({ passphraseFile: folder.path('nowhere') }), 'NOT_FOUND');
  t.is(await opens({ identities: [key.identity] }), 'KEY');
  t.is(await opens({ identityFiles: [passphraseFile] }), 'KEY');

  const options = { frozen: true, force: true };
  await save(source!, image!, { ...options, encryption: { credential: 'key' } });
  t.is(await opens({ credential: 'key' }), 'none');
  t.is(await opens({ identityFiles: [secret('id', `# made today\n${key.identity}\n`)] }), 'none');
  const recipientsFiles = [secret('recipients', `${key.recipient}\n`)];
  await save(source!, image!, { ...options, encryption: { recipientsFiles } });
  t.is(await opens({ credential: 'key' }), 'none');
  for (const encryption of [{}, { recipients: ['age1nonsense'] }, { recipients: [key.recipient], passphraseFile }])
    t.is(await codeOf(() => save(source!, image!, { ...options, encryption })), 'USAGE');
  sameBytes(t, readFileSync(target!), memory, 'memory');
});

test('a file with a secret that others may read is told', async (t) => {
  const folder = workspace(t);
  writeFileSync(folder.path('m'), mixedMemory(64 * KIB));
  writeFileSync(folder.path('passphrase'), PASSPHRASE);
  chmodSync(folder.path('passphrase'), 0o644);
  const warnings: Warning[] = [];
  const secret = {
    passphraseFile: folder.path('passphrase'),
    onWarning: (warning: Warning) => void warnings.push(warning),
  };
  await save(folder.path('m'), folder.path('i'), { frozen: true, encryption: secret });
  t.deepEqual(
    warnings.map(({ code }) => code),
    ['key-readable'],
  );
});

test('a store of encrypted images is listed and pruned without a key', async (t) => {
  const folder = workspace(t);
  const key = await makeKey();
  const encryption = { recipients: [key.recipient] };
  const keys = { identities: [key.identity] };
  const [base, child] = await saveChain(
    folder,
    { encryption, name: 'vm', createdAt: new Date('2024-01-01T00:00:00Z') },
    { encryption, keys, name: 'vm', createdAt: new Date('2024-01-02T00:00:00Z') },
  );
  const { entries } = await listStore(folder.folder);
  t.deepEqual(entries.map(({ state, path }) => [path, state]).sort(), [
    [base.path, 'good'],
    [child.path, 'good'],
  ]);
  t.is(entries.find(({ path }) => path === child.path)!.bases.length, 1);
  t.is(entries[0]!.memoryBytes, 3 * MIB);
  const pruned = await pruneStore(folder.folder, { policy: { keepLast: 1 }, dryRun: true });
  t.true(pruned.decisions.every(({ keep }) => keep));
});

test('no secret and nothing of the memory in what is printed, nor in the image', async (t) => {
  const folder = workspace(t);
  const key = await makeKey();
  const marker = 'PRIVATE-KEY-OF-THE-GUEST';
  const memory = Buffer.alloc(MIB);
  // Pages that do not shrink, and one that would stand as it is in an image that is not encrypted.
  mixedMemory(MIB).copy(memory);
  memory.write(marker.repeat(170), 8 * KIB);
  writeFileSync(folder.path('m'), memory);
  writeFileSync(folder.path('ATTACHED-NAME'), marker);
  writeFileSync(folder.path('id'), key.identity, { mode: 0o600 });
  writeFileSync(folder.path('passphrase'), PASSPHRASE, { mode: 0o600 });
  const main = new URL('../../cli/main.js', import.meta.url).pathname;
  const run = (...args: string[]): string => {
    const { stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'latin1' });
    return stdout + stderr;
  };
  const [m, i, d, o] = ['m', 'i', 'd', 'o'].map((name) => folder.path(name));
  const identity = ['--identity-file', folder.path('id')];
  const attach = ['--attach', `ATTACHED-NAME=${folder.path('ATTACHED-NAME')}`];
  let said = run('save', '--codec', 'none', '--encrypt-to', key.recipient, ...attach, '--json', m!, i!);
  const image = readFileSync(i!);
  writeFileSync(d!, flipped(image, image.length >> 1));
  for (const path of [i!, d!]) {
    said += run('verify', path) + run('verify', ...identity, '--json', path);
    said += run('inspect', path) + run('load', ...identity, path, o!) + run('load', path, o!);
    said += run('load', '--passphrase-file', folder.path('passphrase'), path, o!);
    said += run('load', '--identity-file', folder.path('passphrase'), path, o!);
    rmSync(o!, { force: true });
  }
  said += run('save', '--encrypt-to', key.identity, m!, o!);
  const digest = (await inspect(i!, { keys: { identities: [key.identity] } })).memory.digest!;
  for (const [name, text] of Object.entries({ identity: key.identity, passphrase: PASSPHRASE, marker })) {
    t.false(said.includes(text), `${name} was printed`);
    t.false(image.includes(text), `${name} stands in the image`);
  }
  t.false(image.includes('ATTACHED-NAME'));
  t.false(image.includes(Buffer.from(digest, 'hex')) || image.includes(digest));
  t.false(run('inspect', '--json', i!).includes(digest));
  const asked = folder.path('asked');
  run('inspect', '--passphrase-command', `echo >> ${asked}; cat ${folder.path('passphrase')}`, i!, i!);
  t.is(readFileSync(asked, 'utf8'), '\n', 'a person is asked once for all images');
});
