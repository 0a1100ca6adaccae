/**
 * A mutation fuzzer for readers: images changed behind their checksums (every CRC is right again after the change), migration
 * streams and libvirt images. Each is read or refused with an error of ours, soon, in bounded memory, and nothing appears beside
 * the target. Dumps of other tools: dumpMutation.test.ts.
 *
 * VMSNAP_MUTATIONS=N makes N of each kind instead of a few, VMSNAP_MUTATION_SEED=S others.
 */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { extract, inspect, load, openImage, salvage, verify } from '../../lib/index.js';
import { mixedMemory } from '../lib/support/memory.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { forgeSave, forgeStream } from '../support/libvirtSave.js';
import * as qemu from '../support/qemuStream.js';
import { type Random, randomNumbers } from '../support/randomNumbers.js';
import { type ForgedImage, type ForgedRecord, seal, takeApart } from './forge.js';
import { readSome, withForeignFile } from './support/foreignFiles.js';
import { codeOf } from './support/judge.js';
import { allVictims } from './support/victims.js';

const MUTATIONS = Number(process.env.VMSNAP_MUTATIONS ?? 25);
const SEED = Number(process.env.VMSNAP_MUTATION_SEED ?? 1);
const ONE_SECONDS_MAX = 30;
/** A file without a whole header of its format (92 bytes, of libvirt) is raw memory and nothing to refuse. */
const SHORTEST = 96;
const RSS_MAX_BYTES = 1200 * 2 ** 20;
const EXPECTED = new Set(['CORRUPT', 'UNSUPPORTED', 'BASE_MISMATCH', 'NOT_FOUND', 'NO_SPACE', 'USAGE', 'IO']);

/** One bit, a byte, a word near a limit, some bytes of elsewhere, or another length. */
function mutate(bytes: Buffer, random: Random): Buffer {
  if (bytes.length < 9) return bytes;
  const at = random(bytes.length - 8);
  const kind = random(7);
  if (kind === 0) bytes[at]! ^= 1 << random(8);
  else if (kind === 1) bytes[at] = random(256);
  else if (kind === 2) bytes.writeUInt32LE([0xffffffff, 0x80000000, 0x7fffffff, 0, 1, 4096][random(6)]!, at);
  else if (kind === 3) bytes.writeBigUInt64LE(2n ** BigInt(random(64)) - BigInt(random(2)), at);
  else if (kind === 4) bytes.copy(bytes, at, random(bytes.length), random(bytes.length));
  else if (kind === 5)
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + random(64)))]);
  else
    return Buffer.concat([
      bytes.subarray(0, at),
      bytes.subarray(random(bytes.length), at + random(64)),
      bytes.subarray(at),
    ]);
  return bytes;
}

/** A number in JSON becomes another, near a limit. */
function mutateJson(bytes: Buffer, random: Random): Buffer {
  const text = bytes.toString('latin1');
  const numbers = [...text.matchAll(/-?\d+/g)];
  const chosen = numbers[random(Math.max(1, numbers.length))];
  if (chosen === undefined || random(3) === 0) return mutate(bytes, random);
  const value = [
    '0',
    '1',
    '-1',
    '4096',
    '1048576',
    '4294967296',
    '9007199254740991',
    '9007199254740992',
    '1e300',
    'null',
  ];
  const end = chosen.index + chosen[0].length;
  return Buffer.from(`${text.slice(0, chosen.index)}${value[random(value.length)]}${text.slice(end)}`, 'latin1');
}

function mutateRecord(image: ForgedImage, random: Random): void {
  const { records } = image;
  const at = random(records.length);
  const record = records[at]!;
  const changes: readonly (() => void)[] = [
    () => {
      record.tables = padded(mutate(record.tables, random));
    },
    () => {
      record.payload = isJson(record) ? mutateJson(record.payload, random) : mutate(record.payload, random);
      record.asIs = random(2) === 0;
    },
    () => {
      record.subject = BigInt([0, 1, 2, 5, 4096, 2 ** 32 - 1, 2 ** 52][random(7)]!);
    },
    () => {
      record.editPrefix = (prefix) => void mutate(prefix.subarray(0, 56), random);
    },
    () => void records.splice(at, 1),
    () => void records.splice(random(records.length), 0, { ...records[random(records.length)]! }),
    () => {
      record.kind = ['VSEG', 'VATT', 'VIDX', 'VEND', 'VLST'][random(5)]!;
    },
  ];
  changes[random(changes.length)]!();
}

const isJson = ({ kind }: ForgedRecord) => kind === 'VEND';
const padded = (tables: Buffer) => Buffer.concat([tables, Buffer.alloc((8 - (tables.length % 8)) % 8)]);

function mutateImage(bytes: Buffer, random: Random): Buffer | undefined {
  const image = takeApart(bytes);
  for (let i = random(3); i >= 0; i--) {
    const kind = random(8);
    if (kind === 0) image.startManifest = mutateJson(image.startManifest, random);
    else if (kind === 1) mutate(image.header.subarray(8, 32), random);
    else if (kind === 2) image.editFooter = (footer) => void mutate(footer.subarray(8, 92), random);
    else if (image.records.length > 0) mutateRecord(image, random);
  }
  try {
    return seal(image);
  } catch {
    // The forger itself may not know how to seal it.
    return undefined;
  }
}

/** Every way to read an image. @returns the codes that are none of those that a reader may give. */
async function readEveryWay(folder: Workspace, path: string, outcomes: Map<string, number>): Promise<string[]> {
  const target = folder.path('target');
  const baseDirs = [folder.folder];
  const ways: Readonly<Record<string, () => Promise<unknown>>> = {
    inspect: () => inspect(path),
    verify: async () => ((await verify(path, { threads: 1, baseDirs })).intact ? undefined : 'CORRUPT'),
    load: () => load(path, target, { threads: 1, force: true, baseDirs }),
    salvage: () => salvage(path, target, { threads: 1, force: true, baseDirs }),
    read: async () => {
      const image = await openImage(path, { baseDirs });
      try {
        for (const { name, sizeBytes } of image.regions.slice(0, 3))
          await image.read(name, 0, Math.min(8192, sizeBytes));
      } finally {
        await image.close();
      }
    },
    extract: () => extract(path, 'machine', folder.path('extracted'), { force: true }),
  };
  const strange: string[] = [];
  for (const [way, action] of Object.entries(ways)) {
    const code = await codeOf(action);
    const said = typeof code === 'string' ? code : 'read';
    outcomes.set(`${way} ${said}`, (outcomes.get(`${way} ${said}`) ?? 0) + 1);
    if (said !== 'read' && !EXPECTED.has(said)) strange.push(`${way}: ${said}`);
  }
  rmSync(target, { force: true });
  rmSync(folder.path('extracted'), { force: true });
  return strange;
}

test('images changed behind their checksums are read or refused', async (t) => {
  t.timeout(MUTATIONS * 6 * ONE_SECONDS_MAX * 1000);
  const folder = workspace(t);
  const victims = await allVictims(folder);
  const random = randomNumbers(SEED);
  const outcomes = new Map<string, number>();
  const path = folder.path('mutated.vms');
  writeFileSync(path, '');
  const before = readdirSync(folder.folder).sort();
  for (const victim of victims) {
    for (let i = 0; i < MUTATIONS; i++) {
      const mutated = mutateImage(victim.image, random);
      if (mutated === undefined) continue;
      writeFileSync(path, mutated);
      const started = performance.now();
      t.deepEqual(await readEveryWay(folder, path, outcomes), [], `${victim.name} ${i}`);
      t.true(performance.now() - started < ONE_SECONDS_MAX * 1000, `${victim.name} ${i}: too slow`);
      t.deepEqual(readdirSync(folder.folder).sort(), before);
    }
  }
  t.true(process.memoryUsage.rss() < RSS_MAX_BYTES, `${process.memoryUsage.rss()} bytes`);
  t.log([...outcomes].map(([what, count]) => `${what} ${count}`).join(', '));
});

const MEMORY = mixedMemory(24 * qemu.PAGE, 4);
const BLOCKS = [
  { id: 'pc.ram', sizeBytes: 8 * qemu.PAGE },
  { id: 'vga', sizeBytes: 2 * qemu.PAGE },
];
const PART = qemu.ramPart(
  qemu.page('pc.ram', 0, qemu.filledPage(1)),
  qemu.zeroPage(undefined, qemu.PAGE),
  qemu.page('vga', 0, qemu.filledPage(2)),
  qemu.page(undefined, qemu.PAGE, qemu.filledPage(3)),
);

const MAPPED_PAGES_AT = 2 ** 20;

function mappedRam(): Buffer {
  const before = Buffer.concat([
    qemu.magic(),
    qemu.configuration('pc-q35-10.0', qemu.capabilities('mapped-ram')),
    qemu.named(1, 'ram', qemu.RAM_SECTION),
    qemu.word(MEMORY.length, 0x04),
    qemu.u8(6),
    Buffer.from('pc.ram'),
    qemu.u64(MEMORY.length),
  ]);
  const bitmapAt = before.length + 28;
  const ram = Buffer.alloc(MAPPED_PAGES_AT + MEMORY.length - bitmapAt);
  ram.fill(0xff, 0, 3);
  MEMORY.copy(ram, MAPPED_PAGES_AT - bitmapAt);
  const header = qemu.mappedHeader(bitmapAt, MAPPED_PAGES_AT);
  const end = [qemu.eos(), qemu.footer(), qemu.ramPart(), qemu.ramEnd(qemu.word(0, 0x200)), qemu.tail()];
  return Buffer.concat([before, header, ram, ...end]);
}

/** The file, the bytes at its beginning that are worth changing, and those by which it is recognised. */
const FILES: Readonly<Record<string, readonly [Buffer, number, number]>> = {
  'QEMU stream': [qemu.stream(BLOCKS, PART), 400, 8],
  'mapped-ram': [mappedRam(), 400, 8],
  'libvirt save image': [forgeSave(MEMORY, { cookie: '<cookie/>' }), 800, 16],
  'stream of a libvirt guest': [forgeStream(MEMORY), 200, 8],
};

for (const [format, [file, worthBytes, knownBytes]] of Object.entries(FILES)) {
  test(`${format}: changed files are read or refused`, async (t) => {
    t.timeout(10 * MUTATIONS * ONE_SECONDS_MAX * 1000);
    const path = workspace(t).path('file');
    const random = randomNumbers(SEED + format.length);
    const outcomes = { read: 0, refused: 0 };
    for (let i = 0; i < 10 * MUTATIONS; i++) {
      const limit = random(3) === 0 ? file.length : worthBytes;
      let changed: Buffer = Buffer.from(file);
      for (let k = random(3); k >= 0; k--)
        changed = Buffer.concat([mutate(Buffer.from(changed.subarray(0, limit)), random), changed.subarray(limit)]);
      file.copy(changed, 0, 0, knownBytes);
      writeFileSync(
        path,
        random(8) === 0 ? changed.subarray(0, SHORTEST + random(changed.length - SHORTEST)) : changed,
      );
      const started = performance.now();
      const code = await readOrCode(path);
      outcomes[code === undefined ? 'read' : 'refused']++;
      t.true(code === undefined || code === 'CORRUPT' || code === 'UNSUPPORTED', `${i}: ${code}`);
      t.true(performance.now() - started < ONE_SECONDS_MAX * 1000);
      // What is closed is given back between two turns of the event loop.
      await setImmediate();
    }
    t.log(JSON.stringify(outcomes), JSON.stringify(process.memoryUsage()));
    t.true(outcomes.read > 0 && outcomes.refused > 0, JSON.stringify(outcomes));
    t.true(process.memoryUsage.rss() < RSS_MAX_BYTES, `${process.memoryUsage.rss()} bytes`);
  });
}

async function readOrCode(path: string): Promise<string | undefined> {
  try {
    await withForeignFile(path, readSome);
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code ?? String((error as Error).stack);
  }
}
