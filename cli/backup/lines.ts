/** What `vmsnap backup` tells people. */
import { basename } from 'node:path';
import type { BackupConfig, BackupJob, BackupJobReport } from '../../lib/index.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { formatBytes, formatDuration } from '../output/units.js';

/** One line for a job that ended well. */
export function jobLine(report: BackupJobReport): string {
  const { job, image, kind, saved, verified, removed, keptImages, durationSeconds } = report;
  const sizes = saved === undefined ? '' : `, ${formatBytes(saved.memoryBytes)} in ${formatBytes(saved.imageBytes)}`;
  const parts = [
    `${printable(image!)}: ${kind}${sizes}`,
    ...(verified === true ? ['intact'] : []),
    ...(keptImages === undefined ? [] : [`${keptImages} kept, ${removed.length} removed`]),
    formatDuration(durationSeconds),
  ];
  return `${job}: ${parts.join(', ')}`;
}

/** What is to be said beside the error of a job that failed. */
export function jobNotes({ image, verified }: BackupJobReport): string[] {
  if (image === undefined) return [];
  return [`the image is there all the same: ${image}${verified === true ? ', intact' : ''}`];
}

export function planLines(report: BackupJobReport): string[] {
  const { job, image, kind, base, reason, removed, keptImages } = report;
  const against = base === undefined ? '' : ` against ${printable(basename(base))}`;
  return [
    `${job}: would write ${printable(image!)}: ${kind}${against} (${reason})`,
    ...(keptImages === undefined ? [`${job}: would remove nothing: it has no retention policy`] : []),
    ...removed.map((path) => `${job}: would remove ${printable(path)}`),
  ];
}

/** A source of regions alone is named by their files. */
function sourceText(source: BackupJob['source'], { regions }: BackupJob['save']): string {
  if (source.kind === 'command') return source.command.join(' ');
  return source.source ?? [...new Set(regions?.map(({ file }) => file))].join(' ');
}

export function configLines({ file, jobs }: BackupConfig): string[] {
  const rows = jobs.map(({ name, source, save, folder, nameTemplate }) => [
    name,
    printable(sourceText(source, save)),
    printable(`${folder}/${nameTemplate}`),
  ]);
  const count = jobs.length === 1 ? '1 job' : `${jobs.length} jobs`;
  return [`${file}: ${count}`, ...formatTable(rows, ['left', 'left', 'left']).map((line) => `  ${line}`)];
}
