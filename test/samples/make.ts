/**
 * Writes the committed samples of the image format anew: `npm run build && node dist/test/samples/make.js`.
 *
 * `valid/NAME.vms` are images that vmsnap writes, byte for byte; `damaged/NAME.vms` are made of them by damage.ts;
 * `samples.json` says what readers must make of each. While the format has version 0 it may change, and then this script
 * is run again. The same code gives the same bytes on every machine (SOURCE_DATE_EPOCH is fixed by smallImages.ts).
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { xxh3Of } from '../formats/forge.js';
import { repositoryRoot } from '../formats/support/secondReader.js';
import { DAMAGED } from './damage.js';
import type { SampleList } from './list.js';
import { makeValid, VALID } from './valid.js';

const folder = join(repositoryRoot(), 'test', 'samples');
const images = new Map<string, Buffer>();
const list: { valid: SampleList['valid'][number][]; damaged: SampleList['damaged'][number][] } = {
  valid: [],
  damaged: [],
};

for (const kind of ['valid', 'damaged']) {
  rmSync(join(folder, kind), { recursive: true, force: true });
  mkdirSync(join(folder, kind));
}
for (const sample of VALID) {
  const { bytes, memory, identity, digest } = await makeValid(sample);
  images.set(sample.name, bytes);
  writeFileSync(join(folder, 'valid', `${sample.name}.vms`), bytes);
  list.valid.push({
    name: sample.name,
    identity,
    digest,
    memoryBytes: memory.length,
    memoryXxh3: xxh3Of(memory).toString('hex'),
  });
}
for (const { name, base, make, code = 'CORRUPT', passes } of DAMAGED) {
  writeFileSync(join(folder, 'damaged', `${name}.vms`), make(images.get(base)!, images));
  list.damaged.push({ name, base, code, passes });
}
writeFileSync(join(folder, 'samples.json'), `${JSON.stringify(list, undefined, 2)}\n`);
