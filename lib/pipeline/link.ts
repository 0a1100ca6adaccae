/** One image of a chain, as worker threads are told of it and as each holds it. */
import { Geometry } from '../../formats/vmsnap/geometry.js';
import { decodeHeader } from '../../formats/vmsnap/header.js';
import { decodeHead, type ImageHead, readExactly } from '../../formats/vmsnap/imageFile.js';
import { HEADER_BYTES } from '../../formats/vmsnap/layout.js';
import type { SealKeys } from '../../formats/vmsnap/seal.js';
import { allowedStates } from '../../formats/vmsnap/stateMap.js';
import { native } from '../../native/binding.js';
import { asBuffer } from './commitLine.js';

/** An image that lies in a file and whose tail is sound. */
export interface LinkDescription {
  readonly fd: number;
  readonly path: string;
  /** Where its records end: the offset of the footer. */
  readonly recordsEnd: number;
  /** The image is large and was not in the page cache: drop behind. */
  readonly dropBehind: boolean;
  readonly headBytes: Buffer | Uint8Array;
  /** Of an encrypted image. */
  readonly keys: SealKeys | undefined;
  readonly regionSizes: readonly number[];
  /** Pairs of offset and prefix CRC, one for each index block. */
  readonly indexList: Float64Array;
  /** Shared by all threads under the claim lock: the index block that claims are at. */
  readonly indexBlock: Uint8Array;
  /** Shared likewise: the number of that block plus one, and where its entries lie in the file, 0 if it has none. */
  readonly indexState: Float64Array;
}

export interface Link extends LinkDescription {
  readonly head: ImageHead;
  readonly geometry: Geometry;
  /** The states that its pages may have (stateMap.ts, allowedStates). */
  readonly allowedStates: number;
}

/** The head's bytes come through a message; everything else about it is derived again. */
export function rebuildHead(headBytes: Buffer | Uint8Array, keys: SealKeys | undefined, path: string): ImageHead {
  const bytes = asBuffer(headBytes);
  const header = decodeHeader(bytes.subarray(0, HEADER_BYTES), path);
  const head = decodeHead(header, bytes.subarray(0, HEADER_BYTES), bytes.subarray(HEADER_BYTES), path);
  return keys === undefined ? head : { ...head, seal: { keys } };
}

export function rebuildLink(description: LinkDescription): Link {
  const head = rebuildHead(description.headBytes, description.keys, description.path);
  const { pageSize, segmentSize, chunkSize } = head.start;
  const geometry = new Geometry(pageSize, segmentSize, chunkSize, description.regionSizes);
  return { ...description, head, geometry, allowedStates: allowedStates(head.header.incompatibleFeatures) };
}

/** Reads a range of an image, and drops it from the page cache if it was not there before. */
export function readImageRange(
  image: { readonly fd: number; readonly path: string; readonly dropBehind: boolean },
  offset: number,
  length: number,
  what: string,
  into: Buffer,
): Buffer {
  const wasCached = !image.dropBehind || native.residentShare(image.fd, offset, length) > 0.5;
  const bytes = readExactly(image, offset, length, what, into);
  if (!wasCached) native.dropCache(image.fd, offset, length);
  return bytes;
}
