/** Options and results of the public functions. Sizes are bytes, times seconds; unknown is undefined. */
import type { CodecName } from '../formats/vmsnap/layout.js';
import type { PageCounts } from '../formats/vmsnap/manifest.js';

export type { CodecName, PageCounts };

export type DetectorName = 'auto' | 'avx2' | 'neon' | 'scalar';
export type LayoutName = 'flat' | 'pc-q35' | 'pc-i440fx' | 'firecracker-x86';

/** How far a long operation is. */
export interface Progress {
  readonly phase: 'save' | 'load' | 'verify';
  /** Bytes of memory (save, load) or of the image (verify) that are done. */
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

export interface SaveOptions extends CommonOptions {
  readonly codec?: CodecName | undefined;
  /** zstd -100 to 22, zlib 1 to 9; default 1. */
  readonly level?: number | undefined;
  /** Power of two, 4 KiB to 2 MiB; default 4 KiB. */
  readonly pageSize?: number | undefined;
  /** Unit of work; power of two, 1 to 64 MiB; default 4 MiB. */
  readonly segmentSize?: number | undefined;
  /** Unit of random access; power of two, 4 KiB to 4 MiB; default 256 KiB. */
  readonly chunkSize?: number | undefined;
  readonly detector?: DetectorName | undefined;
  readonly regions?: readonly RegionOption[] | undefined;
  readonly layout?: LayoutName | undefined;
  /** The machine's name and uuid, for inspect and backup. */
  readonly name?: string | undefined;
  readonly uuid?: string | undefined;
  readonly labels?: ReadonlyMap<string, string> | Readonly<Record<string, string>> | undefined;
  readonly attachments?: readonly AttachmentOption[] | undefined;
  /** The caller vouches that nobody writes the source (a paused VM): no lease, no warning. */
  readonly frozen?: boolean | undefined;
  /** Replace an existing image. */
  readonly force?: boolean | undefined;
}

export interface AttachmentOption {
  readonly name: string;
  readonly file: string;
}

export interface SaveResult {
  readonly image: string;
  /** 32 hex digits: names this image among all (SPEC.md, "Identity"). */
  readonly identity: string;
  readonly memoryBytes: number;
  readonly imageBytes: number;
  readonly pages: PageCounts;
  readonly pageSize: number;
  readonly regions: readonly { name: string; gpa: number; sizeBytes: number }[];
  readonly chunks: { readonly count: number; readonly stored: number; readonly raw: number };
  /** 32 hex digits (SPEC.md, "Memory digest"). */
  readonly digest: string;
  readonly codec: CodecName;
  readonly level: number | undefined;
  /** Whether somebody could have written the source while it was read. */
  readonly sourceMayHaveChanged: boolean;
  readonly attachments: number;
  /** Facts of this run; never part of the image. */
  readonly run: {
    readonly detector: string;
    readonly threads: number;
    readonly durationSeconds: number;
    /** Bytes read from the source; holes are not read. */
    readonly readBytes: number;
    readonly holeBytes: number;
    readonly sweptFiles: number;
  };
  readonly warnings: readonly Warning[];
}

export interface LoadOptions extends CommonOptions {
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
  readonly memoryBytes: number;
  readonly dataBytes: number;
  readonly imageBytes: number;
  readonly digest: string;
  /** What the digest proved: all memory, one whole region, or the whole leaves of a range. */
  readonly proven: 'memory' | 'region' | 'leaves';
  readonly run: { readonly threads: number; readonly durationSeconds: number; readonly inPlace: boolean };
  readonly warnings: readonly Warning[];
}

export interface VerifyOptions extends CommonOptions {
  /** Check headers, manifests, index and tables, but read no payload. */
  readonly structureOnly?: boolean | undefined;
}

/** One damaged place of an image. */
export interface Finding {
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
  /** At most 1,000; `findingCount` has the true number. */
  readonly findings: readonly Finding[];
  readonly findingCount: number;
  readonly imageBytes: number;
  readonly identity: string | undefined;
  readonly digest: string | undefined;
  readonly checked: { readonly records: number; readonly chunks: number; readonly memoryBytes: number };
  readonly run: { readonly threads: number; readonly durationSeconds: number };
}

export interface InspectOptions {
  readonly signal?: AbortSignal | undefined;
}

/** One cell of the heat bar: an equal share of the machine's memory, regions end to end. */
export interface HeatCell {
  readonly pages: number;
  readonly dataPages: number;
  readonly uniformPages: number;
  /** Stored bytes of the records that lie in the cell. */
  readonly storedBytes: number;
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
    readonly code: string;
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
  readonly gpa: number;
  readonly sizeBytes: number | undefined;
  /** Region digest: the sum of SPEC.md, "Memory digest". */
  readonly sum: string | undefined;
  readonly dataPages: number | undefined;
  readonly uniformPages: number | undefined;
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

export interface ExtractOptions {
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}
