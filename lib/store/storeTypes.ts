/** Options and results of what concerns a store: a folder of images. Sizes are bytes, durations seconds; unknown is undefined. */
import type { BaseDirOptions, VerifyOptions, Warning } from '../types.js';
import type { FolderLock } from './folderLock.js';

/**
 * - `good`: head, tail and index list are sound, and every base that it needs is there and sound in the same way.
 * - `broken-chain`: sound itself, but a base is missing or is not what it should be.
 * - `damaged`: damaged or unfinished, or without a time of creation that can be understood.
 * - `unsupported`: written by a newer vmsnap.
 * - `unreadable`: named as an image (`.vmsnap`), but the system does not let us read it.
 *
 * Only good images count for anything: the others are shown, and no retention rule keeps or removes them.
 */
export type StoreState = 'good' | 'broken-chain' | 'damaged' | 'unsupported' | 'unreadable';

/** What a file was when it was looked at; whether it still is that is asked again before it is removed. */
export interface FileStamp {
  readonly device: bigint;
  readonly inode: bigint;
  readonly sizeBytes: number;
  readonly modifiedNanoseconds: bigint;
}

/** One image of a store. What follows from its head is undefined if that is damaged; what follows from its end likewise. */
export interface StoreEntry {
  readonly path: string;
  /** The file name. */
  readonly name: string;
  readonly state: StoreState;
  /** Why it is not good. */
  readonly problem: { readonly code: string; readonly message: string } | undefined;
  readonly fileBytes: number;
  readonly stamp: FileStamp;
  /** A file `NAME.protected` stands beside it: prune never removes it. */
  readonly isProtected: boolean;
  /** 32 hex digits. */
  readonly identity: string | undefined;
  /** Time of the save, ISO 8601 UTC to the second. */
  readonly createdAt: string | undefined;
  readonly machine: { readonly name: string | undefined; readonly uuid: string | undefined };
  readonly sourceName: string | undefined;
  /**
   * Images of one machine have the same group: its uuid, without one its name, without that the name of the source. `source:` if
   * the image (of a pipe) names none of them: it may be of any machine.
   * Undefined where the head is damaged.
   */
  readonly group: string | undefined;
  /** At most 64 KiB of them. */
  readonly labels: ReadonlyMap<string, string>;
  readonly memoryBytes: number | undefined;
  /** What a differential image names as its base; undefined for one that is whole by itself. */
  readonly base: { readonly identity: string; readonly fileName: string } | undefined;
  /** The images below it, nearest first, as far as they were found. */
  readonly bases: readonly { readonly path: string; readonly identity: string }[];
}

export interface StoreOptions extends BaseDirOptions {
  readonly signal?: AbortSignal | undefined;
}

/** What is in a folder. */
export interface StoreListing {
  readonly folder: string;
  /** By group, oldest first; those without a known time before all others. */
  readonly entries: readonly StoreEntry[];
}

/**
 * How many images of each machine to keep (docs/retention.md). A number counts periods that have images, and is 0 or more; a
 * rule that is left out or 0 keeps nothing.
 */
export interface RetentionPolicy {
  readonly keepLast?: number | undefined;
  /** Keeps everything that is at most so much older than the newest image. */
  readonly keepWithinSeconds?: number | undefined;
  readonly keepHourly?: number | undefined;
  readonly keepDaily?: number | undefined;
  /** ISO weeks, from Monday on. */
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  readonly keepYearly?: number | undefined;
}

/** Why an image is kept. `newest` and what follows it are no rules of a policy, they hold for every one. */
export type KeepRule =
  | 'last'
  | 'within'
  | 'hourly'
  | 'daily'
  | 'weekly'
  | 'monthly'
  | 'yearly'
  | 'newest'
  | 'protected'
  | 'future'
  | 'base'
  | 'not-good'
  | 'no-machine'
  | 'other-machine';

export interface KeepReason {
  readonly rule: KeepRule;
  /** The period that is covered ("2026-W47"), the image that needs this one, or the state of one that is not good. */
  readonly detail: string | undefined;
}

export interface RetentionDecision {
  readonly entry: StoreEntry;
  readonly keep: boolean;
  /** Every reason why it is kept; empty where it is removed. */
  readonly reasons: readonly KeepReason[];
}

export interface RetentionOptions {
  /** IANA name of the time zone whose days, weeks, months and years count; default: that of the system. */
  readonly timeZone?: string | undefined;
  /** Milliseconds since 1970; default: the clock. Images that are dated later are kept and count for no rule. */
  readonly now?: number | undefined;
  /** Only these machines: uuid, name, or name of the source; all others' images are kept. Default: all. */
  readonly machines?: readonly string[] | undefined;
}

export interface PruneOptions extends StoreOptions, RetentionOptions {
  readonly policy: RetentionPolicy;
  /** Only tell what would be done. */
  readonly dryRun?: boolean | undefined;
  /**
   * What is read of the images that are kept, before anything is removed; one that is found damaged counts no more, and the
   * rules are asked again. `newest`: the structure of the newest image of each machine (default). `all`: everything in all of them.
   */
  readonly verify?: 'newest' | 'all' | undefined;
  /** Also remove damaged images that have not been written to for a day and that no other image needs. */
  readonly removeDamaged?: boolean | undefined;
  /** How long to wait for another vmsnap that holds the folder; default 0. */
  readonly lockWaitSeconds?: number | undefined;
  /** A lock on the folder that the caller holds already (`lockFolder`). */
  readonly lock?: FolderLock | undefined;
  readonly threads?: VerifyOptions['threads'];
  readonly onProgress?: VerifyOptions['onProgress'];
  readonly onWarning?: ((warning: Warning) => void) | undefined;
}

export interface LeftImage {
  readonly path: string;
  /** `changed`: another file has its name now. `needed`: it has become the base of an image. `refused`: by the system. */
  readonly reason: 'changed' | 'needed' | 'refused';
  readonly message: string;
}

export interface PruneResult {
  readonly folder: string;
  readonly dryRun: boolean;
  readonly timeZone: string;
  /** Every image, in the order of the listing. */
  readonly decisions: readonly RetentionDecision[];
  /** Paths that were removed, in that order; in a dry run, those that would be. */
  readonly removed: readonly string[];
  readonly removedBytes: number;
  /** What was to be removed and is still there, and why. */
  readonly left: readonly LeftImage[];
  readonly warnings: readonly Warning[];
}

export interface CheckOptions extends StoreOptions {
  /** CRITICAL where the newest good image of a machine is older. */
  readonly maxAgeSeconds: number;
  /** WARNING where it is older. */
  readonly warnAgeSeconds?: number | undefined;
  /** Good images that each machine must have at least; fewer are CRITICAL. Default 1. */
  readonly minCount?: number | undefined;
  /** Machines that there must be images of (uuid, name, or name of the source), and the only ones looked at; default: those found. */
  readonly machines?: readonly string[] | undefined;
  /** Milliseconds since 1970; default: the clock. */
  readonly now?: number | undefined;
  readonly threads?: VerifyOptions['threads'];
}

export type CheckStatus = 'OK' | 'WARNING' | 'CRITICAL' | 'UNKNOWN';

/** How the images of one machine are. */
export interface CheckGroup {
  /** Its name, uuid or source, whichever is known; as it was asked for, if there is no image of it. */
  readonly machine: string;
  readonly status: CheckStatus;
  /** What is wrong; empty if nothing is. */
  readonly messages: readonly string[];
  /** The newest good image, and how old it is; undefined where there is none. */
  readonly newest: string | undefined;
  readonly ageSeconds: number | undefined;
  readonly goodCount: number;
  /** Images that are not good. */
  readonly badCount: number;
  /** Of all its image files. */
  readonly totalBytes: number;
}

export interface CheckResult {
  /** The worst of all groups. */
  readonly status: CheckStatus;
  readonly groups: readonly CheckGroup[];
  /** What concerns no group: files whose machine is not known. */
  readonly messages: readonly string[];
}
