/**
 * The systemd units of docs/systemd, with what differs from machine to machine filled in: how this very program is called, and
 * the folders that it must be able to write to.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { BackupConfig } from '../../lib/index.js';
import { packageFolder } from '../version.js';

const FILE_BY_KIND = {
  service: 'vmsnap-backup.service',
  timer: 'vmsnap-backup.timer',
  'job-service': 'vmsnap-backup@.service',
  'job-timer': 'vmsnap-backup@.timer',
} as const;

export type UnitKind = keyof typeof FILE_BY_KIND;
export const UNIT_KINDS: readonly string[] = Object.keys(FILE_BY_KIND);

/** `config`: what the unit runs; a timer needs none. */
export function unitText(kind: UnitKind, config: BackupConfig | undefined): string {
  const text = readFileSync(join(packageFolder(), 'docs', 'systemd', FILE_BY_KIND[kind]), 'utf8');
  if (config === undefined) return text;
  const job = kind === 'job-service' ? ' %i' : '';
  const words = [process.execPath, process.argv[1]!, 'backup', '--config', resolve(config.file)].map(quoted);
  return text
    .replace(/^ExecStart=.*$/m, () => `ExecStart=${words.join(' ')} --lock-wait 6h${job}`)
    .replace(/^ReadWritePaths=.*$/m, () =>
      writtenFolders(config)
        .map((folder) => `ReadWritePaths=${quoted(folder)}`)
        .join('\n'),
    );
}

function writtenFolders({ jobs }: BackupConfig): string[] {
  const folders = jobs.flatMap(({ folder, metricsFile }) =>
    metricsFile === undefined ? [folder] : [folder, dirname(metricsFile)],
  );
  return [...new Set(folders)];
}

/** systemd.service(5), "Command lines"; % begins a specifier. */
function quoted(word: string): string {
  const escaped = word.replace(/%/g, '%%').replace(/\$/g, '$$$$');
  return /^[\w@%+=:,./$-]+$/.test(escaped) ? escaped : `"${escaped.replace(/[\\"]/g, '\\$&')}"`;
}
