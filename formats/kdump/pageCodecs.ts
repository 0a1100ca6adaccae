/**
 * Decompresses single pages of a kdump file, each into exactly a page. One for each thread.
 */
import { inflateSync } from 'node:zlib';
import zstd from 'zstd-napi/binding.js';
import { uncompressSnappy } from '../snappyBlock.js';
import { FLAG_SNAPPY, FLAG_ZLIB, FLAG_ZSTD } from './kdumpHeader.js';

export class PageCodecs {
  #zstd: zstd.DCtx | undefined;

  /** `flags`: one of FLAG_ZLIB, FLAG_SNAPPY, FLAG_ZSTD. @returns what is wrong, or undefined. */
  decompress(flags: number, stored: Uint8Array, page: Uint8Array): string | undefined {
    if (flags === FLAG_ZLIB) return inflate(stored, page);
    if (flags === FLAG_SNAPPY) return unsnap(stored, page);
    if (flags === FLAG_ZSTD) return this.#unzstd(stored, page);
    return `no codec has the number ${flags}`;
  }

  #unzstd(stored: Uint8Array, page: Uint8Array): string | undefined {
    this.#zstd ??= new zstd.DCtx();
    try {
      const bytes = this.#zstd.decompress(page, stored);
      return bytes === page.length ? undefined : `zstd gives ${bytes} bytes, and ${page.length} were expected`;
    } catch (error) {
      return `zstd: ${(error as Error).message}`;
    }
  }
}

function inflate(stored: Uint8Array, page: Uint8Array): string | undefined {
  try {
    // A byte more than a page, so that a longer stream is seen as too long and not cut off.
    const limit = page.length + 1;
    const bytes = inflateSync(stored, { maxOutputLength: limit, chunkSize: limit + 63 });
    if (bytes.length !== page.length) return `zlib gives ${bytes.length} bytes, and ${page.length} were expected`;
    page.set(bytes);
    return undefined;
  } catch (error) {
    return `zlib: ${(error as Error).message}`;
  }
}

function unsnap(stored: Uint8Array, page: Uint8Array): string | undefined {
  const bytes = uncompressSnappy(stored, page.length);
  if (typeof bytes === 'string') return `snappy: ${bytes}`;
  page.set(bytes);
  return undefined;
}
