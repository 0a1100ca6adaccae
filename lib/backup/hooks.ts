/** Hooks: programs of the user before a job, after it, and when it fails. They learn what there is to know from their environment. */
import { VmsnapError } from '../../native/errors.js';
import { endFault, lastWords, startProgram } from '../processGroup.js';
import type { BackupHooks, BackupJob } from './config/backupConfig.js';

export type HookName = Exclude<keyof BackupHooks, 'timeoutSeconds'>;

/** What a hook is told beside the job. */
export interface HookFacts {
  readonly status: 'running' | 'ok' | 'warning' | 'failed';
  readonly image: string | undefined;
  readonly error: VmsnapError | undefined;
  readonly exitCode: number;
}

/** Runs a hook, if there is one. @throws FAILED if it fails, TIMEOUT, or the signal's reason. @returns what it said. */
export async function runHook(
  job: BackupJob,
  name: HookName,
  facts: HookFacts,
  signal: AbortSignal | undefined,
  timeoutSeconds = job.hooks.timeoutSeconds,
): Promise<string> {
  const command = job.hooks[name];
  if (command === undefined) return '';
  const what = `the hook "${name}"`;
  const { end } = startProgram(command, { what, timeoutSeconds, signal, env: hookEnvironment(job, name, facts) });
  const ended = await end;
  const fault = endFault(ended);
  if (fault === undefined) return ended.output;
  throw new VmsnapError('FAILED', `${what} ${fault}${lastWords(ended.output)}`, { path: command[0] });
}

export function hookEnvironment(job: BackupJob, hook: string, facts: HookFacts): Record<string, string> {
  return {
    VMSNAP_JOB: job.name,
    VMSNAP_HOOK: hook,
    VMSNAP_VM: job.machine.name,
    VMSNAP_FOLDER: job.folder,
    VMSNAP_IMAGE: facts.image ?? '',
    VMSNAP_STATUS: facts.status,
    VMSNAP_EXIT_CODE: String(facts.exitCode),
    VMSNAP_ERROR: facts.error?.message ?? '',
  };
}
