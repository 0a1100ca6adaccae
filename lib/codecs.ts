/**
 * The chunk codecs: one chunk in, one complete zstd frame or zlib stream out, and back.
 *
 * A codec object belongs to one thread and keeps its context between chunks. Decompression goes into a buffer of the
 * declared size and accepts nothing else than exactly one frame that fills it: a chunk cannot make a reader allocate.
 */
import { deflateSync, inflateSync } from 'node:zlib';
import zstd from 'zstd-napi/binding.js';
import { discard } from '../formats/garbage.js';
import type { CodecName } from '../formats/vmsnap/layout.js';

export interface ChunkCodec {
  /**
   * Compresses `source` into `target` if it gets smaller.
   * @returns the stored bytes in `target`, or 0 if the chunk is to be stored as it is. `target` has room for {@link bound} bytes.
   */
  compress(source: Uint8Array, target: Uint8Array): number;
  /** Fills `target` from `source`. @returns what is wrong, or undefined. */
  decompress(source: Uint8Array, target: Uint8Array): string | undefined;
}

export interface CodecSettings {
  readonly name: CodecName;
  readonly level: number | undefined;
}

export const LEVELS: Readonly<Record<CodecName, { min: number; max: number; default: number | undefined }>> = {
  zstd: { min: -100, max: 22, default: 1 },
  zlib: { min: 1, max: 9, default: 1 },
  none: { min: 0, max: 0, default: undefined },
};

/** Room that a compressor needs for `rawBytes` that do not shrink. */
export function bound(rawBytes: number): number {
  return zstd.compressBound(rawBytes) + 64;
}

export function createCodec(settings: CodecSettings): ChunkCodec {
  if (settings.name === 'zstd') return new ZstdCodec(settings.level ?? LEVELS.zstd.default!);
  if (settings.name === 'zlib') return new ZlibCodec(settings.level ?? LEVELS.zlib.default!);
  return STORE;
}

/**
 * Below level 1 a hash table that fits into a core's first cache and matches of 7 bytes and more take as long as zstd's own
 * negative levels and give smaller chunks (docs/decisions.md); each level further down skips more, as zstd's do.
 */
const FAST_HASH_LOG = 12;
const FAST_MIN_MATCH = 7;

class ZstdCodec implements ChunkCodec {
  readonly #level: number;
  #compressor: zstd.CCtx | undefined;
  #decompressor: zstd.DCtx | undefined;

  constructor(level: number) {
    this.#level = level;
  }

  compress(source: Uint8Array, target: Uint8Array): number {
    this.#compressor ??= this.#createCompressor();
    const stored = this.#compressor.compress2(target, source);
    return stored < source.length ? stored : 0;
  }

  decompress(source: Uint8Array, target: Uint8Array): string | undefined {
    this.#decompressor ??= new zstd.DCtx();
    try {
      if (zstd.findFrameCompressedSize(source) !== source.length) return 'not exactly one zstd frame';
      if (zstd.getFrameContentSize(source) !== target.length) return 'zstd frame of another size than declared';
      const size = this.#decompressor.decompress(target, source);
      return size === target.length ? undefined : `zstd frame gives ${size} bytes, not ${target.length}`;
    } catch (error) {
      return `zstd: ${(error as Error).message}`;
    }
  }

  #createCompressor(): zstd.CCtx {
    const context = new zstd.CCtx();
    const isFast = this.#level < 0;
    context.setParameter(zstd.CParameter.compressionLevel, isFast ? 1 : this.#level);
    context.setParameter(zstd.CParameter.contentSizeFlag, 1);
    if (!isFast) return context;
    context.setParameter(zstd.CParameter.hashLog, FAST_HASH_LOG);
    context.setParameter(zstd.CParameter.minMatch, FAST_MIN_MATCH);
    // 0, that of level 1, stands for "not set".
    context.setParameter(zstd.CParameter.targetLength, -this.#level - 1);
    return context;
  }
}

class ZlibCodec implements ChunkCodec {
  readonly #level: number;

  constructor(level: number) {
    this.#level = level;
  }

  compress(source: Uint8Array, target: Uint8Array): number {
    const stored = deflateSync(source, { level: this.#level, chunkSize: bound(source.length) });
    const storedBytes = stored.length;
    if (storedBytes < source.length) target.set(stored);
    discard(stored);
    return storedBytes < source.length ? storedBytes : 0;
  }

  decompress(source: Uint8Array, target: Uint8Array): string | undefined {
    try {
      // One byte more than declared, so that a longer stream is seen as too long and not cut off.
      const limit = target.length + 1;
      const { buffer, engine } = inflateSync(source, {
        info: true,
        maxOutputLength: limit,
        chunkSize: limit + 63,
      }) as unknown as {
        buffer: Buffer;
        engine: { bytesWritten: number };
      };
      if (buffer.length !== target.length) return `zlib stream gives ${buffer.length} bytes, not ${target.length}`;
      if (engine.bytesWritten !== source.length) return 'bytes after the end of the zlib stream';
      target.set(buffer);
      discard(buffer);
      return undefined;
    } catch (error) {
      return `zlib: ${(error as Error).message}`;
    }
  }
}

const STORE: ChunkCodec = {
  compress: () => 0,
  decompress: () => 'a chunk of the codec "none" is shorter than its pages',
};
