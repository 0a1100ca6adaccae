/** `vmsnap backup`: the jobs of a configuration, for cron and systemd. */
import type { BackupConfig, BackupEvent, BackupOptions, BackupReport } from '../../lib/index.js';
import { configLines, jobLine, jobNotes, planLines } from '../backup/lines.js';
import { configJson, reportJson } from '../backup/reportJson.js';
import { UNIT_KINDS, type UnitKind, unitText } from '../backup/units.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { dsaLog } from '../output/dsaLog.js';
import { printable } from '../output/printable.js';
import { progressLine } from '../output/progressLine.js';
import { UsageError } from '../usageError.js';
import { JSON_OPTION, QUIET_OPTION } from './commonOptions.js';

export const backupCommand: CommandSpec = {
  name: 'backup',
  summary: 'run backup jobs: save, verify, prune, tell',
  usage: [
    'backup [options] [JOB...]',
    'backup --check-config [--config FILE] [--json]',
    'backup --print-unit KIND [--config FILE]',
  ],
  options: [
    { name: 'config', kind: 'value', text: 'FILE; default: /etc/vmsnap/backup.toml' },
    { name: 'dry-run', kind: 'flag', text: 'only tell what would be done' },
    { name: 'check-config', kind: 'flag', text: 'check the configuration and list its jobs' },
    { name: 'lock-wait', kind: 'value', text: 'DURATION, as 10m; wait so long for another vmsnap' },
    {
      name: 'print-unit',
      kind: 'value',
      text: 'service, timer, job-service or job-timer, for systemd',
      choices: UNIT_KINDS,
    },
    { name: 'verbose', kind: 'flag', text: 'tell each step and what hooks say' },
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [
    ['vmsnap backup', 'all jobs; says nothing if all is well'],
    ['vmsnap backup --dry-run web1', 'what would be done for one'],
    ['vmsnap backup --print-unit timer', 'for /etc/systemd/system'],
  ],
  notes: [
    'Says nothing unless something is wrong; on a terminal, a line for each job. Exit',
    'code 0: all is well. 3: done, with warnings. Else that of the first job that',
    'failed; the others have run all the same. docs/backup.md has the configuration.',
  ],
  lastIsOutput: false,
  run: runBackupCommand,
};

async function runBackupCommand(context: CommandContext): Promise<number> {
  const { args, answer } = context;
  requireFitting(context);
  const { readBackupConfig, BACKUP_CONFIG_FILE } = await import('../../lib/backup/config/readBackupConfig.js');
  const { runBackup } = await import('../../lib/backup/runBackup.js');
  const file = args.value('config') ?? BACKUP_CONFIG_FILE;
  const unit = args.value('print-unit') as UnitKind | undefined;
  // A timer is the same for every configuration.
  if (unit?.endsWith('timer')) return print(context, unitText(unit, undefined));
  const config = await readBackupConfig(file);
  if (unit !== undefined) return print(context, unitText(unit, config));
  if (args.flag('check-config')) {
    if (args.flag('json')) await answer.json(configJson(config));
    else if (!args.flag('quiet')) await answer.lines(configLines(config));
    return 0;
  }
  const report = await runBackup(config, await backupOptions(context, config));
  context.talk.clearProgress();
  await tell(context, report);
  return report.exitCode;
}

function requireFitting({ args }: CommandContext): void {
  if (args.positionals.includes('')) throw new UsageError('an argument is empty', 'is a variable unset?');
  const modes = ['print-unit', 'check-config', 'dry-run'].filter((name) => args.flag(name));
  if (modes.length > 1) throw new UsageError(`--${modes.join(' and --')} exclude each other`, 'choose one');
  if (args.flag('quiet') && args.flag('verbose')) {
    throw new UsageError('--quiet and --verbose exclude each other', 'choose one');
  }
  if (modes[0] === 'print-unit' && args.flag('json')) {
    throw new UsageError('--print-unit and --json exclude each other', 'a unit is no JSON');
  }
  if (modes.length > 0 && modes[0] !== 'dry-run' && args.positionals.length > 0) {
    throw new UsageError(`--${modes[0]} takes no JOB`, 'leave it out');
  }
}

async function print({ answer }: CommandContext, text: string): Promise<number> {
  await answer.text(text);
  return 0;
}

async function backupOptions(context: CommandContext, config: BackupConfig): Promise<BackupOptions> {
  const { args, signal } = context;
  const { parseDuration } = await import('../../lib/duration.js');
  const wait = args.value('lock-wait');
  const dryRun = args.flag('dry-run');
  const alone = config.parallel === 1;
  return {
    jobs: args.positionals,
    dryRun,
    lockWaitSeconds: wait === undefined ? 0 : parseDuration(wait, '--lock-wait'),
    signal,
    onEvent: (event) => tellEvent(context, event, alone && !dryRun),
  };
}

/** What is wrong is told at once: a job may take hours. */
function tellEvent({ args, talk }: CommandContext, event: BackupEvent, showsProgress: boolean): void {
  const verbose = args.flag('verbose');
  switch (event.kind) {
    case 'warning':
      talk.warning(`${event.job}: ${event.warning.message}`);
      break;
    case 'end': {
      const { error, saved } = event.report;
      if (verbose && saved?.run.dsa !== undefined) {
        for (const line of dsaLog(saved.run.dsa)) talk.info(`${event.job}: ${line}`);
      }
      // A run that is stopped ends with an error of its own.
      if (error === undefined || event.report.status === 'stopped') break;
      talk.failure({ ...error, exitCode: error.exitCode, message: `${event.job}: ${error.message}`, hint: error.hint });
      for (const note of jobNotes(event.report)) talk.damage(`${event.job}: ${note}`);
      break;
    }
    case 'phase':
      if (verbose) talk.info(`${event.job}: ${event.phase}${event.detail === undefined ? '' : ` (${event.detail})`}`);
      break;
    case 'output':
      if (verbose)
        for (const line of event.output.trimEnd().split('\n'))
          talk.info(`${event.job}: ${event.phase}: ${printable(line)}`);
      break;
    case 'progress':
      if (showsProgress && talk.showsProgress && !args.flag('quiet')) {
        talk.progress(progressLine(event.progress, talk.columns));
      }
  }
}

async function tell({ args, answer }: CommandContext, report: BackupReport): Promise<void> {
  if (args.flag('json')) {
    await answer.json(reportJson(report));
    return;
  }
  if (args.flag('quiet')) return;
  const done = report.jobs.filter(({ error }) => error === undefined);
  if (report.dryRun) await answer.lines(done.flatMap(planLines));
  else if (answer.isTerminal || args.flag('verbose')) await answer.lines(done.map(jobLine));
}
