/**
 * One backup job from its lock to its report: lock, sweep, preflight, hook, save, hook, verify, prune, hook, metrics, health
 * check.
 *
 * A job never throws: what goes wrong stands in its report, and everybody who should hear of it does (hook "error", metrics, monitor).
 * After a signal that is done as well, quickly: a machine that the hook "before" has paused must go on.
 */
import { existsSync, renameSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { type ErrorCode, EXIT_CODES, VmsnapError, withSystemErrors, wrapSystemError } from '../../native/errors.js';
import { removeFile } from '../files/remove.js';
import { sweepFolder } from '../files/sweep.js';
import { isoSeconds } from '../options.js';
import { save } from '../save.js';
import { type FolderLock, lockFolder } from '../store/folderLock.js';
import { isOfMachine, listStore, mayBeOfAny } from '../store/listStore.js';
import { pruneStore } from '../store/prune.js';
import { planRetention } from '../store/retention.js';
import type { RetentionDecision, RetentionOptions, StoreEntry } from '../store/storeTypes.js';
import type { SaveOptions, SaveResult, VerifyResult, Warning } from '../types.js';
import { verify } from '../verify.js';
import { chooseBase } from './baseChoice.js';
import { saveFromCommand } from './commandSource.js';
import type { BackupJob } from './config/backupConfig.js';
import { expandName, utcText } from './config/nameTemplate.js';
import { type PingKind, ping } from './healthCheck.js';
import { type HookFacts, type HookName, hookEnvironment, runHook } from './hooks.js';
import type { MachineTurns } from './machineTurns.js';
import { writeMetrics } from './metrics.js';
import type { BackupEvent, BackupJobReport, BackupPhase } from './report.js';

/** What hooks and monitor have once the run was stopped. */
const STOPPED_HOOK_SECONDS = 20;
const STOPPED_PING_SECONDS = 3;

export interface JobContext {
  readonly turns: MachineTurns;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly dryRun: boolean;
  readonly lockWaitSeconds: number;
  readonly signal: AbortSignal | undefined;
  readonly onEvent: (event: BackupEvent) => void;
}

export function runJob(job: BackupJob, context: JobContext): Promise<BackupJobReport> {
  return new JobRun(job, context).run();
}

/** Everything of a report that becomes known on the way. */
type Findings = {
  -readonly [K in 'image' | 'kind' | 'reason' | 'base' | 'chainLength' | 'saved' | 'verified' | 'keptImages' | 'error']:
    | BackupJobReport[K]
    | undefined;
};

class JobRun {
  readonly #job: BackupJob;
  readonly #context: JobContext;
  /** One object for the whole run: secrets are read once for each. */
  readonly #keys: SaveOptions['keys'];
  readonly #started = performance.now();
  readonly #startedAt: number;
  /** What the image is dated: once the lock is there, which may have been waited for for hours. */
  #madeAt: number;
  readonly #warnings: Warning[] = [];
  readonly #phaseSeconds: Partial<Record<BackupPhase, number>> = {};
  readonly #removed: string[] = [];
  readonly #found: Findings = {
    image: undefined,
    kind: undefined,
    reason: undefined,
    base: undefined,
    chainLength: undefined,
    saved: undefined,
    verified: undefined,
    keptImages: undefined,
    error: undefined,
  };
  #sweptFiles = 0;
  /** From its first hook on, the hook "error" has something to mend. */
  #hooksBegun = false;
  /** The hook "after-save" has let the machine go on. */
  #released = false;

  constructor(job: BackupJob, context: JobContext) {
    this.#job = job;
    this.#context = context;
    const keys = job.encryption?.keys;
    this.#keys = keys && { ...keys, onWarning: this.#onKeyWarning };
    this.#startedAt = context.now();
    this.#madeAt = this.#startedAt;
  }

  async run(): Promise<BackupJobReport> {
    let lock: FolderLock | undefined;
    let endTurn: (() => void) | undefined;
    try {
      this.#requireFolder();
      if (!this.#context.dryRun) {
        endTurn = await this.#context.turns.take(this.#job.folder, this.#machineWords);
        lock = await this.#phase('lock', () => this.#lock());
      }
      await this.#work(lock);
    } catch (error) {
      this.#found.error = this.#errorOf(error);
      await this.#runErrorHook();
    }
    // Their warnings are part of the report that the last of them and the caller see.
    if (!this.#context.dryRun) {
      await this.#writeMetrics();
      const { exitCode } = this.#report();
      await this.#ping({ kind: 'end', exitCode: exitCode === EXIT_CODES.WARNINGS ? 0 : exitCode }, this.#summary());
    }
    lock?.release();
    endTurn?.();
    const report = this.#report();
    this.#context.onEvent({ job: this.#job.name, kind: 'end', report });
    return report;
  }

  /** It is not made: where a disk is not mounted, the images would go to another one. */
  #requireFolder(): void {
    const { folder } = this.#job;
    const stats = withSystemErrors('look at', folder, () => statSync(folder, { throwIfNoEntry: false }));
    if (stats?.isDirectory()) return;
    throw new VmsnapError('NOT_FOUND', `there is no folder ${folder}`, {
      path: folder,
      hint: 'make it, or mount the disk that it is on',
    });
  }

  /** How its images are found among others'. */
  get #machine(): string {
    const { name, uuid } = this.#job.machine;
    return uuid ?? name;
  }

  /** Another job may know the same machine by only one of them. */
  get #machineWords(): string[] {
    const { name, uuid } = this.#job.machine;
    return uuid === undefined ? [name] : [uuid, name];
  }

  #lock(): Promise<FolderLock> {
    const { lockWaitSeconds, signal } = this.#context;
    return lockFolder(this.#job.folder, { machine: this.#machineWords, waitSeconds: lockWaitSeconds, signal });
  }

  async #work(lock: FolderLock | undefined): Promise<void> {
    if (lock !== undefined) await this.#ping({ kind: 'start' }, `${this.#job.name} begins`);
    const base = await this.#phase('preflight', () => this.#preflight());
    if (lock === undefined) return;
    await this.#hook('before', 'running');
    await this.#saveAndVerify(base);
    await this.#phase('prune', () => this.#prune(lock));
    await this.#hook('after', this.#warnings.length > 0 ? 'warning' : 'ok');
  }

  /** Looks at the folder, and decides what is to be written and under what name. */
  async #preflight(): Promise<StoreEntry | undefined> {
    const { folder, fullEvery } = this.#job;
    const { dryRun, signal, now } = this.#context;
    this.#madeAt = now();
    if (!dryRun) this.#sweptFiles = sweepFolder(folder);
    const { entries } = await listStore(folder, { signal });
    const own = entries.filter((entry) => isOfMachine(entry, this.#machine));
    const { base, reason, warnings } = chooseBase(own, fullEvery, this.#madeAt);
    for (const warning of warnings) this.#warn(warning);
    for (const { problem } of entries.filter(mayBeOfAny))
      this.#warn({ code: 'not-good', message: `${problem!.message} (it is taken as no base)` });
    this.#setPlan(base, reason);
    this.#found.image = this.#freeName();
    if (dryRun) this.#planPrune(entries, own.at(-1)?.group, base);
    return base;
  }

  /** What the policy would say once the image is there. */
  #planPrune(entries: readonly StoreEntry[], group: string | undefined, base: StoreEntry | undefined): void {
    const { retention, machine, folder } = this.#job;
    if (retention === undefined) return;
    const path = this.#found.image!;
    const coming: StoreEntry = {
      path,
      name: basename(path),
      state: 'good',
      problem: undefined,
      fileBytes: 0,
      stamp: { device: 0n, inode: 0n, sizeBytes: 0, modifiedNanoseconds: 0n },
      isProtected: existsSync(join(folder, `${basename(path)}.protected`)),
      identity: undefined,
      createdAt: isoSeconds(this.#madeAt),
      machine,
      sourceName: undefined,
      // A machine that runs tells its uuid with its memory only.
      group: base?.group ?? group ?? (machine.uuid === undefined ? `name:${machine.name}` : `uuid:${machine.uuid}`),
      labels: new Map(),
      memoryBytes: undefined,
      base: undefined,
      bases: base === undefined ? [] : [{ path: base.path, identity: base.identity! }, ...base.bases],
    };
    const decisions = planRetention([...entries, coming], retention.policy, this.#retentionOptions(retention));
    this.#removed.push(...decisions.filter(({ keep }) => !keep).map(({ entry }) => entry.path));
    this.#found.keptImages = keptCount(decisions);
  }

  #retentionOptions({ timeZone }: NonNullable<BackupJob['retention']>): RetentionOptions {
    return { timeZone, now: this.#madeAt, machines: [this.#machine] };
  }

  #setPlan(base: StoreEntry | undefined, reason: string): void {
    this.#found.kind = base === undefined ? 'full' : 'differential';
    this.#found.reason = reason;
    this.#found.base = base?.path;
    this.#found.chainLength = base === undefined ? 1 : base.bases.length + 2;
  }

  /** The second image of a second gets a number. */
  #freeName(): string {
    const { nameTemplate, machine, name, folder } = this.#job;
    const utc = utcText(this.#madeAt);
    for (let i = 1; ; i++) {
      const time = i === 1 ? utc : `${utc}-${i}`;
      const path = join(folder, expandName(nameTemplate, { vm: machine.name, job: name, host: hostname(), utc: time }));
      if (!existsSync(path)) return path;
    }
  }

  /** A base that turns out to be none costs time, and never the image. */
  async #saveAndVerify(base: StoreEntry | undefined): Promise<void> {
    if (base !== undefined) {
      const problem = await this.#trySave(base);
      if (problem === undefined) return;
      this.#setPlan(undefined, 'the newest image cannot be a base');
      this.#warn({
        code: 'base-unusable',
        message: `${base.path} cannot be a base, so a full image is made: ${problem}`,
      });
      const difference = this.#found.image!;
      // Another one than the difference's, if that is there.
      this.#found.image = this.#freeName();
      // The machine runs again: it must be paused once more.
      if (this.#released) await this.#hook('before', 'running');
      await this.#trySave(undefined);
      // Not before: what is wrong with the base may pass, and then the difference is all that there is of this night.
      if (difference !== this.#found.image) this.#removeDifference(difference);
      return;
    }
    await this.#trySave(undefined);
  }

  #removeDifference(path: string): void {
    try {
      removeFile(path);
    } catch (error) {
      if (!(error instanceof VmsnapError)) throw error;
      this.#warn({ code: 'prune-left', message: error.message });
    }
  }

  /** @returns why the base cannot be one; the image, which needs it, may be there all the same. */
  async #trySave(base: StoreEntry | undefined): Promise<string | undefined> {
    const image = this.#found.image!;
    try {
      this.#found.saved = await this.#phase('save', () => this.#save(image, base));
    } catch (error) {
      if (base !== undefined && this.#isBaseFault(error, base)) return error.message;
      throw error;
    }
    await this.#hook('after-save', 'running');
    this.#released = this.#job.hooks['after-save'] !== undefined;
    if (!this.#job.verify) return undefined;
    const { signal } = this.#context;
    const { threads, memoryLimitBytes } = this.#job.save;
    const keys = this.#keys;
    const onProgress = this.#onProgress;
    let result: VerifyResult;
    try {
      result = await this.#phase('verify', () =>
        verify(image, { signal, threads, memoryLimitBytes, onProgress, keys }),
      );
    } catch (error) {
      // Its base is gone since, or cannot be read.
      if (base === undefined || !this.#isBaseFault(error, base)) throw error;
      this.#found.saved = undefined;
      return error.message;
    }
    if (result.intact) {
      this.#found.verified = true;
      return undefined;
    }
    return this.#refuse(result, image);
  }

  get #encryption(): SaveOptions['encryption'] {
    const { encryption } = this.#job;
    return encryption && { ...encryption.encryption, onWarning: this.#onKeyWarning };
  }

  /** Written by and read with one file, the image gives one warning. */
  readonly #onKeyWarning = (warning: Warning): void => {
    if (!this.#warnings.some(({ message }) => message === warning.message)) this.#warn(warning);
  };

  #save(image: string, base: StoreEntry | undefined): Promise<SaveResult> {
    const { source, machine, save: settings } = this.#job;
    const options: SaveOptions = {
      ...settings,
      name: machine.name,
      uuid: machine.uuid,
      base: base?.path,
      encryption: this.#encryption,
      keys: this.#keys,
      createdAt: new Date(this.#madeAt),
      signal: this.#context.signal,
      onProgress: this.#onProgress,
      onWarning: (warning) => this.#warn(warning),
    };
    if (source.kind === 'source') return save(source.source, image, options);
    const env = hookEnvironment(this.#job, 'command', this.#hookFacts('running'));
    return saveFromCommand({ ...source, env }, image, options);
  }

  readonly #onProgress: SaveOptions['onProgress'] = (progress) =>
    this.#context.onEvent({ job: this.#job.name, kind: 'progress', progress });

  /** Whether a full image would not meet with the same error. */
  #isBaseFault(error: unknown, base: StoreEntry): error is VmsnapError {
    if (!(error instanceof VmsnapError)) return false;
    const { code, path } = error;
    const paths = [base.path, ...base.bases.map((link) => link.path)];
    if (code === 'BASE_MISMATCH' || (path !== undefined && paths.includes(path))) return true;
    // A stream takes its size from the base, and ends elsewhere where the machine has got another size.
    return code === 'USAGE' && this.#job.source.kind === 'command';
  }

  /** Where a base is damaged a full image is made; damage in the image itself is for people to look at. */
  #refuse(result: VerifyResult, image: string): string {
    const finding = result.findings[0];
    const what = finding === undefined ? 'it is damaged' : finding.message;
    if (result.bases.some(({ intact }) => !intact) && result.findings.every(({ path }) => path !== image)) {
      this.#found.saved = undefined;
      return what;
    }
    this.#found.verified = false;
    this.#found.image = undefined;
    // Hidden, so that it is neither listed nor counted: what is damaged in it, its head and its end do not show.
    const aside = join(dirname(image), `.${basename(image)}.damaged`);
    try {
      renameSync(image, aside);
    } catch (error) {
      throw wrapSystemError(error, 'set aside', image);
    }
    throw new VmsnapError('CORRUPT', `the image was damaged when it was read again: ${what}`, {
      path: image,
      hint: `it is kept as ${aside}; look after the memory and the disk of this machine`,
    });
  }

  async #prune(lock: FolderLock): Promise<void> {
    const { folder, retention } = this.#job;
    if (retention === undefined) return;
    const options = {
      ...this.#retentionOptions(retention),
      policy: retention.policy,
      threads: this.#job.save.threads,
      lock,
      signal: this.#context.signal,
    };
    try {
      const result = await pruneStore(folder, options);
      this.#removed.push(...result.removed);
      this.#found.keptImages = keptCount(result.decisions);
      // What is dated in the future was told by the preflight.
      for (const warning of result.warnings) if (warning.code !== 'future') this.#warn(warning);
      for (const { message } of result.left) this.#warn({ code: 'prune-left', message });
    } catch (error) {
      if (!(error instanceof VmsnapError)) throw error;
      // The image is there and good: only the old ones stay.
      this.#warn({ code: 'prune-failed', message: `nothing was removed: ${error.message}` });
    }
  }

  async #hook(name: HookName, status: HookFacts['status']): Promise<void> {
    if (this.#job.hooks[name] === undefined) return;
    this.#hooksBegun = true;
    const output = await this.#phase(name, () =>
      runHook(this.#job, name, this.#hookFacts(status), this.#context.signal),
    );
    if (output !== '') this.#context.onEvent({ job: this.#job.name, kind: 'output', phase: name, output });
  }

  #hookFacts(status: HookFacts['status']): HookFacts {
    const { image, error } = this.#found;
    return { status, image, error, exitCode: this.#exitCode };
  }

  async #runErrorHook(): Promise<void> {
    const { hooks } = this.#job;
    if (hooks.error === undefined || this.#context.dryRun) return;
    // Nothing has begun that a hook would have to mend, and the work of another run may be under way.
    if (!this.#hooksBegun && this.#found.error?.code === 'LOCKED') return;
    const seconds = this.#isStopped ? Math.min(hooks.timeoutSeconds, STOPPED_HOOK_SECONDS) : hooks.timeoutSeconds;
    const signal = this.#isStopped ? undefined : this.#context.signal;
    try {
      await this.#phase('error', () => runHook(this.#job, 'error', this.#hookFacts('failed'), signal, seconds));
    } catch (error) {
      this.#warn({ code: 'error-hook', message: this.#errorOf(error).message });
    }
  }

  async #writeMetrics(): Promise<void> {
    const { metricsFile } = this.#job;
    if (metricsFile === undefined) return;
    try {
      await writeMetrics(metricsFile, this.#report(), this.#context.now());
    } catch (error) {
      this.#warn({ code: 'metrics', message: `the metrics were not written: ${this.#errorOf(error).message}` });
    }
  }

  async #ping(what: PingKind, body: string): Promise<void> {
    const { healthCheck, name } = this.#job;
    if (healthCheck === undefined) return;
    const stopped = this.#isStopped;
    const check = stopped ? { ...healthCheck, retries: 0, timeoutSeconds: STOPPED_PING_SECONDS } : healthCheck;
    const fault = await ping(check, name, what, body, stopped ? undefined : this.#context.signal).catch((error) => {
      // Stopped meanwhile: what comes next finds out.
      if (this.#isStopped) return undefined;
      throw error;
    });
    if (fault !== undefined) this.#warn({ code: 'health-check', message: `the health check was not told: ${fault}` });
  }

  get #isStopped(): boolean {
    return this.#context.signal?.aborted ?? false;
  }

  async #phase<T>(phase: BackupPhase, action: () => Promise<T>): Promise<T> {
    if (phase !== 'error') this.#context.signal?.throwIfAborted();
    const detail = phase === 'save' ? `${this.#found.image}: ${this.#found.kind}, ${this.#found.reason}` : undefined;
    this.#context.onEvent({ job: this.#job.name, kind: 'phase', phase, detail });
    const started = performance.now();
    try {
      return await action();
    } finally {
      const seconds = (performance.now() - started) / 1000;
      this.#phaseSeconds[phase] = (this.#phaseSeconds[phase] ?? 0) + seconds;
    }
  }

  #warn(warning: Warning): void {
    this.#warnings.push(warning);
    this.#context.onEvent({ job: this.#job.name, kind: 'warning', warning });
  }

  #errorOf(error: unknown): VmsnapError {
    if (error instanceof VmsnapError) return error;
    const { code } = (error ?? {}) as { code?: unknown };
    const isSignal = this.#isStopped && typeof code === 'string' && /^SIG(INT|TERM|HUP)$/.test(code);
    if (isSignal) return new VmsnapError(code as ErrorCode, `stopped by ${code}`, { cause: error });
    if (this.#isStopped) return new VmsnapError('FAILED', 'the run was stopped', { cause: error });
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return new VmsnapError('FAILED', `unexpected: ${text}`, { cause: error });
  }

  get #exitCode(): number {
    const { error } = this.#found;
    if (error !== undefined) return error.exitCode;
    return this.#warnings.length > 0 ? EXIT_CODES.WARNINGS : 0;
  }

  #report(): BackupJobReport {
    const { name, machine, folder } = this.#job;
    const { error, saved, image } = this.#found;
    const failed = this.#isStopped ? 'stopped' : 'failed';
    return {
      ...this.#found,
      job: name,
      vm: machine.name,
      folder,
      status: error !== undefined ? failed : this.#warnings.length > 0 ? 'warning' : 'ok',
      exitCode: this.#exitCode,
      image: saved === undefined && !this.#context.dryRun ? undefined : image,
      removed: this.#removed,
      sweptFiles: this.#sweptFiles,
      phaseSeconds: this.#phaseSeconds,
      durationSeconds: (performance.now() - this.#started) / 1000,
      startedAt: new Date(this.#startedAt),
      warnings: this.#warnings,
    };
  }

  /** For the monitor: facts, and nothing of the memory. */
  #summary(): string {
    const { status, image, kind, saved, removed, durationSeconds, warnings, error } = this.#report();
    return [
      `${this.#job.name}: ${status} after ${durationSeconds.toFixed(1)} s`,
      ...(image === undefined || saved === undefined
        ? []
        : [
            `${image}: ${kind}, ${saved.memoryBytes} bytes of memory in ${saved.imageBytes}; ${removed.length} removed`,
          ]),
      ...warnings.map(({ message }) => `warning: ${message}`),
      ...(error === undefined ? [] : [`error: ${error.code}: ${error.message}`]),
      '',
    ].join('\n');
  }
}

/** Images of the machine that stay. */
function keptCount(decisions: readonly RetentionDecision[]): number {
  return decisions.filter(({ keep, reasons }) => keep && !reasons.some(({ rule }) => rule === 'other-machine')).length;
}
