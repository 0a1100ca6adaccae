/** The fuzzers' own parts: a fuzzer that does not see, change or report anything finds nothing, and nobody would notice. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { randomNumbers } from '../support/randomNumbers.js';
import { COUNTERS, withCounters } from './instrument.js';
import { mutate, readDictionary } from './mutator.js';
import { repairChecksums } from './repairChecksums.js';

const FUZZ = fileURLToPath(new URL('../../../test/fuzz/', import.meta.url));
const SAMPLES = fileURLToPath(new URL('../../../test/samples/v1/', import.meta.url));
const sample = (name: string) => readFileSync(join(SAMPLES, name));

test('code with counters does the same and counts where it goes', (t) => {
  const source = `(function f(a) {
    "use strict";
    let s = a > 2 ? 'many' : 'few';
    for (const x of [1, 2, 3]) if (x === a) s += '=';
    while (a-- > 0) s += '.';
    switch (s.length) { case 5: s += '!'; break; default: s += '?'; }
    return s && (s ?? 'none');
  })`;
  const { text, count } = withCounters(source);
  const plain = runInNewContext(source) as (a: number) => string;
  const pathOf = (a: number) => {
    const counters = new Uint8Array(count);
    const counted = runInNewContext(text, { [COUNTERS]: counters }) as (a: number) => string;
    t.is(counted(a), plain(a));
    return [...counters];
  };
  t.true(count >= 9);
  t.notDeepEqual(pathOf(1), pathOf(3));
  t.deepEqual(pathOf(7), pathOf(7));
});

test('changes are the same for a seed, others for another, and within the length', (t) => {
  const bytes = sample('valid/none.vms').subarray(0, 2000);
  const words = readDictionary(readFileSync(join(FUZZ, 'image.dict'), 'latin1'));
  const series = (seed: number) => {
    const random = randomNumbers(seed);
    return Array.from({ length: 200 }, () => mutate(bytes, bytes, words, random, 2100).toString('latin1'));
  };
  t.deepEqual(series(1), series(1));
  t.notDeepEqual(series(1), series(2));
  t.true(series(3).every((changed) => changed.length <= 2100));
  t.true(new Set(series(4)).size > 150);
  const none = Buffer.alloc(0);
  const random = randomNumbers(5);
  for (let i = 0; i < 500; i++) t.true(mutate(none, none, [], random, 10).length <= 10);
});

test('dictionaries are read as libFuzzer reads them', (t) => {
  t.deepEqual(readDictionary('# no "word"\na="x\\x00\\"y"\n"z"\n\n'), [Buffer.from('x\0"y'), Buffer.from('z')]);
  for (const name of readdirSync(FUZZ).filter((file) => file.endsWith('.dict')))
    t.true(readDictionary(readFileSync(join(FUZZ, name), 'latin1')).length > 10, name);
});

test('a sound image stays as it is when its checksums are made right, and wrong ones become right', (t) => {
  for (const name of readdirSync(join(SAMPLES, 'valid'))) {
    const image = sample(`valid/${name}`);
    const repaired = Buffer.from(image);
    repairChecksums(repaired);
    t.true(repaired.equals(image), name);
    const broken = Buffer.from(image);
    broken.writeUInt32LE(0x12345678, 60);
    broken.writeUInt32LE(0x12345678, broken.length - 4);
    repairChecksums(broken);
    t.true(broken.equals(image), name);
  }
});

test('whatever the bytes, they are repaired without an error', (t) => {
  const random = randomNumbers(7);
  const images = ['valid/attachments.vms', 'valid/references.vms'].map(sample) as [Buffer, Buffer];
  for (let i = 0; i < 500; i++) t.notThrows(() => repairChecksums(mutate(images[0], images[1], [], random, 100_000)));
});
