/**
 * The fuzzer of one target, in a process of its own (fuzz.ts starts it): changes files of the corpus, runs them, and keeps what goes where
 * nothing went before. What it is about to run lies in a file, so that whoever finds this process dead knows what it died of.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { type Random, randomNumbers } from '../support/randomNumbers.js';
import { BUNDLE, COUNTERS } from './instrument.js';
import { mutate, readDictionary } from './mutator.js';

export interface FuzzOrder {
  readonly target: string;
  readonly counters: number;
  readonly seconds: number;
  readonly seed: number;
  /** Folders whose files are the first inputs; what is found goes into the last. */
  readonly corpus: readonly string[];
  readonly dictionary: string;
  /** Where the input that is being run lies. */
  readonly current: string;
  /** Instead of fuzzing: this input only. */
  readonly only?: string | undefined;
}

export type FuzzWord =
  | { readonly kind: 'alive' }
  | { readonly kind: 'failed'; readonly error: string }
  | {
      readonly kind: 'done';
      readonly runs: number;
      readonly corpus: number;
      readonly covered: number;
      readonly peakBytes: number;
    };

const LONGEST_BYTES = 2 ** 18;
const RSS_MAX_BYTES = 1200 * 2 ** 20;
const ALIVE_MS = 500;

const order = JSON.parse(process.argv[2]!) as FuzzOrder;
const counters = new Uint8Array(order.counters);
(globalThis as Record<string, unknown>)[COUNTERS] = counters;
const targets = createRequire(import.meta.url)(BUNDLE) as Record<string, (bytes: Buffer) => Promise<void>>;
const run = targets[order.target]!;
/** Of each counter, which classes of counts have been seen, as bits. */
const seen = new Uint8Array(order.counters);
const corpus: Buffer[] = [];

/** Once, twice, a few, many: how often a place is passed matters only so much. */
const CLASS_OF = Uint8Array.from({ length: 256 }, (_, n) =>
  n < 4 ? [0, 1, 2, 4][n]! : n < 8 ? 8 : n < 32 ? 16 : n < 128 ? 32 : 64,
);

function isNew(): boolean {
  let found = false;
  for (let i = 0; i < counters.length; i++) {
    const count = counters[i]!;
    if (count === 0) continue;
    const bit = CLASS_OF[count]!;
    if ((seen[i]! & bit) !== 0) continue;
    seen[i]! |= bit;
    found = true;
  }
  return found;
}

async function tryInput(bytes: Buffer): Promise<boolean> {
  writeFileSync(order.current, bytes);
  counters.fill(0);
  await run(bytes);
  if (process.resourceUsage().maxRSS * 1024 > RSS_MAX_BYTES)
    throw new Error(`more than ${RSS_MAX_BYTES} bytes of memory`);
  return isNew();
}

function say(word: FuzzWord): Promise<void> {
  return new Promise((resolve) => {
    process.send!(word, () => resolve());
  });
}

/** Those found last, and small ones, more often. */
function pick(random: Random): Buffer {
  const from = random(3) === 0 ? Math.floor(corpus.length / 2) : 0;
  const [a, b] = [0, 1].map(() => corpus[from + random(corpus.length - from)]!) as [Buffer, Buffer];
  return a.length <= b.length || random(4) === 0 ? a : b;
}

async function fuzz(): Promise<void> {
  const keepIn = order.corpus.at(-1)!;
  mkdirSync(keepIn, { recursive: true });
  const files = order.corpus.flatMap((folder) =>
    readdirSync(folder)
      .sort()
      .map((name) => join(folder, name)),
  );
  for (const file of files) {
    const bytes = readFileSync(file);
    await tryInput(bytes);
    await say({ kind: 'alive' });
    corpus.push(bytes);
  }
  const words = readDictionary(readFileSync(order.dictionary, 'latin1'));
  const random = randomNumbers(order.seed);
  const end = performance.now() + 1000 * order.seconds;
  let said = performance.now();
  let runs = files.length;
  for (let now = said; now < end; now = performance.now()) {
    const bytes = mutate(pick(random), pick(random), words, random, LONGEST_BYTES);
    runs++;
    if (await tryInput(bytes)) {
      corpus.push(bytes);
      writeFileSync(join(keepIn, createHash('sha1').update(bytes).digest('hex').slice(0, 16)), bytes);
    }
    // What is closed is given back between two turns of the event loop.
    if (runs % 16 === 0) await new Promise(setImmediate);
    if (now - said < ALIVE_MS) continue;
    said = now;
    await say({ kind: 'alive' });
  }
  const covered = seen.reduce((sum, bits) => sum + (bits === 0 ? 0 : 1), 0);
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  await say({ kind: 'done', runs, corpus: corpus.length, covered, peakBytes });
}

try {
  if (order.only === undefined) await fuzz();
  else {
    await tryInput(readFileSync(order.only));
    await say({ kind: 'done', runs: 1, corpus: 0, covered: 0, peakBytes: 0 });
  }
} catch (error) {
  await say({ kind: 'failed', error: String((error as Error).stack ?? error) });
}
process.disconnect();
process.exit();
