/**
 * The passes of a save of a running machine.
 *
 * While it runs, all of its memory is stored, and hashed as it is stored. Then it is stopped and read once more: what differs from
 * the hashes is copied, which takes about as long as reading does, and it may run on. At last each segment that has changed
 * gets another record, made of what is stored of it and of the copies.
 *
 * Memory that nobody can read before the stop (what QEMU sends with its device state) has a hole in its place until then, and is
 * stored last.
 *
 * What is copied lies in a file without a name beside the image, and is bounded: where the machine has changed more than that,
 * or the file system is full, the rest is stored while it stands still. So a machine that writes faster than it can be
 * followed has a longer pause, and a right image.
 */
import { dirname } from 'node:path';
import type { Geometry } from '../formats/vmsnap/geometry.js';
import { VmsnapError } from '../native/errors.js';
import { openFileStats } from '../native/fileStats.js';
import { type GuardedFile, SourceGuard } from './files/sourceGuard.js';
import type { ChangesJob, ChangesResult } from './pipeline/changesWorker.js';
import type { CommitShared } from './pipeline/commitLine.js';
import { isAborted, NUMBER_NEXT_SEGMENT, NUMBER_NEXT_SEQUENCE } from './pipeline/control.js';
import type { ExtentsDescription } from './pipeline/feeds/sourceDescription.js';
import type { ChangedDescription, LateDescription, LiveDescription } from './pipeline/live/liveDescription.js';
import { closeLiveShared, copiedPages, createLiveShared, type LiveShared } from './pipeline/live/liveFiles.js';
import { Aborted } from './pipeline/mutex.js';
import type { SaveJob, SaveWorkerResult } from './pipeline/saveWorker.js';
import { runJobs } from './pipeline/workerPool.js';
import type { LiveMachine, LiveRun } from './types.js';

/** Of the memory: what may be copied if the caller does not say. */
const COPIES_SHARE = 0.25;

export interface LiveSaveInputs {
  readonly machine: LiveMachine;
  readonly source: ExtentsDescription;
  readonly files: readonly GuardedFile[];
  /** The image, which is in a file and may have overriding records. */
  readonly image: string;
  /** Of an image that is encrypted, nothing is left in the clear beside it. */
  readonly isSecret: boolean;
  readonly shared: CommitShared;
  readonly geometry: Geometry;
  /** Asked when the memory has been read: regions that are holes in the source until then. */
  readonly late: (() => Promise<LateMemory | undefined>) | undefined;
  /** The jobs of one pass. Only the first has a device to help it. */
  jobs(source: LiveDescription): SaveJob[];
}

export type LateMemory = Pick<LateDescription, 'source' | 'regions'>;

export interface LiveSaved {
  /** Of all passes; only their sums together are those of the memory. */
  readonly results: readonly SaveWorkerResult[];
  readonly run: LiveRun;
}

/** @throws also what the machine's functions reject with. Whoever stops the machine sees to it that it runs again. */
export async function saveLive(inputs: LiveSaveInputs): Promise<LiveSaved> {
  const { machine, geometry, image } = inputs;
  const most = machine.copiedBytesMost ?? geometry.totalBytes * COPIES_SHARE;
  const live = createLiveShared(dirname(image), geometry, most, inputs.isSecret);
  try {
    return await new LiveSave(inputs, live).run();
  } finally {
    closeLiveShared(live);
  }
}

class LiveSave {
  readonly #inputs: LiveSaveInputs;
  readonly #live: LiveShared;
  readonly #results: SaveWorkerResult[] = [];

  constructor(inputs: LiveSaveInputs, live: LiveShared) {
    this.#inputs = inputs;
    this.#live = live;
  }

  async run(): Promise<LiveSaved> {
    const { machine, source, geometry } = this.#inputs;
    const sizes = this.#sizes();
    const cpuBefore = process.cpuUsage();
    const firstPassSeconds = await timed(() => this.#store({ kind: 'first-look', source, live: this.#live }));
    const { user, system } = process.cpuUsage(cpuBefore);
    const stopped = performance.now();
    this.#requireGoingOn();
    await machine.stop();
    const still = performance.now();
    const changes = await this.#readStopped(sizes);
    const read = performance.now();
    await machine.memoryRead();
    this.#requireGoingOn();
    const copies = copiedPages(this.#live);
    const lastPassSeconds = await timed(() => this.#storeRest(copies));
    const run: LiveRun = {
      firstPassSeconds,
      firstPassCpuSeconds: (user + system) / 1e6,
      pauseSeconds: (read - stopped) / 1000,
      changesSeconds: (read - still) / 1000,
      lastPassSeconds,
      changedPages: sum(changes, ({ changedPages }) => changedPages),
      changedSegments: sum(changes, ({ changedSegments }) => changedSegments),
      segmentsStoredInPause: sum(changes, ({ uncopiedSegments }) => uncopiedSegments),
      copiedBytes: copies * geometry.pageSize,
    };
    return { results: this.#results, run };
  }

  /** What of the stopped machine is in our hands by now. */
  async #storeRest(copies: number): Promise<void> {
    if (copies > 0) await this.#store(this.#changed('copies'));
    const late = await this.#inputs.late?.();
    if (late !== undefined) await this.#store({ kind: 'late', ...late });
  }

  /** From here to the end of this nobody writes the memory; what shows that somebody does is an error. */
  async #readStopped(sizes: readonly number[]): Promise<ChangesResult[]> {
    this.#requireGoingOn();
    this.#requireSizes(sizes);
    const guard = new SourceGuard(this.#inputs.files, true, () => {});
    try {
      const changes = await this.#findChanges();
      if (changes.some(({ uncopiedSegments }) => uncopiedSegments > 0)) await this.#store(this.#changed('memory'));
      guard.finish();
      return changes;
    } finally {
      guard.close();
    }
  }

  /** Runs one pass of savers. The claims before it are all committed. */
  async #store(source: LiveDescription): Promise<void> {
    const { jobs, shared } = this.#inputs;
    shared.control.numbers[NUMBER_NEXT_SEGMENT] = 0;
    this.#results.push(...(await runJobs<SaveWorkerResult>(jobs(source), shared.control)));
  }

  #changed(from: ChangedDescription['from']): ChangedDescription {
    const earlierSequence = this.#inputs.shared.control.numbers[NUMBER_NEXT_SEQUENCE]! - 1;
    return { kind: 'changed', source: this.#inputs.source, live: this.#live, from, earlierSequence };
  }

  #findChanges(): Promise<ChangesResult[]> {
    const { source, shared, geometry } = this.#inputs;
    const jobs = Array.from(
      { length: this.#results.length },
      (_, worker): ChangesJob => ({
        kind: 'changes',
        worker,
        control: shared.control,
        source,
        live: this.#live,
        index: shared.overriding!,
        pageSize: geometry.pageSize,
        segmentSize: geometry.segmentSize,
        chunkSize: geometry.chunkSize,
        regionSizes: geometry.regions.map(({ sizeBytes }) => sizeBytes),
      }),
    );
    return runJobs<ChangesResult>(jobs, shared.control);
  }

  #sizes(): number[] {
    return this.#inputs.files.map((file) => openFileStats(file).size);
  }

  /** Writing moves no size: a file that has another one is not the machine's memory any more, or no longer all of it. */
  #requireSizes(before: readonly number[]): void {
    for (const [i, sizeBytes] of this.#sizes().entries()) {
      if (sizeBytes === before[i]) continue;
      const { path } = this.#inputs.files[i]!;
      const message = `${path} changed its size from ${before[i]} to ${sizeBytes} bytes while the machine ran`;
      throw new VmsnapError('SOURCE_CHANGED', message, { path, hint: 'nothing was saved; save again' });
    }
  }

  #requireGoingOn(): void {
    if (isAborted(this.#inputs.shared.control)) throw new Aborted();
  }
}

async function timed(action: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await action();
  return (performance.now() - started) / 1000;
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
