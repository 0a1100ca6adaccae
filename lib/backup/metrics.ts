/**
 * The metrics file of a job, for the textfile collector of Prometheus' node_exporter: text exposition format, replaced as a
 * whole by a rename, mode 0644. What a failed run does not know is left out; the time of the last success is kept.
 */
import { readFileSync, writeSync } from 'node:fs';
import { ReplacementFile } from '../files/replacementFile.js';
import type { SaveResult } from '../types.js';
import type { BackupJobReport } from './report.js';

const MODE = 0o644;
const LAST_SUCCESS = 'vmsnap_last_success_timestamp_seconds';

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

/** @throws what keeps the file from being written. */
export async function writeMetrics(path: string, report: BackupJobReport, endTime: number): Promise<void> {
  const text = metricsText(report, endTime, lastSuccess(path));
  const file = ReplacementFile.open(path, { what: 'metrics file', force: true, mode: MODE });
  try {
    writeSync(file.fd, text);
    await file.publish();
  } finally {
    file.discard();
  }
}

/** `previousSuccess`: seconds since 1970, of the run before. */
export function metricsText(report: BackupJobReport, endTime: number, previousSuccess: number | undefined): string {
  const seconds = Math.floor(endTime / 1000);
  const succeeded = report.error === undefined;
  const success = succeeded ? seconds : previousSuccess;
  const own = { job: report.job, vm: report.vm };
  const { saved } = report;
  const one = (name: string, help: string, value: number | undefined): Metric => ({
    name,
    help,
    samples: value === undefined ? [] : [[own, value]],
  });
  const metrics: Metric[] = [
    one('vmsnap_last_run_timestamp_seconds', 'When the job ended last.', seconds),
    one(LAST_SUCCESS, 'When the job ended last without an error.', success),
    one('vmsnap_last_exit_code', 'How it ended: 0 done, 3 with warnings, others failed.', report.exitCode),
    {
      name: 'vmsnap_duration_seconds',
      help: 'How long each phase of the job took.',
      samples: Object.entries(report.phaseSeconds).map(([phase, value]) => [{ ...own, phase }, round(value)]),
    },
    one('vmsnap_source_bytes', 'Memory that was saved.', saved?.memoryBytes),
    // A differential image does not count the zero pages that its base has too.
    one('vmsnap_zero_bytes', 'Zero pages of it; full images only.', saved && zeroBytes(saved)),
    one('vmsnap_hole_bytes', 'Holes of the source, which were not read.', saved?.run.holeBytes),
    one('vmsnap_image_bytes', 'Size of the image.', saved?.imageBytes),
    {
      name: 'vmsnap_detector_info',
      help: 'What told zero pages from others, and the codec.',
      samples: saved === undefined ? [] : [[{ ...own, detector: saved.run.detector, codec: saved.codec }, 1]],
    },
    one(
      'vmsnap_verify_ok',
      'Whether the image was found intact.',
      report.verified === undefined ? undefined : Number(report.verified),
    ),
    one(
      'vmsnap_chain_length',
      'Images that are needed to bring the memory back, this one included.',
      saved === undefined ? undefined : report.chainLength,
    ),
    one('vmsnap_images', 'Images of this machine in the folder.', report.keptImages),
  ];
  return metrics
    .filter(({ samples }) => samples.length > 0)
    .map(metricText)
    .join('');
}

function metricText({ name, help, samples }: Metric): string {
  const lines = samples.map(([labels, value]) => `${name}{${labelText(labels)}} ${value}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} gauge`, ...lines, ''].join('\n');
}

function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')}"`)
    .join(',');
}

function zeroBytes({ base, pages, pageSize }: SaveResult): number | undefined {
  return base === undefined ? pages.zero * pageSize : undefined;
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}

/** Of the file as it is; undefined where there is none, or another text. */
function lastSuccess(path: string): number | undefined {
  try {
    const found = new RegExp(`^${LAST_SUCCESS}\\{[^\\n]*\\} (\\d{1,12})$`, 'm').exec(readFileSync(path, 'utf8'));
    return found === null ? undefined : Number(found[1]);
  } catch {
    // What cannot be read is replaced.
    return undefined;
  }
}
