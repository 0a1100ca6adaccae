/** The jobs of a load or a verify: what all threads are told alike. */
import { Geometry } from '../formats/vmsnap/geometry.js';
import { type ImageTail, mayOverride, mayRefer } from '../formats/vmsnap/imageFile.js';
import { INDEX_BLOCK_ENTRIES, INDEX_ENTRY_BYTES, PREFIX_BYTES } from '../formats/vmsnap/layout.js';
import type { OpenedImage } from './chain.js';
import { type ImageInput, recordsEnd } from './imageInput.js';
import { CIPHER_BYTES, planMemory } from './limits.js';
import {
  NUMBER_INPUT_CHAIN,
  NUMBER_INPUT_OFFSET,
  NUMBER_INPUT_PREVIOUS_SEGMENT,
  type SharedControl,
  STAT_IMAGE_BYTES,
} from './pipeline/control.js';
import type { LinkDescription } from './pipeline/link.js';
import { OPEN_ENDED_BYTES, type ReadJob } from './pipeline/readJob.js';
import { createRecordLedger, type RecordLedgerShared } from './pipeline/recordLedger.js';
import { createSegmentsInWork } from './pipeline/segmentsInWork.js';
import { CHUNK_CACHE_BYTES } from './pipeline/storedPages.js';
import type { RunLimits } from './types.js';

/** Tables of the records of a chain, and the compressed chunk. */
const CHAIN_TABLES_BYTES = 2 ** 21;
/** Parts of attachments, and what a walk looks through for the next record. */
const WALK_BYTES = 2 ** 23;
const LEDGER_ENTRY_BYTES = 80;
const RECORD_SHARE = 1.03;

/** What putting segments together from several images, or from other segments, takes of memory in each thread. */
export function chainDecoderBytes(segmentSize: number, chunkSize: number): number {
  return 3 * segmentSize + 2 * chunkSize + CHUNK_CACHE_BYTES + CHAIN_TABLES_BYTES;
}

/**
 * How many threads there is memory for (limits.ts), each with a record, a decoded segment, and what else it needs. `expandedSegments`: how often each
 * has a segment once more as it is in memory, for a target that does not take pages.
 * @throws USAGE
 */
export function planReadMemory(
  input: ImageInput,
  tail: ImageTail | undefined,
  bases: readonly OpenedImage[],
  threads: number,
  limits: RunLimits,
  expandedSegments: number,
): number {
  const { head } = input;
  const { segmentSize, chunkSize, pageSize } = head.start;
  const geometry = new Geometry(pageSize, segmentSize, chunkSize, regionSizes(input, tail));
  const inputs = [input, ...bases.map((base) => base.input)];
  const decodesChain = inputs.length > 1 || mayRefer(head.header);
  const largestChunk = Math.max(...inputs.map((image) => image.head.start.chunkSize));
  const usesLedger = tail === undefined && mayOverride(head.header);
  const fixedBytes =
    tail === undefined ? WALK_BYTES + (usesLedger ? geometry.segmentCount * LEDGER_ENTRY_BYTES : 0) : 0;
  const threadBytes =
    RECORD_SHARE * (2 + expandedSegments) * segmentSize +
    (inputs.some((image) => image.head.seal !== undefined) ? CIPHER_BYTES : 0) +
    (decodesChain ? chainDecoderBytes(segmentSize, largestChunk) : 0);
  const most = Math.max(1, Math.min(threads, geometry.segmentCount));
  const need = { fixedBytes, threadBytes, bufferBytes: 0 };
  return planMemory(need, { threads: most, buffers: 1 }, limits, '').threads;
}

export type ReadPlan = Pick<ReadJob, 'order' | 'selection' | 'sink' | 'collect' | 'structureOnly' | 'salvage'>;

/** `tail` undefined: the image is a stream, or its end is damaged. `bases` undefined: they are not wanted. */
export function createReadJobs(
  input: ImageInput,
  tail: ImageTail | undefined,
  bases: readonly OpenedImage[] | undefined,
  control: SharedControl,
  threads: number,
  plan: ReadPlan,
): ReadJob[] {
  const { head, fd, path, isStream, dropBehind } = input;
  if (plan.order === 'walk') startWalk(control, input);
  const shared = {
    kind: 'read' as const,
    control,
    image: { fd, path, isStream, recordsEnd: recordsEnd(input), dropBehind },
    headBytes: head.bytes,
    keys: head.seal?.keys,
    start: head.start,
    regionSizes: regionSizes(input, tail),
    openEnded: isOpenEnded(input, tail),
    indexList: tail === undefined ? undefined : packIndexList(tail),
    top: tail === undefined ? undefined : describeLink({ input, tail }),
    bases: (bases ?? []).map(describeLink),
    resolve: bases !== undefined,
    heldPrefix: new Uint8Array(new SharedArrayBuffer(PREFIX_BYTES)),
    ledger: ledgerFor(input, tail, plan),
    segmentsInWork: createSegmentsInWork(threads),
    ...plan,
  };
  return Array.from({ length: threads }, (_, worker) => ({ ...shared, worker }));
}

/** Only what does not go by the index must find out by itself which record of a segment is the last. */
function ledgerFor(input: ImageInput, tail: ImageTail | undefined, plan: ReadPlan): RecordLedgerShared | undefined {
  if (plan.order !== 'walk' || !mayOverride(input.head.header)) return undefined;
  const { pageSize, segmentSize, chunkSize } = input.head.start;
  const geometry = new Geometry(pageSize, segmentSize, chunkSize, regionSizes(input, tail));
  return createRecordLedger(geometry.segmentCount);
}

/** An opened image as worker threads are told of it. */
export function describeLink({ input, tail }: OpenedImage): LinkDescription {
  const { fd, path, dropBehind, head } = input;
  return {
    fd,
    path,
    recordsEnd: recordsEnd(input),
    dropBehind,
    headBytes: head.bytes,
    keys: head.seal?.keys,
    regionSizes: regionSizes(input, tail),
    indexList: packIndexList(tail),
    indexBlock: new Uint8Array(new SharedArrayBuffer(INDEX_BLOCK_ENTRIES * INDEX_ENTRY_BYTES)),
    indexState: new Float64Array(new SharedArrayBuffer(16)),
  };
}

/** Sizes of the regions, with a stand-in for one that only the end manifest will tell. */
export function regionSizes(input: ImageInput, tail: ImageTail | undefined): number[] {
  return input.head.start.regions.map(
    (region, i) => tail?.end.regions[i]?.sizeBytes ?? region.sizeBytes ?? OPEN_ENDED_BYTES,
  );
}

export function isOpenEnded(input: ImageInput, tail: ImageTail | undefined): boolean {
  return tail === undefined && input.head.start.regions.at(-1)!.sizeBytes === undefined;
}

/** Sets a walk to the first record. */
function startWalk(control: SharedControl, input: ImageInput): void {
  control.numbers[NUMBER_INPUT_OFFSET] = input.head.bytes.length;
  control.numbers[NUMBER_INPUT_CHAIN] = input.head.headerCrc;
  control.numbers[NUMBER_INPUT_PREVIOUS_SEGMENT] = -1;
  control.stats[STAT_IMAGE_BYTES] = input.head.bytes.length;
}

function packIndexList(tail: ImageTail): Float64Array {
  return Float64Array.from(tail.indexList.flatMap(({ offset, prefixCrc }) => [offset, prefixCrc]));
}
