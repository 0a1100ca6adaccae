/**
 * Dumps with bytes changed at random, always the same: each is read or refused with an error of ours, at once and in bounded memory.
 * VMSNAP_MUTATIONS=N makes N of each format instead of a few.
 */
import { writeFileSync } from 'node:fs';
import test from 'ava';
import { VmsnapError } from '../../lib/index.js';
import { mixedMemory, PAGE } from '../lib/support/memory.js';
import { workspace } from '../lib/support/workspace.js';
import {
  elfNotes,
  FLAT_END,
  flatRecords,
  makeAvml,
  makeElf,
  makeFlattened,
  makeKdump,
  makeLime,
} from './support/dumps.js';
import { readSome, withMemoryFile } from './support/foreignFiles.js';

const MUTATIONS = Number(process.env.VMSNAP_MUTATIONS ?? 150);
const SECONDS_MAX = 20;
const RSS_MAX_BYTES = 600 * 2 ** 20;
const MEMORY = mixedMemory(60 * PAGE, 4);
const PAGES = Array.from({ length: 60 }, (_, i) =>
  i === 7 ? ('excluded' as const) : MEMORY.subarray(i * PAGE, (i + 1) * PAGE),
);
const NOTES = elfNotes([{ name: 'CORE', type: 1, contents: Buffer.alloc(40, 1) }]);

/** The file, and the bytes at its beginning that are worth changing. */
const FILES: Readonly<Record<string, readonly [Buffer, number]>> = {
  'ELF core': [
    makeElf(
      [
        { physical: 0, bytes: MEMORY },
        { physical: 2 ** 20, bytes: MEMORY },
      ],
      { notes: NOTES },
    ),
    400,
  ],
  LiME: [
    makeLime([
      { start: 0, bytes: MEMORY.subarray(0, PAGE) },
      { start: 2 ** 20, bytes: MEMORY },
    ]),
    32 + PAGE + 32,
  ],
  AVML: [
    makeAvml([
      { start: 0, bytes: MEMORY.subarray(0, PAGE) },
      { start: 2 ** 20, bytes: MEMORY },
    ]),
    9000,
  ],
  kdump: [makeKdump(PAGES), 20_000],
  'flattened kdump': [makeFlattened([...flatRecords(makeKdump(PAGES), [64, 4096]), FLAT_END]), 25_000],
};

/** Bytes at the beginning without which a file is raw memory and nothing to refuse: an ELF file is a core by its e_type. */
const RECOGNISED_BY_BYTES: Readonly<Record<string, number>> = {
  'ELF core': 18,
  LiME: 4,
  AVML: 4,
  kdump: 16,
  'flattened kdump': 16,
};

for (const [format, [file, worthBytes]] of Object.entries(FILES)) {
  test(`${format}: changed files are read or refused`, (t) => {
    const path = workspace(t).path('file');
    const random = randomNumbers(0x2545f491);
    const started = performance.now();
    const outcomes = { read: 0, refused: 0 };
    for (let i = 0; i < MUTATIONS; i++) {
      const changed = Buffer.from(file);
      for (let k = random() % 4; k >= 0; k--) mutate(changed, random() % 3 === 0 ? changed.length : worthBytes, random);
      file.copy(changed, 0, 0, RECOGNISED_BY_BYTES[format]);
      writeFileSync(path, random() % 8 === 0 ? changed.subarray(0, 64 + (random() % (changed.length - 64))) : changed);
      try {
        withMemoryFile(path, readSome);
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof VmsnapError)) throw error;
        t.true(['CORRUPT', 'UNSUPPORTED'].includes(error.code), error.message);
        outcomes.refused++;
      }
    }
    t.true(outcomes.read > 0 && outcomes.refused > 0, JSON.stringify(outcomes));
    t.true((performance.now() - started) / 1000 < SECONDS_MAX * Math.max(1, MUTATIONS / 150));
    t.true(process.memoryUsage.rss() < RSS_MAX_BYTES);
  });
}

/** One bit, a byte, or a word of ones or of a size near a limit. */
function mutate(bytes: Buffer, limit: number, random: () => number): void {
  const at = random() % (Math.min(limit, bytes.length) - 8);
  const kind = random() % 4;
  if (kind === 0) bytes[at]! ^= 1 << (random() % 8);
  else if (kind === 1) bytes[at] = random() & 0xff;
  else if (kind === 2) bytes.writeUInt32LE([0xffffffff, 0x80000000, 0x7fffffff, 0][random() % 4]!, at);
  else bytes.writeBigUInt64LE(2n ** BigInt(random() % 64) - 1n, at);
}

/** Xorshift. */
function randomNumbers(seed: number): () => number {
  let word = seed;
  return () => {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    return word >>> 0;
  };
}
