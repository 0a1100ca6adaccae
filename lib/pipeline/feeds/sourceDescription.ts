/** What a worker is told of the memory that it is to read: plain data, file descriptors and shared arrays only. */
import type { PageSource, SourceExtent } from '../../../formats/memoryFile.js';
import type { LinkDescription } from '../link.js';

/** `regions[i]` lies in one extent. */
export interface ExtentsDescription {
  readonly kind: 'extents';
  readonly regions: readonly SourceExtent[];
  /** Its files have a page cache worth keeping clean. */
  readonly cached: boolean;
}

/** Regions of which a PageFinder knows where their pages lie. */
export interface PagesDescription {
  readonly kind: 'pages';
  readonly pages: PageSource;
  /** For messages: whose descriptors they are. */
  readonly files: readonly { readonly fd: number; readonly path: string }[];
  readonly cached: boolean;
}

/** Memory of which any part may be read at any time, by any thread. */
export type RandomDescription = ExtentsDescription | PagesDescription;

/** Regions end to end from a pipe or the like. */
export interface StreamDescription {
  readonly kind: 'stream';
  readonly fd: number;
  readonly path: string;
  /** The last region takes what comes. */
  readonly openEnded: boolean;
  /** Bytes that were read already, to find out what it is; they come before those of the descriptor. */
  readonly prefix: Uint8Array;
}

/** A QEMU migration stream from a pipe or socket, whose head has been read. */
export interface QemuStreamDescription {
  readonly kind: 'qemu-stream';
  /** Number of the native reader, good in every thread. */
  readonly reader: number;
  readonly path: string;
  /** Of each region: RAM block, offset in it, length. */
  readonly parts: readonly number[];
}

/** Memory that comes from an image and the images below it. */
export interface ImageSourceDescription {
  readonly kind: 'image';
  readonly links: readonly LinkDescription[];
}

export type SourceDescription = RandomDescription | StreamDescription | QemuStreamDescription;

export function isRandom(description: SourceDescription | ImageSourceDescription): description is RandomDescription {
  return description.kind === 'extents' || description.kind === 'pages';
}
