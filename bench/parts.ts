/**
 * What a save and a load consist of, each part alone on one thread, in seconds of processor time: the least that any program needs which
 * reads all of the memory, compresses its data pages with zstd, and writes them. Shared by all cores that is the limit of both.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { bound, createCodec } from '../lib/codecs.js';
import { native, REPORT_DATA_PAGES, REPORT_LENGTH, type SegmentScanner, ZERO_PUNCH } from '../native/binding.js';
import { touch } from './memory.js';
import { table } from './report.js';

const PAGE_BYTES = 4096;
const SEGMENT_BYTES = 4 * 2 ** 20;
const CHUNK_BYTES = 256 * 1024;

export interface Parts {
  readonly dataBytes: number;
  /** At level 1. */
  readonly storedBytes: number;
  readonly readAndScan: number;
  readonly compress: number;
  readonly write: number;
  readonly readImage: number;
  readonly decompress: number;
  readonly place: number;
}

type Timed = Exclude<keyof Parts, 'dataBytes' | 'storedBytes'>;

/** `memoryFile`: whole segments. */
export function measureParts(memoryFile: string, folder: string): Parts {
  const imageFile = join(folder, 'parts.image');
  const targetFile = join(folder, 'parts.target');
  const source = openSync(memoryFile, 'r');
  touch(targetFile, fstatSync(source).size);
  const image = openSync(imageFile, 'w+', 0o600);
  const target = openSync(targetFile, 'r+');
  try {
    return new PartsRun(source, image, target).run();
  } finally {
    for (const fd of [source, image, target]) closeSync(fd);
    for (const file of [imageFile, targetFile]) rmSync(file);
  }
}

class PartsRun {
  readonly #source: number;
  readonly #image: number;
  readonly #target: number;
  readonly #codec = createCodec({ name: 'zstd', level: 1 });
  readonly #segment = {
    data: new Uint8Array(SEGMENT_BYTES),
    states: new Uint8Array(SEGMENT_BYTES / PAGE_BYTES),
    words: new BigUint64Array(SEGMENT_BYTES / PAGE_BYTES),
    leaves: new Uint8Array(16 * (SEGMENT_BYTES / 2 ** 20)),
    report: new Float64Array(REPORT_LENGTH),
  };
  readonly #stored = Buffer.alloc(SEGMENT_BYTES + bound(CHUNK_BYTES));
  readonly #out = new Uint8Array(SEGMENT_BYTES);
  readonly #seconds: Record<Timed, number> = {
    readAndScan: 0,
    compress: 0,
    write: 0,
    readImage: 0,
    decompress: 0,
    place: 0,
  };
  #dataBytes = 0;
  #storedBytes = 0;

  constructor(source: number, image: number, target: number) {
    this.#source = source;
    this.#image = image;
    this.#target = target;
  }

  run(): Parts {
    const settings = { detector: 'auto', pageSize: PAGE_BYTES, segmentSize: SEGMENT_BYTES } as const;
    const scanner = new native.SegmentScanner(settings);
    const { size } = fstatSync(this.#source);
    for (let at = 0; at < size; at += SEGMENT_BYTES) this.#takeSegment(scanner, at);
    scanner.close();
    fsyncSync(this.#image);
    return { dataBytes: this.#dataBytes, storedBytes: this.#storedBytes, ...this.#seconds };
  }

  #takeSegment(scanner: SegmentScanner, at: number): void {
    const { data, states, words, report } = this.#segment;
    this.#time('readAndScan', () =>
      scanner.scanExtents(Float64Array.of(this.#source, at, SEGMENT_BYTES), 1, this.#segment),
    );
    const rawBytes = report[REPORT_DATA_PAGES]! * PAGE_BYTES;
    const lengths: number[] = [];
    this.#time('compress', () => this.#compress(rawBytes, lengths));
    const storedBytes = lengths.reduce((sum, length) => sum + length, 0);
    this.#time('write', () => writeSync(this.#image, this.#stored, 0, storedBytes, this.#storedBytes));
    this.#time('readImage', () => readSync(this.#image, this.#stored, 0, storedBytes, this.#storedBytes));
    this.#time('decompress', () => this.#decompress(rawBytes, lengths));
    this.#time('place', () => {
      native.writeSegment(this.#target, at, states, states.length, PAGE_BYTES, data, words, ZERO_PUNCH, FAILED_AT);
    });
    this.#dataBytes += rawBytes;
    this.#storedBytes += storedBytes;
  }

  #compress(rawBytes: number, lengths: number[]): void {
    let to = 0;
    for (let at = 0; at < rawBytes; at += CHUNK_BYTES) {
      const chunk = this.#segment.data.subarray(at, Math.min(rawBytes, at + CHUNK_BYTES));
      const room = this.#stored.subarray(to, to + bound(chunk.length));
      let length = this.#codec.compress(chunk, room);
      if (length === 0) {
        room.set(chunk);
        length = chunk.length;
      }
      lengths.push(length);
      to += length;
    }
  }

  #decompress(rawBytes: number, lengths: readonly number[]): void {
    let from = 0;
    for (const [i, length] of lengths.entries()) {
      const out = this.#out.subarray(i * CHUNK_BYTES, Math.min(rawBytes, (i + 1) * CHUNK_BYTES));
      if (length < out.length) this.#codec.decompress(this.#stored.subarray(from, from + length), out);
      else out.set(this.#stored.subarray(from, from + length));
      from += length;
    }
  }

  #time(part: Timed, action: () => void): void {
    const before = process.cpuUsage();
    action();
    const { user, system } = process.cpuUsage(before);
    this.#seconds[part] += (user + system) / 1e6;
  }
}

const FAILED_AT = new Float64Array(1);

export function saveSeconds({ readAndScan, compress, write }: Parts): number {
  return readAndScan + compress + write;
}

export function loadSeconds({ readImage, decompress, place }: Parts): number {
  return readImage + decompress + place;
}

export function partsTable(parts: Parts): string {
  const of = (part: number, whole: number) => [part.toFixed(3), `${((part / whole) * 100).toFixed(0)} %`];
  const save = saveSeconds(parts);
  const load = loadSeconds(parts);
  return table(
    ['part', 'CPU s', 'of the whole'],
    [
      ['save: read and scan', ...of(parts.readAndScan, save)],
      ['save: zstd level 1', ...of(parts.compress, save)],
      ['save: write to a new file', ...of(parts.write, save)],
      ['load: read', ...of(parts.readImage, load)],
      ['load: decompress', ...of(parts.decompress, load)],
      ['load: write in place', ...of(parts.place, load)],
    ],
  );
}
