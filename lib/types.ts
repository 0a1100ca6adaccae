/** Options and results of the public functions. Sizes are bytes, times seconds; unknown is undefined. */
import type { MachineLayout } from '../formats/machineLayout.js';
import type { KnownPages, MemoryAttachment, MemoryFact, MemoryFormat } from '../formats/memoryFile.js';
import type { CodecName } from '../formats/vmsnap/layout.js';
import type { PageCounts } from '../formats/vmsnap/manifest.js';
import type { DsaCounters } from '../native/binding.js';
import type { ErrorCode } from '../native/errors.js';
import type { DsaDevice } from './dsaDevice.js';

export type { CodecName, KnownPages, MemoryAttachment, MemoryFact, MemoryFormat, PageCounts };

export type DetectorName = 'auto' | 'dsa' | 'dsa-emulated' | 'avx2' | 'neon' | 'scalar';
/** What a load writes: the regions end to end, an ELF core, or a LiME file. */
export type TargetFormat = 'raw' | 'elf' | 'lime';
export type LayoutName = MachineLayout;

/** How far a long operation is. */
export interface Progress {
  /** `index`: a migration stream is read once before its memory is, to find the pages in it. */
  readonly phase: 'index' | 'save' | 'load' | 'verify' | 'compare' | 'estimate';
  /** Bytes of memory, of the image in a verify, or of the file in an index, that are done. */
  readonly doneBytes: number;
  /** Undefined for a stream of unknown length. */
  readonly totalBytes: number | undefined;
  /** Image bytes written or read so far. */
  readonly imageBytes: number;
  readonly elapsedSeconds: number;
}

/** Something that did not stop the work but that the user should know. */
export interface Warning {
  /** Stable name, such as `source-may-change`. */
  readonly code: string;
  readonly message: string;
}

export interface CommonOptions {
  /** Worker threads; default: the processors this process may use (affinity and cgroup quota). */
  readonly threads?: number | undefined;
  /** Stops the work; nothing is left behind. The promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** At least this long between two calls of onProgress; default 0.2. */
  readonly progressIntervalSeconds?: number | undefined;
  readonly onWarning?: ((warning: Warning) => void) | undefined;
}

/** Ceilings. They never change what is written. */
export interface LimitOptions {
  /**
   * On the memory of this process, bytes: fewer threads and buffers are used until the work fits. Too little even for one thread is
   * USAGE, and the message says how much it takes.
   */
  readonly memoryLimitBytes?: number | undefined;
  /**
   * On the bytes written a second to the image or target, at least 65,536. In any stretch of time at most an eighth of a second's
   * worth goes out beyond that, and 256 KiB (a page, if that is larger) for each thread. Holes are not written. Nor does it count what a save of
   * a running machine copies aside while that stands still.
   */
  readonly writeBytesPerSecond?: number | undefined;
}

/** The ceilings that were held; undefined: none. */
export interface RunLimits {
  readonly memoryBytes: number | undefined;
  readonly writeBytesPerSecond: number | undefined;
}

/** A range of guest-physical memory and where its bytes are. */
export interface RegionOption {
  readonly name: string;
  readonly sizeBytes: number;
  /** Guest-physical address. */
  readonly gpa: number;
  /** File that holds the region; default: SOURCE. */
  readonly file?: string | undefined;
  /** Offset in that file; default: where the region before it in the same file ends. */
  readonly fileOffset?: number | undefined;
}

/** A memory file of another tool, told by its content or named by the caller. */
export interface RecognisedSource {
  readonly path: string;
  readonly format: MemoryFormat;
  /** For people, with an article: "a QEMU migration stream". */
  readonly title: string;
  /** As the format counts. */
  readonly version: string | undefined;
}

/** How a source that is no image is to be understood. */
export interface SourceOptions extends Pick<CommonOptions, 'signal' | 'onProgress' | 'progressIntervalSeconds'> {
  /**
   * `auto` (default): its content tells. `raw`: bytes of memory, whatever they look like. Else it must be of this format.
   * `firecracker` and `cloud-hypervisor` have no magic of their own.
   */
  readonly format?: 'auto' | 'raw' | MemoryFormat | undefined;
  /** Of a Firecracker snapshot: its state file, which becomes an attachment. The source is its memory file then. */
  readonly vmstate?: string | undefined;
  /** Of a Firecracker diff snapshot: the full memory file below it. The source is the diff then. */
  readonly diffBase?: string | undefined;
  /** An open pipe to read the memory from; SOURCE is then undefined. `name` stands in messages. It is left open. */
  readonly stream?: { readonly fd: number; readonly name: string } | undefined;
  /** Of raw memory only. */
  readonly regions?: readonly RegionOption[] | undefined;
  readonly layout?: LayoutName | undefined;
  /** Called before the memory is read where it is in the file of another tool. */
  readonly onRecognised?: ((source: RecognisedSource) => void) | undefined;
}

/** Where a passphrase is, or a key that systemd hands over. */
export interface SecretSources {
  readonly passphrase?: string | undefined;
  /** Its contents without the end of the line. */
  readonly passphraseFile?: string | undefined;
  /** A shell command that writes the passphrase to its standard output. */
  readonly passphraseCommand?: string | undefined;
  /**
   * The name of a systemd credential (LoadCredential=): age identities, one a line, or else a passphrase. To encrypt, it may hold
   * recipients as well; of identities the public part is taken.
   */
  readonly credential?: string | undefined;
  /** Called for a secret in a file that others may read. */
  readonly onWarning?: ((warning: Warning) => void) | undefined;
}

/** What opens encrypted images, whichever of it fits. Read once an object, when the first encrypted image is met. */
export interface KeySources extends SecretSources {
  /** Identities of age: AGE-SECRET-KEY-1... */
  readonly identities?: readonly string[] | undefined;
  /** Files of them, one a line; lines that begin with # are comments. */
  readonly identityFiles?: readonly string[] | undefined;
}

export interface KeyOptions {
  /** For encrypted images; without it only what stands outside of the seal can be read. */
  readonly keys?: KeySources | undefined;
}

/** Who can read an encrypted image: recipients, or who knows the passphrase; not both. */
export interface EncryptionOptions extends SecretSources {
  /** Public keys of age: age1... */
  readonly recipients?: readonly string[] | undefined;
  /** Files of them, one a line; lines that begin with # are comments. */
  readonly recipientsFiles?: readonly string[] | undefined;
}

export interface SaveOptions extends CommonOptions, BaseDirOptions, SourceOptions, LimitOptions {
  readonly codec?: CodecName | undefined;
  /** zstd -100 to 22, zlib 1 to 9; default 1. */
  readonly level?: number | undefined;
  /** Power of two, 4 KiB to 2 MiB; default 4 KiB. */
  readonly pageSize?: number | undefined;
  /** Unit of work; power of two, 1 to 64 MiB; default 4 MiB, with `live` 1 MiB, as a segment that changes is stored twice. */
  readonly segmentSize?: number | undefined;
  /** Unit of random access; power of two, 4 KiB to 4 MiB; default 256 KiB. */
  readonly chunkSize?: number | undefined;
  /** What tells zero pages from others; never changes the image. Default: `auto`. */
  readonly detector?: DetectorName | undefined;
  readonly dsa?: DsaOptions | undefined;
  /**
   * 0 to 100, to analyse throughput: this share of the zero pages is stored as if it were data, spread evenly by page
   * number. Segments that are holes of the source altogether are left out all the same. The memory that the image holds
   * is not changed. Default 0.
   */
  readonly normalPageRatio?: number | undefined;
  /** The machine's name and uuid, for inspect and backup. */
  readonly name?: string | undefined;
  readonly uuid?: string | undefined;
  readonly labels?: ReadonlyMap<string, string> | Readonly<Record<string, string>> | undefined;
  readonly attachments?: readonly AttachmentOption[] | undefined;
  /** The caller vouches that nobody writes the source (a paused VM): no lease, no warning. */
  readonly frozen?: boolean | undefined;
  /**
   * False: store duplicate pages each time. By default a page that an earlier one is the same as is stored as a reference
   * to it, where the source can be read again and holds still (docs/decisions.md).
   */
  readonly references?: boolean | undefined;
  /** Replace an existing image. */
  readonly force?: boolean | undefined;
  /**
   * Store only what differs from this image. Sizes and regions that are not given are taken from it. The new image needs it,
   * under the same file name, whenever its memory is read.
   */
  readonly base?: string | undefined;
  /** Encrypts the image; a difference to an encrypted image must be encrypted. */
  readonly encryption?: EncryptionOptions | undefined;
  /** Stands in the image as its time of creation, to the second; default: SOURCE_DATE_EPOCH, else the clock. */
  readonly createdAt?: Date | undefined;
  readonly machine?: MachineOptions | undefined;
  /** Asked once the image is whole and before it gets its name: if it rejects, the save fails and leaves nothing. */
  readonly confirm?: (() => Promise<void>) | undefined;
  /**
   * The machine whose memory this is runs: it is stopped by this only for as long as it takes to find what has changed meanwhile. For
   * memory that lies in files as it is, whole images, and into a file.
   */
  readonly live?: LiveMachine | undefined;
}

/**
 * A running machine, as a save stops it. Each function is called at most once, in this order; where one rejects, the save
 * rejects with that and leaves nothing. Once `stop` has been called it is the caller who sees to it that the machine runs again,
 * whatever becomes of the save.
 */
export interface LiveMachine {
  /**
   * Called when all memory has been stored once. From when it resolves until `memoryRead` is called nobody may write the memory. To reject is
   * also the way to give up because the machine's memory is laid out in another way by now: save again then.
   */
  stop(): Promise<void>;
  /** The memory is not read any more: the machine may run on. The save goes on when this resolves. */
  memoryRead(): Promise<void>;
  /** Attachments that are known only now, stored behind the others. Asked when all memory is stored. */
  attachments?(): Promise<readonly MemoryAttachment[]>;
  /**
   * How much of the memory may be copied into a file without a name beside the image while the machine stands still. What has changed
   * beyond that is stored at once, which takes longer. Default: a quarter of the memory.
   */
  readonly copiedBytesMost?: number | undefined;
}

/** How a save of a running machine went. */
export interface LiveRun {
  /** Storing all memory while the machine ran: about as long as it would have stood still without that. */
  readonly firstPassSeconds: number;
  /** Processor time of that, of all threads. */
  readonly firstPassCpuSeconds: number;
  /** From the call of `stop` to that of `memoryRead`. */
  readonly pauseSeconds: number;
  /** Of that: reading the stopped machine's memory, and copying what has changed. */
  readonly changesSeconds: number;
  /** Storing what had been copied. */
  readonly lastPassSeconds: number;
  readonly changedPages: number;
  readonly changedSegments: number;
  /** Those of them that were stored while the machine stood still, since more had changed than may be copied. */
  readonly segmentsStoredInPause: number;
  readonly copiedBytes: number;
}

/** For sources that are running machines: `qemu:SOCKET` and `libvirt:DOMAIN`. */
export interface MachineOptions {
  /** What becomes of the machine; default: what it was, but that one found paused cannot be migrated again before it has run. */
  readonly after?: 'resume' | 'pause' | 'quit' | undefined;
  /** A shell command that runs while the machine is stopped, before its memory is read: if it fails, so does the save. */
  readonly whilePaused?: string | undefined;
  /**
   * The memory is stored while the machine runs, and only what changes meanwhile is taken while it stands still. For memory in
   * shared, named files, and whole images in a file. A machine that is found paused is saved as it stands.
   */
  readonly live?: boolean | undefined;
  /** The guest agent holds the guest's file systems still meanwhile. */
  readonly quiesce?: boolean | undefined;
  /** The guest agent's socket; libvirt knows it. */
  readonly agent?: string | undefined;
  /** A longer pause ends the save (TIMEOUT), and the machine goes on; default: no limit. */
  readonly maxPauseSeconds?: number | undefined;
  /** How long QEMU may take for an answer; default 60. */
  readonly answerSeconds?: number | undefined;
  /** How long a lost connection is tried again; default 10. */
  readonly reconnectSeconds?: number | undefined;
}

/** What a save did with a running machine. */
export interface MachineRun {
  readonly qemuVersion: string;
  readonly machineType: string;
  /** QEMU's word for its state before: "running", "paused", ... */
  readonly found: string;
  readonly left: 'running' | 'paused' | 'ended';
  /** From the first word of stopping it until it ran again; undefined: it did not run before, or does not after. */
  readonly pauseSeconds: number | undefined;
  /** Of a save with `live`; undefined: without, or a machine that did not run. */
  readonly live: LiveMachineRun | undefined;
  /** Whether the memory was read from its files, or came in the migration stream. */
  readonly memory: 'files' | 'stream';
  /** Why it came in the stream. */
  readonly memoryReason: string | undefined;
  /** What the guest agent held still. */
  readonly frozenFileSystems: number | undefined;
  /** Block nodes that the machine may write; the image says what their files were. */
  readonly disks: number;
}

/** What it brought that the memory was stored while the machine ran. */
export interface LiveMachineRun {
  /**
   * How long the machine would have stood still otherwise, an estimate between two bounds: what the pause took beside looking
   * for changes, and the first pass; by its processor time, shared evenly by the threads, and as long as it took, with the machine beside it.
   */
  readonly pauseWithoutSeconds: { readonly atLeast: number; readonly atMost: number };
  /** How often the machine's memory was laid out in another way by the end, and the save began anew. */
  readonly restarts: number;
}

/** For the detectors `dsa` and `dsa-emulated`, and for `auto` where it takes a device. */
export interface DsaOptions {
  /** Work queues ("/dev/dsa/wq0.0"); default: all that can be used. */
  readonly nodes?: readonly string[] | undefined;
  /** Pages in one batch, 1 to 65536, lowered to what a queue takes; default 128. */
  readonly batchPages?: number | undefined;
  /** Descriptors in flight in one queue, 1 to 65536; default and upper limit: the entries of the queue. */
  readonly depth?: number | undefined;
  /** The CPU looks at every page that the device has answered for; a wrong answer is a warning, never a wrong image. */
  readonly selfCheck?: boolean | undefined;
  /** A device that is open already (`openDsa`), instead of one that is opened for this save. */
  readonly device?: DsaDevice | undefined;
}

/** What a DSA device did in a save. With a device that several saves use at once, counters and times are of all. */
export interface DsaRun {
  /** A device in software: no figure here says how fast a real one is. */
  readonly emulated: boolean;
  readonly queues: readonly DsaQueueRun[];
  readonly times: {
    /** CPU time of the workers for submitting, and of the thread that takes what is completed. */
    readonly submissionCpuSeconds: number;
    readonly completionCpuSeconds: number;
    /** CPU time for making pages reachable. */
    readonly reachableCpuSeconds: number;
    /** Time that workers waited for answers. */
    readonly waitingSeconds: number;
    /** CPU time of the emulated device, which a real one would not take. */
    readonly emulatorCpuSeconds: number | undefined;
  };
  /** Pages that the device called zero; they were not read, unless by the self-check. */
  readonly pagesZero: number;
  /** Pages outside of holes that the CPU decided because there was no answer. */
  readonly pagesCheckedByCpu: number;
  /** Answers that the CPU checked again. */
  readonly selfCheck: { readonly pages: number; readonly wrong: number } | undefined;
}

export interface DsaQueueRun {
  readonly node: string;
  readonly numaNode: number;
  /** How descriptors reach it; `none`: it was not used, and `reason` says why. */
  readonly way: 'none' | 'enqcmd' | 'movdir64b' | 'write-batch' | 'write-single';
  readonly batches: boolean;
  /** Entries that were used of it, and pages in a batch. */
  readonly depth: number;
  readonly batchPages: number;
  /** Set aside when the save ended. */
  readonly sick: boolean;
  readonly reason: string;
  readonly counters: DsaCounters;
}

export interface AttachmentOption {
  readonly name: string;
  readonly file: string;
}

export interface SaveResult {
  readonly image: string;
  /** 32 hex digits: names this image among all (SPEC.md, "Identity"). */
  readonly identity: string;
  /** `raw`, `stream`, `gzip` or the format of another tool's file, and the file's name without a folder. */
  readonly source: { readonly kind: string; readonly name: string | undefined };
  readonly memoryBytes: number;
  readonly imageBytes: number;
  readonly pages: PageCounts;
  readonly pageSize: number;
  /** `gpa` undefined: the source does not tell the guest-physical address. */
  readonly regions: readonly { name: string; gpa: number | undefined; sizeBytes: number }[];
  readonly chunks: { readonly count: number; readonly stored: number; readonly raw: number };
  /** 32 hex digits (SPEC.md, "Memory digest"). */
  readonly digest: string;
  readonly codec: CodecName;
  readonly level: number | undefined;
  /** Whether somebody could have written the source while it was read. */
  readonly sourceMayHaveChanged: boolean;
  readonly attachments: number;
  /** Of a differential image: what it needs, and how many images that is in all. */
  readonly base: { readonly path: string; readonly identity: string; readonly chainLength: number } | undefined;
  /** Of an encrypted image: the kind of each recipient, as "X25519" or "scrypt" (a passphrase). */
  readonly encryption: { readonly recipients: readonly string[] } | undefined;
  /** Of a running machine. */
  readonly machine: MachineRun | undefined;
  /** Facts of this run; never part of the image. */
  readonly run: {
    /** `dsa-emulated` is said wherever a device in software was used. */
    readonly detector: string;
    /** Why this one. */
    readonly detectorReason: string;
    /** Whether this machine has a DSA driver; undefined: nobody looked. */
    readonly dsaPresent: boolean | undefined;
    readonly dsa: DsaRun | undefined;
    readonly threads: number;
    readonly limits: RunLimits;
    /** The most that this process has had so far. */
    readonly peakMemoryBytes: number;
    readonly durationSeconds: number;
    /** Bytes read from the source; holes are not read. */
    readonly readBytes: number;
    readonly holeBytes: number;
    readonly sweptFiles: number;
    /** Of a running machine. */
    readonly live?: LiveRun | undefined;
  };
  readonly warnings: readonly Warning[];
}

export interface BaseDirOptions extends KeyOptions {
  /** Folders in which the base of a differential image is sought if it is not beside the image. */
  readonly baseDirs?: readonly string[] | undefined;
}

export interface LoadOptions extends CommonOptions, BaseDirOptions, LimitOptions {
  /** Format of the target; default `raw`. The others are for new files and streams, and leave out regions of unknown address. */
  readonly as?: TargetFormat | undefined;
  /** Only this region. */
  readonly region?: string | undefined;
  /** Only this part of the memory, or of `region` if given. */
  readonly range?: { readonly offset: number; readonly length: number } | undefined;
  /** Write where the target stands instead of a temporary file and a rename. */
  readonly inPlace?: boolean | undefined;
  /** Replace an existing target. */
  readonly force?: boolean | undefined;
  /** Permissions of a new target; default 0600. */
  readonly mode?: number | undefined;
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

export interface LoadResult {
  readonly target: string;
  readonly format: TargetFormat;
  /** Headers of the format not counted. */
  readonly memoryBytes: number;
  readonly dataBytes: number;
  /** Pages whose contents the image does not know (excluded or unplugged): they are zero in the target. */
  readonly absentPages: number;
  /** Bytes read of the image and its bases. */
  readonly imageBytes: number;
  /** The files that a differential image was put together with, nearest first. */
  readonly bases: readonly string[];
  readonly digest: string;
  /** What the digests proved: all memory, each region that was wanted, or the whole leaves of a range. */
  readonly proven: 'memory' | 'region' | 'leaves';
  readonly run: {
    readonly threads: number;
    readonly limits: RunLimits;
    /** The most that this process has had so far. */
    readonly peakMemoryBytes: number;
    readonly durationSeconds: number;
    readonly inPlace: boolean;
  };
  readonly warnings: readonly Warning[];
}

export interface SalvageOptions extends CommonOptions, BaseDirOptions, LimitOptions {
  /** Replace an existing target. */
  readonly force?: boolean | undefined;
  /** Permissions of the target; default 0600. */
  readonly mode?: number | undefined;
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

/** What was brought back of a damaged image. */
export interface SalvageResult {
  readonly image: string;
  readonly target: string;
  /** `index`: its end and index were sound. `walk`: its records were looked for from its beginning on. */
  readonly way: 'index' | 'walk';
  readonly memoryBytes: number;
  /** Bytes of memory that are in the target as they were saved, zeros among them. */
  readonly wholeBytes: number;
  readonly lostBytes: number;
  /** Memory that could not be brought back, in the order of the memory; holes in the target. */
  readonly lost: readonly { readonly region: string; readonly offset: number; readonly length: number }[];
  readonly regions: readonly {
    readonly name: string;
    readonly sizeBytes: number;
    readonly lostBytes: number;
    /** Nothing of it is lost, and its digest is right. */
    readonly proven: boolean;
  }[];
  readonly dataBytes: number;
  /** Pages whose contents the image does not know: they are zero in the target. */
  readonly absentPages: number;
  readonly imageBytes: number;
  readonly bases: readonly string[];
  /** Of the whole memory, if the image's end is left. */
  readonly digest: string | undefined;
  readonly run: {
    readonly threads: number;
    readonly limits: RunLimits;
    readonly peakMemoryBytes: number;
    readonly durationSeconds: number;
  };
  readonly warnings: readonly Warning[];
}

export type RestoreDrillOptions = CommonOptions & BaseDirOptions & Pick<LimitOptions, 'memoryLimitBytes'>;

/** What a load that wrote nothing brought back and proved. */
export interface RestoreDrillResult extends Pick<LoadResult, 'memoryBytes' | 'dataBytes' | 'imageBytes' | 'bases'> {
  readonly image: string;
  /** Of the memory; it was checked. */
  readonly digest: string;
  readonly proven: LoadResult['proven'];
  readonly run: { readonly threads: number; readonly durationSeconds: number };
  readonly warnings: readonly Warning[];
}

export interface FlattenOptions extends CommonOptions, BaseDirOptions, LimitOptions {
  /** Default: as in the image. */
  readonly codec?: CodecName | undefined;
  readonly level?: number | undefined;
  /** Encrypts the new image. For an encrypted image either this or `decrypt` must be given. */
  readonly encryption?: EncryptionOptions | undefined;
  /** Writes what an encrypted image holds in the clear. */
  readonly decrypt?: boolean | undefined;
  /** Replace an existing file. */
  readonly force?: boolean | undefined;
}

export interface VerifyOptions extends CommonOptions, BaseDirOptions, Pick<LimitOptions, 'memoryLimitBytes'> {
  /** Check headers, manifests, index and tables, but read no payload. */
  readonly structureOnly?: boolean | undefined;
  /**
   * Results of calls before with the same options, filled by each call: a file that several images need is then read once
   * for itself. Give the bases before the images that need them.
   */
  readonly known?: Map<string, VerifyResult> | undefined;
}

/** One damaged place of an image, or of a base of it. */
export interface Finding {
  /** The file that is damaged. */
  readonly path: string;
  /** header, manifest, record, tables, chunk, padding, index, end, footer, digest */
  readonly structure: string;
  readonly offset: number;
  readonly message: string;
  readonly region?: string | undefined;
  readonly segment?: number | undefined;
  /** The memory that is lost by it: byte ranges of the region. */
  readonly ranges?: readonly { readonly offset: number; readonly length: number }[] | undefined;
}

export interface VerifyResult {
  readonly image: string;
  readonly intact: boolean;
  /**
   * True: the image is encrypted and no key was given. Then its structure and the checksums of what is stored were checked; what it holds,
   * its bases, and that nobody changed it on purpose, were not.
   */
  readonly sealed: boolean;
  /** At most 1,000; `findingCount` has the true number. */
  readonly findings: readonly Finding[];
  readonly findingCount: number;
  /** The images below a differential one, nearest first; `findings` and counts have theirs too. */
  readonly bases: readonly {
    readonly path: string;
    readonly identity: string;
    readonly intact: boolean;
    readonly findingCount: number;
  }[];
  readonly imageBytes: number;
  readonly identity: string | undefined;
  readonly digest: string | undefined;
  readonly checked: { readonly records: number; readonly chunks: number; readonly memoryBytes: number };
  readonly run: { readonly threads: number; readonly durationSeconds: number };
}

export interface InspectOptions extends BaseDirOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface InspectMemoryOptions extends Pick<SourceOptions, 'format' | 'vmstate' | 'diffBase'> {
  readonly signal?: AbortSignal | undefined;
}

/** What the memory file of another tool says of itself; nothing of the memory is read. */
export interface MemoryFileReport {
  readonly path: string;
  readonly format: MemoryFormat;
  /** For people, with an article: "a QEMU migration stream". */
  readonly title: string;
  /** As the format counts. */
  readonly version: string | undefined;
  /** Of all files that belong to it. */
  readonly fileBytes: number;
  /** Bytes on disk (sparse or compressed file systems). */
  readonly allocatedBytes: number;
  readonly machine: { readonly name: string | undefined; readonly uuid: string | undefined };
  /** What else the format knows, in the order in which it is worth reading. */
  readonly facts: readonly MemoryFact[];
  readonly memory: {
    readonly sizeBytes: number;
    readonly pageSize: number;
    readonly regions: readonly {
      readonly name: string;
      /** Undefined: not known. */
      readonly gpa: number | undefined;
      readonly sizeBytes: number;
    }[];
    readonly pages: KnownPages;
  };
  /** What a save would attach. */
  readonly attachments: readonly { readonly name: string; readonly sizeBytes: number }[];
}

/** One cell of the heat bar: an equal share of the machine's memory, regions end to end. */
export interface HeatCell {
  readonly pages: number;
  readonly dataPages: number;
  readonly uniformPages: number;
  readonly referencePages: number;
  readonly absentPages: number;
  /** Stored bytes of the records that lie in the cell. */
  readonly storedBytes: number;
}

/** A differential image and the images below it, as far as they were found, and what bringing back its memory would read. */
export interface ChainReport {
  /** False: a base is missing or is not what it should be, and the memory cannot be brought back. */
  readonly complete: boolean;
  /** Why it is not complete. */
  readonly problem:
    | {
        readonly code: string;
        readonly path: string | undefined;
        readonly message: string;
        readonly hint: string | undefined;
      }
    | undefined;
  /** The image itself first. */
  readonly images: readonly {
    readonly path: string;
    readonly identity: string;
    readonly fileBytes: number;
    /** Chunks and bytes to read, at most; undefined if the chain is not complete. */
    readonly restoreChunks: number | undefined;
    readonly restoreBytes: number | undefined;
  }[];
}

/** What `inspect` can tell from header, manifests and index alone; nothing of the memory is read. */
export interface InspectReport {
  readonly path: string;
  readonly fileBytes: number;
  /** Bytes on disk (sparse or compressed file systems). Undefined for a stream. */
  readonly allocatedBytes: number | undefined;
  /** False: the image ends before its footer, or its end is damaged; what follows from the end is then undefined. */
  readonly complete: boolean;
  /** What is wrong, in the order of the file; empty for a sound image. */
  readonly problems: readonly {
    readonly code: ErrorCode;
    readonly offset: number | undefined;
    readonly message: string;
  }[];
  /** Everything below this offset was checked and can be trusted. */
  readonly trustedBytes: number;
  readonly format: {
    readonly readVersion: number;
    readonly writeVersion: number;
    readonly compatibleFeatures: readonly string[];
    readonly incompatibleFeatures: readonly string[];
    readonly alignmentBytes: number;
  };
  readonly identity: string | undefined;
  /** Of an encrypted image. Not opened: what is sealed is undefined. `recipients`: the kind of each, as "X25519" or "scrypt" (a passphrase). */
  readonly encryption: { readonly opened: boolean; readonly recipients: readonly string[] } | undefined;
  /** What a differential image names as its base. */
  readonly base: { readonly identity: string; readonly fileName: string } | undefined;
  /** Undefined where the image is a stream or not complete, and in a report of an open image. */
  readonly chain: ChainReport | undefined;
  /** Of an image of a running machine: what QEMU it was. Undefined in a report of an open image. */
  readonly qemu: { readonly qemuVersion: string; readonly machineType: string; readonly disks: number } | undefined;
  readonly tool: string;
  readonly createdAt: string;
  readonly machine: { readonly name: string | undefined; readonly uuid: string | undefined };
  readonly labels: ReadonlyMap<string, string>;
  readonly source: {
    readonly kind: string;
    readonly name: string | undefined;
    readonly mayHaveChanged: boolean | undefined;
  };
  readonly memory: {
    readonly sizeBytes: number | undefined;
    readonly pageSize: number;
    readonly segmentSize: number;
    readonly segments: number | undefined;
    readonly regions: readonly InspectRegion[];
    readonly pages: PageCounts | undefined;
    readonly digest: string | undefined;
  };
  readonly storage: {
    readonly codec: CodecName;
    readonly level: number | undefined;
    readonly chunkSize: number;
    readonly chunks: number | undefined;
    /** Chunks stored as they are because they would not shrink. */
    readonly rawChunks: number | undefined;
    readonly storedBytes: number | undefined;
    /** Bytes of the data pages over stored bytes. */
    readonly dataRatio: number | undefined;
    /** Memory over image file. */
    readonly memoryRatio: number | undefined;
    readonly indexBytes: number | undefined;
    readonly records: number | undefined;
  };
  readonly attachments: readonly { readonly name: string; readonly sizeBytes: number }[] | undefined;
  /** 64 cells; undefined where there is no index. */
  readonly heat: readonly HeatCell[] | undefined;
}

export interface InspectRegion {
  readonly name: string;
  /** Undefined where the guest-physical address is not known. */
  readonly gpa: number | undefined;
  readonly sizeBytes: number | undefined;
  /** Region digest: the sum of SPEC.md, "Memory digest". */
  readonly sum: string | undefined;
  readonly dataPages: number | undefined;
  readonly uniformPages: number | undefined;
  readonly referencePages: number | undefined;
  readonly absentPages: number | undefined;
  readonly storedBytes: number | undefined;
}

/** A run of pages of one state in one region. */
export interface MapRange {
  readonly region: string;
  /** Offset in the region. */
  readonly offset: number;
  readonly length: number;
  readonly state: string;
}

export interface ChunkInfo {
  readonly region: string;
  readonly segment: number;
  readonly chunk: number;
  /** Offset in the image file. */
  readonly offset: number;
  readonly pages: number;
  readonly rawBytes: number;
  readonly storedBytes: number;
  readonly crc: number;
}

export interface ExtractOptions extends KeyOptions {
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CompareOptions extends CommonOptions, BaseDirOptions, Pick<SourceOptions, 'format' | 'onRecognised'> {
  /** Only this region. */
  readonly region?: string | undefined;
  /** Only this part of A's memory, or of `region` if given; rounded out to whole pages. */
  readonly range?: { readonly offset: number; readonly length: number } | undefined;
  /** Cells of the heat bar, 1 to 4096; default 64. */
  readonly heatCells?: number | undefined;
}

/** From A to B. Zero pages that became data are `was-zero`, data pages that became zero `became-zero`. */
export type MemoryChange = 'changed' | 'became-zero' | 'was-zero' | 'only-in-a' | 'only-in-b';

/** What is compared with what. */
export interface CompareSide {
  readonly path: string;
  readonly kind: 'image' | 'memory';
  /** Of memory: `raw`, or what its file is. */
  readonly format: string | undefined;
  readonly memoryBytes: number;
  /** Of an image. */
  readonly identity: string | undefined;
  /** The files that a differential image was put together with, nearest first. */
  readonly bases: readonly string[];
  /** Pages, of those that were compared, whose contents this side does not know: they count as zero. */
  readonly absentPages: number;
}

/** Numbers of pages. */
export interface ComparePages {
  /** Those that are zero on both sides included. */
  readonly same: number;
  readonly bothZero: number;
  readonly changed: number;
  readonly becameZero: number;
  readonly wasZero: number;
}

export interface CompareRegion {
  readonly name: string;
  /** Undefined where the guest-physical address is not known. */
  readonly gpa: number | undefined;
  /** Undefined where a side has no such region. */
  readonly sizeBytesA: number | undefined;
  readonly sizeBytesB: number | undefined;
  /** Of what both sides have. */
  readonly pages: ComparePages;
  /** Bytes that only one side has. */
  readonly onlyInABytes: number;
  readonly onlyInBBytes: number;
}

/** A run of pages of one change in one region. */
export interface Difference {
  readonly region: string;
  /** Offset in the region. */
  readonly offset: number;
  readonly length: number;
  readonly change: MemoryChange;
}

/** One cell of the heat bar of a comparison: an equal share of the memory. */
export interface CompareCounts {
  readonly pages: number;
  readonly differentPages: number;
}

export interface CompareResult {
  readonly a: CompareSide;
  readonly b: CompareSide;
  readonly equal: boolean;
  /** Bytes of what is counted as one page: the smaller page of the two sides. */
  readonly pageSize: number;
  /** Bytes that both sides have. */
  readonly comparedBytes: number;
  readonly pages: ComparePages;
  /** Bytes that only one side has. */
  readonly onlyInABytes: number;
  readonly onlyInBBytes: number;
  readonly regions: readonly CompareRegion[];
  /** What differs, in the order of the memory: the first 65,536 ranges at most. */
  readonly ranges: readonly Difference[];
  /** There are more ranges than `ranges` holds. */
  readonly rangesCut: boolean;
  readonly heat: readonly CompareCounts[];
  readonly run: { readonly threads: number; readonly durationSeconds: number };
}

export interface EstimateOptions
  extends CommonOptions,
    SourceOptions,
    Pick<
      SaveOptions,
      | 'codec'
      | 'level'
      | 'pageSize'
      | 'segmentSize'
      | 'chunkSize'
      | 'detector'
      | 'name'
      | 'uuid'
      | 'labels'
      | 'frozen'
      | 'references'
    > {
  /** Look at everything instead of a sample. */
  readonly full?: boolean | undefined;
  /** Memory that the sample takes; default 256 MiB, at least 16 pieces of 1 MiB or of a chunk. A source of no more is looked at in full. */
  readonly sampleBytes?: number | undefined;
  /** A folder whose file system is asked for its free space. */
  readonly target?: string | undefined;
}

export interface EstimateTarget {
  readonly folder: string;
  /** Undefined where the file system does not say. */
  readonly freeBytes: number | undefined;
  /** yes: even the upper bound fits. likely: the likely size does. unlikely: the lower bound does. no: not even that. */
  readonly fits: 'yes' | 'likely' | 'unlikely' | 'no' | 'unknown';
}

export interface EstimateResult {
  readonly memoryBytes: number;
  readonly pageSize: number;
  /** Of a sample, what there is likely to be. */
  readonly pages: PageCounts;
  /** What the image would take: the real size is between `low` and `high` with `confidence`. */
  readonly imageBytes: { readonly low: number; readonly likely: number; readonly high: number };
  /** 0.95; 1 if everything was looked at. */
  readonly confidence: number;
  /** Rough: from the rates that were measured, and for a target as fast as memory. */
  readonly seconds: number;
  readonly codec: CodecName;
  readonly level: number | undefined;
  readonly sample: {
    /** Everything was looked at. */
    readonly full: boolean;
    readonly pieces: number;
    /** Bytes of memory that were looked at, of those that are no holes. */
    readonly bytes: number;
    readonly ofBytes: number;
  };
  readonly target: EstimateTarget | undefined;
  readonly run: {
    readonly detector: string;
    readonly threads: number;
    readonly durationSeconds: number;
    readonly readBytes: number;
  };
}
