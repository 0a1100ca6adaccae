/**
 * `save`: a source in, one image out.
 *
 * Opens and checks everything first, so that a mistake costs nothing; lets the workers scan, compress and write
 * (pipeline/); then writes attachments, end manifest, index list and footer, syncs, reads the footer back and renames.
 */
import { realpathSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { corrupt } from '../formats/vmsnap/corrupt.js';
import { encodeFooter, imageBinding, imageIdentity } from '../formats/vmsnap/footer.js';
import { Geometry } from '../formats/vmsnap/geometry.js';
import { encodeHeader, setHeaderTag } from '../formats/vmsnap/header.js';
import { openHead, readExactly, readHead, readTail } from '../formats/vmsnap/imageFile.js';
import { encodeIndexList } from '../formats/vmsnap/imageIndex.js';
import {
  alignmentOf,
  BASES_MAX,
  FEATURE_ABSENT,
  FEATURE_BASE,
  FEATURE_ENCRYPTION,
  FEATURE_OVERRIDING,
  FEATURE_REFERENCES,
  FOOTER_BYTES,
  FORMAT_VERSION,
  HEADER_BYTES,
  KIND_END,
  KIND_INDEX_LIST,
  MIB,
  roundUp,
  SEGMENT_MIN_BYTES,
} from '../formats/vmsnap/layout.js';
import {
  type BaseManifest,
  type EndManifest,
  encodeEndManifest,
  encodeStartManifest,
  fileNameFault,
  type PageCounts,
  type StartManifest,
} from '../formats/vmsnap/manifest.js';
import { memoryDigest, sumHex, sumRegions } from '../formats/vmsnap/memoryDigest.js';
import { headerTag, type SealKeys } from '../formats/vmsnap/seal.js';
import { type DsaReports, native } from '../native/binding.js';
import { VmsnapError, withSystemErrors } from '../native/errors.js';
import { namedFileStats, openFileStats } from '../native/fileStats.js';
import { abortReason, linkSignal } from './abort.js';
import {
  type AttachmentInput,
  closeAttachments,
  memoryAttachments,
  type OpenedAttachment,
  openAttachments,
  storeAttachments,
} from './attachments.js';
import {
  closeImages,
  imageRegions,
  type OpenedImage,
  openBases,
  openWholeImage,
  regionsDifference,
  unfitBase,
} from './chain.js';
import { type ChosenDetector, chooseDetector } from './detector.js';
import { describeDsaRun, dsaWarnings } from './dsaRun.js';
import { createSeal, type NewSeal } from './encryption/createSeal.js';
import { recipientKinds } from './encryption/recipientKinds.js';
import { widenPipe } from './files/pipeCapacity.js';
import { ReplacementFile } from './files/replacementFile.js';
import { SourceGuard } from './files/sourceGuard.js';
import { requireRoom } from './freeSpace.js';
import {
  CIPHER_BYTES,
  checkLimits,
  compressorBytes,
  type MemoryPlan,
  pacerFor,
  peakMemoryBytes,
  planMemory,
} from './limits.js';
import { type LiveSaved, saveLive } from './liveSave.js';
import { checkSaveOptions, type SaveSettings, usage } from './options.js';
import { CommitLine, type CommitShared, createCommitShared, type OutputDescription } from './pipeline/commitLine.js';
import {
  createControl,
  NUMBER_CHUNKS,
  NUMBER_CHUNKS_RAW,
  NUMBER_CHUNKS_STORED,
  NUMBER_OUTPUT_OFFSET,
  NUMBER_OUTPUT_RECORDS,
  NUMBER_PAGES_ABSENT,
  NUMBER_PAGES_DATA,
  NUMBER_PAGES_REFERENCE,
  NUMBER_PAGES_UNIFORM,
  NUMBER_PAGES_ZERO,
  type SharedControl,
  STAT_DONE_BYTES,
  STAT_HOLE_BYTES,
  STAT_READ_BYTES,
  sumStat,
} from './pipeline/control.js';
import {
  createDuplicatesShared,
  DUPLICATES_BYTES,
  type DuplicatesShared,
  keepDuplicatesTable,
} from './pipeline/duplicates.js';
import type { ImageSourceDescription, SourceDescription } from './pipeline/feeds/sourceDescription.js';
import { OPEN_ENDED_BYTES } from './pipeline/readJob.js';
import {
  OUTPUT_BUFFERS_PER_WORKER,
  outputBufferBytes,
  type SaveJob,
  type SaveWorkerResult,
} from './pipeline/saveWorker.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import { type LiveAddress, liveAddress } from './qemu/liveAddress.js';
import { LayoutChanged } from './qemu/liveLayout.js';
import { LiveMachine } from './qemu/liveMachine.js';
import { chainDecoderBytes, describeLink } from './readJobs.js';
import { type OpenedSource, openSource } from './source.js';
import { settingsFor, withMachine } from './sourceSettings.js';
import type { DsaRun, LiveMachineRun, RunLimits, SaveOptions, SaveResult, Warning } from './types.js';
import { version } from './version.js';

const STDOUT_FD = 1;
/** Memory, where there is a ceiling on it (limits.ts). A scanned segment with its states, words and hashes. */
const SCAN_SHARE = 1.03;
/** What a reader of another tool's file, a stream or an index may keep beside a segment. */
const READER_BYTES = 6 * MIB;
const DEVICE_BYTES = 8 * MIB;
const OVERRIDING_ENTRY_BYTES = 64;
/** A part, its record, and the compressor of the main thread. */
const ATTACHMENT_BYTES = 12 * MIB;
/** A thread that decompresses, or the buffers of a program that does. */
const UNWRAPPING_BYTES = 32 * MIB;
/** Segments that a worker has with a DSA device while it compresses one. */
const AHEAD_SEGMENTS = 2;
/** The image is right, and a snapshot of the disks is not what it was meant to be. */
const NOTHING_QUIESCED: Warning = {
  code: 'nothing-quiesced',
  message:
    "the guest agent held no file system still: snapshots of the guest's disks are those of a machine that lost its power, as without --quiesce",
};
/** How often a live save begins anew because the machine's memory is laid out in another way by the end. */
const RESTARTS_MAX = 3;

/**
 * Saves memory into an image.
 * @param source a memory file, a block device, `-` for standard input, `qemu:SOCKET` or `libvirt:DOMAIN`; undefined if every region names its file.
 * @param image the image file, or `-` for standard output.
 * @throws VmsnapError; the image's name is then as it was before.
 */
export async function save(source: string | undefined, image: string, options: SaveOptions = {}): Promise<SaveResult> {
  const address = liveAddress(source);
  if (address !== undefined) return await saveMachine(address, source!, image, options);
  if (options.machine !== undefined) throw usage('the source is no running machine (qemu:SOCKET, libvirt:DOMAIN)');
  return await saveSource(source, image, options, undefined);
}

/** The machine goes on whatever becomes of the save. */
async function saveMachine(
  address: LiveAddress,
  source: string,
  image: string,
  options: SaveOptions,
): Promise<SaveResult> {
  requireNoLayout(source, options);
  requireLiveFits(source, image, options);
  for (let restarts = 0; ; restarts++) {
    try {
      return await saveMachineOnce(address, source, image, options, restarts);
    } catch (error) {
      if (!(error instanceof LayoutChanged) || restarts === RESTARTS_MAX) throw error;
    }
  }
}

async function saveMachineOnce(
  address: LiveAddress,
  source: string,
  image: string,
  options: SaveOptions,
  restarts: number,
): Promise<SaveResult> {
  options.signal?.throwIfAborted();
  const machine = await LiveMachine.find(address, image, options);
  try {
    // Nobody writes a machine that is stopped.
    const stopped = {
      ...options,
      signal: machine.signal,
      frozen: true,
      live: machine.isLive ? machine.toStop : undefined,
    };
    const result = await saveSource(source, image, stopped, machine);
    const run = await machine.finish(liveMachineRun(result.run, restarts));
    if (run.frozenFileSystems !== 0) return { ...result, machine: run };
    options.onWarning?.(NOTHING_QUIESCED);
    return { ...result, machine: run, warnings: [...result.warnings, NOTHING_QUIESCED] };
  } catch (error) {
    throw await machine.abandon(await machine.cause(error));
  } finally {
    machine.close();
  }
}

function liveMachineRun({ live, threads }: SaveResult['run'], restarts: number): LiveMachineRun | undefined {
  if (live === undefined) return undefined;
  const { firstPassSeconds, firstPassCpuSeconds, pauseSeconds, changesSeconds } = live;
  const rest = pauseSeconds - changesSeconds;
  const atLeast = rest + Math.min(firstPassSeconds, firstPassCpuSeconds / threads);
  return { pauseWithoutSeconds: { atLeast, atMost: rest + firstPassSeconds }, restarts };
}

/** Before anything is asked of the machine. */
function requireLiveFits(source: string, image: string, { machine, base, frozen, live }: SaveOptions): void {
  if (live !== undefined) throw usage(`${source} is stopped by vmsnap itself`, 'ask for it with --live');
  if (machine?.live !== true) return;
  if (frozen === true) throw usage('a machine that is saved live is not frozen', 'leave out --frozen or --live');
  requireWholeFile(image, base !== undefined);
}

/** A machine says itself what its memory is. */
function requireNoLayout(source: string, { regions, layout, format, stream }: SaveOptions): void {
  const named = { region: regions, layout, format: format === 'auto' ? undefined : format, stream };
  const option = Object.entries(named).find(([, value]) => value !== undefined)?.[0];
  if (option !== undefined) throw usage(`${source} tells its memory itself: --${option} is for files`);
}

async function saveSource(
  source: string | undefined,
  image: string,
  options: SaveOptions,
  machine: LiveMachine | undefined,
): Promise<SaveResult> {
  options.signal?.throwIfAborted();
  // From now on: what follows may wait for other files first.
  const heldDevice = options.dsa?.device?.use();
  let base: readonly OpenedImage[] = [];
  let opened: OpenedSource | undefined;
  let attachments: readonly OpenedAttachment[] = [];
  let file: ReplacementFile | undefined;
  let detector: ChosenDetector | undefined;
  try {
    if (options.base !== undefined) base = await openBaseChain(options.base, options);
    if (base[0] !== undefined) requireEncryption(base[0], options);
    // A passphrase takes its time, and a machine should not wait for it.
    const seal = await createSeal(options.encryption, options.signal);
    const asked = checkSaveOptions(options, base[0]?.input.head.start);
    if (machine !== undefined) {
      // All that may be wrong before the machine is stopped.
      attachments = openAttachments(options.attachments ?? []);
      if (image !== '-') file = openImageFile(image, options);
    }
    const ofBase = base[0] && imageRegions(base[0]);
    if (machine === undefined) opened = await openSource(source, options, asked.pageSize, ofBase);
    else opened = await (machine.isLive ? machine.openLive() : machine.open());
    const settings = settingsFor(opened, asked, options, base[0]?.input.head.start);
    if (base[0] !== undefined && machine === undefined) requireNoStream(opened);
    if (options.live !== undefined) requireLive(opened, image, base);
    if (base[0] !== undefined) requireFitting(base[0], source ?? image, settings, opened);
    detector = chooseDetector(settings.detector, options.dsa, opened.description);
    if (machine === undefined) attachments = openAttachments(options.attachments ?? []);
    const parts = memoryAttachments(opened.attachments, options.attachments ?? []);
    if (image !== '-') {
      requireOtherFile(opened.guarded, 'source', image);
      requireOtherFile(attachments, 'attachment', image);
      requireOtherFile(
        base.map(({ input }) => input),
        'base',
        image,
      );
      file ??= openImageFile(image, options);
    }
    const { mayHaveAbsent } = opened;
    // Of a machine that stands still each page comes once, in order: what a difference takes for granted.
    const mayOverride = file !== undefined && opened.description.kind === 'qemu-stream' && base.length === 0;
    const all = [...parts, ...attachments];
    const inputs = {
      source: opened,
      base,
      attachments: all,
      file,
      detector,
      mayHaveAbsent,
      mayOverride,
      machine,
      seal,
    };
    return await new Save(image, withMachine(options, opened.machine), settings, inputs).run();
  } catch (error) {
    throw abortReason((await opened?.unwrapping?.cause(error)) ?? error, options.signal);
  } finally {
    file?.discard();
    closeAttachments(attachments);
    detector?.close();
    heldDevice?.release();
    opened?.close();
    closeImages(base);
  }
}

function openImageFile(image: string, { force = false }: SaveOptions): ReplacementFile {
  return ReplacementFile.open(image, { what: 'image', force });
}

/** The base and the images below it, held open until the save is done: no rename can put another in its place. */
async function openBaseChain(path: string, options: SaveOptions): Promise<OpenedImage[]> {
  if (path === '-') throw usage('the base cannot come from standard input', 'give an image file');
  const base = await openWholeImage(path, options);
  let below: OpenedImage[];
  try {
    const name = lastingName(path);
    const fault = fileNameFault(name);
    if (fault !== undefined) throw usage(`the base's name ${JSON.stringify(name)} ${fault}`, 'rename it');
    below = await openBases(base.input, options);
  } catch (error) {
    base.input.close();
    throw error;
  }
  if (below.length < BASES_MAX) return [base, ...below];
  closeImages([base, ...below]);
  throw new VmsnapError('BASE_MISMATCH', `${path} has ${below.length} bases below it; an image can have no more`, {
    path,
    hint: 'save without --base, or make it whole with "vmsnap flatten" and take that as the base',
  });
}

/** What changed in a machine is no less secret than what did not. */
function requireEncryption({ input }: OpenedImage, { encryption }: SaveOptions): void {
  if (encryption !== undefined || input.head.start.encryption === undefined) return;
  throw new VmsnapError('BASE_MISMATCH', `the base ${input.path} is encrypted, and the new image would not be`, {
    path: input.path,
    hint: 'name who can read it (--encrypt-to, --passphrase-file), or save without --base',
  });
}

/** The pages of a migration stream may come again when they are stored already; a difference cannot be taken back. */
function requireNoStream(source: OpenedSource): void {
  if (source.description.kind !== 'qemu-stream') return;
  const { path } = source.description;
  throw usage(
    `${path} is a migration stream, and from a pipe none can be saved as a difference`,
    'save it from a file',
  );
}

/** What a save of a running machine reads twice, and writes again, must allow that. */
function requireLive({ description }: OpenedSource, image: string, base: readonly OpenedImage[]): void {
  if (description.kind !== 'extents') {
    throw usage('the memory of a running machine must lie in files as it is', 'save from its memory-backend-file');
  }
  requireWholeFile(image, base.length > 0);
}

/** What has been stored is read again, and replaced; a difference would need its base for that. */
function requireWholeFile(image: string, hasBase: boolean): void {
  if (image === '-') throw usage('the image of a running machine cannot go into a pipe', 'save it to a file');
  if (hasBase) {
    throw usage('the image of a running machine cannot be a difference', 'save it without --base, or without --live');
  }
}

/** A difference goes page by page and segment by segment: both must have the same ones. */
function requireFitting(base: OpenedImage, what: string, settings: SaveSettings, source: OpenedSource): void {
  const { pageSize, segmentSize } = base.input.head.start;
  const difference =
    (settings.pageSize === pageSize ? undefined : `pages of ${pageSize} bytes, not ${settings.pageSize}`) ??
    (settings.segmentSize === segmentSize
      ? undefined
      : `segments of ${segmentSize} bytes, not ${settings.segmentSize}`) ??
    regionsDifference(source.regions, imageRegions(base));
  if (difference !== undefined) throw unfitBase(what, base.input.path, difference);
}

/** An image that replaces its own source or base would leave the machine without memory. */
export function requireOtherFile(
  inputs: readonly { readonly fd: number; readonly path: string }[],
  what: string,
  image: string,
): void {
  const target = namedFileStats(image);
  if (target === undefined) return;
  for (const input of inputs) {
    const stats = openFileStats(input);
    if (stats.ino !== target.ino || stats.dev !== target.dev) continue;
    throw new VmsnapError('USAGE', `${what} and image are the same file, ${image}`, {
      path: image,
      hint: 'give the image another name',
    });
  }
}

/** A save whose last byte is written, but not yet synced. */
interface Finished {
  readonly manifest: EndManifest;
  readonly geometry: Geometry;
  readonly identity: string;
  readonly footer: Buffer;
  readonly imageBytes: number;
}

/** What a save needs open. */
export interface SaveInputs {
  readonly source: Pick<OpenedSource, 'manifest' | 'regions' | 'guarded' | 'unwrapping'> & {
    /** Of which the parts are among the attachments below. */
    readonly attachments?: OpenedSource['attachments'] | undefined;
    readonly description: SourceDescription | ImageSourceDescription;
  };
  /** The base and the images below it; empty: the image is whole by itself. */
  readonly base: readonly OpenedImage[];
  readonly attachments: readonly AttachmentInput[];
  /** Undefined: standard output. */
  readonly file: ReplacementFile | undefined;
  readonly detector: ChosenDetector;
  /** The source may say of pages that it does not know their contents (STATE_ABSENT). */
  readonly mayHaveAbsent?: boolean | undefined;
  /** Segments of the source may come in any order and repeatedly; its regions all have a size. */
  readonly mayOverride?: boolean | undefined;
  /** Stopped, and waiting for its memory to have been read. */
  readonly machine?: Pick<LiveMachine, 'memoryRead' | 'lateMemory'> | undefined;
  /** Of an image that is to be encrypted. */
  readonly seal?: NewSeal | undefined;
  /** What is known of the memory already, where it comes from an image. */
  readonly known?: { readonly mayHaveChanged: boolean; readonly digest: string; readonly path: string } | undefined;
}

export class Save {
  readonly #image: string;
  readonly #options: SaveOptions;
  readonly #settings: SaveSettings;
  readonly #inputs: SaveInputs;
  readonly #file: ReplacementFile | undefined;
  readonly #detector: ChosenDetector;
  readonly #dsaBefore: DsaReports | undefined;
  readonly #started = performance.now();
  readonly #warnings: Warning[] = [];
  readonly #control: SharedControl;
  readonly #limits: RunLimits;
  readonly #start: StartManifest;
  readonly #alignmentBytes: number;
  readonly #openEnded: boolean;
  #withReferences = false;
  #plan: MemoryPlan = { threads: 1, buffers: OUTPUT_BUFFERS_PER_WORKER };
  #live: LiveSaved | undefined;
  /** With a stand-in for the size of a region that is not known yet. */
  readonly #geometry: Geometry;

  constructor(image: string, options: SaveOptions, settings: SaveSettings, inputs: SaveInputs) {
    const { source, base, file, detector } = inputs;
    this.#image = image;
    this.#options = options;
    this.#settings = settings;
    this.#inputs = inputs;
    this.#file = file;
    this.#detector = detector;
    this.#dsaBefore = detector.device?.reports();
    this.#limits = checkLimits(options);
    this.#control = createControl(settings.threads + 1, pacerFor(this.#limits));
    const { pageSize, segmentSize, chunkSize, codec, labels, createdAt } = settings;
    this.#start = {
      tool: `vmsnap ${version}`,
      createdAt,
      pageSize,
      segmentSize,
      chunkSize,
      codec,
      machine: { name: options.name, uuid: options.uuid },
      labels,
      source: source.manifest,
      base: base[0] && baseManifest(base[0]),
      encryption: inputs.seal && { wrappedKey: inputs.seal.wrappedKey },
      regions: source.regions,
    };
    this.#alignmentBytes = alignmentOf(codec.name);
    this.#openEnded = source.regions.at(-1)!.sizeBytes === undefined;
    const sizes = source.regions.map((region) => region.sizeBytes ?? OPEN_ENDED_BYTES);
    this.#geometry = new Geometry(pageSize, segmentSize, chunkSize, sizes);
    if (!this.#openEnded && !this.#geometry.withinLimits) {
      throw new VmsnapError('USAGE', 'the memory has more segments than an image can hold', {
        hint: 'use a larger --segment-size',
      });
    }
  }

  async run(): Promise<SaveResult> {
    // To look at a sample would make the pause longer.
    if (this.#file !== undefined && this.#inputs.machine === undefined) await this.#requireRoom();
    // A running machine writes its memory; what is read of it when it stands still is guarded there.
    const guarded = this.#options.live === undefined ? this.#inputs.source.guarded : [];
    const guard = new SourceGuard(guarded, this.#options.frozen ?? false, (warning) => this.#warn(warning));
    try {
      this.#withReferences = this.#mayRefer(guard);
      this.#plan = this.#planMemory();
      return await this.#write(guard);
    } finally {
      guard.close();
    }
  }

  /** Duplicates are compared with what the source holds at their first place, so it must still be what was stored. */
  #mayRefer(guard: SourceGuard): boolean {
    const { source } = this.#inputs;
    if (this.#options.references === false || this.#options.live !== undefined) return false;
    if (source.description.kind !== 'extents') return false;
    // Pages that are stored as data to see how fast that is would all be duplicates.
    return guard.holdsStill && this.#settings.normalPageRatio === 0;
  }

  async #write(guard: SourceGuard): Promise<SaveResult> {
    const head = this.#encodeHead();
    if (this.#file === undefined) widenPipe(STDOUT_FD);
    const output: OutputDescription = {
      fd: this.#file?.fd ?? STDOUT_FD,
      path: this.#file === undefined ? 'standard output' : this.#image,
      isStream: this.#file === undefined,
      binding: imageBinding(head),
      alignmentBytes: this.#alignmentBytes,
      keys: this.#keys,
    };
    const shared = this.#createShared(output);
    const line = new CommitLine(shared, true);
    line.start(head.length, head.readUInt32LE(60));
    const unlink = linkSignal(this.#options.signal, this.#control);
    const endReports = reportProgress(
      'save',
      this.#control,
      this.#openEnded ? undefined : this.#geometry.totalBytes,
      this.#options,
    );
    try {
      line.write(head, 0);
      await line.flush();
      const results = await this.#runWorkers(shared);
      const mayHaveChanged = guard.finish() || (this.#inputs.known?.mayHaveChanged ?? false);
      await this.#inputs.machine?.memoryRead();
      const dsa = this.#dsaRun(results, mayHaveChanged || this.#options.live !== undefined);
      const end = await this.#finish(line, head, results, mayHaveChanged);
      endReports();
      await this.#options.confirm?.();
      await this.#file?.publish(() => this.#readBack(head, end.footer, end.geometry));
      return this.#result(end, dsa);
    } finally {
      endReports();
      unlink();
    }
  }

  #encodeHead(): Buffer {
    const json = encodeStartManifest(this.#start);
    const bytes = Buffer.alloc(roundUp(HEADER_BYTES + json.length, this.#alignmentBytes));
    json.copy(bytes, HEADER_BYTES);
    const header = encodeHeader({
      readVersion: FORMAT_VERSION,
      writeVersion: FORMAT_VERSION,
      alignmentBytes: this.#alignmentBytes,
      compatibleFeatures: 0n,
      incompatibleFeatures: this.#features,
      manifestBytes: json.length,
      manifestCrc: native.crc32c(bytes, HEADER_BYTES, bytes.length - HEADER_BYTES, 0),
    });
    header.copy(bytes);
    if (this.#keys !== undefined) setHeaderTag(bytes, headerTag(this.#keys, bytes));
    return bytes;
  }

  get #keys(): SealKeys | undefined {
    return this.#inputs.seal?.keys;
  }

  /** Decided before anything is read: what the image may hold. */
  get #features(): bigint {
    const references = this.#withReferences ? FEATURE_REFERENCES : 0n;
    const base = this.#start.base === undefined ? 0n : FEATURE_BASE;
    const overriding = this.#mayOverride ? FEATURE_OVERRIDING : 0n;
    const encryption = this.#keys === undefined ? 0n : FEATURE_ENCRYPTION;
    return references | base | overriding | encryption | (this.#inputs.mayHaveAbsent === true ? FEATURE_ABSENT : 0n);
  }

  /** What changes while a machine runs is stored once more. */
  get #mayOverride(): boolean {
    return this.#inputs.mayOverride === true || this.#options.live !== undefined;
  }

  /** How many threads and buffers there is memory for. More threads than segments would only be started and stopped. */
  #planMemory(): MemoryPlan {
    const { segmentSize, chunkSize, codec } = this.#settings;
    const threads = Math.max(1, Math.min(this.#settings.threads, this.#geometry.segmentCount));
    const { source, base, attachments } = this.#inputs;
    const { kind } = source.description;
    const decodesChain = base.length > 0 || kind === 'image' || this.#mayOverride;
    const threadBytes =
      SCAN_SHARE * segmentSize +
      compressorBytes(codec, chunkSize) +
      (this.#keys === undefined ? 0 : CIPHER_BYTES) +
      (kind === 'extents' && this.#options.live === undefined ? 0 : segmentSize + READER_BYTES) +
      (decodesChain ? chainDecoderBytes(segmentSize, chunkSize) : 0) +
      (this.#detector.device === undefined ? 0 : DEVICE_BYTES);
    const fixedBytes =
      (this.#withReferences ? DUPLICATES_BYTES : 0) +
      (this.#mayOverride ? this.#geometry.segmentCount * OVERRIDING_ENTRY_BYTES : 0) +
      (attachments.length === 0 && this.#options.machine === undefined ? 0 : ATTACHMENT_BYTES) +
      (source.unwrapping === undefined ? 0 : UNWRAPPING_BYTES);
    const need = { fixedBytes, threadBytes, bufferBytes: outputBufferBytes(this.#geometry, this.#alignmentBytes) };
    const smaller = segmentSize > SEGMENT_MIN_BYTES ? ['smaller segments (--segment-size)'] : [];
    const fewer = this.#withReferences ? ['--no-references'] : [];
    const hint = [...smaller, ...fewer].join(', ');
    return planMemory(need, { threads, buffers: OUTPUT_BUFFERS_PER_WORKER }, this.#limits, hint);
  }

  get #threads(): number {
    return this.#plan.threads;
  }

  #createShared(output: OutputDescription): CommitShared {
    return createCommitShared(
      this.#control,
      output,
      this.#openEnded ? undefined : this.#geometry.indexBlockCount,
      this.#threads * this.#plan.buffers,
      outputBufferBytes(this.#geometry, this.#alignmentBytes),
      undefined,
      this.#mayOverride ? this.#geometry.segmentCount : undefined,
    );
  }

  async #runWorkers(shared: CommitShared): Promise<readonly SaveWorkerResult[]> {
    const { live } = this.#options;
    const { description, guarded } = this.#inputs.source;
    if (live === undefined || description.kind !== 'extents') {
      const duplicates = this.#withReferences ? createDuplicatesShared() : undefined;
      const results = await runJobs<SaveWorkerResult>(this.#jobs(shared, description, duplicates), this.#control);
      if (duplicates !== undefined) keepDuplicatesTable(duplicates);
      return results;
    }
    this.#live = await saveLive({
      machine: live,
      source: description,
      files: guarded,
      image: this.#image,
      isSecret: this.#inputs.seal !== undefined,
      late: this.#inputs.machine && (() => this.#inputs.machine!.lateMemory()),
      shared,
      geometry: this.#geometry,
      jobs: (source) => this.#jobs(shared, source, undefined),
    });
    return this.#live.results;
  }

  #jobs(shared: CommitShared, source: SaveJob['source'], duplicates: DuplicatesShared | undefined): SaveJob[] {
    const { pageSize, segmentSize, chunkSize, codec, normalPageRatio } = this.#settings;
    const { kernel, device } = this.#detector;
    const base = this.#inputs.base.map(describeLink);
    return Array.from(
      { length: this.#threads },
      (_, worker): SaveJob => ({
        kind: 'save',
        worker,
        commit: shared,
        outputBuffers: this.#plan.buffers,
        source,
        base,
        pageSize,
        segmentSize,
        chunkSize,
        regionSizes: this.#geometry.regions.map((region) => region.sizeBytes),
        codec,
        detector: kernel,
        device:
          source.kind === 'changed' || source.kind === 'late' || device === undefined
            ? undefined
            : { handle: device.handle, aheadSegments: AHEAD_SEGMENTS, selfCheck: this.#selfCheck },
        normalPageRatio,
        duplicates,
      }),
    );
  }

  get #selfCheck(): boolean {
    return this.#options.dsa?.selfCheck ?? false;
  }

  #dsaRun(results: readonly SaveWorkerResult[], mayHaveChanged: boolean): DsaRun | undefined {
    if (this.#dsaBefore === undefined) return undefined;
    const shares = results.map(({ device }) => device);
    const run = describeDsaRun(this.#dsaBefore, this.#detector.device!.reports(), shares, this.#selfCheck);
    for (const warning of dsaWarnings(run, mayHaveChanged)) this.#warn(warning);
    return run;
  }

  async #finish(
    line: CommitLine,
    head: Buffer,
    results: readonly SaveWorkerResult[],
    mayHaveChanged: boolean,
  ): Promise<Finished> {
    const { numbers } = this.#control;
    const sizes = this.#trueSizes();
    const { pageSize, segmentSize, chunkSize } = this.#settings;
    const geometry = new Geometry(pageSize, segmentSize, chunkSize, sizes);
    const indexList = line.finishIndex(geometry.segmentCount);
    await line.flush();
    const late = await this.#lateAttachments();
    const attachments = await storeAttachments(
      [...this.#inputs.attachments, ...late],
      line,
      this.#settings.codec,
      { alignmentBytes: this.#alignmentBytes, keys: this.#keys, control: this.#control },
      this.#options.signal,
    );
    // Before the end of the image says that it is whole.
    await this.#inputs.source.unwrapping?.finish();
    const sums = sumRegions(
      results.map((result) => result.sums),
      sizes.length,
    );
    const regions = sizes.map((sizeBytes, i) => ({ sizeBytes, sum: sumHex(sums, i) }));
    const manifest: EndManifest = {
      regions,
      digest: memoryDigest(regions),
      pages: this.#pageCounts(geometry),
      chunks: {
        count: numbers[NUMBER_CHUNKS]!,
        stored: numbers[NUMBER_CHUNKS_STORED]!,
        raw: numbers[NUMBER_CHUNKS_RAW]!,
      },
      source: { mayHaveChanged },
      attachments,
    };
    this.#requireKnownDigest(manifest.digest);
    const endRecord = line.append(KIND_END, 0, 1, encodeEndManifest(manifest));
    const listRecord = line.append(KIND_INDEX_LIST, 0, indexList.length, encodeIndexList(indexList));
    const footerOffset = numbers[NUMBER_OUTPUT_OFFSET]!;
    const identity = imageIdentity(head, endRecord.bytes, listRecord.bytes, this.#keys !== undefined);
    const footer = encodeFooter(
      {
        fileBytes: footerOffset + FOOTER_BYTES,
        endOffset: endRecord.offset,
        indexListOffset: listRecord.offset,
        segmentCount: geometry.segmentCount,
        recordCount: numbers[NUMBER_OUTPUT_RECORDS]!,
        binding: imageBinding(head),
        chain: listRecord.crc,
        identity,
      },
      this.#keys,
    );
    line.write(footer, footerOffset);
    await line.flush();
    return { manifest, geometry, identity, footer, imageBytes: footerOffset + FOOTER_BYTES };
  }

  async #lateAttachments(): Promise<AttachmentInput[]> {
    const { live, attachments, signal } = this.#options;
    const parts = await live?.attachments?.();
    signal?.throwIfAborted();
    return memoryAttachments(parts ?? [], attachments ?? []);
  }

  /** Memory out of an image must be what that image says. */
  #requireKnownDigest(digest: string): void {
    const { known } = this.#inputs;
    if (known === undefined || known.digest === digest) return;
    throw corrupt(known.path, 0, 'the memory does not match its digest');
  }

  /** The size of an open-ended region is what the workers have seen of it. */
  #trueSizes(): number[] {
    if (!this.#openEnded) return this.#geometry.regions.map((region) => region.sizeBytes);
    const known = this.#geometry.regions.slice(0, -1).map((region) => region.sizeBytes);
    const done = sumStat(this.#control, STAT_DONE_BYTES);
    return [...known, done - known.reduce((sum, sizeBytes) => sum + sizeBytes, 0)];
  }

  #pageCounts(geometry: Geometry): PageCounts {
    const { numbers } = this.#control;
    const data = numbers[NUMBER_PAGES_DATA]!;
    const uniform = numbers[NUMBER_PAGES_UNIFORM]!;
    const absent = numbers[NUMBER_PAGES_ABSENT]!;
    const reference = numbers[NUMBER_PAGES_REFERENCE]!;
    const others = geometry.totalBytes / geometry.pageSize - data - uniform - reference - absent;
    // What has no record is zero, or the same as the base's.
    const zero = this.#start.base === undefined ? others : numbers[NUMBER_PAGES_ZERO]!;
    return { zero, data, uniform, reference, sameAsBase: others - zero, absent };
  }

  /** What is about to get the final name must open as the image that was meant. */
  #readBack(head: Buffer, footer: Buffer, geometry: Geometry): void {
    const file = { fd: this.#file!.fd, path: this.#image };
    const found = readHead(file);
    const readHeadBack = this.#keys === undefined ? found : openHead(found, this.#keys, this.#image);
    const tail = readTail(file, readHeadBack);
    const offset = tail.footer.fileBytes - FOOTER_BYTES;
    const same =
      readHeadBack.bytes.equals(head) &&
      tail.geometry.segmentCount === geometry.segmentCount &&
      readExactly(file, offset, FOOTER_BYTES, 'the footer').equals(footer);
    if (!same)
      throw new VmsnapError('IO', `${this.#image} does not read back as it was written`, { path: this.#image });
  }

  #baseResult(): SaveResult['base'] {
    const { base } = this.#inputs;
    if (base[0] === undefined) return undefined;
    return { path: base[0].input.path, identity: base[0].tail.footer.identity, chainLength: base.length };
  }

  #encryptionResult(): SaveResult['encryption'] {
    const { seal } = this.#inputs;
    return seal && { recipients: recipientKinds(seal.wrappedKey) };
  }

  #requireRoom(): Promise<void> {
    return requireRoom(this.#image, this.#inputs.source, this.#settings, this.#options, (warning) =>
      this.#warn(warning),
    );
  }

  #warn(warning: Warning): void {
    this.#warnings.push(warning);
    this.#options.onWarning?.(warning);
  }

  #result(end: Finished, dsa: DsaRun | undefined): SaveResult {
    const { manifest, identity, imageBytes, geometry } = end;
    return {
      image: this.#image,
      identity,
      source: this.#start.source,
      memoryBytes: geometry.totalBytes,
      imageBytes,
      pages: manifest.pages,
      pageSize: geometry.pageSize,
      regions: this.#start.regions.map(({ name, gpa }, i) => ({
        name,
        gpa,
        sizeBytes: manifest.regions[i]!.sizeBytes,
      })),
      chunks: manifest.chunks,
      digest: manifest.digest,
      codec: this.#settings.codec.name,
      level: this.#settings.codec.level,
      sourceMayHaveChanged: manifest.source.mayHaveChanged,
      attachments: manifest.attachments.length,
      base: this.#baseResult(),
      encryption: this.#encryptionResult(),
      machine: undefined,
      run: {
        detector: this.#detector.name,
        detectorReason: this.#detector.reason,
        dsaPresent: this.#detector.dsaPresent,
        dsa,
        threads: this.#threads,
        limits: this.#limits,
        peakMemoryBytes: peakMemoryBytes(),
        durationSeconds: (performance.now() - this.#started) / 1000,
        readBytes: sumStat(this.#control, STAT_READ_BYTES),
        holeBytes: sumStat(this.#control, STAT_HOLE_BYTES),
        sweptFiles: this.#file?.sweptFiles ?? 0,
        live: this.#live?.run,
      },
      warnings: this.#warnings,
    };
  }
}

function baseManifest({ input, tail }: OpenedImage): BaseManifest {
  return { identity: tail.footer.identity, fileName: lastingName(input.path) };
}

/** A link beside the file, such as `latest`, may soon lead elsewhere: then the file's own name lasts longer. */
function lastingName(path: string): string {
  return withSystemErrors('look at', path, () => {
    const real = realpathSync(path);
    return dirname(real) === realpathSync(dirname(path)) ? basename(real) : basename(path);
  });
}
