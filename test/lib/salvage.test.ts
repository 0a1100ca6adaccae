/** Salvage: every page that is whole comes back, every other is a hole and listed, and what cannot be told is refused. */
import { readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { type SalvageResult, salvage, verify } from '../../lib/index.js';
import { editEnd, forge, recordOf, takeApart } from '../formats/forge.js';
import { smallImage } from '../formats/support/smallImages.js';
import {
  absentVictim,
  allVictims,
  codecVictim,
  differentialVictim,
  type LostRange,
  overridingVictim,
  salvageFault,
  type Victim,
} from '../formats/support/victims.js';
import { failsWith, sameBytes } from './support/expect.js';
import { KIB, MIB } from './support/memory.js';
import { type Workspace, workspace } from './support/workspace.js';

const ALIGNMENT_AT = 12;

interface Place {
  readonly kind: string;
  readonly subject: number;
  readonly offset: number;
  readonly payload: number;
  readonly end: number;
}

/** Where the records of an image stand. */
function placesOf(image: Buffer): Place[] {
  const alignment = image.readUInt32LE(ALIGNMENT_AT);
  const up = (value: number) => Math.ceil(value / alignment) * alignment;
  const places: Place[] = [];
  for (let at = up(64 + image.readUInt32LE(32)); at < image.length - 96; ) {
    const payload = at + 64 + image.readUInt32LE(at + 4);
    const end = up(payload + Number(image.readBigUInt64LE(at + 8)));
    places.push({
      kind: image.toString('latin1', at, at + 4),
      subject: Number(image.readBigUInt64LE(at + 32)),
      offset: at,
      payload,
      end,
    });
    at = end;
  }
  return places;
}

function placeOf(image: Buffer, kind: string, subject = 0): Place {
  return placesOf(image).find((place) => place.kind === kind && place.subject === subject)!;
}

async function salvaged(t: ExecutionContext, folder: Workspace, victim: Victim, image: Buffer): Promise<SalvageResult> {
  const [path, target] = [folder.path('damaged.vms'), folder.path('target')];
  writeFileSync(path, image);
  if (victim.base !== undefined) writeFileSync(folder.path(victim.base.name), victim.base.image);
  const result = await salvage(path, target, { force: true, threads: 2 });
  const found = readFileSync(target);
  t.is(salvageFault(found, victim.memory, result.lost), undefined);
  t.is(result.memoryBytes, victim.memory.length);
  t.is(
    result.lost.reduce((sum, { length }) => sum + length, 0),
    result.lostBytes,
  );
  t.deepEqual(folder.leftovers(), []);
  return result;
}

function flipped(image: Buffer, at: number): Buffer {
  const copy = Buffer.from(image);
  copy[at]! ^= 0x10;
  return copy;
}

const low = (offset: number, length: number): LostRange => ({ region: 'low', offset, length });
const high = (offset: number, length: number): LostRange => ({ region: 'high', offset, length });

test('of an image that is whole nothing is lost, and it is proven', async (t) => {
  const folder = workspace(t);
  for (const victim of await allVictims(folder)) {
    const result = await salvaged(t, folder, victim, victim.image);
    t.deepEqual([result.lost, result.way], [[], 'index'], victim.name);
    t.true(result.regions.every(({ proven }) => proven));
    t.deepEqual(
      result.warnings.map(({ code }) => code),
      victim.name === 'absent' ? ['absent-pages'] : [],
    );
  }
});

test('a damaged chunk costs its pages and no more', async (t) => {
  const folder = workspace(t);
  const victim = await codecVictim(folder, 'zstd');
  const result = await salvaged(t, folder, victim, flipped(victim.image, placeOf(victim.image, 'VSEG', 0).payload + 8));
  t.is(result.way, 'index');
  t.true(result.lostBytes > 0 && result.lostBytes <= 16 * KIB);
  t.true(result.lost.every(({ region, offset }) => region === 'low' && offset < 200 * KIB));
  t.deepEqual(
    result.regions.map(({ proven }) => proven),
    [false, true],
  );
});

test('a damaged prefix costs its segment', async (t) => {
  const folder = workspace(t);
  const victim = await codecVictim(folder, 'zlib');
  const image = flipped(victim.image, placeOf(victim.image, 'VSEG', 3).offset + 20);
  t.deepEqual((await salvaged(t, folder, victim, image)).lost, [high(0, MIB)]);
  // Without an index: the record after it says that segment 3 had one, and not that segment 2 had none.
  const cut = image.subarray(0, image.length - 96);
  const walked = await salvaged(t, folder, victim, cut);
  t.deepEqual([walked.way, walked.lost], ['walk', [low(2 * MIB, MIB), high(0, MIB)]]);
});

test('without footer, end manifest, index list or index blocks nothing is lost', async (t) => {
  const folder = workspace(t);
  for (const victim of await allVictims(folder)) {
    if (victim.overriding) continue;
    const { image } = victim;
    const [end, list, block] = ['VEND', 'VLST', 'VIDX'].map((kind) => placeOf(image, kind)) as [Place, Place, Place];
    const damaged = [
      flipped(image, image.length - 50),
      image.subarray(0, image.length - 96),
      image.subarray(0, list.offset),
      flipped(image, list.payload + 1),
      flipped(image, end.payload + 5),
      flipped(image, end.offset + 5),
      flipped(image, block.payload + 3),
      flipped(image, block.offset + 3),
    ];
    for (const [i, bytes] of damaged.entries()) {
      const result = await salvaged(t, folder, victim, bytes);
      t.deepEqual([result.way, result.lost], ['walk', []], `${victim.name} ${i}`);
      t.true(result.warnings.some(({ code }) => code === 'image-damaged'));
    }
  }
});

test('an image that was cut off comes back as far as it goes', async (t) => {
  const folder = workspace(t);
  for (const victim of await allVictims(folder)) {
    if (victim.overriding) continue;
    const { image } = victim;
    let before = -1;
    const places = placesOf(image);
    for (const length of [places[0]!.offset, ...places.map(({ payload }) => payload + 40), image.length - 1]) {
      const result = await salvaged(t, folder, victim, image.subarray(0, length));
      t.true(result.wholeBytes >= before, `${victim.name}: ${length}`);
      before = result.wholeBytes;
      if (length === places[0]!.offset) t.is(result.wholeBytes, 0);
    }
    t.is(before, victim.memory.length);
  }
});

test('the temporary file of a save that was killed, with places that were never written', async (t) => {
  const folder = workspace(t);
  const victim = await codecVictim(folder, 'none');
  const { offset, end } = placeOf(victim.image, 'VSEG', 1);
  const image = Buffer.from(victim.image.subarray(0, placeOf(victim.image, 'VIDX').offset)).fill(0, offset, end);
  const result = await salvaged(t, folder, victim, image);
  // Behind the last record there is no telling.
  t.deepEqual(result.lost, [low(MIB, MIB)]);
});

test('damage in a base, and in what differs from it', async (t) => {
  const folder = workspace(t);
  const victim = await differentialVictim(folder);
  const own = await salvaged(t, folder, victim, flipped(victim.image, placeOf(victim.image, 'VSEG', 0).payload + 5));
  t.true(own.lostBytes > 0 && own.lostBytes <= 16 * KIB);
  const base = victim.base!.image;
  const damagedBase = { name: victim.base!.name, image: flipped(base, placeOf(base, 'VSEG', 0).payload + 5) };
  const below = await salvaged(t, folder, { ...victim, base: damagedBase }, victim.image);
  t.true(below.lostBytes > 0 && below.lostBytes < 16 * KIB, 'but for the pages that differ');
  const cutBase = { name: victim.base!.name, image: base.subarray(0, base.length - 10) };
  const { offset } = placeOf(victim.image, 'VEND');
  t.is((await salvaged(t, folder, victim, victim.image.subarray(0, offset))).way, 'walk');
  await failsWith(t, 'BASE_MISMATCH', salvaged(t, folder, { ...victim, base: cutBase }, victim.image), /base\.vms/);
});

test('overriding records: by the index, and refused without it', async (t) => {
  const folder = workspace(t);
  const victim = overridingVictim(folder);
  const last = placesOf(victim.image).filter(({ kind, subject }) => kind === 'VSEG' && subject === 3)[1]!;
  const result = await salvaged(t, folder, victim, flipped(victim.image, last.offset + 9));
  t.deepEqual(result.lost, [high(0, MIB)], 'the record that it overrides does not count');
  const cut = salvaged(t, folder, victim, victim.image.subarray(0, victim.image.length - 1));
  await failsWith(t, 'UNSUPPORTED', cut, /which is the last cannot be told/);
});

test('records of another image of the same binding are noticed, with an index or without', async (t) => {
  const folder = workspace(t);
  const [one, two] = [await codecVictim(folder, 'none', 1), await codecVictim(folder, 'none', 2)];
  const place = placeOf(one.image, 'VSEG', 1);
  const other = placeOf(two.image, 'VSEG', 1);
  t.deepEqual(place, other, 'the fixture is as meant');
  const image = Buffer.from(one.image);
  two.image.copy(image, place.offset, place.offset, place.end);
  t.deepEqual((await salvaged(t, folder, one, image)).lost, [low(MIB, MIB)]);
  const cut = salvaged(t, folder, one, image.subarray(0, image.length - 1));
  await failsWith(t, 'UNSUPPORTED', cut, /several images/);
});

test('a stream of unknown length that was cut off has the size that is known', async (t) => {
  const folder = workspace(t);
  const { bytes, memory } = await smallImage(folder, { segmentSize: MIB });
  const open = forge(bytes, (image) => {
    const manifest = JSON.parse(image.startManifest.toString()) as { regions: { sizeBytes?: number }[] };
    delete manifest.regions[0]!.sizeBytes;
    image.startManifest = Buffer.from(JSON.stringify(manifest));
  });
  writeFileSync(folder.path('open'), open);
  t.true((await verify(folder.path('open'))).intact);
  const whole = await salvage(folder.path('open'), folder.path('whole'), {});
  sameBytes(t, readFileSync(folder.path('whole')), memory);
  t.deepEqual(whole.lost, []);
  writeFileSync(folder.path('cut'), open.subarray(0, placeOf(open, 'VIDX').offset));
  const result = await salvage(folder.path('cut'), folder.path('out'), {});
  const found = readFileSync(folder.path('out'));
  t.true(found.length > 0 && memory.subarray(0, found.length).equals(found));
  t.deepEqual(
    result.warnings.map(({ code }) => code),
    ['size-unknown', 'image-damaged'],
  );
});

test('what the digest refuses is said, though no checksum was wrong', async (t) => {
  const folder = workspace(t);
  const victim = await codecVictim(folder, 'zstd');
  const image = forge(victim.image, (forged) =>
    editEnd(forged, (manifest) => {
      manifest.regions[0].sum = '0'.repeat(32);
    }),
  );
  t.is(takeApart(image).records.length, takeApart(victim.image).records.length);
  writeFileSync(folder.path('forged'), image);
  const result = await salvage(folder.path('forged'), folder.path('target'));
  t.true(result.warnings.length > 0);
  t.false(result.regions.every(({ proven }) => proven));
});

test('a head that is damaged, pipes and targets in place are refused', async (t) => {
  const folder = workspace(t);
  const victim = absentVictim(folder);
  await failsWith(t, 'CORRUPT', salvaged(t, folder, victim, flipped(victim.image, 20)));
  await failsWith(t, 'USAGE', salvage(folder.path('absent.vms'), '-'));
  await failsWith(t, 'USAGE', salvage(folder.path('absent.vms'), folder.path('absent.vms'), { force: true }));
});

test('many damaged places cost verify no more reading than few', async (t) => {
  const folder = workspace(t);
  const { bytes } = await smallImage(folder);
  const image = forge(bytes, (forged) => {
    const at = forged.records.indexOf(recordOf(forged, 'VATT'));
    forged.records.splice(at, 0, ...Array.from({ length: 4000 }, () => ({ ...forged.records[at]! })));
  });
  for (const [i, { kind, offset }] of placesOf(image).entries())
    if (kind === 'VATT' && i % 2 === 0) image[offset + 60]! ^= 1;
  writeFileSync(folder.path('hostile'), image);
  const before = readBytes();
  const { findingCount } = await verify(folder.path('hostile'), { threads: 1 });
  const read = readBytes() - before;
  t.true(findingCount >= 2000);
  t.log(`${Math.round(read / image.length)} times the file was read`);
  t.true(read < 50 * image.length + 4 * MIB, `${read} bytes of a file of ${image.length}`);
});

/** What this process has read so far, its threads among it. */
function readBytes(): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'latin1'))![1]);
}
