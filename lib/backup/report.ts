/** What a run of backup jobs did, or in a dry run would do. Sizes are bytes, times seconds; unknown is undefined. */
import type { VmsnapError } from '../../native/errors.js';
import type { Progress, SaveResult, Warning } from '../types.js';

export type BackupPhase =
  | 'lock'
  | 'preflight'
  | 'before'
  | 'save'
  | 'after-save'
  | 'verify'
  | 'prune'
  | 'after'
  | 'error';

export interface BackupJobReport {
  readonly job: string;
  /** The name of the machine. */
  readonly vm: string;
  readonly folder: string;
  /** A job that failed in its hook "after-save" or "after" has its image all the same. */
  readonly status: 'ok' | 'warning' | 'failed' | 'stopped';
  /** 0, 3 (warnings), or the code of the error. */
  readonly exitCode: number;
  /** Undefined where there is none. */
  readonly image: string | undefined;
  readonly kind: 'full' | 'differential' | undefined;
  /** Why it is full or differential. */
  readonly reason: string | undefined;
  readonly base: string | undefined;
  /** Images that are needed to bring the memory back, this one included. */
  readonly chainLength: number | undefined;
  readonly saved: SaveResult | undefined;
  /** Undefined where nothing was verified. */
  readonly verified: boolean | undefined;
  /** Images that the retention policy removed. */
  readonly removed: readonly string[];
  /** Images of this machine that are in the folder now; undefined without a retention policy. */
  readonly keptImages: number | undefined;
  /** Leftovers of killed runs that were removed. */
  readonly sweptFiles: number;
  readonly phaseSeconds: Readonly<Partial<Record<BackupPhase, number>>>;
  readonly durationSeconds: number;
  readonly startedAt: Date;
  readonly warnings: readonly Warning[];
  readonly error: VmsnapError | undefined;
}

export interface BackupReport {
  readonly dryRun: boolean;
  /** In the order of the configuration. */
  readonly jobs: readonly BackupJobReport[];
  /** The code of the first job that failed, else 3 if there was a warning, else 0. */
  readonly exitCode: number;
}

export type BackupEvent =
  | { readonly job: string; readonly kind: 'phase'; readonly phase: BackupPhase; readonly detail: string | undefined }
  /** What a hook said that went well. */
  | { readonly job: string; readonly kind: 'output'; readonly phase: BackupPhase; readonly output: string }
  | { readonly job: string; readonly kind: 'warning'; readonly warning: Warning }
  | { readonly job: string; readonly kind: 'progress'; readonly progress: Progress }
  | { readonly job: string; readonly kind: 'end'; readonly report: BackupJobReport };
