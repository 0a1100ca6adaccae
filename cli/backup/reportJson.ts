/** The JSON of `vmsnap backup`: docs/schema/backup.json and backup-config.json. */
import type { BackupConfig, BackupJobReport, BackupReport } from '../../lib/index.js';

export function reportJson({ dryRun, jobs, exitCode }: BackupReport): object {
  return { schema: 'vmsnap.backup', schemaVersion: 1, dryRun, exitCode, jobs: jobs.map(jobJson) };
}

function jobJson(report: BackupJobReport): object {
  const { saved, error } = report;
  return {
    job: report.job,
    vm: report.vm,
    folder: report.folder,
    status: report.status,
    exitCode: report.exitCode,
    image: report.image ?? null,
    kind: report.kind ?? null,
    reason: report.reason ?? null,
    base: report.base ?? null,
    chainLength: report.chainLength ?? null,
    identity: saved?.identity ?? null,
    digest: saved?.digest ?? null,
    memoryBytes: saved?.memoryBytes ?? null,
    imageBytes: saved?.imageBytes ?? null,
    verified: report.verified ?? null,
    removed: report.removed,
    keptImages: report.keptImages ?? null,
    sweptFiles: report.sweptFiles,
    startedAt: `${report.startedAt.toISOString().slice(0, 19)}Z`,
    durationSeconds: report.durationSeconds,
    phaseSeconds: report.phaseSeconds,
    warnings: report.warnings.map(({ code, message }) => ({ code, message })),
    error:
      error === undefined
        ? null
        : {
            code: error.code,
            exitCode: error.exitCode,
            message: error.message,
            path: error.path ?? null,
            offset: error.offset ?? null,
            hint: error.hint ?? null,
          },
  };
}

/** Nothing of the health check: its address is a secret. */
export function configJson({ file, parallel, jobs }: BackupConfig): object {
  return {
    schema: 'vmsnap.backup-config',
    schemaVersion: 1,
    file,
    parallel,
    jobs: jobs.map((job) => ({
      job: job.name,
      vm: job.machine.name,
      folder: job.folder,
      source: job.source.kind === 'source' ? (job.source.source ?? null) : null,
      command: job.source.kind === 'command' ? job.source.command : null,
    })),
  };
}
