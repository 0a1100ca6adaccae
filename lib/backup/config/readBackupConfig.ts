/**
 * Reads the configuration of the backup jobs (TOML; docs/backup.md). Everything in it is checked before anything is done: a
 * mistake in one job stops all of them.
 */
import { readFileSync, realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { TomlError } from 'smol-toml';
import { VmsnapError, withSystemErrors } from '../../../native/errors.js';
import type { BackupConfig, BackupJob } from './backupConfig.js';
import { type ConfigSource, ConfigTable, isTable } from './configTable.js';
import { completeJob, readDefaults, readJob } from './jobSettings.js';
import { expandName, nameFault } from './nameTemplate.js';
import { TomlPlaces } from './tomlPlaces.js';

/** Where the configuration is looked for if none is named. */
export const BACKUP_CONFIG_FILE = '/etc/vmsnap/backup.toml';

const CONFIG_MAX_BYTES = 4 * 1024 * 1024;
/** Of systemd instances, file names and labels at once. */
const JOB_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
const PARALLEL_MAX = 64;

/**
 * @throws NOT_FOUND, PERMISSION or IO if the file cannot be read; USAGE, with line and column, for anything wrong in it.
 */
export async function readBackupConfig(file = BACKUP_CONFIG_FILE): Promise<BackupConfig> {
  const text = readText(file);
  const { parse } = await import('smol-toml');
  let document: unknown;
  try {
    document = parse(text, { maxDepth: 16 });
  } catch (error) {
    throw syntaxError(file, error as Error);
  }
  if (!isTable(document)) throw new Error('a TOML document is a table');
  const source: ConfigSource = { file, places: new TomlPlaces(text) };
  return new ConfigReader(file, new ConfigTable(source, [], document)).read();
}

function readText(file: string): string {
  const bytes = readBytes(file);
  if (bytes.length > CONFIG_MAX_BYTES)
    throw new VmsnapError('USAGE', `${file} is too large for a configuration`, { path: file });
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new VmsnapError('USAGE', `${file} is no UTF-8 text`, { path: file });
  }
}

function readBytes(file: string): Buffer {
  try {
    return withSystemErrors('read the configuration', file, () => readFileSync(file));
  } catch (error) {
    if (!(error instanceof VmsnapError) || error.code !== 'NOT_FOUND') throw error;
    const hint = 'write one (docs/backup.md has an example), or name it with --config FILE';
    throw new VmsnapError(error.code, error.message, { path: file, hint, cause: error });
  }
}

function syntaxError(file: string, error: Error): unknown {
  const { line, column, message } = error as TomlError;
  if (typeof line !== 'number' || typeof column !== 'number') return error;
  // Its first line says what is wrong; the others show the place, which may be a secret.
  const what = message.split('\n')[0]!.replace(/^Invalid TOML document: /, '');
  return new VmsnapError('USAGE', `${file}:${line}:${column}: no TOML: ${what}`, { path: file });
}

class ConfigReader {
  readonly #file: string;
  readonly #home: string;
  readonly #root: ConfigTable;

  constructor(file: string, root: ConfigTable) {
    this.#file = file;
    // Relative paths are relative to the configuration: a cron job has no folder of its own.
    this.#home = dirname(resolve(file));
    this.#root = root;
  }

  read(): BackupConfig {
    const root = this.#root;
    const parallel = root.integer('parallel', 1, PARALLEL_MAX) ?? 1;
    const defaultsTable = root.table('defaults');
    const jobsTable = root.table('jobs');
    root.refuseOthers({ job: 'a job is a table [jobs.NAME]' });
    const defaults = defaultsTable && readDefaults(defaultsTable, this.#home);
    const names = jobsTable?.names ?? [];
    if (names.length === 0) throw root.wrong('jobs', 'has no job', 'a job is a table [jobs.NAME]');
    const tables = new Map(names.map((name) => [name, jobsTable!.table(name)!]));
    const jobs = [...tables].map(([name, table]) => {
      if (!JOB_NAME.test(name)) {
        throw jobsTable!.wrong(name, 'is no name of a job', 'letters, digits, ".", "_" and "-", at most 64');
      }
      const { own, settings } = readJob(table, this.#home);
      const folder = settings.folder ?? defaults?.folder;
      if (folder === undefined)
        throw table.wrong(undefined, 'has no folder', 'folder = "/backup", here or in [defaults]');
      return completeJob(name, folder, own, settings, defaults);
    });
    for (const job of jobs) this.#checkJob(job, tables.get(job.name)!);
    this.#refuseSameNames(jobs, tables);
    return { file: this.#file, parallel, jobs };
  }

  /** What only job and defaults together show. */
  #checkJob(job: BackupJob, table: ConfigTable): void {
    const { codec = 'zstd', level } = job.save;
    if (level !== undefined && codec === 'none')
      throw table.wrong('level', 'is given, and the codec "none" has no levels');
    if (level !== undefined && codec === 'zlib' && (level < 1 || level > 9)) {
      throw table.wrong('level', 'must be from 1 to 9 with the codec "zlib"');
    }
    const fault = nameFault(sampleName(job));
    if (fault !== undefined)
      throw table.wrong('name', `makes the name ${JSON.stringify(sampleName(job))}, which ${fault}`);
  }

  /** Two jobs that write one file would destroy each other's work, or fail every other night. */
  #refuseSameNames(jobs: readonly BackupJob[], tables: ReadonlyMap<string, ConfigTable>): void {
    const images = new Map<string, string>();
    const metrics = new Map<string, string>();
    for (const job of jobs) {
      const table = tables.get(job.name)!;
      const image = join(realFolder(job.folder), sampleName(job));
      const other = images.get(image);
      if (other !== undefined) {
        const hint = 'give one of them another folder, or {job} in its name';
        throw table.wrong(undefined, `writes the same images as jobs.${other}: ${image}`, hint);
      }
      images.set(image, job.name);
      if (job.metricsFile === undefined) continue;
      const sharer = metrics.get(job.metricsFile);
      if (sharer !== undefined) {
        throw table.wrong('metrics', `is also the file of jobs.${sharer}`, 'put {job} into its name');
      }
      metrics.set(job.metricsFile, job.name);
    }
  }
}

/** The name at some time: two jobs with the same one would meet. */
function sampleName({ nameTemplate, machine, name }: BackupJob): string {
  return expandName(nameTemplate, { vm: machine.name, job: name, host: 'host', utc: 'UTC' });
}

function realFolder(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return folder;
  }
}
