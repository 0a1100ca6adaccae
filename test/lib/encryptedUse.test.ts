/** What else is done with encrypted images: parts of them, other formats, chains, folders. Without the right key nothing is written. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import {
  compare,
  extract,
  flatten,
  inspect,
  type KeySources,
  type LoadOptions,
  load,
  loadMachine,
  openImage,
  type SaveOptions,
  salvage,
  save,
  verify,
} from '../../lib/index.js';
import { runCli } from '../cli/support/runCli.js';
import { makeKdump } from '../formats/support/dumps.js';
import { forgeMachine } from '../support/machineImage.js';
import { failsWith, sameBytes } from './support/expect.js';
import { makeKey, type TestKey } from './support/keys.js';
import { KIB, MIB, mixedMemory, PAGE } from './support/memory.js';
import { type Workspace, workspace } from './support/workspace.js';

const MEMORY = mixedMemory(3 * MIB + 16 * KIB, 6);
const GEOMETRY: SaveOptions = { segmentSize: MIB, frozen: true, threads: 2 };

interface House {
  readonly folder: Workspace;
  readonly key: TestKey;
  readonly keys: KeySources;
  readonly encryption: NonNullable<SaveOptions['encryption']>;
}

async function house(t: ExecutionContext): Promise<House> {
  const key = await makeKey();
  const folder = workspace(t);
  writeFileSync(folder.path('memory'), MEMORY);
  return { folder, key, keys: { identities: [key.identity] }, encryption: { recipients: [key.recipient] } };
}

/** Without a key, with another one and with a passphrase it is refused, in words that name the image, and every file is as it was. */
async function needsKey(
  t: ExecutionContext,
  { folder }: House,
  image: string,
  action: (keys: KeySources | undefined) => Promise<unknown>,
): Promise<void> {
  const contents = () =>
    readdirSync(folder.folder, { recursive: true, withFileTypes: true })
      .filter((file) => file.isFile())
      .map((file) => [file.name, readFileSync(`${file.parentPath}/${file.name}`).toString('latin1')])
      .sort();
  const before = contents();
  const other = await makeKey();
  for (const keys of [undefined, { identities: [other.identity] }, { passphrase: 'another one' }]) {
    const error = await failsWith(t, 'KEY', action(keys));
    t.true(error.message.includes(image), error.message);
    t.deepEqual(contents(), before, 'something was written');
  }
}

test('absent pages of a dump stay absent behind the seal', async (t) => {
  const own = await house(t);
  const { folder, keys, encryption } = own;
  const [dump, image, target] = ['dump', 'image', 'target'].map((name) => folder.path(name)) as [
    string,
    string,
    string,
  ];
  const isExcluded = (page: number) => page % 5 === 2 || (page > 300 && page < 400);
  const pages = Array.from({ length: MEMORY.length / PAGE }, (_, page) =>
    isExcluded(page) ? ('excluded' as const) : MEMORY.subarray(page * PAGE, (page + 1) * PAGE),
  );
  writeFileSync(dump, makeKdump(pages, { dumpLevel: 31 }));
  const expected = Buffer.from(MEMORY);
  for (const page of pages.keys()) if (isExcluded(page)) expected.fill(0, page * PAGE, (page + 1) * PAGE);
  const absentPages = pages.filter((page) => page === 'excluded').length;
  await save(dump, image, { ...GEOMETRY, encryption });

  t.is((await inspect(image, { keys })).memory.pages?.absent, absentPages);
  t.is((await inspect(image)).memory.pages, undefined);
  t.true((await verify(image, { keys })).intact);
  await needsKey(t, own, image, (given) => load(image, target, { keys: given }));
  await needsKey(t, own, image, (given) => salvage(image, target, { keys: given }));
  const loaded = await load(image, target, { keys });
  t.deepEqual([loaded.absentPages, loaded.warnings.map(({ code }) => code)], [absentPages, ['absent-pages']]);
  sameBytes(t, readFileSync(target), expected, 'load');

  const bytes = readFileSync(image);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(folder.path('damaged'), bytes);
  t.false((await verify(folder.path('damaged'), { keys })).intact);
  const { lost } = await salvage(folder.path('damaged'), target, { keys, force: true });
  t.true(lost.length > 0);
  for (const { offset, length } of lost) expected.fill(0, offset, offset + length);
  sameBytes(t, readFileSync(target), expected, 'salvage');
});

const PARTS: readonly LoadOptions[] = [
  { as: 'elf' },
  { as: 'lime' },
  { region: 'high' },
  { region: 'high', range: { offset: 5000, length: 300_000 } },
  { range: { offset: MIB - 1, length: MIB + 2 } },
  { as: 'elf', region: 'low' },
];

test('other formats and parts: what a plain image gives, to who has the key', async (t) => {
  const own = await house(t);
  const { folder, keys, encryption } = own;
  const regions = [
    { name: 'low', gpa: 0, sizeBytes: MIB + 4 * PAGE },
    { name: 'high', gpa: 2 ** 32, sizeBytes: 2 * MIB },
  ];
  const [plain, sealed, target] = ['plain', 'sealed', 'target'].map((name) => folder.path(name)) as [
    string,
    string,
    string,
  ];
  const createdAt = new Date('2026-01-01T00:00:00Z');
  await save(folder.path('memory'), plain, { ...GEOMETRY, regions, createdAt });
  await save(folder.path('memory'), sealed, { ...GEOMETRY, regions, createdAt, encryption });
  for (const part of PARTS) {
    await load(plain, folder.path('expected'), { ...part, force: true });
    await needsKey(t, own, sealed, (given) => load(sealed, target, { ...part, keys: given, force: true }));
    await load(sealed, target, { ...part, keys, force: true });
    sameBytes(t, readFileSync(target), readFileSync(folder.path('expected')), JSON.stringify(part));
  }
});

test('a load in place, attachments, reads and machines: nothing without the key', async (t) => {
  const own = await house(t);
  const { folder, keys, encryption } = own;
  const [sealed, target] = ['sealed', 'target'].map((name) => folder.path(name)) as [string, string];
  const attachments = [{ name: 'notes', file: folder.path('memory') }];
  await save(folder.path('memory'), sealed, { ...GEOMETRY, attachments, encryption });
  writeFileSync(target, 'an older file, which stays');
  await needsKey(t, own, sealed, (given) => load(sealed, target, { keys: given, inPlace: true }));
  await needsKey(t, own, sealed, (given) => extract(sealed, 'notes', target, { keys: given, force: true }));
  await needsKey(t, own, sealed, (given) => openImage(sealed, { keys: given }));
  await extract(sealed, 'notes', target, { keys, force: true });
  sameBytes(t, readFileSync(target), MEMORY, 'attachment');

  const machine = await forgeMachine(folder.folder);
  const vault = folder.path('vault');
  await flatten(machine.image, vault, { encryption });
  await needsKey(t, own, vault, (given) => loadMachine(vault, folder.path('machine'), { keys: given }));
  await loadMachine(vault, folder.path('machine'), { keys });
  sameBytes(t, readFileSync(folder.path('machine/memory-ram')), machine.ram, 'memory file');
});

test('compared with a plain image and with memory', async (t) => {
  const own = await house(t);
  const { folder, keys, encryption } = own;
  const [plain, sealed] = ['plain', 'sealed'].map((name) => folder.path(name)) as [string, string];
  await save(folder.path('memory'), plain, GEOMETRY);
  await save(folder.path('memory'), sealed, { ...GEOMETRY, encryption });
  const other = Buffer.from(MEMORY);
  other[2 * MIB + 77]! ^= 1;
  writeFileSync(folder.path('other'), other);
  for (const side of [plain, folder.path('memory'), folder.path('other')]) {
    const isEqual = side !== folder.path('other');
    t.is((await compare(sealed, side, { keys })).equal, isEqual);
    t.is((await compare(side, sealed, { keys })).equal, isEqual);
    await needsKey(t, own, sealed, (given) => compare(side, sealed, { keys: given }));
  }
});

test('a chain whose links are sealed for one key: base and flat image need it', async (t) => {
  const own = await house(t);
  const { folder, keys, encryption } = own;
  const names = ['base', 'child', 'image', 'target'];
  const [base, child, image, target] = names.map((name) => folder.path(name)) as [string, string, string, string];
  await save(folder.path('memory'), base, { ...GEOMETRY, encryption });
  const changed = Buffer.from(MEMORY);
  changed.fill('other', MIB, MIB + 20 * PAGE);
  writeFileSync(folder.path('changed'), changed);
  const onBase = { ...GEOMETRY, segmentSize: undefined, base, encryption };
  writeFileSync(image, 'an older file, which stays');
  await needsKey(t, own, base, (given) => save(folder.path('changed'), image, { ...onBase, keys: given, force: true }));
  await save(folder.path('changed'), child, { ...onBase, keys });
  await needsKey(t, own, child, (given) => flatten(child, image, { keys: given, encryption, force: true }));
  await needsKey(t, own, child, (given) => flatten(child, image, { keys: given, decrypt: true, force: true }));
  await flatten(child, image, { keys, encryption, force: true });
  await needsKey(t, own, image, (given) => load(image, target, { keys: given }));
  await load(image, target, { keys });
  sameBytes(t, readFileSync(target), changed, 'flattened');

  // A plain difference below which the base is sealed cannot be made; a sealed one over a plain base needs a key for itself only.
  const other = await makeKey();
  const sealedForOther = { ...onBase, keys, encryption: { recipients: [other.recipient] } };
  await save(folder.path('changed'), child, { ...sealedForOther, force: true });
  await failsWith(t, 'KEY', load(child, target, { keys: { identities: [other.identity] }, force: true }), /base/);
  sameBytes(t, readFileSync(target), changed, 'the target is as it was');
});

test('a share of a folder is verified, with the key, without one and with another', async (t) => {
  const { folder, key, encryption } = await house(t);
  const other = await makeKey();
  for (const [name, { identity }] of Object.entries({ key, other }))
    writeFileSync(folder.path(name), `${identity}\n`, { mode: 0o600 });
  for (const name of ['a', 'b', 'c', 'd'])
    await save(folder.path('memory'), folder.path(`${name}.vmsnap`), {
      ...GEOMETRY,
      encryption: name === 'd' ? undefined : encryption,
      name,
    });
  const exitCodes: number[] = [];
  const counts: Record<string, number> = { proven: 0, sealed: 0, refused: 0 };
  for (const words of [['--identity-file', folder.path('key')], [], ['--identity-file', folder.path('other')]]) {
    const codes = new Set<number>();
    for (const share of ['1/2', '2/2']) {
      const result = await runCli(['verify', '--json', '--subset', share, ...words, folder.folder]);
      codes.add(result.exitCode!);
      for (const image of (JSON.parse(result.stdout) as { images: Verified[] }).images) {
        counts[image.schema === 'vmsnap.error' ? 'refused' : image.sealed === true ? 'sealed' : 'proven']!++;
        if (image.schema === 'vmsnap.error') t.is(image.error?.code, 'KEY');
      }
    }
    exitCodes.push(Math.max(...codes));
  }
  t.deepEqual(exitCodes, [0, 3, 12]);
  t.deepEqual(counts, { proven: 4 + 1 + 1, sealed: 3, refused: 3 });
});

interface Verified {
  readonly schema: 'vmsnap.verify' | 'vmsnap.error';
  readonly sealed?: boolean;
  readonly error?: { readonly code: string };
}
