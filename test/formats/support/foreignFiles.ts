/** Memory files of other tools, opened as `save` opens them, and read by their page finders. */
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { isExtentPages, type MemoryFile, type StretchExtents } from '../../../formats/memoryFile.js';
import { checkedMemoryFile, formatOf, openForeign, orElseRaw } from '../../../lib/foreign/openForeign.js';
import { load, save } from '../../../lib/index.js';
import { createPageFinder } from '../../../lib/pipeline/pageFinders.js';
import type { Workspace } from '../../lib/support/workspace.js';

export interface ReadRegion {
  readonly name: string;
  readonly gpa: number | undefined;
  readonly bytes: Buffer;
  /** Numbers of the absent pages. */
  readonly absent: readonly number[];
}

/** Opens a file and does something with it. */
export function withMemoryFile<T>(path: string, action: (file: MemoryFile) => T): T {
  const fd = openSync(path, 'r');
  try {
    const file = { fd, path, sizeBytes: fstatSync(fd).size };
    const entry = formatOf(file, 'auto');
    if (entry === undefined) throw new Error(`${path} is taken for raw memory`);
    const opened = orElseRaw(path, entry, 'auto', () => {
      const memory = entry.open(file, {});
      if (memory instanceof Promise) throw new Error(`${path} is opened by another thread`);
      return checkedMemoryFile(memory, path);
    });
    try {
      return action(opened);
    } finally {
      opened.close();
    }
  } finally {
    closeSync(fd);
  }
}

/** The same of formats whose files are read by another thread when they are opened. */
export async function withForeignFile<T>(path: string, action: (file: MemoryFile) => T): Promise<T> {
  const fd = openSync(path, 'r');
  try {
    const file = { fd, path, sizeBytes: fstatSync(fd).size };
    const entry = formatOf(file, 'auto');
    if (entry === undefined) throw new Error(`${path} is taken for raw memory`);
    const opened = await openForeign(file, entry, {});
    try {
      return action(opened);
    } finally {
      opened.close();
    }
  } finally {
    closeSync(fd);
  }
}

/** All memory, in stretches of this size. */
export function readMemory(file: MemoryFile, stretchBytes = 4 * 2 ** 20): ReadRegion[] {
  return file.regions.map(({ name, gpa, sizeBytes }, region) => {
    const bytes = Buffer.alloc(sizeBytes!, 0xaa);
    const absent: number[] = [];
    for (let at = 0; at < bytes.length; at += stretchBytes) {
      const into = bytes.subarray(at, Math.min(bytes.length, at + stretchBytes));
      for (const page of readStretch(file, region, at, into)) absent.push(at / file.pageSize + page);
    }
    return { name, gpa, bytes, absent };
  });
}

function readStretch({ pages, pageSize }: MemoryFile, region: number, offset: number, into: Buffer): number[] {
  if (isExtentPages(pages)) {
    const { fd, fileOffset } = pages.regions[region]!;
    readSync(fd, into, 0, into.length, fileOffset + offset);
    return [];
  }
  const finder = createPageFinder(pages);
  const extents: StretchExtents = { numbers: new Float64Array(0), count: 0 };
  const absent = new Uint8Array(into.length / pageSize);
  if (finder.find(region, offset, into.length, extents, into, absent) === 'extents') {
    let at = 0;
    for (let i = 0; i < extents.count; i++) {
      const [fd, from, bytes] = extents.numbers.subarray(3 * i, 3 * i + 3) as unknown as [number, number, number];
      const part = into.subarray(at, at + bytes);
      if (fd < 0) part.fill(0);
      else if (readSync(fd, part, 0, bytes, from) !== bytes) throw new Error('an extent reaches beyond its file');
      at += bytes;
    }
    if (at !== into.length) throw new Error(`extents of ${at} bytes for a stretch of ${into.length}`);
  }
  return [...absent.keys()].filter((page) => absent[page] === 1);
}

/** Saves a memory file, loads the image, and gives the bytes: the regions end to end. */
export async function saveAndLoad(t: ExecutionContext, files: Workspace, contents: Buffer): Promise<Buffer> {
  const [path, image, target] = [files.path('file'), files.path('image'), files.path('target')];
  writeFileSync(path, contents);
  await save(path, image, { threads: 2, force: true, segmentSize: 2 ** 20 });
  await load(image, target, { threads: 2, force: true });
  t.deepEqual(files.leftovers(), []);
  return readFileSync(target);
}

const SOME_REGIONS = 4;
const SOME_BYTES = 2 ** 20;

/** The beginning and the end of the first regions, however large they are. */
export function readSome(file: MemoryFile): void {
  for (const [region, { sizeBytes }] of file.regions.slice(0, SOME_REGIONS).entries()) {
    const bytes = Buffer.alloc(Math.min(sizeBytes!, SOME_BYTES));
    readStretch(file, region, 0, bytes);
    readStretch(file, region, sizeBytes! - bytes.length, bytes);
  }
}
