/**
 * The save of a machine that runs: found and asked first, then stopped, sent to us by QEMU's own migration, read, and made to
 * go on as soon as the last byte of it has been read.
 *
 * Memory that is a file is read from the file (memoryFiles.ts); QEMU leaves it out of its stream, which then holds device
 * state and small blocks only and goes through an unlinked file. Other memory comes in the stream itself and is compressed
 * on the way.
 *
 * A live save (../liveSave.ts) asks for the layout of the memory first (liveLayout.ts), reads the files while the machine runs, and
 * has it stopped and its stream sent when it comes to what has changed.
 *
 * Whatever fails, a machine that was found running ends running: every way out of a save leads through {@link abandon} or
 * {@link finish}, and should there be no way out (SIGKILL), the guard (guard.ts) does it. After a completed migration QEMU is
 * in the state "postmigrate", which `cont` alone leaves: a machine that was found paused stays in it.
 */
import { closeSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { MemoryAttachment, SourceExtent } from '../../formats/memoryFile.js';
import { type MachineStream, openMachineStream } from '../../formats/qemu/machineStream.js';
import { type IndexedStream, QEMU_HEAD, QEMU_TAIL, type QemuFile } from '../../formats/qemu/openStream.js';
import { type BlockRegion, blockNameOf } from '../../formats/qemu/ramRegions.js';
import { QEMU_PAGE_BYTES } from '../../formats/qemu/streamPages.js';
import { createSpillFile, type SpillFile } from '../../formats/spillFile.js';
import { VmsnapError } from '../../native/errors.js';
import { memoryAttachments } from '../attachments.js';
import { checkMemoryFile, soundMachine } from '../foreign/openForeign.js';
import { PipeInput } from '../foreign/pipeInput.js';
import { openQemuPipe } from '../foreign/qemuPipe.js';
import { runAlone } from '../foreign/runAlone.js';
import type { LateMemory } from '../liveSave.js';
import { endFault, lastWords, startProgram } from '../processGroup.js';
import { hasPageCache, type OpenedSource } from '../source.js';
import type { LiveMachineRun, MachineRun, SaveOptions, LiveMachine as StoppableMachine } from '../types.js';
import { fieldOf, listOf, textOf } from './answers.js';
import { Guard, type GuardOrder } from './guard.js';
import { type AgentAddress, AgentRefusal, GuestAgent } from './guestAgent.js';
import { type LiveAddress, resumeCommand } from './liveAddress.js';
import {
  type Layout,
  LayoutChanged,
  type LiveExtents,
  lateMemory,
  liveExtents,
  requireSameLayout,
} from './liveLayout.js';
import {
  MACHINE_ATTACHMENT,
  MACHINE_SCHEMA,
  MACHINE_SCHEMA_VERSION,
  type MachineDescription,
  type MachineDisk,
  type MachineRegion,
} from './machineDescription.js';
import { describeDisks, type FoundDisk, findDisks } from './machineDisks.js';
import { askMachine, type MachineFacts, type MemoryBackend } from './machineFacts.js';
import {
  chooseMemory,
  closeFiles,
  FASTER_BACKEND,
  LIVE_BACKEND,
  type MemoryChoice,
  requireMapped,
} from './memoryFiles.js';
import {
  type Connection,
  type MigrationSettings,
  migrationFailed,
  planSettings,
  StreamSocket,
  userOfQemu,
  waitForMigration,
} from './migration.js';
import { QmpRefusal } from './qmpPeer.js';
import { requireCapable } from './requireCapable.js';
import { cancelMigration, isActive, resumeMachine } from './resumeMachine.js';
import { type PeerLimits, SteadyPeer } from './steadyPeer.js';

const ANSWER_SECONDS = 60;
const RECONNECT_SECONDS = 10;
const FAILURE_SECONDS = 5;
/** A QEMU that waits for its stream to be read answers nothing: after so long it is given up. */
const CANCEL_SECONDS = 1;
/** While QEMU waits for its stream to be read, it may answer nothing. */
const STREAM_SECONDS = 86_400;
/** What a stream may have beside the memory of private backends: ROMs, video RAM, device state. */
const SPOOL_EXTRA_BYTES = 2 ** 30;
/** States in which a machine can be saved without being stopped. */
const STILL = new Set([
  'paused',
  'prelaunch',
  'suspended',
  'shutdown',
  'guest-panicked',
  'internal-error',
  'io-error',
  'watchdog',
  'debug',
]);

/** Memory as it is read, whichever way it comes. */
interface OpenedMemory {
  readonly description: OpenedSource['description'];
  readonly regions: readonly BlockRegion[];
  readonly machineType: string | undefined;
  readonly mayHaveAbsent: boolean;
  readonly attachments: readonly MemoryAttachment[];
  readonly guarded: OpenedSource['guarded'];
}

export class LiveMachine {
  readonly #address: LiveAddress;
  readonly #options: SaveOptions;
  readonly #image: string;
  readonly #peer: SteadyPeer;
  readonly #limits: PeerLimits;
  readonly #pauseLimit = new AbortController();
  /** Aborted by the caller's, and when the pause takes too long. */
  readonly signal: AbortSignal;
  #facts!: MachineFacts;
  #memory: MemoryChoice = { files: [], reason: undefined };
  #settings: MigrationSettings = { set: [], restore: [] };
  #hasSettings = false;
  #guard: Guard | undefined;
  #order: GuardOrder = { resume: false, thaw: false, restore: [], streamFolder: undefined };
  #agent: GuestAgent | undefined;
  #frozenFileSystems: number | undefined;
  #disks: readonly FoundDisk[] = [];
  #socket: StreamSocket | undefined;
  #connection: Connection | undefined;
  #spool: SpillFile | undefined;
  #stream: MachineStream | undefined;
  #layout: Layout | undefined;
  #liveExtents: LiveExtents | undefined;
  /** Of a live save: the stream of the stopped machine, and what it turns out to be. */
  #spooled: QemuFile | undefined;
  #indexing: Promise<MachineStream> | undefined;
  #closePipe: (() => void) | undefined;
  #regions: readonly MachineRegion[] = [];
  #migrationDone = false;
  #stoppedAt: number | undefined;
  #pauseTimer: NodeJS.Timeout | undefined;
  #pauseSeconds: number | undefined;
  #endOfPause: Promise<Buffer> | undefined;
  #left: MachineRun['left'] | undefined;

  private constructor(address: LiveAddress, options: SaveOptions, image: string, peer: SteadyPeer, limits: PeerLimits) {
    this.#address = address;
    this.#options = options;
    this.#image = image;
    this.#peer = peer;
    this.#limits = limits;
    const { signal } = options;
    this.signal = signal === undefined ? this.#pauseLimit.signal : AbortSignal.any([signal, this.#pauseLimit.signal]);
  }

  /** Asks the machine what it is, and whether it can be saved; it runs on. */
  static async find(address: LiveAddress, image: string, options: SaveOptions): Promise<LiveMachine> {
    const { machine = {}, signal } = options;
    const limits = {
      answerSeconds: machine.answerSeconds ?? ANSWER_SECONDS,
      reconnectSeconds: machine.reconnectSeconds ?? RECONNECT_SECONDS,
    };
    const peer = await SteadyPeer.open(address, limits, signal);
    const live = new LiveMachine(address, options, image, peer, limits);
    try {
      await live.#find();
      return live;
    } catch (error) {
      live.close();
      throw error;
    }
  }

  async #find(): Promise<void> {
    await this.#unlessStopped(requireCapable(this.#peer));
    this.#facts = await this.#unlessStopped(askMachine(this.#peer));
    await this.#requireSavable();
    this.#memory = chooseMemory(this.#facts);
    if (this.isLive && !this.#readsFiles) throw notLive(this.#peer.path, this.#memory.reason);
    if (!this.isLive) await this.#planSettings();
    const { quiesce } = this.#options.machine ?? {};
    if (quiesce === true) await this.#openAgent();
  }

  async #openAgent(): Promise<void> {
    this.#agent = new GuestAgent(this.#agentOfRunning(), this.#limits);
    await this.#unlessStopped(this.#agent.requireThawed());
  }

  async #requireSavable(): Promise<void> {
    const { status, isRunning } = this.#facts;
    const { path } = this.#peer;
    if (!isRunning && !STILL.has(status)) {
      const hint =
        status === 'postmigrate'
          ? `QEMU migrates a machine once; it must run before it can again: ${resumeCommand(this.#address)}`
          : 'wait until that is over';
      throw new VmsnapError('GUEST', `the machine on ${path} is in the state "${status}", and cannot be saved`, {
        path,
        hint,
      });
    }
    const answer = await this.#unlessStopped(this.#peer.execute('query-migrate'));
    const blockers = listOf(fieldOf(answer, 'blocked-reasons')).filter((reason) => typeof reason === 'string');
    if (blockers.length > 0) throw blocked(path, blockers);
    const migration = textOf(answer, 'status');
    if (!isActive(migration)) return;
    throw new VmsnapError('GUEST', `a migration of the machine on ${path} is under way (${migration})`, {
      path,
      hint: 'wait until it is over',
    });
  }

  /** The agent is a program of the guest: it must run, then and later. */
  #agentOfRunning(): AgentAddress {
    if (this.#options.machine?.after === 'pause') {
      throw new VmsnapError('USAGE', 'a machine that is left paused cannot make its file systems go on', {
        hint: 'leave out --quiesce or --after pause',
      });
    }
    const { path } = this.#peer;
    if (this.#facts.isRunning) return this.#agentAddress();
    throw new VmsnapError('GUEST', `the machine on ${path} is ${this.#facts.status}: its guest agent cannot answer`, {
      path,
      hint: 'leave out --quiesce',
    });
  }

  #agentAddress(): AgentAddress {
    const { agent } = this.#options.machine ?? {};
    if (agent !== undefined) return { kind: 'socket', socket: agent };
    if (this.#address.kind === 'libvirt') return { kind: 'libvirt', domain: this.#address.domain };
    throw new VmsnapError('USAGE', '--quiesce needs the socket of the guest agent', { hint: 'name it with --agent' });
  }

  get #readsFiles(): boolean {
    return this.#memory.files.length > 0;
  }

  /** Read while it runs. One that stands still anyway gains nothing by it. */
  get isLive(): boolean {
    return this.#options.machine?.live === true && this.#facts.isRunning;
  }

  async #planSettings(pace?: 'crawl'): Promise<void> {
    this.#settings = await this.#unlessStopped(planSettings(this.#peer, this.#readsFiles, pace));
  }

  /** Stops the machine and opens its memory. After a failure, {@link abandon} makes it go on. */
  async open(): Promise<OpenedSource> {
    await this.#startGuard();
    await this.#bringToStop();
    const connection = await this.#migrate();
    const memory = this.#readsFiles ? await this.#openFiles(connection) : await this.#openStream(connection);
    return this.#opened(memory, [...memory.attachments, this.#machineAttachment()]);
  }

  /** Opens its memory as it can be read while the machine runs; {@link toStop} does the rest. */
  async openLive(): Promise<OpenedSource> {
    const taken = this.#options.attachments ?? [];
    const late = [QEMU_HEAD, QEMU_TAIL, MACHINE_ATTACHMENT];
    memoryAttachments(
      late.map((name) => ({ name, bytes: Buffer.alloc(0) })),
      taken,
    );
    await this.#startGuard();
    const layout = await this.#askLayout();
    this.#check(layout.regions, []);
    this.#layout = layout;
    this.#liveExtents = liveExtents(layout, this.#peer.path, (block) => this.#extentOf(block));
    const files = this.#openFileNames();
    const memory: OpenedMemory = {
      description: { kind: 'extents', regions: this.#liveExtents.extents, cached: files.some(hasPageCache) },
      regions: layout.regions,
      machineType: layout.machineType,
      mayHaveAbsent: false,
      attachments: [],
      guarded: files,
    };
    return this.#opened(memory, []);
  }

  #opened(
    { description, regions, guarded, mayHaveAbsent }: OpenedMemory,
    attachments: MemoryAttachment[],
  ): OpenedSource {
    const { name, uuid } = this.#facts;
    return {
      description,
      manifest: { kind: this.#address.kind, name: this.#sourceName },
      regions: regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })),
      guarded,
      machine: soundMachine({ name, uuid }),
      attachments,
      pageSize: QEMU_PAGE_BYTES,
      mayHaveAbsent,
      recognised: undefined,
      memoryFile: undefined,
      unwrapping: undefined,
      close: () => {},
    };
  }

  async #startGuard(): Promise<void> {
    this.#guard = await Guard.start(
      { address: this.#address, agent: this.#agent && this.#agentAddress(), limits: this.#limits },
      this.signal,
    );
  }

  async #bringToStop(): Promise<void> {
    const { whilePaused } = this.#options.machine ?? {};
    this.#socket = this.#openSocket();
    await this.#freeze();
    await this.#stop();
    if (whilePaused !== undefined) await this.#runWhilePaused(whilePaused);
    this.#disks = await this.#unlessStopped(findDisks(this.#peer));
  }

  /** A domain may have been named by its uuid or its number. */
  #openSocket(): StreamSocket {
    const socket = StreamSocket.open(userOfQemu(this.#address, this.#facts.name));
    this.#tellGuard({ streamFolder: socket.folder });
    return socket;
  }

  /** Until the machine has been told to go on, the guard is to see to that: a crawling migration might still be over too soon. */
  async #askLayout(): Promise<Layout> {
    await this.#planSettings('crawl');
    await this.#chargeGuard({ resume: true });
    this.#socket = this.#openSocket();
    const { fd } = await this.#migrate();
    const opened = await this.#withQemusWords(openQemuPipe(new PipeInput(fd, this.#peer.path, this.signal)));
    opened.close?.();
    const timer = setTimeout(() => this.#closeStream(), CANCEL_SECONDS * 1000);
    try {
      await resumeMachine(this.#peer, this.#resumeSeconds);
    } finally {
      clearTimeout(timer);
      this.#closeStream();
    }
    await this.#restoreSettings();
    this.#tellGuard({ resume: false });
    return { regions: opened.blockRegions, machineType: opened.machineType };
  }

  /** What a live save does with the machine. */
  get toStop(): StoppableMachine {
    return {
      stop: () => this.#stopLive(),
      memoryRead: () => this.memoryRead(),
      attachments: async () => [...(await this.#indexed()).attachments, this.#machineAttachment()],
    };
  }

  async #stopLive(): Promise<void> {
    await this.#lookAgain();
    await this.#planSettings();
    await this.#bringToStop();
    const { fd } = await this.#migrate();
    this.#spooled = await this.#spoolStream(fd);
  }

  /** What would be of no use is known before the machine is stopped. */
  async #lookAgain(): Promise<void> {
    const before = this.#facts;
    const now = await this.#unlessStopped(askMachine(this.#peer));
    const { path } = this.#peer;
    if (JSON.stringify(now.backends) !== JSON.stringify(before.backends))
      throw new LayoutChanged(path, 'its memory backends are others');
    this.#facts = { ...now, backends: before.backends };
    await this.#requireSavable();
  }

  /** Of a live save: the regions that QEMU has sent with the device state. @throws LayoutChanged. */
  async lateMemory(): Promise<LateMemory | undefined> {
    await this.#requireLayout();
    return lateMemory(this.#stream!, this.#liveExtents!.late, this.#peer.path);
  }

  /** Not before the machine goes on: it takes a thread, and those there are look for what has changed. */
  #indexed(): Promise<MachineStream> {
    this.#indexing ??= this.#indexSpool(this.#spooled!);
    return this.#indexing;
  }

  async #requireLayout(): Promise<void> {
    this.#stream = await this.#indexed();
    const { regions, attachments } = this.#stream;
    requireSameLayout(this.#layout!, this.#stream, this.#peer.path);
    this.#check(regions, attachments);
    this.#regions = this.#describeRegions(this.#stream);
  }

  get #sourceName(): string {
    return this.#address.kind === 'qemu' ? basename(this.#address.socket) : this.#address.domain;
  }

  async #freeze(): Promise<void> {
    if (this.#agent === undefined) return;
    await this.#unlessStopped(this.#agent.requireThawed());
    await this.#chargeGuard({ thaw: true });
    try {
      this.#frozenFileSystems = await this.#unlessStopped(this.#agent.freeze());
    } catch (error) {
      // Then it may be somebody else's.
      if (error instanceof AgentRefusal) this.#tellGuard({ thaw: false });
      throw error;
    }
  }

  /** From before the first word on, everything that follows may have stopped it. */
  async #stop(): Promise<void> {
    this.signal.throwIfAborted();
    if (!this.#facts.isRunning) return;
    await this.#chargeGuard({ resume: true });
    this.#stoppedAt = performance.now();
    const { maxPauseSeconds } = this.#options.machine ?? {};
    if (maxPauseSeconds !== undefined) {
      this.#pauseTimer = setTimeout(
        () => this.#pauseLimit.abort(pausedTooLong(maxPauseSeconds)),
        maxPauseSeconds * 1000,
      );
    }
    await this.#unlessStopped(this.#peer.execute('stop'));
    const status = await this.#unlessStopped(this.#peer.execute('query-status'));
    const { path } = this.#peer;
    if (textOf(status, 'status') === 'paused') return;
    throw new VmsnapError('GUEST', `the machine on ${path} was stopped, and is ${textOf(status, 'status')}`, { path });
  }

  async #runWhilePaused(command: string): Promise<void> {
    const what = 'the command of --while-paused';
    const { end } = startProgram(['sh', '-c', command], {
      what,
      timeoutSeconds: undefined,
      signal: this.signal,
      env: {
        VMSNAP_IMAGE: this.#image,
        // As the image says it.
        VMSNAP_VM: this.#options.name ?? this.#facts.name ?? '',
        VMSNAP_SOURCE: this.#peer.path,
      },
    });
    const ended = await end;
    const fault = endFault(ended);
    if (fault !== undefined) throw new VmsnapError('FAILED', `${what} ${fault}${lastWords(ended.output)}`);
  }

  async #migrate(): Promise<Connection> {
    this.#hasSettings = true;
    await this.#chargeGuard({ restore: this.#settings.restore });
    for (const { command, args } of this.#settings.set) await this.#unlessStopped(this.#peer.execute(command, args));
    const socket = this.#socket!;
    const connection = await this.#connect(socket);
    this.#connection = connection;
    socket.close();
    this.#tellGuard({ streamFolder: undefined });
    requireMapped(this.#memory.files, connection.processId);
    return connection;
  }

  /**
   * Whichever is first: QEMU is there, or its migration has failed. From when it is there on, QEMU may answer nothing until
   * its stream is read: so nobody waits for an answer then.
   */
  async #connect(socket: StreamSocket): Promise<Connection> {
    const stopper = new AbortController();
    const { answerSeconds } = this.#limits;
    const timer = setTimeout(() => stopper.abort(notConnected(this.#peer.path, answerSeconds)), answerSeconds * 1000);
    let isThere = false;
    const accepted = socket.accept(AbortSignal.any([this.signal, stopper.signal])).finally(() => {
      isThere = true;
    });
    accepted.catch(() => {});
    try {
      await this.#unlessStopped(this.#startMigration(socket.path));
      const failed = waitForMigration(this.#peer, this.signal, () => isThere, STREAM_SECONDS);
      failed.catch(() => {});
      await Promise.race([accepted, failed]);
      return await accepted;
    } catch (error) {
      stopper.abort(error);
      const late = await accepted.catch(() => undefined);
      if (late !== undefined) closeSync(late.fd);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** A connection that was lost meanwhile leaves open whether QEMU has heard it: then it is asked what it does. */
  async #startMigration(path: string): Promise<void> {
    try {
      await this.#peer.execute('migrate', { uri: `unix:${path}` });
    } catch (error) {
      if (error instanceof QmpRefusal) throw error;
      const migration = textOf(await this.#peer.execute('query-migrate'), 'status');
      if (isActive(migration)) return;
      // A migration that is over may be an earlier one, after which the machine has run.
      const status = textOf(await this.#peer.execute('query-status'), 'status');
      if (migration !== 'completed' || status !== 'postmigrate') throw error;
    }
  }

  async #indexSpool(file: QemuFile): Promise<MachineStream> {
    const table = createSpillFile();
    try {
      const indexed = await runAlone<IndexedStream>(this.signal, (control) => {
        return { kind: 'qemuIndex', control, file, offset: 0, table };
      });
      return openMachineStream(file, indexed, table, (block) => this.#extentOf(block));
    } catch (error) {
      closeSync(table.fd);
      throw error;
    }
  }

  /** The stream first, as it is small; the memory then lies still in its files. */
  async #openFiles({ fd }: Connection): Promise<OpenedMemory> {
    const { path } = this.#peer;
    const spooled = await this.#spoolStream(fd);
    const stream = await this.#indexSpool(spooled);
    this.#stream = stream;
    const files = this.#openFileNames();
    const { regions, pages, attachments, machineType } = stream;
    this.#check(regions, attachments);
    this.#regions = this.#describeRegions(stream);
    return {
      description: {
        kind: 'pages',
        pages,
        files: [...files, { fd: spooled.fd, path }],
        cached: files.some(hasPageCache),
      },
      regions,
      machineType,
      mayHaveAbsent: pages.mayHaveAbsent ?? false,
      attachments,
      guarded: files,
    };
  }

  #openFileNames(): { fd: number; path: string }[] {
    return this.#memory.files.map(({ fd, path }) => ({ fd, path }));
  }

  /** Takes the stream of a stopped machine into an unlinked file, to its end. */
  async #spoolStream(fd: number): Promise<QemuFile> {
    const { path } = this.#peer;
    const spool = createSpillFile();
    this.#spool = spool;
    const isFile = (backend: MemoryBackend) => this.#memory.files.some((file) => file.backend === backend);
    const others = this.#facts.backends.filter((backend) => !isFile(backend));
    const maxBytes = SPOOL_EXTRA_BYTES + 2 * others.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const sizeBytes = await this.#withQemusWords(
      runAlone<number>(this.signal, (control) => ({ kind: 'spool', control, fd, path, into: spool, maxBytes })),
    );
    await this.#awaitMigration();
    return { fd: spool.fd, path, sizeBytes };
  }

  #extentOf(block: string): SourceExtent | undefined {
    const found = this.#memory.files.find(({ backend }) => isBlockOf(block, backend));
    if (found === undefined) return undefined;
    const { fd, path, backend } = found;
    return { fd, path, fileOffset: backend.fileOffset, lengthBytes: backend.sizeBytes };
  }

  async #openStream({ fd }: Connection): Promise<OpenedMemory> {
    const opened = await this.#withQemusWords(openQemuPipe(new PipeInput(fd, this.#peer.path, this.signal)));
    this.#closePipe = opened.close;
    this.#check(opened.blockRegions, opened.attachments);
    this.#regions = opened.blockRegions.map((region) => this.#describeRegion(region, false));
    return {
      description: opened.description,
      regions: opened.blockRegions,
      machineType: opened.machineType,
      mayHaveAbsent: opened.mayHaveAbsent,
      attachments: opened.attachments,
      guarded: [],
    };
  }

  #check(regions: readonly BlockRegion[], attachments: readonly MemoryAttachment[]): void {
    checkMemoryFile({ format: 'qemu-stream', pageSize: QEMU_PAGE_BYTES, regions, attachments }, this.#peer.path);
  }

  #describeRegions({ regions, pages }: MachineStream): MachineRegion[] {
    return regions.map((region, i) => this.#describeRegion(region, pages.files[i] !== null));
  }

  /** `isFile`: QEMU has left it out of its stream. */
  #describeRegion(region: BlockRegion, isFile: boolean): MachineRegion {
    const block = blockNameOf(region);
    const backend = this.#facts.backends.find((candidate) => isBlockOf(block, candidate));
    return {
      region: region.name,
      block,
      blockOffset: region.blockOffset,
      sizeBytes: region.sizeBytes,
      gpa: region.gpa ?? null,
      contents: isFile ? 'file' : 'stream',
      backend:
        backend === undefined ? null : { id: backend.id, type: backend.type, share: backend.share, path: backend.path },
    };
  }

  /**
   * Read as the last of the machine's parts: what is in it is known at the end of the pause, and the pause ends when it is
   * read, if not before.
   */
  #machineAttachment(): MemoryAttachment {
    let done = 0;
    return {
      name: MACHINE_ATTACHMENT,
      read: async (into) => {
        const part = (await this.#endPause()).subarray(done, done + into.length);
        into.set(part);
        done += part.length;
        return part.length;
      },
    };
  }

  /** All memory has been read. Where it came in the stream, the state of devices has not. */
  async memoryRead(): Promise<void> {
    if (this.#readsFiles) await this.#endPause();
  }

  /** @returns the machine's description. */
  #endPause(): Promise<Buffer> {
    this.#endOfPause ??= this.#doEndPause();
    return this.#endOfPause;
  }

  async #doEndPause(): Promise<Buffer> {
    await this.#awaitMigration();
    this.signal.throwIfAborted();
    const disks = describeDisks(this.#disks, this.#connection?.processId);
    if (this.#goesOn) {
      await this.#resume();
      await this.#afterPause();
    }
    if (this.#spooled !== undefined) await this.#requireLayout();
    const description = this.#describe(disks);
    return Buffer.from(`${JSON.stringify(description, undefined, 2)}\n`);
  }

  async #awaitMigration(): Promise<void> {
    if (this.#migrationDone) return;
    await waitForMigration(this.#peer, this.signal);
    this.#migrationDone = true;
  }

  get #goesOn(): boolean {
    const { after } = this.#options.machine ?? {};
    return after === undefined ? this.#facts.isRunning : after === 'resume';
  }

  get #resumeSeconds(): number {
    return 3 * this.#limits.reconnectSeconds;
  }

  async #resume(): Promise<void> {
    try {
      await resumeMachine(this.#peer, this.#resumeSeconds);
    } catch (error) {
      throw this.#stuck(error as VmsnapError);
    }
    if (this.#stoppedAt !== undefined) this.#pauseSeconds = (performance.now() - this.#stoppedAt) / 1000;
    clearTimeout(this.#pauseTimer);
    this.#left = 'running';
    this.#tellGuard({ resume: false });
  }

  /** What holds nobody up any more. */
  async #afterPause(): Promise<void> {
    await this.#thaw();
    await this.#restoreSettings();
  }

  async #thaw(): Promise<void> {
    if (!this.#order.thaw || this.#agent === undefined) return;
    await this.#agent.thaw();
    this.#tellGuard({ thaw: false });
  }

  async #restoreSettings(): Promise<void> {
    if (!this.#hasSettings) return;
    for (const { command, args } of this.#settings.restore) await this.#peer.execute(command, args);
    this.#hasSettings = false;
    this.#tellGuard({ restore: [] });
  }

  #describe(disks: readonly MachineDisk[]): MachineDescription {
    const { qemuVersion, machineType, name, uuid, status, memoryBytes, queries } = this.#facts;
    const processId = this.#connection?.processId;
    return {
      schema: MACHINE_SCHEMA,
      schemaVersion: MACHINE_SCHEMA_VERSION,
      qemuVersion,
      machineType,
      name: name ?? null,
      uuid: uuid ?? null,
      foundStatus: status,
      memoryBytes,
      regions: this.#regions,
      disks,
      frozenFileSystems: this.#frozenFileSystems ?? null,
      commandLine: commandLineOf(processId),
      queries,
    };
  }

  /** The image is there: the machine is left as it was asked for. */
  async finish(live: LiveMachineRun | undefined): Promise<MachineRun> {
    const { after } = this.#options.machine ?? {};
    const { status, qemuVersion, machineType } = this.#facts;
    if (!this.#goesOn) {
      await this.#restoreSettings();
      if (after === 'quit') await this.#quit();
    }
    this.#tellGuard({ resume: false, thaw: false, restore: [] });
    return {
      qemuVersion,
      machineType,
      found: status,
      left: this.#left ?? 'paused',
      pauseSeconds: this.#pauseSeconds,
      live,
      memory: this.#readsFiles ? 'files' : 'stream',
      memoryReason: this.#memory.reason,
      frozenFileSystems: this.#frozenFileSystems,
      disks: this.#disks.length,
    };
  }

  /** QEMU may close the connection before it answers. */
  async #quit(): Promise<void> {
    this.#tellGuard({ resume: false });
    try {
      await this.#peer.execute('quit');
    } catch (error) {
      if (error instanceof QmpRefusal) throw error;
    }
    this.#left = 'ended';
  }

  /** The save has failed: everything is as it was found. @returns what to throw. */
  async abandon(error: unknown): Promise<unknown> {
    clearTimeout(this.#pauseTimer);
    this.#closeStream();
    const faults: VmsnapError[] = [];
    const attempt = async (work: () => Promise<unknown>) => {
      try {
        await work();
      } catch (fault) {
        if (!(fault instanceof VmsnapError)) throw fault;
        faults.push(fault);
      }
    };
    if (this.#order.resume) {
      await attempt(() => resumeMachine(this.#peer, this.#resumeSeconds));
      if (faults.length === 0) this.#tellGuard({ resume: false });
      else return this.#stuck(faults[0]!, error);
    } else if (this.#hasSettings && !this.#migrationDone) {
      await attempt(() => cancelMigration(this.#peer));
    }
    await attempt(() => this.#thaw());
    await attempt(() => this.#restoreSettings());
    const fault = faults[0];
    if (fault === undefined || fault.message === messageOf(error)) return error;
    return new VmsnapError('GUEST', `${messageOf(error)}; and then ${fault.message}`, {
      path: fault.path,
      hint: fault.hint,
      cause: error,
    });
  }

  #stuck(fault: VmsnapError, first?: unknown): VmsnapError {
    const path = this.#peer.path;
    const why = first === undefined || first === fault ? fault.message : `${messageOf(first)}; ${fault.message}`;
    return new VmsnapError('GUEST', `the machine on ${path} is still stopped: ${why}`, {
      path,
      hint: `a guard goes on trying for two minutes; to make it go on yourself: ${resumeCommand(this.#address)}`,
      cause: first ?? fault,
    });
  }

  /** Where the stream broke off, QEMU may say why. */
  async cause(error: unknown): Promise<unknown> {
    if (!(error instanceof VmsnapError) || this.#connection === undefined || this.#migrationDone) return error;
    // What the system says here is not QEMU's doing, and QEMU, which waits to be read, answers nothing.
    if (error.path !== this.#peer.path || error.code !== 'CORRUPT') return error;
    try {
      // One that has failed does not wait for its stream to be read, and answers. One that waits holds up the machine: it is asked once.
      const answer = await this.#peer.executeOnce('query-migrate', FAILURE_SECONDS);
      const status = textOf(answer, 'status');
      if (status !== 'failed' && status !== 'cancelled') return error;
      return migrationFailed(this.#peer, status, textOf(answer, 'error-desc'));
    } catch {
      return error;
    }
  }

  close(): void {
    this.#closeStream();
    this.#socket?.close();
    closeFiles(this.#memory.files);
    this.#memory = { ...this.#memory, files: [] };
    this.#liveExtents?.close();
    this.#liveExtents = undefined;
    // A stream that is still being indexed closes its table itself.
    if (this.#stream !== undefined) this.#stream.close();
    else void this.#indexing?.then((stream) => stream.close()).catch(() => {});
    if (this.#spool !== undefined) closeSync(this.#spool.fd);
    this.#spool = undefined;
    this.#agent?.close();
    this.#peer.close();
    // What is left to do, it does now.
    this.#guard?.end();
  }

  #closeStream(): void {
    this.#closePipe?.();
    this.#closePipe = undefined;
    if (this.#connection === undefined) return;
    closeSync(this.#connection.fd);
    this.#connection = undefined;
  }

  /** Before what it is to put right. @throws FAILED if there is nobody to hear it. */
  async #chargeGuard(change: Partial<GuardOrder>): Promise<void> {
    this.#order = { ...this.#order, ...change };
    await this.#guard?.order(this.#order);
  }

  /** Of what is done. Without a guard it is done all the same. */
  #tellGuard(change: Partial<GuardOrder>): void {
    this.#chargeGuard(change).catch(() => {});
  }

  async #withQemusWords<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw await this.cause(error);
    }
  }

  /** Nobody waits for QEMU once the save is stopped. */
  async #unlessStopped<T>(work: Promise<T>): Promise<T> {
    const { signal } = this;
    signal.throwIfAborted();
    work.catch(() => {});
    let onAbort: (() => void) | undefined;
    const stopped = new Promise<never>((_resolve, reject) => {
      onAbort = () => reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      return await Promise.race([work, stopped]);
    } finally {
      signal.removeEventListener('abort', onAbort!);
    }
  }
}

/** The RAM block of a memory backend is called after it, or after its place among QEMU's objects. */
function isBlockOf(block: string, { id }: { readonly id: string }): boolean {
  return block === id || block === `/objects/${id}`;
}

function notLive(path: string, reason: string | undefined): VmsnapError {
  const why = reason === FASTER_BACKEND ? 'its memory can be had through QEMU only' : reason;
  return new VmsnapError('UNSUPPORTED', `the machine on ${path} cannot be saved while it runs: ${why}`, {
    path,
    hint: `leave out --live, or start it with its memory in a file: ${LIVE_BACKEND}`,
  });
}

/** QEMU from 6.0 on tells it without being asked to migrate. */
function blocked(path: string, reasons: readonly string[]): VmsnapError {
  return new VmsnapError('GUEST', `QEMU on ${path} cannot send this machine: ${reasons.join('; ')}`, {
    path,
    hint: 'take out the device (device_del); or save the memory file alone: stop the machine, and vmsnap save --frozen FILE IMAGE',
  });
}

function notConnected(path: string, seconds: number): VmsnapError {
  return new VmsnapError('GUEST', `QEMU on ${path} has not sent its stream for ${seconds} s`, { path });
}

function pausedTooLong(seconds: number): VmsnapError {
  return new VmsnapError('TIMEOUT', `the machine has been paused for ${seconds} s, and goes on unsaved`, {
    hint: 'give it more time (--max-pause); memory in files (memory-backend-file,share=on) and more threads make it shorter',
  });
}

function commandLineOf(processId: number | undefined): string[] | null {
  if (processId === undefined) return null;
  try {
    const words = readFileSync(`/proc/${processId}/cmdline`, 'utf8').split('\0');
    return words.slice(0, -1);
  } catch {
    return null;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
