// What saving a memory file of another tool costs beside saving the same memory raw, through the library in one process:
// node dist/bench/formats.js [--runs N] [--size-mib N] [--dir DIR] [--file FILE --raw RAW] [--out FILE]
// --file: a memory file of any format that save reads (content decides), and --raw the same memory raw, or what "load" gives of it.
// Without: files of the memory in --raw, or of a guest's, whose pages lie in extents: Firecracker diffs over their base (two files), a
// migration stream (every page at an odd offset, and found by a pass over the file first), a mapped-ram file, an ELF core, a LiME file;
// and a migration stream from a pipe.
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { load, type SaveOptions, save } from '../lib/index.js';
import {
  capabilities,
  configuration,
  eos,
  footer,
  magic,
  mappedHeader,
  named,
  page,
  ramEnd,
  ramPart,
  ramStart,
  tail,
  u8,
  u64,
  word,
  zeroPage,
} from '../test/support/qemuStream.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';
import { makeGuestMemory } from './memory.js';
import { machineDescription, median } from './report.js';

/** A source whose pages are extents may take this much longer than the raw file. */
const EXTENTS_RATIO_MAX = 1.15;
/** The diff stores this many bytes of every so many: long pieces and short ones. */
const DIFF_PIECES: readonly (readonly [storedBytes: number, ofBytes: number])[] = [
  [8 * 2 ** 20, 64 * 2 ** 20],
  [64 * 2 ** 10, 2 ** 20],
];
const COPY_BYTES = 4096;
/** Records of a made stream in one part, as QEMU writes some in turn with other work. */
const PART_PAGES = 256;
const RAM_SECTION = 2;
const MAPPED_HEADER_BYTES = 28;
const MAPPED_ALIGNMENT = 2 ** 20;

const { values } = parseArgs({
  options: {
    file: { type: 'string' },
    raw: { type: 'string' },
    runs: { type: 'string', default: '7' },
    'size-mib': { type: 'string', default: '2048' },
    dir: { type: 'string', default: DEFAULT_PARENT },
    out: { type: 'string' },
  },
});

const folder = makeBenchFolder(values.dir);

interface Pair {
  readonly name: string;
  readonly source: string;
  readonly options: SaveOptions;
  readonly raw: string;
}

const report = await run(Number(values.runs));
console.log(report);
if (values.out !== undefined) writeFileSync(values.out, `${report}\n`);

async function run(rounds: number): Promise<string> {
  const pairs = values.file === undefined ? await generated() : [await given(values.file)];
  const lines = ['| source | raw, s | as it is, s | ratio |', '| --- | --- | --- | --- |'];
  for (const { name, source, options, raw } of pairs) {
    const [own, plain] = [await measure(source, options, raw, rounds), statSync(raw).size];
    const ratio = own.source / own.raw;
    const verdict = ratio > EXTENTS_RATIO_MAX ? ` (over ${EXTENTS_RATIO_MAX}, the limit for extents)` : '';
    lines.push(
      `| ${name}, ${Math.round(plain / 2 ** 20)} MiB | ${own.raw.toFixed(3)} | ${own.source.toFixed(3)} | ${ratio.toFixed(2)}${verdict} |`,
    );
  }
  if (values.file === undefined) lines.push('', ...(await pipeLines(pairs[0]!.raw, rounds)));
  return [machineDescription(), '', ...lines].join('\n');
}

/**
 * A migration stream through a pipe, beside its two parts: what one `cat` takes to bring the stream to another, and what a save of
 * the same memory from a file takes, without duplicates. One after the other they would take the sum; where reading and compressing
 * overlap, less. Both parts keep two processors busy.
 */
async function pipeLines(raw: string, rounds: number): Promise<string[]> {
  const [stream, fifo] = [join(folder, 'stream'), join(folder, 'fifo')];
  execFileSync('mkfifo', [fifo]);
  const times = { raw: [] as number[], cat: [] as number[], piped: [] as number[] };
  for (let round = 0; round <= rounds; round++) {
    const ofRaw = await whileWritten(raw, () => timed(raw, { format: 'raw', frozen: false }));
    const started = performance.now();
    execFileSync('sh', ['-c', 'cat "$0" | cat > /dev/null', stream]);
    const ofCat = (performance.now() - started) / 1000;
    const cat = spawn('sh', ['-c', 'cat "$0" > "$1"', stream, fifo], { stdio: 'ignore' });
    const ofPipe = await timed(fifo, {});
    if (cat.exitCode === null) await new Promise((resolve) => cat.once('exit', resolve));
    if (ofPipe.digest !== ofRaw.digest) throw new Error('the stream has not brought the same memory');
    if (round === 0) continue;
    times.raw.push(ofRaw.seconds);
    times.cat.push(ofCat);
    times.piped.push(ofPipe.seconds);
  }
  rmSync(stream);
  const [ofRaw, ofCat, ofPipe] = [median(times.raw), median(times.cat), median(times.piped)];
  return [
    '| migration stream | raw file, s | `cat` to `cat`, s | from a pipe, s | of the sum | of the raw file |',
    '| --- | --- | --- | --- | --- | --- |',
    `| ${Math.round(statSync(raw).size / 2 ** 20)} MiB | ${[ofRaw, ofCat, ofPipe].map((s) => s.toFixed(3)).join(' | ')} | ${(ofPipe / (ofRaw + ofCat)).toFixed(2)} | ${(ofPipe / ofRaw).toFixed(2)} |`,
  ];
}

/** A file that somebody may write holds still for nobody: as of a pipe, no duplicates are looked for. */
async function whileWritten<T>(path: string, action: () => Promise<T>): Promise<T> {
  const fd = openSync(path, 'r+');
  try {
    return await action();
  } finally {
    closeSync(fd);
  }
}

/** As QEMU writes the memory of a paused machine with the capability mapped-ram. */
function writeMappedRam(raw: string, path: string): void {
  const { size } = statSync(raw);
  const [from, to] = [openSync(raw, 'r'), openSync(path, 'w')];
  const head = Buffer.concat([
    ...[magic(), configuration('bench', capabilities('mapped-ram')), named(1, 'ram', RAM_SECTION), word(size, 0x04)],
    ...[u8(3), Buffer.from('ram'), u64(size)],
  ]);
  const bitmap = Buffer.alloc(Math.ceil(size / COPY_BYTES / 64) * 8);
  const bitmapAt = head.length + MAPPED_HEADER_BYTES;
  const pagesAt = Math.ceil((bitmapAt + bitmap.length) / MAPPED_ALIGNMENT) * MAPPED_ALIGNMENT;
  const bytes = Buffer.alloc(COPY_BYTES);
  const zero = Buffer.alloc(COPY_BYTES);
  for (let at = 0; at < size; at += COPY_BYTES) {
    readSync(from, bytes, 0, COPY_BYTES, at);
    if (bytes.equals(zero)) continue;
    const number = at / COPY_BYTES;
    bitmap[number >> 3]! |= 1 << (number & 7);
    writeSync(to, bytes, 0, COPY_BYTES, pagesAt + at);
  }
  const start = Buffer.concat([head, mappedHeader(bitmapAt, pagesAt), bitmap]);
  writeSync(to, start, 0, start.length, 0);
  const end = Buffer.concat([eos(), footer(), ramPart(), ramEnd(), tail()]);
  writeSync(to, end, 0, end.length, pagesAt + size);
  for (const fd of [from, to]) closeSync(fd);
}

/** As QEMU writes the memory of a paused machine: every page once, in order. */
function writeStream(raw: string, path: string): void {
  const { size } = statSync(raw);
  const [from, to] = [openSync(raw, 'r'), openSync(path, 'w')];
  const zero = Buffer.alloc(COPY_BYTES);
  // A block of no known machine: one region, as the raw file has.
  writeSync(to, Buffer.concat([magic(), configuration('bench'), ramStart([{ id: 'ram', sizeBytes: size }])]));
  for (let at = 0; at < size; at += PART_PAGES * COPY_BYTES) {
    const records: Buffer[] = [];
    for (let offset = at; offset < Math.min(size, at + PART_PAGES * COPY_BYTES); offset += COPY_BYTES) {
      const bytes = Buffer.alloc(COPY_BYTES);
      readSync(from, bytes, 0, COPY_BYTES, offset);
      const id = records.length === 0 ? 'ram' : undefined;
      records.push(bytes.equals(zero) ? zeroPage(id, offset) : page(id, offset, bytes));
    }
    writeSync(to, ramPart(...records));
  }
  writeSync(to, Buffer.concat([ramEnd(), tail()]));
  for (const fd of [from, to]) closeSync(fd);
}

/** Rounds in turn, so that what else the machine does falls on both. Medians of seconds; a first round does not count. */
async function measure(source: string, options: SaveOptions, raw: string, rounds: number) {
  const times = { raw: [] as number[], source: [] as number[] };
  for (let round = 0; round <= rounds; round++) {
    const ofRaw = await timed(raw, { format: 'raw' });
    const ofSource = await timed(source, options);
    if (ofRaw.digest !== ofSource.digest && sameRegions(ofRaw, ofSource))
      throw new Error('the two are not the same memory');
    if (round === 0) continue;
    times.raw.push(ofRaw.seconds);
    times.source.push(ofSource.seconds);
  }
  return { raw: median(times.raw), source: median(times.source) };
}

interface Timed {
  readonly seconds: number;
  readonly digest: string;
  readonly regions: readonly { readonly sizeBytes: number }[];
}

/** Only then the digests must be the same. */
function sameRegions(a: Timed, b: Timed): boolean {
  return (
    a.regions.length === b.regions.length &&
    a.regions.every(({ sizeBytes }, i) => sizeBytes === b.regions[i]!.sizeBytes)
  );
}

async function timed(source: string, options: SaveOptions): Promise<Timed> {
  const started = performance.now();
  const { digest, regions } = await save(source, join(folder, 'image'), { frozen: true, force: true, ...options });
  return { seconds: (performance.now() - started) / 1000, digest, regions };
}

async function given(source: string): Promise<Pair> {
  if (values.raw !== undefined) return { name: source, source, options: {}, raw: values.raw };
  const raw = join(folder, 'raw');
  await save(source, join(folder, 'image'), { frozen: true });
  await load(join(folder, 'image'), raw);
  return { name: source, source, options: {}, raw };
}

async function generated(): Promise<Pair[]> {
  const raw = values.raw ?? join(folder, 'raw');
  if (values.raw === undefined) await makeGuestMemory(raw, folder, Number(values['size-mib']));
  const diffs = DIFF_PIECES.map(([storedBytes, ofBytes], i) => {
    const [base, diff] = [join(folder, `base-${i}`), join(folder, `diff-${i}`)];
    split(raw, base, diff, storedBytes, ofBytes);
    const name = `Firecracker diff, ${storedBytes / 1024} KiB of each ${ofBytes / 1024} KiB`;
    return { name, source: diff, options: { diffBase: base }, raw };
  });
  const paths = ['stream', 'mapped-ram', 'core', 'lime'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  writeStream(raw, paths[0]);
  writeMappedRam(raw, paths[1]);
  const image = join(folder, 'image');
  await save(raw, image, { frozen: true });
  await load(image, paths[2], { as: 'elf' });
  await load(image, paths[3], { as: 'lime' });
  const names = ['migration stream', 'mapped-ram', 'ELF core', 'LiME'];
  return [...diffs, ...names.map((name, i) => ({ name, source: paths[i]!, options: {}, raw }))];
}

/** Puts the pages of `raw` into two sparse files, each page in one of them; zero pages into neither. */
function split(raw: string, base: string, diff: string, storedBytes: number, ofBytes: number): void {
  const size = statSync(raw).size;
  const [from, toBase, toDiff] = [openSync(raw, 'r'), openSync(base, 'w'), openSync(diff, 'w')];
  const page = Buffer.alloc(COPY_BYTES);
  const zero = Buffer.alloc(COPY_BYTES);
  for (const fd of [toBase, toDiff]) ftruncateSync(fd, size);
  for (let at = 0; at < size; at += COPY_BYTES) {
    readSync(from, page, 0, COPY_BYTES, at);
    if (!page.equals(zero)) writeSync(at % ofBytes < storedBytes ? toDiff : toBase, page, 0, COPY_BYTES, at);
  }
  for (const fd of [from, toBase, toDiff]) closeSync(fd);
}
