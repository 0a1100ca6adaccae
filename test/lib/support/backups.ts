/** A folder with a configuration, a machine's memory and a store, and a clock that a test sets. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import {
  type BackupEvent,
  type BackupJobReport,
  type BackupOptions,
  type BackupReport,
  readBackupConfig,
  runBackup,
} from '../../../lib/index.js';
import { MIB, mixedMemory, PAGE } from './memory.js';
import { type Workspace, workspace } from './workspace.js';

export const DAY_MS = 86_400_000;
export const FIRST_NIGHT = Date.UTC(2026, 0, 5, 2, 15);

export class BackupHouse {
  readonly folder: Workspace;
  readonly memory: Buffer;
  readonly events: BackupEvent[] = [];
  now = FIRST_NIGHT;

  constructor(folder: Workspace, memory: Buffer) {
    this.folder = folder;
    this.memory = memory;
    mkdirSync(folder.path('store'));
    this.writeMemory();
  }

  get store(): string {
    return this.folder.path('store');
  }

  path(name: string): string {
    return this.folder.path(name);
  }

  writeMemory(): void {
    writeFileSync(this.path('memory'), this.memory);
  }

  /** A page becomes another one. */
  change(page: number): void {
    this.memory.fill(`page ${page} at ${this.now}; `, page * PAGE, (page + 1) * PAGE);
    this.writeMemory();
  }

  configure(toml: string): string {
    writeFileSync(this.path('backup.toml'), toml);
    return this.path('backup.toml');
  }

  async run(toml: string, options: BackupOptions = {}): Promise<BackupReport> {
    const config = await readBackupConfig(this.configure(toml));
    return await runBackup(config, { now: () => this.now, onEvent: (event) => this.events.push(event), ...options });
  }

  /** The only job of a run. */
  async runOne(toml: string, options: BackupOptions = {}): Promise<BackupJobReport> {
    return (await this.run(toml, options)).jobs[0]!;
  }

  /** Images and whatever else is in the store, but for its lock. */
  stored(): string[] {
    return readdirSync(this.store)
      .filter((name) => name !== '.vmsnap.lock')
      .sort();
  }
}

export function backupHouse(t: ExecutionContext, sizeBytes = 2 * MIB): BackupHouse {
  return new BackupHouse(workspace(t), mixedMemory(sizeBytes));
}

/** One job with these lines more. */
export function oneJob(lines = ''): string {
  return `[jobs.web1]\nsource = "memory"\nfolder = "store"\nfrozen = true\nthreads = 1\n${lines}\n`;
}

export function codesOf(report: BackupJobReport): string[] {
  return report.warnings.map(({ code }) => code);
}
