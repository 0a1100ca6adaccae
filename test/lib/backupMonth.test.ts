/**
 * A month of nightly backups of a machine that works, on a clock that the test sets: what is kept is what the policy says,
 * every kept image comes back bit for bit, and the sizes are printed.
 */
import { copyFileSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import test from 'ava';
import { changePages } from '../../bench/changes.js';
import { listStore, load, verify } from '../../lib/index.js';
import { chainLengthOf, keptNights, MONTH_POLICY } from './support/backupMonth.js';
import { backupHouse, DAY_MS, FIRST_NIGHT, oneJob } from './support/backups.js';
import { sameBytes } from './support/expect.js';
import { MIB } from './support/memory.js';

const NIGHTS = 31;
const MEMORY_BYTES = 8 * MIB;

test('a month of nights', async (t) => {
  t.timeout(240_000);
  const house = backupHouse(t, MEMORY_BYTES);
  const memory = house.path('memory');
  const rows: string[] = [];
  const images: string[] = [];
  const memories: string[] = [];
  for (let night = 0; night < NIGHTS; night++) {
    house.now = FIRST_NIGHT + night * DAY_MS;
    changePages(memory, night % 3 === 0 ? 'scattered' : 'clustered', night % 7 === 6 ? 0.2 : 0.03, night + 1);
    copyFileSync(memory, house.path(`memory-${night}`));
    const report = await house.runOne(oneJob(MONTH_POLICY));
    t.deepEqual([report.status, report.verified], ['ok', true], report.error?.message);
    t.is(report.chainLength, chainLengthOf(night));
    images.push(basename(report.image!));
    memories.push(house.path(`memory-${night}`));
    const kept = [...keptNights(night + 1)].sort((a, b) => a - b);
    t.deepEqual(house.stored(), kept.map((i) => images[i]!).sort(), `after night ${night}`);
    t.is(report.keptImages, kept.length);
    const total = kept.reduce((sum, i) => sum + statSync(`${house.store}/${images[i]}`).size, 0);
    const cells = [report.saved!.imageBytes, total].map((bytes) => String(Math.round(bytes / 1024)).padStart(7));
    rows.push(`${images[night]}  ${report.kind!.padEnd(12)}  ${cells.join('  ')}  ${String(kept.length).padStart(4)}`);
  }
  t.log(['image                          kind              KiB    store  kept', ...rows].join('\n'));
  const { entries } = await listStore(house.store);
  t.true(entries.every(({ state }) => state === 'good'));
  t.is(entries.length, 13);
  for (const { path, name } of entries) {
    t.true((await verify(path)).intact);
    await load(path, house.path('restored'), { force: true });
    sameBytes(t, readFileSync(house.path('restored')), readFileSync(memories[images.indexOf(name)]!), name);
  }
});

test('a month with a bad night now and then', async (t) => {
  const house = backupHouse(t, MIB);
  const failed: number[] = [];
  for (let night = 0; night < NIGHTS; night++) {
    house.now = FIRST_NIGHT + night * DAY_MS;
    house.change(night % 200);
    const isOff = night % 10 === 9;
    const isLost = night % 13 === 12;
    if (isLost) for (const name of house.stored().slice(-1)) rmSync(`${house.store}/${name}`);
    if (night === 20) writeFileSync(`${house.store}/${house.stored().at(-1)}`, 'overwritten');
    const toml = isOff ? oneJob(MONTH_POLICY).replace('"memory"', '"off"') : oneJob(MONTH_POLICY);
    const report = await house.runOne(toml);
    if (report.error !== undefined) failed.push(night);
    else {
      await load(report.image!, house.path('restored'), { force: true });
      sameBytes(t, readFileSync(house.path('restored')), house.memory, `night ${night}`);
    }
  }
  t.deepEqual(failed, [9, 19, 29], 'nothing but the nights without a machine');
});
