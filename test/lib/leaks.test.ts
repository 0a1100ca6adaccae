/**
 * Saves and loads of small images in one process, again and again: neither memory nor descriptors nor threads grow with them.
 * VMSNAP_CYCLES=N makes N cycles instead of a few; ten thousand take some minutes.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { type CodecName, load, save, verify } from '../../lib/index.js';
import { KIB, MIB, mixedMemory } from './support/memory.js';
import { workspace } from './support/workspace.js';

const CYCLES = Number(process.env.VMSNAP_CYCLES ?? 60);
const CYCLE_SECONDS_MAX = 10;
/**
 * What a process may have more at the end than after the first third. Buffers of the threads wait for the garbage collector, which
 * on Node 24 comes late: there 60 cycles have some 210 MiB more, 600 have 60. A save's table alone, 16 MiB each time, would be 640.
 */
const GROWTH_MAX_BYTES = (CYCLES < 500 ? 384 : CYCLES < 5000 ? 128 : 48) * MIB;
const MEMORY = Buffer.concat([mixedMemory(300 * KIB), Buffer.alloc(MIB), mixedMemory(100 * KIB, 3)]);
const CODECS: readonly CodecName[] = ['zstd', 'zlib', 'none'];

interface Held {
  readonly rssBytes: number;
  readonly descriptors: number;
  readonly threads: number;
}

function held(): Held {
  return {
    rssBytes: process.memoryUsage.rss(),
    descriptors: readdirSync('/proc/self/fd').length,
    threads: Number(/^Threads:\s*(\d+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))![1]),
  };
}

test('save, verify and load again and again: nothing grows', async (t) => {
  t.timeout(CYCLES * CYCLE_SECONDS_MAX * 1000);
  const folder = workspace(t);
  const [memory, image, target, base] = ['memory', 'image', 'target', 'base'].map((name) => folder.path(name)) as [
    string,
    string,
    string,
    string,
  ];
  writeFileSync(memory, MEMORY);
  const options = { threads: 2, segmentSize: MIB, frozen: true, force: true } as const;
  await save(memory, base, options);
  const samples: Held[] = [];
  for (let i = 0; i < CYCLES; i++) {
    if (i % 4 === 3) await save(memory, image, { threads: 2, frozen: true, force: true, base });
    else await save(memory, image, { ...options, codec: CODECS[i % 3] });
    await load(image, target, { threads: 2, force: true });
    if (i % 8 === 0) t.true((await verify(image, { threads: 2 })).intact);
    // Damage is a way out of its own.
    if (i % 16 === 0) await t.throwsAsync(load(memory, target, { force: true }));
    samples.push(held());
  }
  t.true(readFileSync(target).equals(MEMORY));
  const early = samples[Math.floor(CYCLES / 3)]!;
  const last = samples.at(-1)!;
  t.log(`${CYCLES} cycles: from ${JSON.stringify(early)} to ${JSON.stringify(last)}`);
  t.true(last.descriptors <= early.descriptors + 2);
  t.true(last.threads <= early.threads + 2);
  const lowestLate = Math.min(...samples.slice(Math.floor(CYCLES * 0.8)).map(({ rssBytes }) => rssBytes));
  t.true(lowestLate - early.rssBytes < GROWTH_MAX_BYTES, `${lowestLate - early.rssBytes} bytes more`);
});
