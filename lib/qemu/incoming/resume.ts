/**
 * `resume`: a machine runs on from its image.
 *
 * Memory files come first and are proven, then QEMU is started on them, asked what it is, and fed the migration stream. Of that the
 * state of devices goes last, after the rest of the memory is proven: no machine runs on memory that is not what was saved. Until it
 * runs, whatever fails ends QEMU and leaves nothing behind.
 *
 * Both folders are locked, and QEMU inherits the locks: what a killed vmsnap leaves is swept by the next one after QEMU has ended.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { VmsnapError } from '../../../native/errors.js';
import { LockedFolder } from '../../files/lockedFolder.js';
import { usage } from '../../options.js';
import type { CommonOptions, LoadResult } from '../../types.js';
import { Warnings } from '../../warnings.js';
import { type QmpPeer, QmpRefusal } from '../qmpPeer.js';
import type { QmpSocket } from '../qmpSocket.js';
import { checkDisks } from './checkDisks.js';
import { checkArguments, checkWaiting } from './checkMachine.js';
import { feedStream, openQmp, runMachine, stoppable } from './incomingQemu.js';
import { type MachineImage, openMachineImage } from './machineImage.js';
import type { QemuEnd, ResumedMachine, ResumeOptions, ResumeResult } from './machineTypes.js';
import { type MemoryFile, placeMemoryFiles, writeMemoryFile } from './memoryFiles.js';
import { hasOption, placeMemory, waitingArguments } from './qemuArguments.js';
import { QemuProcess } from './qemuProcess.js';

const FOLDER_PREFIX = 'vmsnap-resume-';
const DEFAULT_MEMORY_DIR = '/dev/shm';
/** What an address of a unix socket holds. */
const SOCKET_PATH_MAX_BYTES = 107;
/** From a failure, or a request to end, to the end of QEMU. */
const QUIT_SECONDS = 2;

/**
 * Brings a machine back in a QEMU of its own.
 * @param command the program and its arguments, as the saved machine had them; `{mem:NAME}` stands for the path of a memory file.
 * @throws USAGE: it would be another machine. SOURCE_CHANGED: a disk is not as it was. GUEST: QEMU ended or refused, in its words.
 */
export async function resume(
  imagePath: string,
  command: readonly string[],
  options: ResumeOptions = {},
): Promise<ResumedMachine> {
  const started = performance.now();
  options.signal?.throwIfAborted();
  if (command.length === 0) throw usage('the command of QEMU is missing');
  const image = await openMachineImage(imagePath, options);
  const warnings = new Warnings(options);
  const attempt = new Attempt(image, command, options, warnings);
  try {
    return await attempt.run(started);
  } catch (error) {
    throw await attempt.giveUp(error);
  } finally {
    image.close();
  }
}

class Attempt {
  readonly #image: MachineImage;
  readonly #command: readonly string[];
  readonly #options: ResumeOptions;
  readonly #warnings: Warnings;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #onExit = () => this.#endAtOnce();
  #folders: LockedFolder[] = [];
  #qemu: QemuProcess | undefined;
  #qmp: QmpSocket | undefined;

  constructor(image: MachineImage, command: readonly string[], options: ResumeOptions, warnings: Warnings) {
    this.#image = image;
    this.#command = command;
    this.#options = options;
    this.#warnings = warnings;
    const signals = options.signal === undefined ? [] : [options.signal];
    this.#signal = AbortSignal.any([this.#stop.signal, ...signals]);
  }

  async run(started: number): Promise<ResumedMachine> {
    const image = this.#image;
    const warn = this.#warnings.add.bind(this.#warnings);
    checkArguments(image, this.#command);
    // Names first: a missing {mem:NAME} is not to be told after gigabytes were written.
    placeMemory(this.#command, image, placeMemoryFiles(image, '/'));
    if (this.#options.disksRestored !== true) checkDisks(image, warn);
    process.on('exit', this.#onExit);
    const control = this.#makeFolder(tmpdir());
    const qmpPath = socketPath(control, 'qmp');
    const { files, results, seconds: filesSeconds } = await this.#writeFiles();
    const qmp = await this.#start([...placeMemory(this.#command, image, files), ...waitingArguments(qmpPath)], qmpPath);
    await checkWaiting(image, qmp, warn);
    const { sent, seconds } = await feedStream(image, qmp, socketPath(control, 'incoming'), this.#loadOptions());
    const isPaused = this.#options.paused === true || hasOption(this.#command, 'S');
    if (!isPaused) await runMachine(qmp);
    const result = this.#result([...results, sent], files, qmp, isPaused, {
      threads: sent.run.threads,
      durationSeconds: (performance.now() - started) / 1000,
      filesSeconds,
      streamSeconds: seconds,
    });
    return this.#handOver(result);
  }

  #makeFolder(parent: string): string {
    const folder = LockedFolder.createUnder(parent, FOLDER_PREFIX);
    this.#folders.push(folder);
    return folder.path;
  }

  #loadOptions(): CommonOptions & { readonly signal: AbortSignal } {
    const { threads, onProgress, progressIntervalSeconds } = this.#options;
    const onWarning = this.#warnings.add.bind(this.#warnings);
    return { threads, onProgress, progressIntervalSeconds, onWarning, signal: this.#signal };
  }

  async #writeFiles(): Promise<{ files: MemoryFile[]; results: LoadResult[]; seconds: number }> {
    const started = performance.now();
    const results: LoadResult[] = [];
    if (placeMemoryFiles(this.#image, '/').length === 0) return { files: [], results, seconds: 0 };
    const parent = this.#options.memoryDir ?? DEFAULT_MEMORY_DIR;
    const files = placeMemoryFiles(this.#image, this.#makeFolder(parent));
    try {
      for (const file of files) results.push(await writeMemoryFile(this.#image, file, this.#loadOptions()));
    } catch (error) {
      throw error instanceof VmsnapError && error.code === 'NO_SPACE' ? noRoom(parent, error) : error;
    }
    return { files, results, seconds: (performance.now() - started) / 1000 };
  }

  async #start(command: readonly string[], qmpPath: string): Promise<QmpPeer> {
    this.#signal.throwIfAborted();
    const held = this.#folders.map(({ fd }) => fd);
    const qemu = await QemuProcess.start(command, held, this.#options.onQemuOutput);
    this.#qemu = qemu;
    void qemu.ended.then(() => {
      if (qemu.isGone) this.#stop.abort(qemu.endError());
    });
    this.#qmp = await openQmp(qmpPath, this.#signal);
    return stoppable(this.#qmp, this.#signal);
  }

  /** It runs: from here on nothing of it is ended but by itself. */
  #handOver(result: ResumeResult): ResumedMachine {
    process.off('exit', this.#onExit);
    this.#qmp!.close();
    const qemu = this.#qemu!;
    const kill = (signal: NodeJS.Signals) => qemu.kill(signal);
    if (!qemu.goesToBackground) return { result, ended: this.#untilEnd(qemu), kill };
    for (const folder of this.#folders) folder.release();
    return { result, ended: Promise.resolve(null), kill };
  }

  async #untilEnd(qemu: QemuProcess): Promise<QemuEnd> {
    const end = await qemu.ended;
    for (const { message } of this.#removeFolders())
      this.#warnings.add({ code: 'old-folder-left', message: `${message}; the next resume removes it` });
    return end;
  }

  /** After a failure. @returns what to throw: what stopped the work stands before what it led to. */
  async giveUp(error: unknown): Promise<unknown> {
    process.off('exit', this.#onExit);
    const qemu = this.#qemu;
    // What reads the stream may be gone before its end is known.
    if (qemu !== undefined && this.#options.signal?.aborted !== true && isLoss(error)) await withinLimit(qemu.ended);
    const isLost = qemu?.isGone === true;
    if (qemu !== undefined && !isLost) await this.#endQemu(qemu);
    this.#qmp?.close();
    this.#removeFolders();
    if (this.#options.signal?.aborted) return this.#options.signal.reason;
    return isLost ? qemu.endError() : error;
  }

  /** Asked first, because what was started may be another program that started QEMU. */
  async #endQemu(qemu: QemuProcess): Promise<void> {
    await this.#qmp?.execute('quit', undefined, QUIT_SECONDS).catch(() => {});
    if (this.#qmp !== undefined) await withinLimit(qemu.ended);
    qemu.kill('SIGKILL');
    await withinLimit(qemu.ended);
  }

  #endAtOnce(): void {
    this.#qemu?.kill('SIGKILL');
    this.#removeFolders();
  }

  /** @returns what kept any from going. */
  #removeFolders(): VmsnapError[] {
    const faults = this.#folders.map((folder) => folder.remove());
    this.#folders = [];
    return faults.filter((fault) => fault !== undefined);
  }

  #result(
    loads: readonly LoadResult[],
    files: readonly MemoryFile[],
    qmp: QmpPeer,
    isPaused: boolean,
    run: ResumeResult['run'],
  ): ResumeResult {
    const { path, machineType, memoryBytes } = this.#image;
    const qemu = this.#qemu!;
    return {
      image: path,
      qemuVersion: qmp.qemuVersion,
      machineType: machineType === '' ? null : machineType,
      status: isPaused ? 'paused' : 'running',
      processId: qemu.goesToBackground ? null : qemu.processId,
      qmpSocket: qmp.path,
      memoryFiles: files.map(({ block, path: file }) => ({
        block: block.name,
        path: file,
        sizeBytes: block.sizeBytes,
      })),
      memoryBytes,
      dataBytes: loads.reduce((sum, { dataBytes }) => sum + dataBytes, 0),
      imageBytes: loads.reduce((sum, { imageBytes }) => sum + imageBytes, 0),
      digest: loads[0]!.digest,
      run,
      warnings: this.#warnings.list,
    };
  }
}

function socketPath(folder: string, name: string): string {
  const path = join(folder, name);
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX_BYTES) return path;
  throw usage(`${path} is too long for the name of a socket`, 'set TMPDIR to a folder with a shorter path');
}

function noRoom(parent: string, error: VmsnapError): VmsnapError {
  return new VmsnapError('NO_SPACE', error.message, {
    path: error.path,
    hint: `${parent} has no room for the memory of the machine: give another folder with --memory-dir`,
    cause: error,
  });
}

/** Whether the end of QEMU may be behind it. */
function isLoss(error: unknown): boolean {
  if (error instanceof QmpRefusal) return false;
  return error instanceof VmsnapError && (error.code === 'IO' || error.code === 'GUEST');
}

async function withinLimit(work: Promise<unknown>): Promise<void> {
  await Promise.race([work, delay(QUIT_SECONDS * 1000, undefined, { ref: false })]);
}
