/**
 * What encryption costs: saves of a guest's memory, encrypted and not, in turn. Prints medians and the ratio.
 *
 *     node dist/bench/encryption.js [--memory FILE] [--rounds N]
 *
 * Without --memory, memory made up of pages that compress as a guest's do, 512 MiB.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { save } from '../lib/index.js';
import { DEFAULT_PARENT, makeBenchFolder } from './folder.js';

const MIB = 1024 * 1024;
const MADE_UP_MIB = 512;
const WANTED_RATIO = 1.3;

const { values } = parseArgs({ options: { memory: { type: 'string' }, rounds: { type: 'string', default: '5' } } });
const folder = makeBenchFolder(DEFAULT_PARENT);
const memory = values.memory ?? makeMemory(join(folder, 'memory'));
const recipient = await identityToRecipient(await generateX25519Identity());
const image = join(folder, 'image');

for (const codec of ['zstd', 'none'] as const) {
  const seconds: Record<'plain' | 'sealed', number[]> = { plain: [], sealed: [] };
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const way of ['plain', 'sealed'] as const) {
      const encryption = way === 'sealed' ? { recipients: [recipient] } : undefined;
      const started = performance.now();
      await save(memory, image, { codec, encryption, frozen: true, force: true });
      // The first round only warms up.
      if (round > 0) seconds[way].push((performance.now() - started) / 1000);
    }
  }
  const [plain, sealed] = [median(seconds.plain), median(seconds.sealed)];
  const ratio = sealed / plain;
  const verdict = codec === 'zstd' ? ` (aimed at: at most ${WANTED_RATIO})` : '';
  console.log(`${codec}: plain ${plain.toFixed(2)} s, encrypted ${sealed.toFixed(2)} s: ${ratio.toFixed(2)}${verdict}`);
}

/** 60 % zero, the others half random words, half text: about what zstd makes of a guest. */
function makeMemory(path: string): string {
  const fd = openSync(path, 'w', 0o600);
  const piece = Buffer.alloc(MIB);
  for (let i = 0; i < MADE_UP_MIB; i++) {
    piece.fill(0);
    for (let page = 0; page < 256 && i % 5 < 2; page++) {
      const at = page * 4096;
      piece.fill(`page ${page} of MiB ${i}, as text goes; `, at, at + 4096);
      for (let part = 0; part < 16; part++) randomFillSync(piece, at + part * 256, 100);
    }
    writeSync(fd, piece);
  }
  closeSync(fd);
  return path;
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}
