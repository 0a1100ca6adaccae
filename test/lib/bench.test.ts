/** The benchmark for users: its figures are of what was really run, and nothing stays behind. No figure is judged. */
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { median, runRounds } from '../../lib/bench/rounds.js';
import { type BenchStep, bench, save } from '../../lib/index.js';
import { temporaryFolder } from '../cli/support/folder.js';

const MIB = 1024 * 1024;
const settings = { rounds: 2, signal: undefined };

test('variants take turns, and the warm-up does not count', async (t) => {
  const order: string[] = [];
  const variants = ['a', 'b', 'c'].map((what) => ({ what, run: async () => order.push(what) }));
  const results = await runRounds(variants, { ...settings, onStep: () => undefined });
  t.is(order.join(''), 'abcbcacab');
  t.deepEqual(results, [
    [6, 8],
    [4, 9],
    [5, 7],
  ]);
});

test('the median is one of the values', (t) => {
  t.is(median([3]), 3);
  t.is(median([9, 1, 5]), 5);
  t.is(median([4, 1, 9, 2]), 2);
});

test('all tables', async (t) => {
  const folder = temporaryFolder(t);
  const steps: BenchStep[] = [];
  const report = await bench({ folder, sizeBytes: 16 * MIB, rounds: 1, onStep: (step) => steps.push(step) });
  t.deepEqual(readdirSync(folder), [], 'nothing stays behind');
  t.deepEqual(new Set(steps.map(({ table }) => table)), new Set(['scan', 'codecs', 'zeros', 'share', 'compare']));

  const { scan, codecs, zeros, share, compare } = report;
  for (const row of scan!.detectors) t.true(row.fileBytesPerSecond > 0, row.detector);
  t.true(scan!.bandwidthBytesPerSecond > 1e8);
  t.deepEqual(new Set(codecs!.map(({ codec }) => codec)), new Set(['none', 'zstd', 'zlib']));
  const none = codecs!.find(({ codec }) => codec === 'none')!;
  t.true(
    none.imageBytes > 0.15 * 16 * MIB && none.imageBytes < 0.45 * 16 * MIB,
    'about a fifth is data, a seventh of it twice',
  );
  for (const row of codecs!) t.true(row.codec === 'none' || row.imageBytes < none.imageBytes, row.codec);
  const halves = zeros!.filter(({ memory }) => memory === 'half zero');
  t.is(new Set(halves.map(({ writtenBytes }) => writtenBytes)).size, 1, 'the detector does not change the image');
  for (const row of zeros!) t.true(row.memory === 'half zero' || row.writtenBytes < 16_384);
  t.deepEqual(
    share!.map(({ memoryBytes }) => memoryBytes / MIB),
    [16, 64, 256],
  );
  for (const row of share!) t.true(row.checkShare > 0 && row.imageBytes > share![0]!.imageBytes * 0.9);
  const device = compare!.filter(({ detector }) => detector.startsWith('dsa'));
  for (const row of device) t.is(row.devicePages, (16 * MIB) / 4096, 'the device answered for every page');
  for (const row of [...scan!.detectors, ...zeros!, ...compare!]) {
    t.is(row.emulated, row.detector === 'dsa-emulated', 'what is emulated is called so');
  }
});

test('memory of the user: what the table says is what a save gives', async (t) => {
  const folder = temporaryFolder(t);
  const source = join(folder, 'guest.mem');
  writeFileSync(source, Buffer.alloc(4 * MIB, 'some memory of a machine; '));
  const before = statSync(source);
  const { codecs, scan } = await bench({ source, folder, sizeBytes: 16 * MIB, rounds: 1, tables: ['codecs'] });
  t.is(scan, undefined);
  const saved = await save(source, join(folder, 'own.vmsnap'), { level: 3, frozen: true });
  t.is(codecs!.find(({ codec, level }) => codec === 'zstd' && level === 3)!.imageBytes, saved.imageBytes);
  t.is(statSync(source).mtimeMs, before.mtimeMs);
  t.deepEqual(readdirSync(folder).sort(), ['guest.mem', 'own.vmsnap']);
});

test('stopped in the middle it leaves nothing', async (t) => {
  const folder = temporaryFolder(t);
  const stop = new AbortController();
  const onStep = ({ table }: BenchStep) => {
    if (table === 'codecs') stop.abort(new Error('enough'));
  };
  await t.throwsAsync(bench({ folder, sizeBytes: 16 * MIB, rounds: 1, signal: stop.signal, onStep }), {
    message: 'enough',
  });
  t.deepEqual(readdirSync(folder), []);
});

test('what cannot be is refused', async (t) => {
  const folder = temporaryFolder(t);
  await t.throwsAsync(bench({ sizeBytes: 1000 }), { code: 'USAGE' });
  await t.throwsAsync(bench({ rounds: 0 }), { code: 'USAGE' });
  await t.throwsAsync(bench({ tables: ['speed' as 'scan'] }), { code: 'USAGE', message: /"speed"/ });
  await t.throwsAsync(bench({ sizeBytes: 16 * MIB, shareSizesBytes: [20 * MIB] }), { code: 'USAGE' });
  await t.throwsAsync(bench({ source: join(folder, 'none') }), { code: 'NOT_FOUND' });
  await t.throwsAsync(bench({ folder: join(folder, 'none'), sizeBytes: 16 * MIB }), { code: 'NOT_FOUND' });
});
