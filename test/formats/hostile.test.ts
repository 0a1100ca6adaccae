/**
 * Images made to exhaust a reader: in a process with little memory and little time, each is refused, or read with what it
 * deserves. None makes a reader write outside its target.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import zstd from 'zstd-napi';
import { KIB, MIB } from '../lib/support/memory.js';
import { workspace } from '../lib/support/workspace.js';
import { editEnd, editStart, type ForgedImage, forge, recordOf, replaceChunk } from './forge.js';
import { smallImage, tinyMemory } from './support/smallImages.js';

const SECONDS_MAX = 60;
/** Far more than a reader needs (about 120 MiB with Node itself), far less than the images ask for. */
const RSS_MAX_BYTES = 512 * MIB;

const IMAGES: readonly [string, (image: ForgedImage) => void][] = [
  [
    'a start manifest of 16 MiB of brackets',
    (image) => {
      image.startManifest = Buffer.from('['.repeat(8 * MIB - 1) + ']'.repeat(8 * MIB - 1));
    },
  ],
  [
    'a start manifest of 16 MiB of empty arrays',
    (image) => {
      image.startManifest = Buffer.from(`[${'[],'.repeat(5 * MIB)}[]]`);
    },
  ],
  [
    'a chunk that decompresses to 512 MiB',
    (image) => replaceChunk(recordOf(image, 'VSEG'), 0, zstd.compress(Buffer.alloc(512 * MIB)).subarray(0, 16 * KIB)),
  ],
  [
    'a chunk of several frames of 4 MiB',
    (image) => {
      const frame = zstd.compress(Buffer.alloc(4 * MIB));
      replaceChunk(recordOf(image, 'VSEG'), 0, Buffer.concat(Array<Buffer>(3).fill(frame)).subarray(0, 4000));
    },
  ],
  [
    'segments of 64 MiB and pages of 4 KiB that are not there',
    (image) =>
      editStart(image, (manifest) => {
        manifest.segmentSize = 64 * MIB;
      }),
  ],
  [
    '4 PiB of memory',
    (image) => {
      editStart(image, (manifest) => {
        manifest.regions[0].sizeBytes = 2 ** 52;
      });
      editEnd(image, (manifest) => {
        manifest.regions[0].sizeBytes = 2 ** 52;
        manifest.pages.zero = 2 ** 40 - manifest.pages.data - manifest.pages.uniform;
      });
    },
  ],
  [
    '65,535 regions',
    (image) =>
      editStart(image, (manifest) => {
        manifest.regions = Array.from({ length: 65_535 }, (_, i) => ({
          name: `r${i}`,
          gpa: i * 4096,
          sizeBytes: 4096,
        }));
      }),
  ],
  [
    '65,536 regions',
    (image) =>
      editStart(image, (manifest) => {
        manifest.regions = Array.from({ length: 65_536 }, (_, i) => ({
          name: `r${i}`,
          gpa: i * 4096,
          sizeBytes: 4096,
        }));
      }),
  ],
  [
    '65,535 attachments',
    (image) =>
      editEnd(image, (manifest) => {
        const first = manifest.attachments[0];
        manifest.attachments = Array.from({ length: 65_535 }, (_, i) => ({ ...first, name: `a${i}` }));
      }),
  ],
  [
    '20,000 records of one attachment',
    (image) => {
      const at = image.records.indexOf(recordOf(image, 'VATT'));
      image.records.splice(at, 0, ...Array.from({ length: 20_000 }, () => ({ ...image.records[at]! })));
    },
  ],
  [
    'an index that names one record for every segment',
    (image) => {
      const block = recordOf(image, 'VIDX');
      block.payload.copy(block.payload, 32, 0, 32);
      block.payload.copy(block.payload, 64, 0, 32);
      block.asIs = true;
    },
  ],
];

for (const [what, change] of IMAGES) {
  test(`${what}: refused within memory and time, and nothing is left behind`, async (t) => {
    const folder = workspace(t);
    const { bytes } = await smallImage(folder, {}, tinyMemory());
    const inside = folder.path('inside');
    mkdirSync(inside);
    writeFileSync(folder.path('hostile.vms'), forge(bytes, change));
    const before = readdirSync(folder.folder).sort();
    const answer = await readInChild(folder.path('hostile.vms'), inside);
    t.log(`${Math.round(answer.rssBytes / MIB)} MiB, ${answer.seconds.toFixed(1)} s: ${answer.said.join(', ')}`);
    t.true(answer.rssBytes < RSS_MAX_BYTES, `${answer.rssBytes} bytes`);
    t.deepEqual(readdirSync(folder.folder).sort(), before);
    t.true(readdirSync(inside).every((name) => name === 'target.raw' || name === 'machine.txt'));
    t.notRegex(answer.said.join(), /intact/);
  });
}

interface Answer {
  readonly said: readonly string[];
  readonly rssBytes: number;
  readonly seconds: number;
}

async function readInChild(image: string, folder: string): Promise<Answer> {
  const script = fileURLToPath(new URL('./support/readHostile.js', import.meta.url));
  const child = spawn(process.execPath, ['--max-old-space-size=256', script, image, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: SECONDS_MAX * 1000,
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (code !== 0) throw new Error(`the reader ended with ${code ?? signal}: out of memory, out of time, or a crash`);
  return JSON.parse(output) as Answer;
}
