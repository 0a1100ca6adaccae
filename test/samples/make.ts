/**
 * Adds the committed samples of the image format that are not there yet: `npm run build && node dist/test/samples/make.js`.
 *
 * `valid/NAME.vms` are images that vmsnap writes; `damaged/NAME.vms` are made of them by damage.ts; `samples.json` says what
 * readers must make of each. **Committed samples stay for ever, byte for byte**: they prove that every later vmsnap reads what
 * an earlier one wrote. So this script never touches a file that is there, nor its entry in the list; it fails if one of
 * them is no longer what the list says. A sample that was committed wrongly stays, and another is added beside it.
 *
 * The same code gives the same bytes on every machine (SOURCE_DATE_EPOCH is fixed by smallImages.ts), but for encrypted images.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { xxh3Of } from '../formats/forge.js';
import { DAMAGED } from './damage.js';
import { type ListedDamaged, type ListedFile, type ListedValid, readSampleList, samplePath, samplesFolder } from './list.js';
import { makeValid, VALID } from './valid.js';

const listPath = join(samplesFolder(), 'samples.json');
const known = existsSync(listPath) ? readSampleList() : { valid: [], damaged: [] };
const valid: ListedValid[] = [...known.valid];
const damaged: ListedDamaged[] = [...known.damaged];
const images = new Map<string, Buffer>();

for (const kind of ['valid', 'damaged']) mkdirSync(join(samplesFolder(), kind), { recursive: true });
for (const sample of VALID) {
  const listed = valid.find(({ name }) => name === sample.name);
  if (listed !== undefined) {
    images.set(sample.name, committed('valid', listed));
    continue;
  }
  const { bytes, memory, identity, digest } = await makeValid(sample);
  images.set(sample.name, bytes);
  const file = add('valid', sample.name, bytes);
  valid.push({ ...file, identity, digest, memoryBytes: memory.length, memoryXxh3: xxh3Of(memory).toString('hex') });
}
for (const { name, base, make, code = 'CORRUPT', passes } of DAMAGED) {
  const listed = damaged.find((other) => other.name === name);
  if (listed !== undefined) committed('damaged', listed);
  else damaged.push({ ...add('damaged', name, make(images.get(base)!, images)), base, code, passes });
}
writeFileSync(listPath, `${JSON.stringify({ valid, damaged }, undefined, 2)}\n`);

/** @throws if the file is not the one that was committed. */
function committed(kind: 'valid' | 'damaged', { name, sha256 }: ListedFile): Buffer {
  const path = samplePath(kind, name);
  const bytes = readFileSync(path);
  if (sha256Of(bytes) === sha256) return bytes;
  throw new Error(`${path} is not the sample that was committed: take it back from the repository's history`);
}

function add(kind: 'valid' | 'damaged', name: string, bytes: Buffer): ListedFile {
  writeFileSync(samplePath(kind, name), bytes, { flag: 'wx' });
  console.log(`${kind}/${name}`);
  return { name, sha256: sha256Of(bytes) };
}

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
