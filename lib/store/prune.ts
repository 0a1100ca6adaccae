/**
 * `prune`: removes from a store what its retention policy does not keep.
 *
 * Nothing is removed on the word of the listing alone. First what is to stay is checked, and what is found damaged counts no
 * more. Then each image is looked at once more right before it goes (removal.ts). Images go before their bases, so that
 * the folder is sound at every moment, whenever the work ends.
 */
import { VmsnapError } from '../../native/errors.js';
import { sweepFolder } from '../files/sweep.js';
import type { VerifyResult, Warning } from '../types.js';
import { verify } from '../verify.js';
import { Calendar } from './calendar.js';
import { lockFolder } from './folderLock.js';
import { listStore, mayBeOfAny } from './listStore.js';
import { removeImages } from './removal.js';
import { checkPolicy, createdTime, planRetention } from './retention.js';
import type { PruneOptions, PruneResult, RetentionDecision, StoreEntry } from './storeTypes.js';

const DAMAGED_MIN_AGE_MS = 24 * 3_600_000;

/**
 * Removes the images of a folder that no rule of the policy keeps.
 * @throws USAGE (an empty policy, an unknown time zone), LOCKED, NOT_FOUND, PERMISSION, IO. An image that cannot be removed stands in
 * `left`, and does not stop the others.
 */
export async function pruneStore(folder: string, options: PruneOptions): Promise<PruneResult> {
  checkPolicy(options.policy);
  const { timeZone } = new Calendar(options.timeZone);
  const { dryRun = false, signal, lockWaitSeconds } = options;
  const lock =
    dryRun || options.lock !== undefined
      ? undefined
      : await lockFolder(folder, { waitSeconds: lockWaitSeconds, signal });
  try {
    return await new Prune(folder, { ...options, timeZone }).run();
  } finally {
    lock?.release();
  }
}

class Prune {
  readonly #folder: string;
  readonly #options: PruneOptions & { readonly timeZone: string };
  readonly #warnings: Warning[] = [];

  constructor(folder: string, options: PruneOptions & { readonly timeZone: string }) {
    this.#folder = folder;
    this.#options = options;
  }

  async run(): Promise<PruneResult> {
    const { signal, dryRun = false, timeZone } = this.#options;
    // What a killed writer left would hold the base that it names.
    if (!dryRun) sweepFolder(this.#folder);
    const { entries } = await listStore(this.#folder, this.#options);
    const decisions = this.#withDamaged(await this.#planSound(entries));
    this.#warnOf(decisions);
    const doomed = removalOrder(decisions);
    signal?.throwIfAborted();
    const done = dryRun
      ? { removed: doomed, left: [], warnings: [] }
      : await removeImages(this.#folder, doomed, signal);
    for (const warning of done.warnings) this.#warn(warning);
    return {
      folder: this.#folder,
      dryRun,
      timeZone,
      decisions,
      removed: done.removed.map(({ path }) => path),
      removedBytes: done.removed.reduce((sum, { fileBytes }) => sum + fileBytes, 0),
      left: done.left,
      warnings: this.#warnings,
    };
  }

  /** Plans, checks what would stay, and plans again without what was found damaged, until nothing is. */
  async #planSound(listed: readonly StoreEntry[]): Promise<RetentionDecision[]> {
    const checked = new Set<string>();
    const known = new Map<string, VerifyResult>();
    let entries = listed;
    for (;;) {
      const decisions = planRetention(entries, this.#options.policy, this.#options);
      const open = this.#toCheck(decisions).filter(({ path }) => !checked.has(path));
      if (open.length === 0) return decisions;
      for (const entry of open) {
        checked.add(entry.path);
        entries = withFault(entries, entry, await this.#faultOf(entry, known));
      }
    }
  }

  /** Bases before what needs them, so that each file is read once. */
  #toCheck(decisions: readonly RetentionDecision[]): StoreEntry[] {
    const kept = decisions.filter(({ reasons }) => !reasons.some(({ rule }) => rule === 'other-machine'));
    const good = kept.filter(({ keep, entry }) => keep && entry.state === 'good').map(({ entry }) => entry);
    if (this.#options.verify === 'all') return good.sort((a, b) => a.bases.length - b.bases.length);
    return kept.filter(({ reasons }) => reasons.some(({ rule }) => rule === 'newest')).map(({ entry }) => entry);
  }

  async #faultOf(entry: StoreEntry, known: Map<string, VerifyResult>): Promise<Fault | undefined> {
    const { baseDirs, keys, signal, threads, onProgress, verify: extent } = this.#options;
    const structureOnly = extent !== 'all';
    try {
      const options = { baseDirs, keys, signal, threads, onProgress, structureOnly, known };
      const result = await verify(entry.path, options);
      return result.intact ? undefined : faultOfResult(entry, result);
    } catch (error) {
      if (!(error instanceof VmsnapError)) throw error;
      return { path: entry.path, state: error.code === 'BASE_MISMATCH' ? 'broken-chain' : 'unreadable', error };
    }
  }

  /** Takes from the damaged images the reason that keeps them, where that is wanted and safe. */
  #withDamaged(decisions: readonly RetentionDecision[]): readonly RetentionDecision[] {
    if (this.#options.removeDamaged !== true) return decisions;
    const oldest = BigInt((this.#options.now ?? Date.now()) - DAMAGED_MIN_AGE_MS) * 1_000_000n;
    const needed = new Set(decisions.map(({ entry }) => entry.base?.fileName));
    return decisions.map((decision) => {
      const { entry, reasons } = decision;
      const onlyNotGood = reasons.every(({ rule }) => rule === 'not-good');
      const isOld = entry.stamp.modifiedNanoseconds < oldest;
      if (entry.state !== 'damaged' || !onlyNotGood || !isOld || needed.has(entry.name)) return decision;
      return { entry, keep: false, reasons: [] };
    });
  }

  #warnOf(decisions: readonly RetentionDecision[]): void {
    for (const { entry, keep, reasons } of decisions) {
      if (reasons[0]?.rule === 'other-machine' && !mayBeOfAny(entry)) continue;
      if (entry.state !== 'good' && keep) {
        this.#warn({ code: 'not-good', message: `${entry.problem!.message} (it is left alone)` });
      }
      if (reasons[0]?.rule === 'no-machine') {
        const message = `${entry.path} names no machine: it is left alone (save it with a name to have it pruned)`;
        this.#warn({ code: 'no-machine', message });
      }
      if (reasons.some(({ rule }) => rule === 'future')) {
        const message = `${entry.path} is dated in the future, ${entry.createdAt}: it is kept and counts for no rule`;
        this.#warn({ code: 'future', message });
      }
    }
  }

  #warn(warning: Warning): void {
    this.#warnings.push(warning);
    this.#options.onWarning?.(warning);
  }
}

/** What a check found: which file is at fault, and what it is to be called. */
interface Fault {
  readonly path: string;
  readonly state: 'damaged' | 'broken-chain' | 'unreadable';
  readonly error: { readonly code: string; readonly message: string };
}

/** The file itself is at fault, or the nearest damaged base. */
function faultOfResult(entry: StoreEntry, { findings, bases }: VerifyResult): Fault {
  const own = findings.find(({ path }) => path === entry.path);
  const path = own === undefined ? (bases.find(({ intact }) => !intact)?.path ?? entry.path) : entry.path;
  const { message } = own ?? findings.find((finding) => finding.path === path) ?? findings[0]!;
  return { path, state: 'damaged', error: { code: 'CORRUPT', message } };
}

/** Says it of the file, and of every image that needs it. */
function withFault(
  entries: readonly StoreEntry[],
  checked: StoreEntry,
  fault: Fault | undefined,
): readonly StoreEntry[] {
  if (fault === undefined) return entries;
  return entries.map((entry) => {
    if (entry.path === fault.path) return { ...entry, state: fault.state, problem: fault.error };
    const needsIt = entry.path === checked.path || entry.bases.some(({ path }) => path === fault.path);
    if (entry.state !== 'good' || !needsIt) return entry;
    const message = `${entry.path} needs ${fault.path}: ${fault.error.message}`;
    return { ...entry, state: 'broken-chain', problem: { code: 'BASE_MISMATCH', message } };
  });
}

/** Images before their bases, else oldest first. */
function removalOrder(decisions: readonly RetentionDecision[]): StoreEntry[] {
  const doomed = decisions.filter(({ keep }) => !keep).map(({ entry }) => entry);
  const time = (entry: StoreEntry) => createdTime(entry) || 0;
  return doomed.sort((a, b) => b.bases.length - a.bases.length || time(a) - time(b) || (a.name < b.name ? -1 : 1));
}
