/** Regions whose guest-physical address is not known: readers take them, say so, and never call them overlapping. */
import { readFileSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { compare, inspect, openImage, save, verify } from '../../lib/index.js';
import { schemaFaults } from '../cli/support/jsonSchema.js';
import { runCli } from '../cli/support/runCli.js';
import { failsWith, sameBytes } from '../lib/support/expect.js';
import { KIB, MIB } from '../lib/support/memory.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { editStart, forge, type Json } from './forge.js';
import { Judge } from './support/judge.js';
import { missingTool, readWithSecondReader, skip } from './support/secondReader.js';
import { smallImage } from './support/smallImages.js';

const REGIONS = [
  { name: 'ram', gpa: 0, sizeBytes: 2 * MIB },
  { name: 'rom', gpa: 2 ** 33, sizeBytes: 640 * KIB },
  { name: 'vram', gpa: 2 ** 34, sizeBytes: 448 * KIB },
];

/** Two regions without an address, one with. */
async function image(folder: Workspace): Promise<{ bytes: Buffer; memory: Buffer }> {
  const { bytes, memory } = await smallImage(folder, { regions: REGIONS });
  const forged = forge(bytes, (parts) =>
    editStart(parts, (manifest) => {
      for (const number of [1, 2]) delete manifest.regions[number].gpa;
    }),
  );
  return { bytes: forged, memory: memory.subarray(0, 3 * MIB + 64 * KIB) };
}

test('it is loaded, verified, opened and read by the second reader', async (t) => {
  const folder = workspace(t);
  const { bytes, memory } = await image(folder);
  const judge = new Judge(folder);
  judge.put(bytes);
  t.is(await judge.verify(), 'intact');
  sameBytes(t, (await judge.load()) as Buffer, memory);
  const opened = await openImage(judge.imagePath);
  t.deepEqual(
    opened.regions.map(({ gpa }) => gpa),
    [0, undefined, undefined],
  );
  sameBytes(t, await opened.read('vram', 0, 448 * KIB), memory.subarray(memory.length - 448 * KIB));
  await opened.close();
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  const output = folder.path('read.raw');
  await readWithSecondReader(judge.imagePath, output);
  sameBytes(t, readFileSync(output), memory);
});

test('inspect prints a dash and null, compare takes regions by name and the lack of an address', async (t) => {
  const folder = workspace(t);
  const { bytes } = await image(folder);
  writeFileSync(folder.path('img'), bytes);
  t.deepEqual(
    (await inspect(folder.path('img'))).memory.regions.map(({ gpa }) => gpa),
    [0, undefined, undefined],
  );
  const regions = await runCli(['inspect', '--regions', 'img'], { cwd: folder.folder });
  t.regex(regions.stdout, /^rom +- +- +640 KiB/m);
  t.regex((await runCli(['inspect', 'img'], { cwd: folder.folder })).stdout, /^ +vram +- +448 KiB/m);
  const json = JSON.parse((await runCli(['inspect', '--json', 'img'], { cwd: folder.folder })).stdout) as Json;
  t.deepEqual(schemaFaults('inspect.json', json), []);
  t.deepEqual(
    json.memory.regions.map(({ gpa }: Json) => gpa),
    [0, null, null],
  );
  t.true((await compare(folder.path('img'), folder.path('img'))).equal);
  const { equal, regions: compared } = await compare(folder.path('img'), folder.path('small.vms'));
  t.false(equal);
  t.deepEqual(
    compared.map(({ name, gpa, sizeBytesB }) => [name, gpa, sizeBytesB]),
    [
      ['ram', 0, 2 * MIB],
      ['rom', undefined, undefined],
      ['vram', undefined, undefined],
      ['rom', 2 ** 33, 640 * KIB],
      ['vram', 2 ** 34, 448 * KIB],
    ],
  );
});

test('a difference takes the regions of such a base, and no others', async (t) => {
  const folder = workspace(t);
  const { bytes, memory } = await image(folder);
  writeFileSync(folder.path('base'), bytes);
  memory.fill('changed', 2 * MIB, 2 * MIB + 100);
  writeFileSync(folder.path('memory'), memory);
  const saved = await save(folder.path('memory'), folder.path('child'), { base: folder.path('base'), frozen: true });
  t.deepEqual(
    saved.regions.map(({ gpa }) => gpa),
    [0, undefined, undefined],
  );
  t.true((await verify(folder.path('child'))).intact);
  const placed = save(folder.path('memory'), folder.path('x'), { base: folder.path('base'), regions: REGIONS });
  await failsWith(t, 'BASE_MISMATCH', placed, /the region rom=655360@\?, not rom=655360@0x200000000/);
});

test('an address that is null, or none, is damage', async (t) => {
  const folder = workspace(t);
  const { bytes } = await image(folder);
  const judge = new Judge(folder);
  for (const gpa of [null, '0', -4096, 1]) {
    const change = (manifest: Json) => Object.assign(manifest.regions[1], { gpa });
    judge.put(forge(bytes, (parts) => editStart(parts, change)));
    t.is(await judge.load(), 'CORRUPT', String(gpa));
  }
});
