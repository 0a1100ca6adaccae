/** A comparison for people: what differs, how much of it, where. */
import type { CompareResult, CompareSide, Difference, MemoryChange } from '../../lib/index.js';
import { shareBar, shareLegend } from '../inspect/heatBar.js';
import { UNKNOWN } from '../inspect/numbers.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { formatAddress, formatBytes, formatCount, formatDuration, formatShare } from '../output/units.js';

const CHANGE_TEXTS: Readonly<Record<MemoryChange, string>> = {
  changed: 'changed',
  'became-zero': 'became zero',
  'was-zero': 'was zero',
  'only-in-a': 'only in A',
  'only-in-b': 'only in B',
};
const REGIONS_SHOWN = 16;

/** `limit`: how many ranges are shown. */
export function compareLines(result: CompareResult, limit: number): string[] {
  const { a, b, equal, comparedBytes, run } = result;
  const extent = `${formatBytes(comparedBytes)} compared, ${formatDuration(run.durationSeconds)}`;
  const head = [sideLine('A', a), sideLine('B', b)];
  if (equal) return [...head, `equal (${extent}); ${zeroText(result)}`];
  return [
    ...head,
    `DIFFERENT: ${formatShare(differentBytes(result), totalBytes(result))} of the memory (${extent})`,
    'PAGES',
    ...pageLines(result),
    ...regionLines(result),
    ...rangeLines(result, limit),
    ...heatLines(result),
  ];
}

function sideLine(letter: string, { path, kind, memoryBytes, bases, absentPages }: CompareSide): string {
  const unknown = absentPages === 0 ? '' : `; ${formatCount(absentPages)} pages absent, which count as zero`;
  const below = bases.length === 0 ? '' : ` with ${bases.length === 1 ? '1 base' : `${bases.length} bases`}`;
  return `${letter} ${path}: ${kind === 'image' ? `image${below}` : 'raw memory'}, ${formatBytes(memoryBytes)}${unknown}`;
}

function zeroText({ pages }: CompareResult): string {
  return `${formatCount(pages.bothZero)} of ${formatCount(pages.same)} pages are zero`;
}

function differentBytes({ pages, pageSize, onlyInABytes, onlyInBBytes }: CompareResult): number {
  return (pages.changed + pages.becameZero + pages.wasZero) * pageSize + onlyInABytes + onlyInBBytes;
}

function totalBytes({ comparedBytes, onlyInABytes, onlyInBBytes }: CompareResult): number {
  return comparedBytes + onlyInABytes + onlyInBBytes;
}

function pageLines(result: CompareResult): string[] {
  const { pages, pageSize, onlyInABytes, onlyInBBytes } = result;
  const total = totalBytes(result) / pageSize;
  const rows: [string, number, string][] = [
    ['same', pages.same, `${formatCount(pages.bothZero)} of them zero on both sides`],
    ['changed', pages.changed, ''],
    ['became zero', pages.becameZero, 'data in A, zero in B'],
    ['was zero', pages.wasZero, 'zero in A, data in B'],
    ['only in A', onlyInABytes / pageSize, ''],
    ['only in B', onlyInBBytes / pageSize, ''],
  ];
  const shown = rows.filter(([, count], i) => i < 4 || count > 0);
  const cells = shown.map(([name, count, note]) => [
    `  ${name}`,
    formatCount(count),
    formatShare(count, total),
    formatBytes(count * pageSize),
    note,
  ]);
  return formatTable(cells, ['left', 'right', 'right', 'right', 'left']);
}

function regionLines({ regions, pageSize }: CompareResult): string[] {
  if (regions.length < 2) return [];
  const cells = regions.slice(0, REGIONS_SHOWN).map((region) => {
    const { pages, onlyInABytes, onlyInBBytes } = region;
    const bytes = (pages.changed + pages.becameZero + pages.wasZero) * pageSize + onlyInABytes + onlyInBBytes;
    const total = pages.same * pageSize + bytes;
    const only = region.sizeBytesB === undefined ? 'only in A' : region.sizeBytesA === undefined ? 'only in B' : '';
    const share = bytes === 0 ? 'equal' : `${formatShare(bytes, total)} different`;
    return [
      `  ${printable(region.name)}`,
      region.gpa === undefined ? UNKNOWN : formatAddress(region.gpa),
      formatBytes(total),
      only === '' ? share : only,
    ];
  });
  const more = regions.length - cells.length;
  return [
    'REGIONS',
    ...formatTable(cells, ['left', 'right', 'right', 'left']),
    ...(more > 0 ? [`  and ${formatCount(more)} more: --json`] : []),
  ];
}

function rangeLines({ ranges, rangesCut }: CompareResult, limit: number): string[] {
  const shown = ranges.slice(0, limit);
  const hidden = ranges.length - shown.length;
  const more = rangesCut ? `more than ${formatCount(hidden)}` : formatCount(hidden);
  return [
    'RANGES',
    ...formatTable(shown.map(rangeCells), ['left', 'right', 'right', 'left']),
    ...(hidden > 0 || rangesCut ? [`  and ${more} more: --limit N or --json`] : []),
  ];
}

function rangeCells({ region, offset, length, change }: Difference): string[] {
  return [`  ${printable(region)}`, formatAddress(offset), formatBytes(length), CHANGE_TEXTS[change]];
}

function heatLines(result: CompareResult): string[] {
  const { heat } = result;
  const cell = formatBytes(totalBytes(result) / heat.length);
  const bar = shareBar(heat.map(({ pages, differentPages }) => (pages === 0 ? 0 : differentPages / pages)));
  return [`HEAT ${shareLegend('same', 'different')}; a cell is ${cell}`, `  ${bar}`];
}
