import test from 'ava';
import { editDistance, nearest, suggestWord } from '../../cli/options/suggest.js';

test('a swap, a missing, an extra and a wrong letter each count one', (t) => {
  t.is(editDistance('zsdt', 'zstd'), 1);
  t.is(editDistance('lvel', 'level'), 1);
  t.is(editDistance('levell', 'level'), 1);
  t.is(editDistance('lefel', 'level'), 1);
  t.is(editDistance('', 'abc'), 3);
});

test('the nearest word is found, and none where none is near', (t) => {
  t.is(nearest('--lvel', ['--label', '--level']), '--level');
  t.is(nearest('--segmentsize', ['--segment-size', '--chunk-size']), '--segment-size');
  t.is(nearest('--xyz', ['--label', '--level']), undefined);
});

test('the beginning of a word is enough', (t) => {
  t.is(nearest('--detect', ['--detector', '--force']), '--detector');
});

test('the hint always has all words', (t) => {
  t.is(suggestWord('zsdt', ['zstd', 'zlib']), 'did you mean zstd? (one of zstd, zlib)');
  t.is(suggestWord('brotli', ['zstd', 'zlib']), 'one of zstd, zlib');
});
