/** Several images or memory files: a line for each and a line of totals. */
import type { InspectReport, MemoryFileReport } from '../../lib/index.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { Numbers, UNKNOWN } from './numbers.js';
import type { Inspected } from './reports.js';

const HEAD = ['IMAGE', 'CREATED', 'MACHINE', 'MEMORY', 'STORED', 'FILE', 'RATIO', 'CODEC', 'STATE'];
const ALIGNS = ['left', 'left', 'left', 'right', 'right', 'right', 'right', 'left', 'left'] as const;

export function summaryTable(inspected: readonly Inspected[], exactBytes: boolean): string[] {
  const numbers = new Numbers(exactBytes);
  const rows = inspected.map((one) =>
    one.memoryFile === undefined ? imageRow(one, numbers) : memoryFileRow(one.memoryFile, numbers),
  );
  return formatTable([HEAD, ...rows, totalsRow(inspected, numbers)], ALIGNS);
}

function imageRow({ path, report, failure, exitCode }: Inspected, numbers: Numbers): string[] {
  if (report === undefined) return [path, ...HEAD.slice(2).map(() => UNKNOWN), failure!.code];
  const { memory, storage, machine } = report;
  return [
    path,
    printable(report.createdAt),
    printable(machine.name ?? machine.uuid ?? UNKNOWN),
    numbers.bytes(memory.sizeBytes),
    numbers.bytes(storage.storedBytes),
    numbers.bytes(report.fileBytes),
    numbers.ratio(storage.memoryRatio),
    storage.level === undefined ? storage.codec : `${storage.codec} ${storage.level}`,
    exitCode === 0 ? 'complete' : (report.problems[0]?.code ?? 'CORRUPT'),
  ];
}

/** What the columns of images say, and the format as its state. */
function memoryFileRow({ path, format, machine, memory, fileBytes }: MemoryFileReport, numbers: Numbers): string[] {
  return [
    path,
    UNKNOWN,
    printable(machine.name ?? machine.uuid ?? UNKNOWN),
    numbers.bytes(memory.sizeBytes),
    UNKNOWN,
    numbers.bytes(fileBytes),
    numbers.ratio(fileBytes > 0 ? memory.sizeBytes / fileBytes : undefined),
    UNKNOWN,
    format,
  ];
}

function totalsRow(inspected: readonly Inspected[], numbers: Numbers): string[] {
  const reports = inspected.map(({ report }) => report).filter((report) => report !== undefined);
  const sum = (of: (report: InspectReport) => number | undefined): number =>
    reports.reduce((total, report) => total + (of(report) ?? 0), 0);
  const files = inspected.map(({ memoryFile }) => memoryFile).filter((file) => file !== undefined);
  const sumFiles = (of: (file: MemoryFileReport) => number) => files.reduce((total, file) => total + of(file), 0);
  const memoryBytes = sum(({ memory }) => memory.sizeBytes) + sumFiles(({ memory }) => memory.sizeBytes);
  const fileBytes = sum((report) => report.fileBytes) + sumFiles((file) => file.fileBytes);
  const good = inspected.filter(({ exitCode }) => exitCode === 0).length;
  return [
    'total',
    '',
    '',
    numbers.bytes(memoryBytes),
    numbers.bytes(sum(({ storage }) => storage.storedBytes)),
    numbers.bytes(fileBytes),
    numbers.ratio(fileBytes > 0 ? memoryBytes / fileBytes : undefined),
    '',
    `${good} of ${inspected.length} complete`,
  ];
}
