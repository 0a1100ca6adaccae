/** What the threads of a load or a verify are told, and the work they hand each other. */
import type { BlockPlace } from '../../formats/qemu/pageRecords.js';
import type { StartManifest } from '../../formats/vmsnap/manifest.js';
import type { SealKeys } from '../../formats/vmsnap/seal.js';
import type { PlainError } from '../../native/errors.js';
import type { SharedControl } from './control.js';
import type { LinkDescription } from './link.js';
import type { RecordLedgerShared } from './recordLedger.js';

/** A part of a region that is wanted, and where its first byte goes in the target. */
export interface RegionSelection {
  readonly from: number;
  readonly to: number;
  readonly targetOffset: number;
}

export type SinkDescription =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'file';
      readonly fd: number;
      readonly path: string;
      /** False: the target is new, its holes are zero. True: what it held before must be overwritten. */
      readonly overwrite: boolean;
      /** Overwrite with holes where the file system can; also what an earlier record of a segment wrote. */
      readonly punch: boolean;
    }
  | {
      readonly kind: 'stream';
      readonly fd: number;
      readonly path: string;
      /** Bytes that stand in front of the first wanted byte of a region, one for each region. */
      readonly inserts?: readonly (Uint8Array | undefined)[];
      /** The stream is QEMU's: pages go as records of RAM blocks (formats/qemu/pageRecords.ts). One place for each region. */
      readonly records?: readonly (BlockPlace | undefined)[];
    };

export interface ReadJob {
  readonly kind: 'read';
  readonly worker: number;
  readonly control: SharedControl;
  readonly image: {
    readonly fd: number;
    readonly path: string;
    readonly isStream: boolean;
    /** Where records end in a file: the offset of the footer. */
    readonly recordsEnd: number;
    /** The image is large and was not in the page cache: drop behind. */
    readonly dropBehind: boolean;
  };
  readonly headBytes: Buffer | Uint8Array;
  /** Of an encrypted image. */
  readonly keys: SealKeys | undefined;
  readonly start: StartManifest;
  /** With the true size of every region, or that of OPEN_ENDED_BYTES for a region whose size is not known yet. */
  readonly regionSizes: readonly number[];
  readonly openEnded: boolean;
  /** `index`: the segments that the index names. `walk`: every record from the beginning on. */
  readonly order: 'index' | 'walk';
  /** Pairs of offset and prefix CRC of the index blocks; undefined if there is no index to go by. */
  readonly indexList: Float64Array | undefined;
  /** The image once more, as the top of its chain; undefined if there is no index to go by. */
  readonly top: LinkDescription | undefined;
  /** The images below a differential one, nearest first. */
  readonly bases: readonly LinkDescription[];
  /** Whether pages that are the same as the base's are wanted; if not, `bases` is empty. */
  readonly resolve: boolean;
  /** Shared by all threads under the claim lock: a record prefix that a walk has read and not yet taken. */
  readonly heldPrefix: Uint8Array;
  /** Of a walk through an image with overriding records. */
  readonly ledger: RecordLedgerShared | undefined;
  /** One for each region; undefined: nothing of it is wanted. */
  readonly selection: readonly (RegionSelection | undefined)[];
  readonly sink: SinkDescription;
  /** Shared: of each thread, which segment it is bringing back, -1 if none (segmentsInWork.ts). */
  readonly segmentsInWork: Int32Array;
  /** Go on after damage and report all of it. */
  readonly collect: boolean;
  readonly structureOnly: boolean;
  /** Leave out of the sink what is damaged, and list it; with `collect`. */
  readonly salvage?: boolean | undefined;
}

export interface WorkerFinding {
  readonly structure: string;
  readonly error: PlainError;
  readonly segment: number | undefined;
  /** Byte ranges of the segment that are lost; undefined: all of it. */
  readonly ranges: readonly { readonly offset: number; readonly length: number }[] | undefined;
}

/** The end of an image as a walk met it. */
export interface WalkedTail {
  readonly end: { readonly offset: number; readonly bytes: Uint8Array } | undefined;
  readonly list: { readonly offset: number; readonly bytes: Uint8Array } | undefined;
  readonly footer: { readonly offset: number; readonly bytes: Uint8Array } | undefined;
}

export interface ReadWorkerResult {
  readonly sums: BigUint64Array;
  readonly findings: readonly WorkerFinding[];
  readonly findingCount: number;
  /** Segment records, without those that a later one overrides where that is known from the index. */
  readonly segmentRecords: number;
  readonly chunks: number;
  readonly tail: WalkedTail;
  /** Index blocks and attachment parts that the walk met. */
  readonly others: readonly MetRecord[];
  /** What the tables of the segment records that count add up to. */
  readonly totals: SegmentTotals;
  /** Of a salvage: all memory that was not brought back, but for what comes after the last record. */
  readonly lost: readonly LostSpan[];
  /** In an open-ended region, whose records say how long each segment is: the first that is not full, and the last. */
  readonly openSegments: { readonly firstShort: OpenSegment | undefined; readonly last: OpenSegment | undefined };
}

/** A stretch of a region that could not be brought back. */
export interface LostSpan {
  readonly region: number;
  readonly offset: number;
  readonly length: number;
}

/** [kind, subject, offset, prefix CRC, raw bytes, part number] */
export type MetRecord = readonly [number, number, number, number, number, number];

export interface SegmentTotals {
  dataPages: number;
  uniformPages: number;
  referencePages: number;
  sameAsBasePages: number;
  absentPages: number;
  zeroPages: number;
  chunks: number;
  storedBytes: number;
  rawChunks: number;
}

export interface OpenSegment {
  readonly segment: number;
  readonly pageCount: number;
  /** Of its record. */
  readonly offset: number;
}

/** Findings kept of one worker; the rest is only counted. */
export const FINDINGS_MAX = 1000;

/** The size that stands for "not known yet": larger than any image may be, and still exact. */
export const OPEN_ENDED_BYTES = 2 ** 52;
