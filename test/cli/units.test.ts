import test from 'ava';
import { heatBar, heatLegend } from '../../cli/inspect/heatBar.js';
import { printable } from '../../cli/output/printable.js';
import { progressLine } from '../../cli/output/progressLine.js';
import { formatTable } from '../../cli/output/table.js';
import {
  formatAddress,
  formatBytes,
  formatClock,
  formatCount,
  formatDuration,
  formatRatio,
  formatShare,
} from '../../cli/output/units.js';

test('bytes', (t) => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [1024 * 1024 - 1, '1 MiB'],
    [213.4 * 2 ** 20, '213 MiB'],
    [2 ** 31, '2 GiB'],
    [2 ** 40, '1 TiB'],
    [2 ** 53, '8 PiB'],
  ];
  for (const [bytes, text] of cases) t.is(formatBytes(bytes), text);
});

test('counts, shares, ratios, times', (t) => {
  t.is(formatCount(1234567), '1,234,567');
  t.is(formatCount(12), '12');
  t.is(formatShare(0, 10), '0 %');
  t.is(formatShare(10, 10), '100 %');
  t.is(formatShare(1, 1e6), '< 0.1 %');
  t.is(formatShare(999999, 1e6), '> 99.9 %');
  t.is(formatShare(1, 3), '33.3 %');
  t.is(formatShare(0, 0), '-');
  t.is(formatRatio(2.345), '2.35');
  t.is(formatRatio(1048576), '1,048,576');
  t.is(formatDuration(0.123), '0.12 s');
  t.is(formatDuration(65), '1 min 5 s');
  t.is(formatClock(7), '0:07');
  t.is(formatClock(3723), '1:02:03');
  t.is(formatAddress(2 ** 32), '0x100000000');
});

test('tables align', (t) => {
  t.deepEqual(
    formatTable(
      [
        ['a', '1'],
        ['bbb', '22'],
      ],
      ['left', 'right'],
    ),
    ['a     1', 'bbb  22'],
  );
});

test('the heat bar tells holes from a little and a lot', (t) => {
  const cell = (dataPages: number, uniformPages = 0, absentPages = 0) => ({
    pages: 100,
    dataPages,
    uniformPages,
    referencePages: 0,
    absentPages,
    storedBytes: 0,
  });
  t.is(heatBar([cell(0), cell(1), cell(25), cell(26), cell(51), cell(76), cell(100), cell(0, 1)]), '·░░▒▓██░');
  t.is(heatBar([{ ...cell(0), pages: 0 }, cell(0, 0, 1), cell(30, 0, 70)]), '·×▒');
  t.regex(heatLegend([cell(0)]), /^· zero .* stored$/);
  t.regex(heatLegend([cell(0, 0, 1)]), /× absent$/);
});

test('progress has rate, percent and time left, and never fills the last column', (t) => {
  const progress = {
    phase: 'save',
    doneBytes: 2 ** 30,
    totalBytes: 2 ** 32,
    imageBytes: 0,
    elapsedSeconds: 2,
  } as const;
  t.is(progressLine(progress, 80), 'save   25 %  1 GiB of 4 GiB  512 MiB/s  ETA 0:06');
  t.is(progressLine({ ...progress, totalBytes: undefined }, 80), 'save  1 GiB  512 MiB/s  0:02');
  t.is(progressLine(progress, 20).length, 19);
  t.is(progressLine({ ...progress, doneBytes: 0, elapsedSeconds: 0 }, 80), 'save    0 %  0 B of 4 GiB  0 B/s');
});

test('names from an image cannot steer the terminal', (t) => {
  t.is(printable('a\u001b[31mb\u202e\n'), 'a\\u{1b}[31mb\\u{202e}\\u{a}');
  t.is(printable('größe 日本'), 'größe 日本');
});
