/** The tables of `vmsnap bench` for people. */
import type { BenchReport, ScanReport } from '../../lib/index.js';
import { type Align, formatTable } from '../output/table.js';
import { formatBytes, formatShare } from '../output/units.js';

const EMULATED_NOTE =
  '* emulated: a device in software. The time says nothing of a real one; the CPU time is the host side alone.';

export function benchScreen(report: BenchReport): string[] {
  const { machine, setup, scan, codecs, zeros, share, compare } = report;
  const emulated = [...(scan?.detectors ?? []), ...(zeros ?? []), ...(compare ?? [])].some((row) => row.emulated);
  return [
    `${machine.processor}, ${machine.threads} threads, ${formatBytes(machine.memoryBytes)}; Linux ${machine.kernel}, Node ${machine.node}, vmsnap ${machine.vmsnap}`,
    `memory: ${setup.source ?? 'made up'}, ${formatBytes(setup.memoryBytes)}; ${setup.threads} threads; files in ${setup.folder}; medians of ${setup.rounds}`,
    ...(scan === undefined ? [] : scanTable(scan)),
    ...(compare === undefined
      ? []
      : table(
          `COMPARE  ${formatBytes(compare[0]!.bytes)} of zero memory in a file, one thread`,
          ['detector', 'time', 'CPU', 'rate', 'pages of the device'],
          compare.map((row) => [
            name(row),
            seconds(row.seconds),
            seconds(row.cpuSeconds),
            rate(row.bytes / row.seconds),
            String(row.devicePages),
          ]),
        )),
    ...(codecs === undefined
      ? []
      : table(
          'CODECS  whole saves, and loads to a new file',
          ['codec', 'save', 'rate', 'CPU', 'image', 'load', 'rate', 'CPU'],
          codecs.map((row) => [
            row.level === undefined ? row.codec : `${row.codec} ${row.level}`,
            seconds(row.saveSeconds),
            rate(row.saveBytesPerSecond),
            seconds(row.saveCpuSeconds),
            formatBytes(row.imageBytes),
            seconds(row.loadSeconds),
            rate(row.loadBytesPerSecond),
            seconds(row.loadCpuSeconds),
          ]),
        )),
    ...(zeros === undefined
      ? []
      : table(
          'ZEROS  whole saves of memory that is half zero, and all zero',
          ['memory', 'detector', 'time', 'rate', 'CPU', 'a thread', 'written'],
          zeros.map((row) => [
            row.memory,
            name(row),
            seconds(row.seconds),
            rate(row.bytesPerSecond),
            seconds(row.cpuSeconds),
            seconds(row.cpuSecondsPerThread),
            formatBytes(row.writtenBytes),
          ]),
        )),
    ...(share === undefined
      ? []
      : table(
          'SHARE  of the zero check in the CPU time of a whole save, zstd 1',
          ['memory', 'time', 'rate', 'CPU', 'image', 'check', 'with reading'],
          share.map((row) => [
            formatBytes(row.memoryBytes),
            seconds(row.seconds),
            rate(row.bytesPerSecond),
            seconds(row.cpuSeconds),
            formatBytes(row.imageBytes),
            formatShare(row.checkShare, 1),
            formatShare(row.readAndCheckShare, 1),
          ]),
        )),
    ...(emulated ? ['', EMULATED_NOTE] : []),
  ];
}

function scanTable({ bandwidthBytesPerSecond, detectors }: ScanReport): string[] {
  const rows = detectors.map((row) => [
    name(row),
    row.memoryBytesPerSecond === undefined ? '-' : rate(row.memoryBytesPerSecond),
    row.memoryCpuSecondsPerGigabyte?.toFixed(3) ?? '-',
    row.bandwidthShare === undefined ? '-' : `${(row.bandwidthShare * 100).toFixed(0)} %`,
    rate(row.fileBytesPerSecond),
    row.fileCpuSecondsPerGigabyte.toFixed(3),
  ]);
  const title = `SCAN  one thread, zero memory; it reads ${rate(bandwidthBytesPerSecond)} at most`;
  return table(title, ['detector', 'at hand', 'CPU s/GB', 'of most', 'in a file', 'CPU s/GB'], rows);
}

function table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const aligns = head.map((_, column): Align => (column === 0 ? 'left' : 'right'));
  return ['', title, ...formatTable([head, ...rows], aligns).map((line) => `  ${line}`)];
}

function name({ detector, emulated }: { readonly detector: string; readonly emulated: boolean }): string {
  return emulated ? `${detector} *` : detector;
}

function rate(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1e9).toFixed(bytesPerSecond < 1e10 ? 2 : 1)} GB/s`;
}

function seconds(value: number): string {
  return `${value.toFixed(value < 10 ? 3 : 1)} s`;
}
