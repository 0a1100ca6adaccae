/** libvirt's save images: what is in front of the stream, in every way in which it may be wrong, and each way of packing the stream. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { domainFacts } from '../../formats/libvirt/domainXml.js';
import { type ErrorCode, extract, inspect, inspectMemoryFile, load, type SaveResult, save } from '../../lib/index.js';
import { failsWith, sameBytes } from '../lib/support/expect.js';
import { MIB, mixedMemory } from '../lib/support/memory.js';
import { onProgram } from '../lib/support/privileged.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { DOMAIN_XML, type ForgedSave, forgeSave, forgeStream } from '../support/libvirtSave.js';
import { mappedRamStream } from '../support/qemuStream.js';

const MEMORY = mixedMemory(2 * MIB);

function saveForged(folder: Workspace, bytes: Buffer): Promise<SaveResult> {
  writeFileSync(folder.path('machine.save'), bytes);
  return save(folder.path('machine.save'), folder.path('image'), { frozen: true, force: true, threads: 2 });
}

async function requireMachine(t: ExecutionContext, folder: Workspace, what: string): Promise<void> {
  const image = folder.path('image');
  const { machine, source, attachments } = await inspect(image);
  t.deepEqual(machine, { name: 'web&1', uuid: '6f1c2d3e-4b5a-4c6d-8e7f-001122334455' }, what);
  t.is(source.kind, 'libvirt-save', what);
  await load(image, folder.path('back'), { force: true });
  sameBytes(t, readFileSync(folder.path('back')), MEMORY, what);
  await extract(image, 'domain.xml', folder.path('xml'), { force: true });
  t.is(readFileSync(folder.path('xml'), 'utf8'), DOMAIN_XML, what);
  t.true(
    attachments!.some(({ name }) => name === 'qemu-tail'),
    what,
  );
}

const SOUND: readonly [string, ForgedSave][] = [
  ['as libvirt writes it', {}],
  ['of a host of the other byte order', { bigEndian: true }],
  ['of a paused machine, version 1', { version: 1, wasRunning: 0 }],
  ['with a cookie', { cookie: '<qemusave/>' }],
  ['with 64 KiB for later edits', { dataBytes: 65_536 }],
];

for (const [what, forged] of SOUND) {
  test(what, async (t) => {
    const folder = workspace(t);
    await saveForged(folder, forgeSave(MEMORY, forged));
    await requireMachine(t, folder, what);
    const report = await inspectMemoryFile(folder.path('machine.save'));
    const facts = Object.fromEntries(report!.facts.map(({ key, value }) => [key, value]));
    t.is(report!.format, 'libvirt-save');
    t.is(facts.wasRunning, forged.wasRunning !== 0);
    t.is(facts.compression, 'raw');
    t.is(facts.architecture, 'x86_64');
    t.is(facts.byteOrder, forged.bigEndian ? 'big endian' : 'little endian');
    const names = report!.attachments.map(({ name }) => name);
    t.is(names.includes('libvirt-cookie.xml'), forged.cookie !== undefined);
  });
}

const HOSTILE: readonly [string, ForgedSave, ErrorCode, RegExp][] = [
  ['interrupted', { magic: 'LibvirtQemudPart' }, 'CORRUPT', /not finished.*offset 0/],
  ['version 0', { version: 0 }, 'UNSUPPORTED', /offset 16: version 0/],
  ['version 3', { version: 3 }, 'UNSUPPORTED', /offset 16: version 3/],
  ['no XML', { dataBytes: 0 }, 'CORRUPT', /offset 20: the XML takes 0 bytes/],
  ['a state that is none', { wasRunning: 2 }, 'CORRUPT', /offset 24/],
  ['a format that is none', { format: 7 }, 'UNSUPPORTED', /offset 28: format 7/],
  ['XML without NUL', { xml: Buffer.alloc(500, 0x20), dataBytes: 500 }, 'CORRUPT', /offset 92: the XML .* no NUL/],
  ['a cookie within the XML', { cookieOffset: 5 }, 'CORRUPT', /offset 32: the cookie begins at 5/],
  ['a cookie beyond the data', { cookieOffset: 60_000 }, 'CORRUPT', /offset 32: the cookie begins at 60000/],
  [
    'a cookie without NUL',
    { cookie: 'x'.repeat(300), dataBytes: DOMAIN_XML.length + 101 },
    'CORRUPT',
    /the cookie has no NUL/,
  ],
  ['no stream', { stream: Buffer.alloc(0) }, 'CORRUPT', /./],
  ['something else as stream', { stream: Buffer.alloc(8192, 1) }, 'CORRUPT', /./],
  ['a stream that is cut off', { stream: forgeStream(MEMORY).subarray(0, 500_000) }, 'CORRUPT', /./],
  ['gzip that is none', { format: 1 }, 'CORRUPT', /gzip/],
  ['zstd that is none', { format: 5 }, 'CORRUPT', /zstd/],
];

for (const [what, forged, code, message] of HOSTILE) {
  test(`refused: ${what}`, async (t) => {
    const folder = workspace(t);
    const error = await failsWith(t, code, saveForged(folder, forgeSave(MEMORY, forged)), message);
    t.true(error.message.includes('machine.save'));
    t.false(existsSync(folder.path('image')));
    t.deepEqual(folder.leftovers(), []);
  });
}

test('refused: data of 4 GiB, a header that is cut off', async (t) => {
  const folder = workspace(t);
  const whole = forgeSave(MEMORY);
  whole.writeUInt32LE(0xffffffff, 20);
  await failsWith(t, 'CORRUPT', saveForged(folder, whole), /offset 20: the XML takes 4294967295 bytes/);
  whole.writeUInt32LE(whole.length - 91, 20);
  await failsWith(t, 'CORRUPT', saveForged(folder, whole), /offset 20/);
  // Too short to be one, and no whole pages.
  await failsWith(t, 'USAGE', saveForged(folder, whole.subarray(0, 91)), /no multiple of the page size/);
});

const PACKED: readonly [string, number, readonly string[]][] = [
  ['gzip', 1, ['gzip', '-1']],
  ['bzip2', 2, ['bzip2', '-1']],
  ['xz', 3, ['xz', '-0']],
  ['lzop', 4, ['lzop', '-1']],
  ['zstd', 5, ['zstd', '-1']],
];

for (const [name, format, [program, ...options]] of PACKED) {
  onProgram(program!)(`a stream that was compressed with ${name}`, async (t) => {
    const folder = workspace(t);
    const pack = (bytes: Buffer) =>
      spawnSync(program!, ['-c', ...options], { input: bytes, maxBuffer: 2 ** 26 }).stdout;
    const stream = pack(forgeStream(MEMORY));
    await saveForged(folder, forgeSave(MEMORY, { format, stream, cookie: '<qemusave/>' }));
    await requireMachine(t, folder, name);
    const report = await inspectMemoryFile(folder.path('machine.save'));
    t.is(report!.facts.find(({ key }) => key === 'compression')!.value, name);
    t.is(report!.memory.sizeBytes, MEMORY.length);
    const broken: [string, Buffer][] = [
      ['cut off', stream.subarray(0, stream.length - 9)],
      ['no stream within', pack(Buffer.alloc(10_000, 1))],
      ['a stream that is cut off within', pack(forgeStream(MEMORY).subarray(0, 500_000))],
    ];
    const before = readFileSync(folder.path('image'));
    for (const [what, bytes] of broken) {
      const error = await failsWith(t, 'CORRUPT', saveForged(folder, forgeSave(MEMORY, { format, stream: bytes })));
      t.true(error.message.includes('machine.save'), `${what}: ${error.message}`);
      sameBytes(t, readFileSync(folder.path('image')), before, 'the old image');
    }
    // The same without libvirt around it, as `migrate exec:` writes it.
    writeFileSync(folder.path('stream'), stream);
    await save(folder.path('stream'), folder.path('image'), { frozen: true, force: true });
    t.is((await inspect(folder.path('image'))).source.kind, 'qemu-stream');
    await load(folder.path('image'), folder.path('back'), { force: true });
    sameBytes(t, readFileSync(folder.path('back')), MEMORY);
  });
}

test('a sparse image: mapped-ram behind the header, with places that count from the beginning of the file', async (t) => {
  const folder = workspace(t);
  const before = forgeSave(MEMORY, { format: 6, cookie: '<qemusave/>', stream: Buffer.alloc(0) });
  await saveForged(folder, Buffer.concat([before, mappedRamStream(MEMORY, before.length)]));
  await requireMachine(t, folder, 'sparse');
  const report = await inspectMemoryFile(folder.path('machine.save'));
  t.is(report!.facts.find(({ key }) => key === 'compression')!.value, 'sparse');
  t.is(report!.memory.sizeBytes, MEMORY.length);
  // Places that count from the beginning of the stream are not those of the file.
  const shifted = Buffer.concat([before, mappedRamStream(MEMORY, 0)]);
  await failsWith(t, 'CORRUPT', saveForged(folder, shifted), /a bitmap at 0x/);
  const cut = Buffer.concat([before, mappedRamStream(MEMORY, before.length)]).subarray(0, 2 * MIB);
  await failsWith(t, 'CORRUPT', saveForged(folder, cut));
  t.deepEqual(folder.leftovers(), []);
});

test('facts out of any XML, and of what is none', (t) => {
  const none = { name: undefined, uuid: undefined, architecture: undefined };
  for (const xml of [
    '',
    '<',
    '<domain',
    '<domain><name>',
    '<domain><name></',
    '<name>x</name>',
    '<domain><name a="b">x</name>',
  ]) {
    t.deepEqual(domainFacts(xml), none, xml);
  }
  const nested = '<domstatus><domain type=\'qemu\'>\n<name>a</name>\n<uuid>no uuid</uuid><os><type arch="aarch64">';
  t.deepEqual(domainFacts(nested), { name: 'a', uuid: undefined, architecture: 'aarch64' });
  t.is(domainFacts(`<domain>${'<name>'.repeat(100_000)}`).name, undefined);
});
