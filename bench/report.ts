import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { type Contender, REFERENCE, VMSNAP } from './contenders.js';
import type { Measurement } from './measure.js';
import type { RaceResult } from './race.js';

/** A markdown table of one race. */
export function raceTable(title: string, results: readonly RaceResult[], memoryBytes: number): string {
  const reference = results.find((result) => result.contender.name === REFERENCE);
  const rows = results
    .filter((result) => result.measurements.length > 0)
    .map((result) => row(result, reference, memoryBytes));
  return [
    `### ${title}`,
    '',
    `| | median s | min s | time / \`${REFERENCE}\` | MB/s of memory | CPU s | output bytes | peak MB |`,
    '|---|--:|--:|--:|--:|--:|--:|--:|',
    ...rows,
    ...results.flatMap(({ contender, failure }) =>
      failure === undefined ? [] : ['', `${contender.name} FAILED: ${failure}`],
    ),
    '',
  ].join('\n');
}

function row(result: RaceResult, reference: RaceResult | undefined, memoryBytes: number): string {
  const { measurements } = result;
  const wallSeconds = measurements.map((measurement) => measurement.wallSeconds);
  const cells = [
    result.contender.name,
    median(wallSeconds).toFixed(2),
    Math.min(...wallSeconds).toFixed(2),
    ratio(measurements, reference?.measurements ?? []),
    (memoryBytes / 1e6 / median(wallSeconds)).toFixed(0),
    median(measurements.map((measurement) => measurement.cpuSeconds)).toFixed(2),
    result.outputBytes.toLocaleString('en'),
    (Math.max(...measurements.map((measurement) => measurement.peakMemoryBytes)) / 1e6).toFixed(0),
  ];
  return `| ${cells.join(' | ')} |`;
}

function ratio(measurements: readonly Measurement[], reference: readonly Measurement[]): string {
  const found = timesOf(measurements, reference);
  return found === undefined ? '-' : found.toFixed(2);
}

/** How many times as long `measurements` took: the median of the ratios within each round, where slow minutes cancel out. */
export function timesOf(measurements: readonly Measurement[], reference: readonly Measurement[]): number | undefined {
  const ratios = measurements.flatMap((measurement, round) => {
    const other = reference[round];
    return other === undefined ? [] : [measurement.wallSeconds / other.wallSeconds];
  });
  return ratios.length === 0 ? undefined : median(ratios);
}

/** A markdown table; numbers in all columns but the first. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line), ''].join('\n');
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** What the figures were measured with. */
export function machineDescription(): string {
  const versions = [
    `node ${process.version}`,
    versionOf(VMSNAP[0]!, [VMSNAP[1]!, '--version'], 'vmsnap'),
    versionOf('zstd', ['--version'], 'zstd'),
    versionOf('pigz', ['--version'], 'pigz'),
    versionOf('lz4', ['--version'], 'lz4'),
    versionOf('qemu-img', ['--version'], 'qemu-img'),
  ];
  const ramGiB = (totalmem() / 2 ** 30).toFixed(1);
  return [
    `- CPU: ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores; RAM: ${ramGiB} GiB`,
    `- ${operatingSystem()}, kernel ${release()}`,
    `- ${versions.join('; ')}`,
  ].join('\n');
}

function operatingSystem(): string {
  try {
    return /^PRETTY_NAME="?(.*?)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux';
  } catch {
    return 'Linux';
  }
}

function versionOf(program: string, parameters: string[], name: string): string {
  try {
    const output = execFileSync(program, parameters, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    return `${name} ${/\d+\.\d[\w.+~-]*/.exec(output)?.[0] ?? output.trim()}`;
  } catch {
    return `${name} missing`;
  }
}

export function missingList(missing: readonly Contender[]): string {
  return missing.map((contender) => `- missing: ${contender.name} (${contender.missing})\n`).join('');
}
