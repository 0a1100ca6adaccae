/** What vmsnap saves, the second reader reads: codecs, page sizes, regions, streams, attachments. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { type SaveOptions, save } from '../../lib/index.js';
import { sameBytes } from '../lib/support/expect.js';
import { makeKey } from '../lib/support/keys.js';
import { KIB, MIB, mixedMemory } from '../lib/support/memory.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { workspace } from '../lib/support/workspace.js';
import { xxh3Of } from './forge.js';
import { missingTool, readWithSecondReader, runSecondReader, skip } from './support/secondReader.js';

const REGIONS = [
  { name: 'low', gpa: 0, sizeBytes: 640 * KIB },
  { name: 'ram', gpa: MIB, sizeBytes: 2 * MIB + 64 * KIB },
  { name: 'high', gpa: 2 ** 32, sizeBytes: 320 * KIB },
];

const CASES: readonly [string, SaveOptions][] = (['zstd', 'zlib', 'none'] as const).flatMap((codec) => [
  [`${codec}, defaults`, { codec }] as [string, SaveOptions],
  [`${codec}, small segments and several regions`, { codec, segmentSize: MIB, chunkSize: 8 * KIB, regions: REGIONS }],
  [`${codec}, pages of 64 KiB`, { codec, pageSize: 64 * KIB, segmentSize: MIB, regions: REGIONS }],
]);

for (const [name, options] of CASES) {
  test(`${name}: the second reader gives the same memory, digest, identity and attachments`, async (t) => {
    const reason = missingTool(t, ['python3', 'zstd']);
    if (reason !== undefined) return skip(t, reason);
    const folder = workspace(t);
    const [source, image, output] = ['memory.raw', 'image.vms', 'read.raw'].map((file) => folder.path(file));
    const memory = mixedMemory(3 * MIB, 11);
    const attached = mixedMemory(5 * MIB + 13, 3);
    writeFileSync(source!, memory);
    writeFileSync(folder.path('long'), attached);
    writeFileSync(folder.path('empty'), '');
    const saved = await save(source, image!, {
      ...options,
      threads: 2,
      frozen: true,
      attachments: ['long', 'empty'].map((file) => ({ name: file, file: folder.path(file) })),
    });
    const reading = await readWithSecondReader(image!, output);
    t.is(reading.identity, saved.identity);
    t.is(reading.digest, saved.digest);
    t.deepEqual(reading.pages, { ...saved.pages });
    t.deepEqual(reading.attachments, [
      { name: 'long', sizeBytes: attached.length, xxh3: xxh3Of(attached).toString('hex') },
      { name: 'empty', sizeBytes: 0, xxh3: xxh3Of(new Uint8Array(0)).toString('hex') },
    ]);
    sameBytes(t, readFileSync(output!), memory.subarray(0, saved.memoryBytes));
  });
}

test('an image saved from a pipe, size unknown, is read by the second reader', async (t) => {
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  const folder = workspace(t);
  const [source, image, output] = ['memory.raw', 'image.vms', 'read.raw'].map((file) => folder.path(file));
  const memory = mixedMemory(2 * MIB + 12 * KIB, 4);
  memory.fill(0, 2 * MIB);
  writeFileSync(source!, memory);
  const pipe = makeFifo(folder.path('pipe'));
  await Promise.all([save(pipe, image!, { segmentSize: MIB }), cat(source!, pipe)]);
  t.is((await readWithSecondReader(image!, output)).memoryBytes, memory.length);
  sameBytes(t, readFileSync(output!), memory);
});

test('a chain of differential images is read by the second reader, and refused without its base', async (t) => {
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  const folder = workspace(t);
  const [source, output] = ['memory.raw', 'read.raw'].map((file) => folder.path(file));
  const memory = mixedMemory(3 * MIB, 11);
  writeFileSync(source!, memory);
  await save(source, folder.path('0'), { codec: 'zlib', segmentSize: MIB, regions: REGIONS, frozen: true });
  for (const [i, codec] of (['zstd', 'none', 'zlib'] as const).entries()) {
    memory.fill(0, i * 100 * KIB, i * 100 * KIB + 48 * KIB);
    memory.fill(`change ${i}`, MIB + i * 64 * KIB, MIB + i * 64 * KIB + 20 * KIB);
    writeFileSync(source!, memory);
    const options = { codec, base: folder.path(`${i}`), regions: REGIONS, chunkSize: 16 * KIB, frozen: true } as const;
    const saved = await save(source, folder.path(`${i + 1}`), options);
    const reading = await readWithSecondReader(folder.path(`${i + 1}`), output);
    t.deepEqual([reading.identity, reading.digest], [saved.identity, saved.digest]);
    t.deepEqual(reading.pages, { ...saved.pages });
    t.true(saved.pages.sameAsBase > 0 && saved.pages.zero + saved.pages.data > 0);
    sameBytes(t, readFileSync(output!), memory.subarray(0, saved.memoryBytes));
  }
  rmSync(folder.path('1'));
  const { exitCode, message } = await runSecondReader([folder.path('3')]);
  t.is(exitCode, 1);
  t.regex(message, /no base '1'/);
});

for (const codec of ['zstd', 'zlib', 'none'] as const) {
  test(`${codec}, encrypted: a chain with references and attachments is read by the second reader, by either key`, async (t) => {
    const reason = missingTool(t, ['python3', 'python3-cryptography', 'zstd']);
    if (reason !== undefined) return skip(t, reason);
    const folder = workspace(t);
    const [source, output] = ['memory.raw', 'read.raw'].map((file) => folder.path(file));
    const keys = [await makeKey(), await makeKey()];
    const encryption = { recipients: keys.map(({ recipient }) => recipient) };
    const identityFiles = keys.map(({ identity }, i) => {
      writeFileSync(folder.path(`identity${i}`), `# a comment\n${identity}\n`, { mode: 0o600 });
      return folder.path(`identity${i}`);
    });
    const memory = mixedMemory(3 * MIB, 11);
    const attached = mixedMemory(5 * MIB + 13, 3);
    memory.copy(memory, 2 * MIB, 0, 256 * KIB);
    writeFileSync(folder.path('long'), attached);
    const attachments = [{ name: 'long', file: folder.path('long') }];
    const common = {
      codec,
      segmentSize: MIB,
      chunkSize: 16 * KIB,
      regions: REGIONS,
      frozen: true,
      encryption,
    } as const;
    for (const [i, more] of [{ attachments }, { base: folder.path('0') }].entries()) {
      memory.fill(`change ${i}`, MIB + i * 64 * KIB, MIB + i * 64 * KIB + 20 * KIB);
      writeFileSync(source!, memory);
      const image = folder.path(`${i}`);
      const saved = await save(source, image, {
        ...common,
        ...more,
        references: true,
        threads: 2,
        keys: { identities: [keys[0]!.identity] },
      });
      const reading = await readWithSecondReader(image, output, { identityFile: identityFiles[i]! });
      t.deepEqual([reading.identity, reading.digest], [saved.identity, saved.digest]);
      t.deepEqual(reading.pages, { ...saved.pages });
      t.true(i === 1 ? saved.pages.sameAsBase > 0 : saved.pages.reference > 0);
      const long = { name: 'long', sizeBytes: attached.length, xxh3: xxh3Of(attached).toString('hex') };
      t.deepEqual(reading.attachments, i === 0 ? [long] : []);
      sameBytes(t, readFileSync(output!), memory.subarray(0, saved.memoryBytes));
    }
    const { exitCode, message } = await runSecondReader([folder.path('1')]);
    t.is(exitCode, 2);
    t.regex(message, /encrypted, and no key is given/);
  });
}

test('an image that a save encrypts with a passphrase is read by the second reader', async (t) => {
  const reason = missingTool(t, ['python3', 'python3-cryptography', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  const folder = workspace(t);
  const [source, image, output, passphraseFile] = ['memory.raw', 'image.vms', 'read.raw', 'passphrase'].map((file) =>
    folder.path(file),
  );
  const memory = mixedMemory(MIB, 5);
  writeFileSync(source!, memory);
  writeFileSync(passphraseFile!, 'ein Satz mit Zeichen wie ü und ж\n', { mode: 0o600 });
  const saved = await save(source, image!, { frozen: true, encryption: { passphraseFile: passphraseFile! } });
  const reading = await readWithSecondReader(image!, output, { passphraseFile: passphraseFile! });
  t.deepEqual([reading.identity, reading.digest], [saved.identity, saved.digest]);
  sameBytes(t, readFileSync(output!), memory);
  writeFileSync(passphraseFile!, 'another\n');
  const { exitCode, message } = await runSecondReader(['--passphrase-file', passphraseFile!, image!]);
  t.is(exitCode, 2);
  t.regex(message, /none of the keys given opens the image, which is encrypted for: scrypt/);
});
